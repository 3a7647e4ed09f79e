"""Distances of a run's Gibbs chains and ancestral samples to test data, with convergence diagnostics."""

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.compilation import ROWS_PER_CHAIN_STEP, decide_evaluation, print_line
from pyro_hvae.data import Batch, x_of
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.inference import Chains, ancestral, generate, gibbs, latents
from pyro_hvae.metrics import EnergyDistance, convergence, energy_distance
from pyro_hvae.objectives import inputs_for, parents, site_mean
from pyro_hvae.runs import OpenRun, draw_beside, draw_given
from pyro_hvae.runtime import fixed_seed


def _draw_data(run: OpenRun, count: int) -> Tensor | Batch:
    held = run.dataset.validation.x.complete()  # not the test split, with which the chains are compared
    if not len(held):
        raise ConfigError(f"the validation data of '{run.dataset.name}' all have missing entries. Start chains by init=prior.")
    return held[torch.randint(len(held), (count,))]


def _draw_noise(run: OpenRun, count: int) -> Tensor:
    x = x_of(run.dataset.train.x.complete().sample())
    noise = torch.rand(count, *x.shape[1:]) * (x.max() - x.min()) + x.min()
    return noise.round() if torch.equal(x[:100], x[:100].round()) else noise


def _draw_prior(run: OpenRun, count: int) -> Tensor | Batch:
    given = draw_beside(run, count)
    return Batch.of(generate(run.model, count, mean=False, given=inputs_for(run.model, given))["x"], given)


