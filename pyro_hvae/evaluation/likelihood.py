"""Log-likelihood of a run's test data by importance sampling, bounds and their terms, active units."""

import math
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical
from tqdm import tqdm

from pyro_hvae import inference
from pyro_hvae.compilation import decide_evaluation, print_line
from pyro_hvae.conditionals import GreyLevels
from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation.resumable_results import ResumableResults
from pyro_hvae.inference import data_per_batch, describe_few_effective_samples, importance_weights
from pyro_hvae.objectives import ELBO, Site, scalar_family
from pyro_hvae.runs import Experiment, OpenRun, draw_given
from pyro_hvae.runtime import fixed_seed

NAMES = ("log_likelihood", "bound", "effective", "half")
# Klushyn et al. 2019, table 2: data set -> (recipe, schedule of a VHP, levels) -> test log-likelihood, 5000 samples.
PUBLISHED_LIKELIHOOD = {
    "mnist": (-78.88, -95.01, -80.42, -81.36, -80.66),
    "mnist-static": (-82.74, -96.32, -84.02, -84.46, -82.83),
    "fashion-mnist": (-225.37, -234.73, -232.78, -226.83, -225.39),
    "omniglot": (-101.78, -108.97, -101.97, -101.57, -101.83),
}
COLUMNS = (("vhp", "rewo", 1), ("vhp", "geco", 1), ("vampprior", "", 1), ("iwae", "", 1), ("iwae", "", 2))


