"""Disentanglement of a run: MIG, MIG-sup, the FactorVAE metric, information of each layer."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.evaluation.encoded_data import EncodedData, encode_data, hash_parameters
from pyro_hvae.inference import direct_data_dependence
from pyro_hvae.metrics import (
    MEANINGFUL_VARIANCE,
    InformationGaps,
    factor_score,
    histogram_gaps,
    information_gaps,
    is_resolved,
    layer_information,
)
from pyro_hvae.runs import OpenRun

# Chen et al. (2018) and the authors of pro-VLAE leave out the shape of dSprites.
LEFT_OUT = {"dsprites": ["shape"], "sprites": ["shape"]}


def _select_factors(
    run: OpenRun, data: EncodedData, left_out: Sequence[str], wanted: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The factors to use, and the reason for each factor left out. Those that are wanted are used if they can be."""
    for name in wanted:
        require_known(f"factor of {run.dataset.name}", name, {**data.factors, **data.excluded})
        if name not in data.factors:
            raise ConfigError(f"factor '{name}' of {run.dataset.name} is continuous; gaps and votes need few values.")
    excluded = data.excluded | {name: "by protocol" for name in left_out if name in data.factors}
    excluded |= {c.name: "given beside x" for c in run.conditions if c.name in data.factors}
    if wanted:
        excluded = {name: "not among those named" for name in {**data.factors, **data.excluded} if name not in wanted}
    excluded |= {name: "one value only" for name, v in data.factors.items() if name not in excluded and len(v.unique()) < 2}
    used = {name: data.factors[name] for name in wanted or data.factors if name not in excluded}
    if len(used) < 2:
        why = "; ".join(f"{name}: {reason}" for name, reason in excluded.items())
        raise ConfigError(
            f"metrics of disentanglement need two or more factors of variation with few values; '{run.dataset.name}' has "
            f"{', '.join(used) or 'none'}{f' (not used: {why})' if why else ''}. Others: sprites, rooms, dsprites, shapes3d."
        )
    return used, excluded


@lru_cache(maxsize=1)  # mig and mig-sup are two readings of one measurement
def _measure_gaps(
    run: OpenRun, weights: str, points: int, samples: int, draws: int, seed: int, wanted: tuple[str, ...]
) -> dict[str, Any]:
    data = encode_data(run, points, draws, seed)
    factors, excluded = _select_factors(run, data, LEFT_OUT.get(run.dataset.name, []), wanted)
    gaps = information_gaps(list(data.layers.values()), factors, samples, seed)
    layers, first = {}, 0
    for site, q in data.layers.items():
        dims = range(first, first := first + q.means.shape[2])
        layers[site] = dict(zip(("mig", "mig_sup"), gaps.scores(dims), strict=True))
    return {**_name_dimensions(gaps, data.names, factors), "layers": layers, "excluded": excluded, **data.protocol}


def _name_dimensions(gaps: InformationGaps, names: list[str], factors: dict[str, Tensor]) -> dict[str, Any]:
    """The result with dimensions and factors by their names."""
    return asdict(gaps) | {
        "leaders": {factor: [names[j] for j in dims] for factor, dims in gaps.leaders.items()},
        "latent_gaps": dict(zip(names, gaps.latent_gaps, strict=True)),
        "meaningful": [name for name, yes in zip(names, gaps.meaningful, strict=True) if yes],
        "normalised": {n: dict(zip(factors, row, strict=True)) for n, row in zip(names, gaps.normalised, strict=True)},
    }