# name -> (run, chains) -> starting points, with the conditions of random data
STARTING_POINTS: dict[str, Callable[[OpenRun, int], Tensor | Batch]] = {
    "data": _draw_data,
    "noise": lambda run, count: Batch.of(_draw_noise(run, count).to(run.device), draw_beside(run, count)),
    "prior": _draw_prior,
}


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

    Each distance is measured for draws x ~ p(x | z), the model's data, and for means E[x | z], which pictures show. `test` is
    the distance between two sets of test data, the value of perfect samples. Diagnostics are of the kept sites. `diverged`
    counts the chains that left the data (`Chains.find_diverged`, of the test data); where there are any, the chains have no
    distance (NaN). For chains from data with classes that are not given, `class_changed` is the share of chains whose nearest
    training datum changes its class. A chain keeps the condition that it starts with: that of its datum, or of a random
    training datum. Of incomplete data those without missing entries start chains and are compared with.

    Arguments:
        sites: of `gibbs`; None keeps the latents that x depends on, z1 of a Markov hierarchy, all of a skip model.
        chains: number of parallel chains. init: a key of `STARTING_POINTS`. samples: most draws in a distance.
        compile: see `gibbs`; None decides by the number of steps and of chains.

    Raises:
        ConfigError: see `gibbs`; also for an unknown init, fewer than two chains or samples, a run trained on features, or
            fewer than four test data without missing entries.
    """
    require_known("init", init, STARTING_POINTS)
    if run.stage.pixels:
        raise ConfigError(
            "a Gibbs chain needs p(x | z) and q(z | x) of one bound. This run's bound is of features "
            f"({run.stage.pixels.space}); its pixels are averages of patches, which have no bound: a chain through them has no "
            "law to converge to. Use 'sample' for samples."
        )
    if chains < 2 or samples < 2:
        raise ConfigError(f"distances need at least two chains and two samples, got {chains} and {samples}.")
    incomplete, test = run.dataset.test.x.incomplete, run.dataset.test.x.complete()
    if incomplete and len(test) < 4:
        raise ConfigError(
            f"the distance of samples to test data needs whole data, but {len(run.dataset.test) - len(test)} of the "
            f"{len(run.dataset.test)} test data of '{run.dataset.name}' have missing entries. In Python, hv.gibbs runs chains "
            "that keep the observed entries of x."
        )
    samples = min(samples, len(test) // 2)
    of_one = f"{chains:,} chains" + (f" x {particles:,} draws" if particles > 1 else "")
    work = steps * (chains * particles + ROWS_PER_CHAIN_STEP)
    compile = decide_evaluation(compile, "the chains' step", f"{steps:,} steps of {of_one}", work, run.device)
    with fixed_seed(seed):
        sites = parents(run.model, test[:2].to(run.device)) if sites is None else sites
        start = STARTING_POINTS[init](run, chains).to(run.device)
        start = start.with_x(start.x.to(test[:1].dtype)) if isinstance(start, Batch) else start.to(test[:1].dtype)
        options: dict[str, Any] = {"noise": noise, "particles": particles, "burn_in": burn_in, "thin": thin}
        how: dict[str, Any] = {"compile": compile, "warn": lambda text: print_line(f"Warning: {text}")}
        found = gibbs(run.model, run.guide, start, steps, sites, **options, **how, progress=progress)
        x = ancestral(run.model, samples, given=draw_given(run, samples))["x"]
        means, draws = site_mean(x).cpu(), x["value"].cpu()
        order = torch.randperm(len(test))
        pick = torch.randperm(found.x.shape[0] * chains)[:samples]
    reference, others = (x_of(test[some]) for some in order[: 2 * samples].split(samples))
    chain = pick % chains
    pairs = {
        "gibbs": (found.x.flatten(0, 1).cpu()[pick], found.mean.flatten(0, 1).cpu()[pick], chain),
        "ancestral": (draws, means, None),
        "test": (others, others, None),
    }
    distances = {
        name: {kind: asdict(energy_distance(x, reference, groups)) for kind, x in (("draws", drawn), ("means", mean))}
        for name, (drawn, mean, groups) in pairs.items()
    }
    if diverged := int(found.find_diverged(reference).sum()):
        distances["gibbs"] = {kind: asdict(EnergyDistance(math.nan, math.nan)) for kind in ("draws", "means")}
    values: dict[str, Any] = {
        "sites": list(found.sites),
        "proposition": _find_proposition(run, set(found.sites), start[:2]),
        "diverged": diverged,
        "distance": distances,
        "diagnostics": {name: asdict(d) if (d := convergence(z)) else None for name, z in found.z.items()},
    }
    drawn = "class" in run.dataset.train.factors and "class" not in [condition.name for condition in run.conditions]
    if init == "data" and drawn and not diverged:
        before, after = (_nearest_classes(run, state) for state in (x_of(start).cpu(), found.mean[-1].cpu()))
        values["class_changed"] = (before != after).double().mean().item()
        shares = run.dataset.train.factors["class"].bincount().double() / len(run.dataset.train)
        values["class_changed_if_independent"] = 1 - shares.square().sum().item()
    values |= {"steps": steps, "chains": chains, "init": init, **options}
    whole = f", {len(test)} test data without missing entries" if incomplete else ""
    values |= {"samples": samples, "seed": seed, "data": run.dataset.name + whole}
    return GibbsReport(found, means, values)


def _find_proposition(run: OpenRun, sites: set[str], x: Tensor | Batch) -> int | None:
    """1 for the bottom layer of a Markov chain, 2 for all of several layers, None for others (not in the paper)."""
    if sites == {"z1"} and parents(run.model, x) == ["z1"]:
        return 1
    return 2 if sites == set(latents(run.guide, x)) else None


def proposition_note(values: dict[str, Any]) -> str:
    """Text in brackets that names the proposition; empty for sites that the paper leaves out."""
    return f" (Proposition {values['proposition']})" if values["proposition"] else ""


def _nearest_classes(run: OpenRun, x: Tensor, neighbours: int = 5000) -> Tensor:
    """Class of the nearest one of the first training data, for every row of x."""
    split = run.dataset.train
    nearest = torch.cdist(x.flatten(1), split.x.alone[:neighbours].flatten(1)).argmin(1)
    return split.factors["class"][nearest]
