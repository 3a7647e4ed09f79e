"""Training steps of NumPyro: the same networks and bound as model and guide, compiled by XLA, one step a call or many.

Many steps are one scan, as in `SVI.run`. NumPyro brings another array library and compiler, so it is optional: install it
beside torch (pip install numpyro), or in an environment of its own, whose packages PYTHONPATH names after those of this one.
"""

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.hand_written_networks import VAE
from benchmarks.timing import Measure, Side, Times, compare
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.runtime.random_state import fixed_seed

SCAN = 50  # steps in a call
# Bars of ours / NumPyro's: of the scan, of one step a call.
BARS = {
    "mlp 256-256-256-2, B 16": (1.15, 0.80),
    "mlp 256-256-256-2, B 128": (1.05, 0.85),
    "mnist 784-300-300-40, B 128": (1.10, 0.90),
}
UNITS = "time / NumPyro's scan of fresh batches", "time / NumPyro's svi.update, a fresh batch a call"
MISSING = "numpyro is not installed: pip install numpyro"


def numpyro_sides(name: str, pair: Objective, x: Tensor) -> dict[str, Side]:
    """The two sides of a dense net, each with its own weights; none where numpyro is missing or x is on a GPU."""
    if name not in BARS or find_spec("numpyro") is None or x.is_cuda:
        return {}
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")  # one thread, as torch has
    jax, numpyro, infer = (import_module(module) for module in ("jax", "numpyro", "numpyro.infer"))
    svi = infer.SVI(*_programs(VAE(pair), x), numpyro.optim.Adam(1e-3), infer.TraceMeanField_ELBO())
    data = jax.numpy.asarray(x.flatten(1).numpy())
    start = svi.init(jax.random.PRNGKey(0), data)
    _check_same_loss(pair, x, jax.jit(lambda key: svi.evaluate(start._replace(rng_key=key), data)))
    batches = jax.numpy.stack([jax.random.permutation(jax.random.PRNGKey(i), data) for i in range(SCAN)])
    state = {"update": start, "scan": start}
    update, scan, calls = jax.jit(svi.update), jax.jit(lambda s: jax.lax.scan(svi.update, s, batches)), [0]

    def one() -> None:
        calls[0] = (calls[0] + 1) % SCAN
        state["update"], loss = update(state["update"], batches[calls[0]])
        loss.block_until_ready()

    def many() -> None:
        state["scan"], losses = scan(state["scan"])
        losses.block_until_ready()

    return {"numpyro scan": many, "numpyro update": one}


def against_numpyro(name: str, times: Times) -> list[Measure]:
    """The measures of a dense net, or why there are none."""
    if name not in BARS:
        return []
    names = f"NumPyro's scan, {name}", f"NumPyro's update, {name}"
    if "numpyro scan" not in times:
        why = {"skipped": MISSING if find_spec("numpyro") is None else "XLA is measured on the processor only"}
        return [Measure(one, None, unit, bar, detail=why) for one, unit, bar in zip(names, UNITS, BARS[name], strict=True)]
    per_step = {**times, "numpyro scan": [seconds / SCAN for seconds in times["numpyro scan"]]}
    sides = zip(names, ("numpyro scan", "numpyro update"), UNITS, BARS[name], strict=True)
    return [compare(one, per_step, "ours", side, unit, bar) for one, side, unit, bar in sides]


def _programs(net: VAE, x: Tensor) -> tuple[Callable[[Any], None], Callable[[Any], None]]:
    """Model and guide in NumPyro with the weights of a hand-written autoencoder; the loss is in nats per datum."""
    jax, numpyro, dist = (import_module(module) for module in ("jax", "numpyro", "numpyro.distributions"))
    np = jax.numpy
    weights = {name: _weights(part, np) for name, part in (("encoder", net.encoder), ("decoder", net.decoder))}
    sigma = getattr(net.error, "keywords", {}).get("sigma")

    def run(name: str, h: Any) -> Any:
        layers = numpyro.param(name, weights[name])
        for i, (weight, bias) in enumerate(layers):
            h = h @ weight + bias
            h = jax.nn.relu(h) if i < len(layers) - 1 else h
        return h

    def model(x: Any) -> None:
        with numpyro.handlers.scale(scale=1 / len(x)), numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(np.zeros(weights["decoder"][0][0].shape[0]), 1.0).to_event(1))
            out = run("decoder", z)
            likelihood = dist.Bernoulli(logits=out) if sigma is None else dist.Normal(out, float(sigma))
            numpyro.sample("x", likelihood.to_event(1), obs=x)

    def guide(x: Any) -> None:
        mean, log_sigma = np.split(run("encoder", x), 2, -1)
        with numpyro.handlers.scale(scale=1 / len(x)), numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.Normal(mean, np.exp(log_sigma)).to_event(1))

    return model, guide


def _weights(part: nn.Module, np: Any) -> list[tuple[Any, Any]]:
    layers = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
    return [(np.asarray(layer.weight.detach().T.numpy()), np.asarray(layer.bias.detach().numpy())) for layer in layers]


def _check_same_loss(pair: Objective, x: Tensor, evaluate: Callable[[Any], Any], draws: int = 200) -> None:
    """Raises if the means over draws differ by more than 1 %; the two have other random numbers."""
    jax = import_module("jax")
    with fixed_seed(1), torch.no_grad():
        ours = torch.stack([pair.estimate(x).loss() for _ in range(draws)]).mean().item()
    theirs = sum(float(evaluate(key)) for key in jax.random.split(jax.random.PRNGKey(1), draws)) / draws
    if abs(ours - theirs) > 0.01 * abs(ours):
        raise SystemExit(f"NumPyro's loss is {theirs:.5g}, not {ours:.5g}: the sides do not compute the same.")
