"""Likelihoods of 8-bit images by name, whose networks give several numbers for each entry of x."""

from typing import Any

from torch import Tensor, nn

from pyro_hvae.conditionals import DiscretisedLogistic, LogisticMixture
from pyro_hvae.errors import ConfigError

COMPONENTS = 5
OUTPUTS = {"discretised-logistic": 2, "logistic-mixture": 3 * COMPONENTS}  # for each entry; 1 for other likelihoods


def discretised_logistic(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
    """Logistics rounded to grey levels, whose scales start at sigma and come from the network."""
    _refuse_sigma(learn_sigma)
    return DiscretisedLogistic(parents, x.shape[1:], scale=sigma, **network)


def logistic_mixture(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
    """Mixtures of `COMPONENTS` logistics rounded to grey levels, whose scales start at sigma and come from the network."""
    _refuse_sigma(learn_sigma)
    return LogisticMixture(parents, x.shape[1:], components=COMPONENTS, scale=sigma, **network)


def _refuse_sigma(learn_sigma: bool) -> None:
    if learn_sigma:
        raise ConfigError(
            "a likelihood of grey levels takes its scales from the network, where sigma is their start, so learn_sigma cannot "
            "be on. Use -o learn_sigma=false."
        )