def evaluate(
    run: OpenRun, particles: int = 5000, inner: int = 1, limit: int = 0, seed: int = 0, **how: bool | None
) -> dict[str, Any]:
    """Test log-likelihood by importance sampling, bounds, distortion, rate per site, active units; nats per datum.

    Arguments:
        particles: importance samples per datum.
        inner: particles within each for the sites that the bound does not share (z2 of a VHP); 1 takes joint weights. Both are
            unbiased for p(x).
        limit: number of test data for the likelihood, the first ones of a seeded random order (test files are often sorted),
            so a larger limit continues a smaller one; 0 takes all.
        how: `compile` of `log_likelihoods`. It is no option, because it does not change the result.

    Returns:
        `log_likelihood` with its standard error (of the population, not of these images), `half`, what half of the particles
        give, and `importance_bias`, the distance between the two, by about which or more the value is too low (NaN where it is
        unknown); the weights' effective sample sizes; `bits_per_dim`, None where x is neither discrete nor bytes
        (`bits_per_dim_of` says which); over all test data the run's own bound `elbo`, `iwae_50`, `distortion`, `rate` per site,
        `rate_total` and where they exist KLs per dimension; `active_units`, and where there are KLs `informative_units`, those
        with more than 0.05 nats; and the protocol. With a limit the `log_likelihood` is that of the `subset`. Where that lowers
        the standard error, it is `corrected` to all test data by
        the control variate E[log w] (the one-sample bound): plus its mean over all, minus its mean over the subset. `space`
        names the space of all densities: the data, standardised data, or a stage's features; they do not compare with each
        other. Of standardised data there is also `log_likelihood_own_units`, the density of the data as they were given. With
        conditions all are of p(x | y), and with missing entries of the observed ones.
    """
    test, objective, by = run.view_of(run.dataset.test.x), run.objective, run.dataset.standardization
    model, guide, elbo = objective.model, objective.guide, objective.elbo
    if limit < 0:
        raise ConfigError(f"limit={limit}: the likelihood needs at least one datum, or 0 for all.")
    kept, file = log_likelihoods(run, test, particles, inner, limit, seed, **how)
    values, effective = kept["log_likelihood"], kept["effective"]
    n, value = len(values), values.mean().item()
    if n < len(test):
        print_line(f"The likelihood is of {n:,} test data; bounds, rates and active units are of all {len(test):,}.")
    gap = (values - kept["half"]).mean().item()
    result: dict[str, Any] = {"log_likelihood": value, "stderr": values.std().item() / math.sqrt(n) if n > 1 else math.nan}
    if n < len(test):
        control = ELBO(particles=inner, shared=elbo.shared) if inner > 1 else ELBO(analytic_kl=False)
        with fixed_seed(seed):
            everywhere = inference.bound_per_datum(control, model, guide, test).cpu().double()
        corrected = _control_variate_mean(values, kept["bound"], everywhere)
        # Where the data are alike and the weights are not, the bound adds more noise than it removes.
        better = corrected["stderr"] < result["stderr"]
        result = (corrected if better else result) | {"subset": result, "corrected": better}
    result |= {"half": result["log_likelihood"] - gap, "importance_bias": abs(gap)}
    with fixed_seed(seed):
        given = draw_given(run, 1)
        unit = _bits_unit(inference.ancestral(model, given=given)["x"], test) if run.space == "data" else None
        likelihood = inference.likelihood_name(model, given)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    measured = test if result.get("corrected") else test.take(order[:n])
    bits = None if unit is None else -result["log_likelihood"] / (unit.dims * math.log(2)) + unit.offset
    result |= {"bits_per_dim": bits, "bits_per_dim_of": unit and unit.of}
    with fixed_seed(seed):
        parts = inference.bound(elbo, model, guide, test)
        parts["iwae_50"] = inference.bound(ELBO(particles=50), model, guide, test)["elbo"]
        kl = inference.kl_per_dimension(model, guide, test)
        units = inference.active_units(guide, test)
    if few := describe_few_effective_samples(values, kept["half"], effective, particles):
        print_line(f"Warning: {few}")
    median, low = effective.quantile(torch.tensor([0.5, 0.05], dtype=torch.float64)).tolist()
    return {
        **result,
        "effective_samples": {"median": median, "percentile_5": low},
        **parts,
        "kl_per_dimension": kl,
        "active_units": units,
        "informative_units": inference.informative_units(kl),
        "particles": particles,
        "inner": inner,
        "weights": f"inner, {inner} for all but {', '.join(sorted(elbo.shared))}" if inner > 1 else "joint",
        "bound": {"particles": elbo.particles, "shared": sorted(elbo.shared)},
        "likelihood": likelihood,
        "space": run.space,
        **({"log_likelihood_own_units": result["log_likelihood"] - by.log_scales(measured).mean().item()} if by else {}),
        "split": "test",
        "n": n,
        "n_bound": len(test),
        "seed": seed,
        "units": "nats per datum",
        "values": file,
    }


