"""The likelihoods of recipes by name: conditionals of x, joined to the data, and what data they can be of."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.conditionals import (
    Bernoulli,
    Beta,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    Laplace,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflated,
)
from pyro_hvae.data import Batch, x_of
from pyro_hvae.errors import ConfigError
from pyro_hvae.recipes.grey_level_likelihoods import discretised_logistic, logistic_mixture


class Needs(NamedTuple):
    """What a likelihood needs of its data.

    Attributes:
        kind: the likelihood's name in a sentence. values: which it needs, in words. inside: which of some values are such.
    """

    kind: str
    values: str
    inside: Callable[[Tensor], Tensor]


def _is_count(x: Tensor) -> Tensor:
    return (x >= 0) & (x == x.round())


SHARE = 0.1  # of further zeros, where zero-inflated counts start
MAX_LEVELS = 1024  # of a categorical likelihood, whose network has as many outputs for each entry of x

NEEDS: dict[str, Needs] = {
    "bernoulli": Needs("Bernoulli", "data in [0, 1]", lambda x: (x >= 0) & (x <= 1)),
    "continuous-bernoulli": Needs("continuous Bernoulli", "data in [0, 1]", lambda x: (x >= 0) & (x <= 1)),
    "beta": Needs("Beta", "data strictly between 0 and 1", lambda x: (x > 0) & (x < 1)),
    "poisson": Needs("Poisson", "counts (0, 1, 2, ...)", _is_count),
    "negative-binomial": Needs("negative binomial", "counts (0, 1, 2, ...)", _is_count),
    "zero-inflated-poisson": Needs("zero-inflated Poisson", "counts (0, 1, 2, ...)", _is_count),
    "zero-inflated-negative-binomial": Needs("zero-inflated negative binomial", "counts (0, 1, 2, ...)", _is_count),
    "categorical": Needs("categorical", f"levels 0, 1, 2, ... below {MAX_LEVELS}", lambda x: _is_count(x) & (x < MAX_LEVELS)),
}
COUNTS = tuple(name for name, needs in NEEDS.items() if needs.inside is _is_count)  # their means take a size factor


def check_values(likelihood: str, data: Tensor | Batch, columns: Sequence[str] = (), standardised: bool = False) -> None:
    """Raises `ConfigError` where training data are none of a likelihood; missing entries do not count.

    Arguments:
        columns: the names of those of x, where it has some. standardised: whether x is (x - mean) / scale of the data.
    """
    if likelihood not in NEEDS:
        return
    kind, values, inside = NEEDS[likelihood]
    x, known = x_of(data), data.observed if isinstance(data, Batch) else None
    outside = ~inside(x) if known is None else known & ~inside(x)
    if outside.any():
        place: list[int] = outside.nonzero()[0].tolist()
        low, high = (x if known is None else x[known]).aminmax()
        column = columns[place[1]] if columns else ""
        raise ConfigError(
            f"a {kind} likelihood needs {values}, but these lie in [{low.item():.3g}, {high.item():.3g}], "
            f"{x[tuple(place)].item():.6g} {f'in {column!r} ' if column else ''}among them. "
            f"{_advise(likelihood, x[:, place[1]], column, standardised)}"
        )


def _advise(likelihood: str, values: Tensor, column: str, standardised: bool) -> str:
    """What to do about a column, called "" where it has no name, with values that are none of a likelihood's."""
    if standardised:
        return "The data are standardised: use -o standardize=false, or -o likelihood=gaussian."
    if column and likelihood in COUNTS:
        size = f", or -o size_factor={column}" if (values > 0).all() else ""
        return (
            f"Where '{column}' is no part of x: -o labels={column}, or -o condition={column}{size}. Else use "
            "-o likelihood=gaussian."
        )
    return "Use -o likelihood=gaussian."


def require_counts(likelihood: str) -> None:
    """Raises `ConfigError` for a likelihood whose means take no size factor."""
    if likelihood not in COUNTS:
        raise ConfigError(
            f"size_factor multiplies the means of counts, but the likelihood is {likelihood}. Leave it out, or "
            f"use a likelihood of counts: {', '.join(COUNTS)}."
        )


def _refuse_sigma(name: str, learn_sigma: bool) -> None:
    if learn_sigma:
        raise ConfigError(
            f"a {NEEDS[name].kind} likelihood has no sigma, so learn_sigma cannot be on. Leave learn_sigma out, or use -o "
            "likelihood=gaussian."
        )


def _without_sigma(name: str, conditional: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def build(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
        _refuse_sigma(name, learn_sigma)
        return conditional(parents, x.shape[1:], **network)

    return build


def _zero_inflated(conditional: Callable[..., Any]) -> Callable[..., nn.Module]:
    def build(parents: int, event: Sequence[int], **network: Any) -> nn.Module:
        if "output_mean" in network:  # of all counts, with the zeros that are more
            network["output_mean"] = network["output_mean"] / (1 - SHARE)
        return ZeroInflated(conditional(parents, event, **network), SHARE)

    return build


def _laplace(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
    if learn_sigma:
        raise ConfigError(
            "a Laplace likelihood has a fixed scale, so learn_sigma cannot be on. Leave learn_sigma out, or use -o "
            "likelihood=gaussian."
        )
    return Laplace(parents, x.shape[1:], scale=sigma, **network)


def _categorical(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
    _refuse_sigma("categorical", learn_sigma)
    if isinstance(network.get("net"), nn.Module):
        raise ConfigError(
            "a categorical likelihood needs a number for each level from the network, but that of a ladder gives one for each "
            "entry of x. Use another recipe, such as vae or hvae, or -o likelihood=poisson."
        )
    levels = max(2, 1 + int(x.max()))
    if "output_mean" in network:  # entries that are missing hold means, which are no levels
        shares = torch.stack([(x == level).to(x.dtype).mean(0) for level in range(levels)])
        network["output_mean"] = shares / shares.sum(0).clamp(min=1 / len(x))
    return Categorical(parents, x.shape[1:], levels=levels, **network)


# name -> (features of x's parents, training data, sigma, whether it is trained, network options) -> conditional of x
LIKELIHOODS: dict[str, Callable[..., nn.Module]] = {
    "gaussian": lambda parents, x, sigma, learn, **net: Gaussian(parents, x.shape[1:], scale=sigma, learn_scale=learn, **net),
    "laplace": _laplace,
    "student-t": lambda parents, x, sigma, learn, **net: StudentT(parents, x.shape[1:], scale=sigma, learn_scale=learn, **net),
    "bernoulli": _without_sigma("bernoulli", Bernoulli),
    "continuous-bernoulli": _without_sigma("continuous-bernoulli", ContinuousBernoulli),
    "beta": _without_sigma("beta", Beta),
    "poisson": _without_sigma("poisson", Poisson),
    "negative-binomial": _without_sigma("negative-binomial", NegativeBinomial),
    "zero-inflated-poisson": _without_sigma("zero-inflated-poisson", _zero_inflated(Poisson)),
    "zero-inflated-negative-binomial": _without_sigma("zero-inflated-negative-binomial", _zero_inflated(NegativeBinomial)),
    "categorical": _categorical,
    "discretised-logistic": discretised_logistic,
    "logistic-mixture": logistic_mixture,
}