def mig(
    run: OpenRun,
    points: int = 50_000,
    samples: int = 10_000,
    draws: int = 16,
    seed: int = 0,
    factors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """MIG and MIG-sup of the aggregate posterior, all layers side by side and each alone.

    Arguments:
        points: number of random data, whose posteriors make up the aggregate. samples: draws from it.
        draws: components of a posterior above the first layer of a stochastic chain.
        factors: those to use; none named means all of few values, without identifiers of the data.
    """
    return dict(_measure_gaps(run, hash_parameters(run.objective), points, samples, draws, seed, tuple(factors)))


def mig_sup(
    run: OpenRun,
    points: int = 50_000,
    samples: int = 10_000,
    draws: int = 16,
    seed: int = 0,
    factors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """MIG-sup beside MIG, from the same measurement: the information of each dimension about one factor alone."""
    return mig(run, points, samples, draws, seed, factors)


def mig_histogram(
    run: OpenRun,
    points: int = 10_000,
    bins: int = 20,
    draws: int = 16,
    seed: int = 0,
    factors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The MIG of disentanglement_lib: discrete information of binned posterior means, another estimator than `mig`."""
    data = encode_data(run, points, draws, seed)
    used, excluded = _select_factors(run, data, LEFT_OUT.get(run.dataset.name, []), tuple(factors))
    gaps = histogram_gaps(_join_means(data, MEANINGFUL_VARIANCE), used, bins, points, seed)
    return {**_name_dimensions(gaps, data.names, used), "excluded": excluded, **data.protocol}


def factor(
    run: OpenRun,
    points: int = 50_000,
    votes: int = 10_000,
    test_votes: int = 5_000,
    per_vote: int = 64,
    prune: float = 0.05,
    draws: int = 16,
    seed: int = 0,
    factors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """FactorVAE's metric on posterior means of all layers side by side; every factor of few values votes."""
    data = encode_data(run, points, draws, seed)
    used, excluded = _select_factors(run, data, [], tuple(factors))
    values = {name: v.numpy() for name, v in used.items()}
    score = factor_score(_join_means(data, prune**2).numpy(), values, votes, test_votes, per_vote, prune, seed)
    names = np.array(data.names)
    return {
        **asdict(score),
        "kept": names[list(score.kept)].tolist(),
        "pruned": names[list(score.pruned)].tolist(),
        "factors": list(score.factors),
        "votes": {n: dict(zip(score.factors, row, strict=True)) for n, row in zip(names, score.votes.tolist(), strict=True)},
        "majority": {data.names[d]: name for d, name in score.majority.items()},
        "excluded": excluded,
        **data.protocol,
    }


def mutual_information(
    run: OpenRun, points: int = 50_000, samples: int = 10_000, draws: int = 16, seed: int = 0
) -> dict[str, Any]:
    """I(x; z_l) of each layer, I(x; z) of all and what the layers share, I_over.

    For a layer that is a mixture over draws, the value is an upper bound that falls with their number: a draw is compared with
    the draws it came from. `upper_bounds` names these layers. All values are at most log N. `bias` says how many nats they are
    too low about the population that the data come from (see `Information`); for a whole grid it is zero. In a run with
    conditions y all are of the pair, such as I(x, y; z). In a chain whose later layers depend on the layer before alone,
    I(x; z) = I(x; z1). Where later layers depend on x too (an autoregressive or top-down guide), or on y (every chain with
    conditions), q(z | x, y) at another datum's draw needs a run of the guide for every pair of data; `total` and `over` are
    null. `over` is null, too, where an information that it is made of is less than two nats below log N; `unresolved` says so.
    """
    data = encode_data(run, points, draws, seed)
    information = layer_information(data.layers, samples, seed, population=data.population)
    layers = {site: asdict(value) for site, value in information.layers.items()}
    total, over = (value and asdict(value) for value in (information.total, information.over))
    first, *later = data.layers
    resolved = over is not None or total is None
    if total is None and not any(direct_data_dependence(run.guide, run.dataset.train.x.to(run.device))[site] for site in later):
        total = layers[first]
        resolved = data.population or all(is_resolved(information.layers[site]) for site in later)
        for site in later:  # a layer has at most the information of the first one; an estimate can have more
            layers[site]["value"] = min(layers[site]["value"], total["value"])
        # All estimates use the same draws, so the errors can add up.
        over = {key: sum(layers[site][key] for site in later) for key in ("value", "stderr", "bias")} if resolved else None
    terms = {"total": total, "over": over, **layers}
    why = "over: an information in it is less than 2 nats below the limit; take more points"
    return {
        **{name: term and term["value"] for name, term in terms.items()},
        "stderr": {name: term and term["stderr"] for name, term in terms.items()},
        "bias": {name: term and term["bias"] for name, term in terms.items()},
        **({} if resolved else {"unresolved": why}),
        "upper_bounds": [site for site, q in data.layers.items() if q.size > 1],
        "limit": math.log(data.protocol["points"]),
        **{key: layers[first][key] for key in ("samples", "components", "exact")},
        "units": "nats",
        **data.protocol,
    }


def _join_means(data: EncodedData, least: float) -> Tensor:
    """Posterior means side by side; 0 where those of a mixture vary by less than `least`, without the noise of its draws."""
    layers = data.layers.values()
    return torch.cat([q.mean.where(q.variance_of_means >= least, 0.0) if q.size > 1 else q.mean for q in layers], 1)
