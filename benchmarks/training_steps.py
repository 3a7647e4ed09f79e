"""Training steps: ours against the same networks written by hand, NumPyro, Pyro's SVI and its traced ELBO.

Ours is `Session.step` with a compiled graph, as `train --compile` runs it; one fixed batch replaces its batches, as on every
other side. Losses and gradients under one seed are compared first, so that all sides compute the same.
"""

import copy
import statistics
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyro
import torch
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
from pyro.optim.optim import PyroOptim
from torch import Tensor, nn

from benchmarks.hand_written_networks import VAE, VHP, chain_parts, compiled, make_step, vhp_loss_by_loop
from benchmarks.numpyro_steps import against_numpyro, numpyro_sides
from benchmarks.timing import Measure, Side, Times, compare, device, interleaved, ratio_of, reason_not_compiled
from pyro_hvae import Constant, Rewo, TrainConfig, for_svi, recipes
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import Schedule
from pyro_hvae.training.session import Session


class Net(NamedTuple):
    """Sizes and options of a pair on random images. `svi` is the bar of `SVI.step`, in times of ours."""

    batch: int
    side: int
    options: dict[str, Any]
    svi: float | None = None
    recipe: str = "vae"


HAND = "time / hand-written"
MLP = {"hidden": (256, 256), "latent": 2, "sigma": 0.2}
BINARY = {"latent": 40, "likelihood": "bernoulli"}
UPPER = {"upper": (256, 256), "latent2": 2, "particles": 16}
NETS = {
    "mlp 256-256-256-2, B 16": Net(16, 16, MLP, 3.0),
    "mlp 256-256-256-2, B 128": Net(128, 16, MLP, 2.0),
    "mnist 784-300-300-40, B 128": Net(128, 28, BINARY | {"hidden": (300, 300)}, 1.7),
    "conv 28 x 28, B 64": Net(64, 28, BINARY | {"hidden": (32, 64), "network": "conv"}, 1.15),
    "vhp K 16, B 128": Net(128, 16, MLP | UPPER, recipe="vhp"),
}


def build_pair(net: Net) -> tuple[Objective, Tensor]:
    """Model and guide with fresh weights, and a batch; both on the device of the measures."""
    with fixed_seed(0):
        x = torch.rand(net.batch, 1, net.side, net.side)
        x = (x < 0.2).float() if net.options.get("likelihood") == "bernoulli" else x
        pair = recipes.build(net.recipe, x, {"activation": "relu", **net.options})[0].objective
    if "network" in net.options:
        chain_parts(pair)[0].input_mean.zero_()  # only the bias of a linear layer can take it over
    return pair.to(device()), x.to(device())


def compiled_session(pair: Objective, x: Tensor, schedule: Schedule) -> Session:
    """Compiled training of a copy of a pair on one batch."""
    config = TrainConfig(batch_size=len(x), compile=True)
    session = Session(copy.deepcopy(pair), x, config, schedule.to(x.device), 1_000_000)
    session.batches = SimpleNamespace(next=lambda: x)  # type: ignore[assignment]  # a session calls nothing but `next`
    return session


def measures(quick: bool) -> list[Measure]:
    """The measures of every net; the mean over the four nets of one level comes last."""
    rounds = 5 if quick else 21
    found = {name: (measure_vhp if net.recipe == "vhp" else measure_vae)(name, net, rounds) for name, net in NETS.items()}
    ratios = [found[name][0].ratio or 0.0 for name, net in NETS.items() if net.recipe == "vae"]
    mean = Measure("step, mean of the four", statistics.mean(ratios), f"{HAND} compiled", 1.0)
    return [*(measure for of_net in found.values() for measure in of_net), mean]


