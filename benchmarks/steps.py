"""Training steps: the library's own against the same networks written by hand, Pyro's SVI and its traced ELBO.

Ours is `Session.step` with a compiled graph, as `train --compile` runs it; its batches are replaced by one that is at hand, as
on every other side. That the sides compute the same is checked first: losses and gradients under one seed.
"""

import copy
import statistics
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import torch
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
from pyro.optim.optim import PyroOptim
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.measures import Measure, Side, against, device, eagerly, interleaved, skipped
from pyro_hvae import recipes
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.objectives.pyro_svi import for_svi
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.runtime.random_state import fixed_seed
from pyro_hvae.schedules import Constant, Rewo, Schedule
from pyro_hvae.training.session import Session

__all__ = ["NETS", "Net", "measures", "pair_of", "session"]


class Net(NamedTuple):
    """A pair on random images. `svi` is the bar: how many times as long `SVI.step` takes."""

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


def pair_of(net: Net) -> tuple[Objective, Tensor]:
    """Model and guide with fresh weights, and a batch; both where steps are measured."""
    with fixed_seed(0):
        x = torch.rand(net.batch, 1, net.side, net.side)
        x = (x < 0.2).float() if net.options.get("likelihood") == "bernoulli" else x
        pair = recipes.build(net.recipe, x, {"activation": "relu", **net.options})[0].objective
    if "network" in net.options:
        peers.parts(pair)[0].input_mean.zero_()  # which only the bias of a linear layer can take over
    return pair.to(device()), x.to(device())


class _AtHand(NamedTuple):
    """A stream of batches that is always the same one."""

    x: Tensor

    def next(self) -> Tensor:
        return self.x


def session(pair: Objective, x: Tensor, schedule: Schedule) -> Session:
    """Training of a pair on one batch, compiled."""
    config = TrainConfig(batch_size=len(x), compile=True)
    made = Session(pair, x, config, schedule.to(x.device), 1_000_000)
    made.batches = _AtHand(x)  # type: ignore[assignment]  # all that a session asks of them
    return made


def measures(quick: bool) -> list[Measure]:
    """Of every net; the mean over the four of one level comes last."""
    rounds = 5 if quick else 21
    found = [(_hierarchy if net.recipe == "vhp" else _one_level)(name, net, rounds) for name, net in NETS.items()]
    ratios = [of_net[0].ratio or 0.0 for of_net, net in zip(found, NETS.values(), strict=True) if net.recipe == "vae"]
    mean = Measure("step, mean of the four", statistics.mean(ratios), f"{HAND} compiled", 1.0)
    return [*(measure for of_net in found for measure in of_net), mean]


def _one_level(name: str, net: Net, rounds: int) -> list[Measure]:
    pair, x = pair_of(net)
    sides = _ours_and_hand(pair, x, peers.VAE)
    for label, elbo, validation in (
        ("svi", Trace_ELBO(), True),
        ("svi, validation off", Trace_ELBO(), False),
        ("jit", JitTrace_ELBO(ignore_jit_warnings=True), False),
    ):
        sides[label] = _svi(pair, x, elbo, validation)
    taken = _timed(sides, rounds)
    return [
        *_against_hand(name, taken),
        _times(f"SVI, {name}", taken, "svi", "SVI.step as it comes", net.svi),
        _times(f"SVI without validation, {name}", taken, "svi, validation off", "SVI.step"),
        _times(f"JitTrace_ELBO, {name}", taken, "jit", "SVI.step with it"),
    ]


def _hierarchy(name: str, net: Net, rounds: int) -> list[Measure]:
    pair, x = pair_of(net)
    sides = _ours_and_hand(pair, x, peers.VHP)
    loops: dict[str, nn.Module] = {"loop": peers.VHP(pair, loop=True), "pyro loop": copy.deepcopy(pair)}
    sides["loop"] = peers.stepping(loops["loop"], loops["loop"], x)
    looped = loops["pyro loop"]
    assert isinstance(looped, Objective)
    sides["pyro loop"] = peers.stepping(lambda x: peers.looped(looped, x), looped, x)
    rewo = session(copy.deepcopy(pair), x, Rewo(kappa=20.0))
    sides["rewo"] = rewo.step
    taken = _timed(sides, rounds)
    return [
        *_against_hand(name, taken),
        _times(f"loop over K, {name}", taken, "pyro loop", "a loop with Pyro's distributions", 2.0),
        _times(f"hand-written loop over K, {name}", taken, "loop", "a hand-written loop"),
        _rewo(f"REWO, {name}", rewo, taken),
    ]


def _rewo(name: str, session: Session, taken: dict[str, list[float]]) -> Measure:
    """What the schedule adds to a step, if it goes into the graph."""
    unit, why = "time with REWO / without", eagerly(session.captured)
    if why:
        return skipped(name, unit, why)
    ratio, detail = against(taken, "rewo", "ours")
    return Measure(name, ratio, unit, detail=detail)


def _ours_and_hand(pair: Objective, x: Tensor, write: Callable[[Objective], nn.Module]) -> dict[str, Side]:
    """Sides with weights of their own, which have been found to compute the same."""
    eager, compiled = write(pair).to(x.device), write(pair).to(x.device)
    _same(pair, eager, x)
    ours = session(copy.deepcopy(pair), x, Constant())
    ours.step()
    if why := eagerly(ours.captured):
        raise SystemExit(why)
    return {
        "ours": ours.step,
        "eager": peers.stepping(eager, eager, x),
        "compiled": peers.stepping(peers.compiled(compiled, x), compiled, x),
    }


def _same(pair: Objective, peer: nn.Module, x: Tensor) -> None:
    """Raises where a peer's loss is another than ours, or its gradients (of biases: the first layer's weights see other x)."""
    found = []
    for module, loss in ((pair, lambda: pair.estimate(x).loss()), (peer, lambda: peer(x))):
        with fixed_seed(1):
            value = loss()
        biases = [p for name, p in module.named_parameters() if name.endswith("bias")]
        grads = torch.autograd.grad(value, biases)
        found.append((value.detach(), torch.stack([grad.norm() for grad in grads]).norm()))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=0.0)


def _svi(pair: Objective, x: Tensor, elbo: Any, validation: bool) -> Side:
    own = copy.deepcopy(pair)
    svi = SVI(*for_svi(own.model, own.guide), PyroOptim(torch.optim.Adam, {"lr": 1e-3}), elbo)

    def step() -> None:
        with pyro.validation_enabled(validation):
            svi.step(x)

    return step


def _timed(sides: dict[str, Side], rounds: int) -> dict[str, list[float]]:
    with pyro.get_param_store().scope(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit.trace
        return interleaved(sides, rounds)


def _against_hand(name: str, taken: dict[str, list[float]]) -> list[Measure]:
    found = {peer: against(taken, "ours", peer) for peer in ("compiled", "eager")}
    best = max(found, key=lambda peer: found[peer][0])
    bar = 1.05 if not name.startswith("vhp") else None
    ratio, detail = found["compiled"]
    best_ratio, best_detail = found[best]
    return [
        Measure(f"step, {name}", ratio, f"{HAND} compiled", bar, detail=detail),
        Measure(f"step, {name}, best", best_ratio, f"{HAND}, the faster ({best})", 1.1, detail=best_detail),
    ]


def _times(name: str, taken: dict[str, list[float]], peer: str, unit: str, bar: float | None = None) -> Measure:
    """How many times as long a peer takes."""
    ratio, detail = against(taken, peer, "ours")
    return Measure(name, ratio, f"time of {unit} / ours", bar, most=False, detail=detail)