def log_likelihoods(
    run: OpenRun, test: Rows, particles: int, inner: int, limit: int, seed: int, compile: bool | None = None
) -> tuple[dict[str, Tensor], str]:
    """The columns of `Weights` for the first `limit` data in a seeded random order, and the name of their file in the run.

    An interrupted computation continues if nothing has changed: the log weights of a few data stand for weights, code and data.

    Arguments:
        compile: see `importance_weights`; None decides by the number of samples that are left.
    """
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    shared = sorted(run.objective.elbo.shared)
    size = data_per_batch(particles, inner)
    model, guide = run.objective.model, run.objective.guide
    few = importance_weights(model, guide, test.take(order[:16]), 4, seed=0)
    fingerprint = [round(value, 2) for weights in few for value in weights.bound.tolist()]
    protocol = {"particles": particles, "inner": inner, "shared": shared, "seed": seed, "data": len(test)}
    kept = ResumableResults(run.directory.results / "eval", "log_likelihoods", protocol | {"fingerprint": fingerprint}, NAMES)
    count, start = min(limit or len(test), len(test)), len(kept)
    data = test.take(order[: -(-count // size) * size])  # whole batches: a part of one would have noise of its own
    left = max(0, len(data) - start)
    counts = f"{left:,} data x {particles:,} samples" + (f" x {inner}" if inner > 1 else "")
    compile = decide_evaluation(compile, "the model", counts, left * particles * inner, run.device)
    options: dict[str, Any] = {"compile": compile, "warn": lambda text: print_line(f"Warning: {text}")}
    batches = importance_weights(model, guide, data, particles, inner, shared, start=start, seed=seed, **options)
    with tqdm(total=count, initial=min(start, count), unit="datum", desc="importance sampling", disable=None) as bar:
        try:
            for weights in batches:
                kept.add(**weights._asdict())
                bar.update(min(len(weights.bound), count - bar.n))
        finally:
            if len(kept) > start:
                kept.write()
    columns = {name: torch.from_numpy(values[:count]) for name, values in kept.columns.items()}
    return columns, str(kept.path.relative_to(run.directory.results))


def published_likelihood(experiment: Experiment) -> str | None:
    """The paper's value for an experiment, None where it has none.

    The values but that of static MNIST are compared with dynamic binarisation, which the paper states for MNIST only.
    """
    e, static = experiment, experiment.dataset == "mnist-static"
    if e.dataset not in PUBLISHED_LIKELIHOOD or not (static or e.data_options.get("binarize") == "dynamic"):
        return None
    if e.condition or e.size_factor or e.recipe_options.get("prior", "normal") != "normal":
        return None
    which = (e.recipe, e.schedule if e.recipe == "vhp" else "", e.recipe_options.get("levels", 1))
    return f"{PUBLISHED_LIKELIHOOD[e.dataset][COLUMNS.index(which)]}" if which in COLUMNS else None


class BitsUnit(NamedTuple):
    """What bits per dimension are of: `dims` of one datum, and the `offset` that makes a density one of 8-bit values."""

    of: str
    dims: int
    offset: float = 0.0


def _bits_unit(site: Site, x: Rows) -> BitsUnit | None:
    """The unit of bits per dimension, None where x has none: a density depends on the scale of x, a mask leaves dimensions out.

    Discrete are whole numbers under a discrete likelihood, not grey values under a Bernoulli, and v / 255 under one of 8-bit
    levels. Bytes v are data v / 255 under a density; published bits per dimension refer to steps of 1 / 256, so log2 256 is
    added to them.
    """
    if x.incomplete:
        return None
    values, family, dims, discrete = x.alone.sample(), scalar_family(site["fn"]), site["fn"].event_shape.numel(), False
    with suppress(NotImplementedError, AttributeError):  # a distribution without a known support
        discrete = family.support.is_discrete
    if not torch.as_tensor(True if site["mask"] is None else site["mask"]).all():
        return None
    whole = bool((values == values.round()).all())
    if discrete:
        classes = family.event_shape.numel() if isinstance(family, OneHotCategorical) else 1
        return BitsUnit("discrete data", dims // classes) if whole or isinstance(family.support, GreyLevels) else None
    steps = values * 255
    if whole or values.min() < 0 or values.max() > 1 or not torch.allclose(steps, steps.round(), rtol=0, atol=1e-3):
        return None
    return BitsUnit("bytes: a density on [0, 1] without dequantisation, + log2 256", dims, 8.0)


def _control_variate_mean(values: Tensor, bounds: Tensor, everywhere: Tensor) -> dict[str, Any]:
    """The mean over a subset, corrected by the difference of the mean bounds of all data and of the subset.

    T = mean of d over the n data + mean of b over all N, with d the difference of likelihood and bound b; since the n are among
    the N, Var T = Var(d) / n + Var(b) / N + 2 Cov(d, b) / N.
    """
    difference = values - bounds
    corrected = difference.mean() + everywhere.mean()
    shared = 2 * torch.cov(torch.stack([difference, bounds]))[0, 1] if len(values) > 1 else torch.tensor(math.nan)
    variance = difference.var() / len(values) + (everywhere.var() + shared) / len(everywhere)
    return {"log_likelihood": corrected.item(), "stderr": variance.clamp(min=0).sqrt().item()}