def measure_vae(name: str, net: Net, rounds: int) -> list[Measure]:
    pair, x = build_pair(net)
    sides = ours_and_hand_written(pair, x, VAE)
    sides |= numpyro_sides(name, pair, x)
    sides["svi"] = svi_step(pair, x, Trace_ELBO(), validation=True)
    sides["svi, validation off"] = svi_step(pair, x, Trace_ELBO(), validation=False)
    sides["jit"] = svi_step(pair, x, JitTrace_ELBO(ignore_jit_warnings=True), validation=False)
    with pyro.get_param_store().scope(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit.trace
        times = interleaved(sides, rounds)
    return [
        *against_hand_written(name, times, bar=1.05),
        *against_numpyro(name, times),
        in_times_of_ours(f"SVI, {name}", times, "svi", "SVI.step as it comes", net.svi),
        in_times_of_ours(f"SVI without validation, {name}", times, "svi, validation off", "SVI.step"),
        in_times_of_ours(f"JitTrace_ELBO, {name}", times, "jit", "SVI.step with it"),
    ]


def measure_vhp(name: str, net: Net, rounds: int) -> list[Measure]:
    pair, x = build_pair(net)
    sides = ours_and_hand_written(pair, x, VHP)
    hand_written, pyro_pair = VHP(pair, loop=True), copy.deepcopy(pair)
    sides["loop"] = make_step(hand_written, hand_written, x)
    sides["pyro loop"] = make_step(lambda x: vhp_loss_by_loop(pyro_pair, x), pyro_pair, x)
    session = compiled_session(pair, x, Rewo(kappa=20.0))
    sides["rewo"] = session.step
    times = interleaved(sides, rounds)
    rewo, unit = f"REWO, {name}", "time with REWO / without"
    why = reason_not_compiled(session.captured)
    return [
        *against_hand_written(name, times, bar=None),
        in_times_of_ours(f"loop over K, {name}", times, "pyro loop", "a loop with Pyro's distributions", 2.0),
        in_times_of_ours(f"hand-written loop over K, {name}", times, "loop", "a hand-written loop"),
        Measure(rewo, None, unit, detail={"skipped": why}) if why else compare(rewo, times, "rewo", "ours", unit),
    ]


def ours_and_hand_written(pair: Objective, x: Tensor, write: Callable[[Objective], nn.Module]) -> dict[str, Side]:
    """Sides that compute the same, each with its own weights."""
    eager, fused = write(pair).to(x.device), write(pair).to(x.device)
    check_same_loss(pair, eager, x)
    ours = compiled_session(pair, x, Constant())
    ours.step()
    if why := reason_not_compiled(ours.captured):
        raise SystemExit(why)
    return {"ours": ours.step, "eager": make_step(eager, eager, x), "compiled": make_step(compiled(fused, x), fused, x)}


def check_same_loss(pair: Objective, peer: nn.Module, x: Tensor) -> None:
    """Raises if losses differ, or gradients of biases (those of the first layer's weights differ: its inputs do)."""
    found = []
    for module, loss in ((pair, lambda: pair.estimate(x).loss()), (peer, lambda: peer(x))):
        with fixed_seed(1):
            value = loss()
        biases = [p for name, p in module.named_parameters() if name.endswith("bias")]
        grads = torch.autograd.grad(value, biases)
        found.append((value.detach(), torch.stack([grad.norm() for grad in grads]).norm()))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=0.0)


def svi_step(pair: Objective, x: Tensor, elbo: Any, validation: bool) -> Side:
    own = copy.deepcopy(pair)
    svi = SVI(*for_svi(own.model, own.guide), PyroOptim(torch.optim.Adam, {"lr": 1e-3}), elbo)

    def step() -> None:
        with pyro.validation_enabled(validation):
            svi.step(x)

    return step


def against_hand_written(name: str, times: Times, bar: float | None) -> list[Measure]:
    best = max(("compiled", "eager"), key=lambda peer: ratio_of(times, "ours", peer)[0])
    return [
        compare(f"step, {name}", times, "ours", "compiled", f"{HAND} compiled", bar),
        compare(f"step, {name}, best", times, "ours", best, f"{HAND}, the faster ({best})", 1.1),
    ]


def in_times_of_ours(name: str, times: Times, peer: str, unit: str, bar: float | None = None) -> Measure:
    return compare(name, times, peer, "ours", f"time of {unit} / ours", bar, most=False)
