"""Distances of a run's Gibbs chains and ancestral samples to test data, with convergence diagnostics."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.compilation import ROWS_PER_CHAIN_STEP, decide_evaluation, print_line
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.inference import Chains, ancestral, generate, gibbs, latents
from pyro_hvae.metrics import convergence, energy_distance
from pyro_hvae.objectives import parents, site_mean
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed


def _from_data(run: OpenRun, count: int) -> Tensor:
    held = run.dataset.validation.x  # not the test split, to which the chains will be compared
    return held[torch.randint(len(held), (count,))]


def _from_noise(run: OpenRun, count: int) -> Tensor:
    x = run.dataset.train.x.sample()
    noise = torch.rand(count, *x.shape[1:]) * (x.max() - x.min()) + x.min()
    return noise.round() if torch.equal(x[:100], x[:100].round()) else noise


def _from_prior(run: OpenRun, count: int) -> Tensor:
    return generate(run.model, count, mean=False)["x"].cpu()


# name -> (run, chains) -> starting points
STARTING_POINTS: dict[str, Callable[[OpenRun, int], Tensor]] = {"data": _from_data, "noise": _from_noise, "prior": _from_prior}


@dataclass(frozen=True)
class GibbsReport:
    """Chains and ancestral samples of one run, with distances and diagnostics.

    Attributes:
        chains: after burn-in. ancestral: E[x | z] of ancestral samples (n, *event). values: primitives for JSON.
    """

    chains: Chains
    ancestral: Tensor
    values: dict[str, Any]


def sample_by_gibbs(
    run: OpenRun,
    sites: Collection[str] | str | None = None,
    steps: int = 100,
    chains: int = 100,
    burn_in: int = 50,
    thin: int = 1,
    init: str = "data",
    noise: bool = True,
    particles: int = 1,
    seed: int = 0,
    samples: int = 1000,
    progress: Callable[[int], Any] | None = None,
    compile: bool | None = None,
) -> GibbsReport:
    """Runs Gibbs chains (see `gibbs`) and measures their energy distance to test data beside that of ancestral samples.

    Each distance is taken twice: for draws x ~ p(x | z), which is what the model says data are, and for means E[x | z],
    which is what pictures show. `test` is the distance of other test data to the same ones: what perfect samples would get.
    Diagnostics are of the kept sites; `class_changed` is the share of chains whose state ends nearest to a training datum of
    another class than the one it started nearest to (data sets with classes, chains from data).

    Arguments:
        sites: of `gibbs`; None keeps the latents that x depends on, z1 of a Markov hierarchy, all of a skip model.
        chains: how many, in parallel. init: a key of `STARTING_POINTS`. samples: the most draws that enter a distance.
        compile: see `gibbs`; None goes by the number of steps and of chains.

    Raises:
        ConfigError: see `gibbs`; also for an unknown init, fewer than two chains or samples, or a run trained on features.
    """
    require_known("init", init, STARTING_POINTS)
    if run.stage.pixels:
        raise ConfigError(
            "a Gibbs chain needs p(x | z) and q(z | x) of one bound. This run's bound is of features "
            f"({run.stage.pixels.space}); its pixels are patches that were averaged afterwards, and no bound was ever taken of "
            "them: a chain through them has no law to converge to. Use 'sample' for samples."
        )
    if chains < 2 or samples < 2:
        raise ConfigError(f"distances need at least two chains and two samples, got {chains} and {samples}.")
    test = run.dataset.test.x
    samples = min(samples, len(test) // 2)
    of_one = f"{chains:,} chains" + (f" x {particles:,} draws" if particles > 1 else "")
    work = steps * (chains * particles + ROWS_PER_CHAIN_STEP)
    compile = decide_evaluation(compile, "the chains' step", f"{steps:,} steps of {of_one}", work, run.device)
    with fixed_seed(seed):
        sites = parents(run.model, test[:2].to(run.device)) if sites is None else sites
        start = STARTING_POINTS[init](run, chains).to(run.device, test[:1].dtype)
        options: dict[str, Any] = {"noise": noise, "particles": particles, "burn_in": burn_in, "thin": thin}
        how: dict[str, Any] = {"compile": compile, "warn": lambda text: print_line(f"Warning: {text}")}
        found = gibbs(run.model, run.guide, start, steps, sites, **options, **how, progress=progress)
        x = ancestral(run.model, samples)["x"]
        means, draws = site_mean(x).cpu(), x["value"].cpu()
        order = torch.randperm(len(test))
        pick = torch.randperm(found.x.shape[0] * chains)[:samples]
    reference, others = test[order[:samples]], test[order[samples : 2 * samples]]
    chain = pick % chains
    pairs = {
        "gibbs": (found.x.flatten(0, 1).cpu()[pick], found.mean.flatten(0, 1).cpu()[pick], chain),
        "ancestral": (draws, means, None),
        "test": (others, others, None),
    }
    distances = {
        name: {
            "draws": asdict(energy_distance(drawn, reference, groups)),
            "means": asdict(energy_distance(mean, reference, groups)),
        }
        for name, (drawn, mean, groups) in pairs.items()
    }
    diagnostics = {name: convergence(z) for name, z in found.z.items()}
    values: dict[str, Any] = {
        "sites": list(found.sites),
        "proposition": _proposition(run, set(found.sites), start[:2]),
        "distance": distances,
        "diagnostics": {name: asdict(d) if d else None for name, d in diagnostics.items()},
    }
    if init == "data" and "class" in run.dataset.train.factors:
        before, after = (_classes(run, state) for state in (start.cpu(), found.mean[-1].cpu()))
        values["class_changed"] = (before != after).double().mean().item()
        shares = run.dataset.train.factors["class"].bincount().double() / len(run.dataset.train)
        values["class_changed_if_independent"] = 1 - shares.square().sum().item()
    values |= {"steps": steps, "chains": chains, "init": init, **options}
    values |= {"samples": samples, "seed": seed, "data": run.dataset.name}
    return GibbsReport(found, means, values)


def _proposition(run: OpenRun, sites: set[str], x: Tensor) -> int | None:
    """1 for the bottom layer of a Markov chain, 2 for all of several layers, None for what the paper says nothing about."""
    if sites == {"z1"} and parents(run.model, x) == ["z1"]:
        return 1
    return 2 if sites == set(latents(run.guide, x)) else None


def proposition_note(values: dict[str, Any]) -> str:
    """The words in brackets that name the proposition, or nothing for sites that the paper says nothing about."""
    return f" (Proposition {values['proposition']})" if values["proposition"] else ""


def _classes(run: OpenRun, x: Tensor, neighbours: int = 5000) -> Tensor:
    """The class of the nearest of the first training data."""
    split = run.dataset.train
    nearest = torch.cdist(x.flatten(1), split.x[:neighbours].flatten(1)).argmin(1)
    return split.factors["class"][nearest]
