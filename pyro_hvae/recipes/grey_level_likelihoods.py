"""Likelihoods of 8-bit images by name, whose networks may give several numbers for each entry of x."""

from typing import Any

from torch import Tensor, nn

from pyro_hvae.conditionals import DiscretisedLogistic, LogisticMixture
from pyro_hvae.errors import ConfigError

COMPONENTS = 5
OUTPUTS = {"logistic-mixture": 3 * COMPONENTS}  # for each entry; 1 for other likelihoods


def discretised_logistic(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
    """Logistics rounded to grey levels, with one learned scale a channel, which starts at sigma (Kingma et al. 2016).

    Scales from the network (`per="value"`) may grow where the image varies before the locations are learned, and then the
    gradient of the locations, which is over the scale, is too weak there to learn them.
    """
    _refuse_sigma(learn_sigma)
    return DiscretisedLogistic(parents, x.shape[1:], scale=sigma, per="channel", **network)


def logistic_mixture(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
    """Mixtures of `COMPONENTS` logistics rounded to grey levels, whose scales start at sigma and come from the network."""
    _refuse_sigma(learn_sigma)
    return LogisticMixture(parents, x.shape[1:], components=COMPONENTS, scale=sigma, **network)


def _refuse_sigma(learn_sigma: bool) -> None:
    if learn_sigma:
        raise ConfigError(
            "a likelihood of grey levels always learns its scales, and sigma is their start, so learn_sigma cannot be on. "
            "Use -o learn_sigma=false."
        )
