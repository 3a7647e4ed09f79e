"""The priors of recipes by name: parentless conditionals of a latent layer."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_hvae.conditionals import Flow, GaussianMixturePrior, StandardNormal, Vamp, start_near_identity, zuko_flows
from pyro_hvae.errors import ConfigError

FLOW_HIDDEN = (64, 64)  # widths of the network of each coupling layer


class Encoded(NamedTuple):
    """What a mixture of posteriors is made of.

    Attributes:
        encoder: the guide's q(z | x, mask, y). x: training data without gaps. given: what stands beside them.
        mask: whether the encoder is told which entries are observed. posterior: name of its family.
    """

    encoder: nn.Module
    x: Tensor
    given: Sequence[Tensor]
    mask: bool
    posterior: str


def lies_in_unit_range(x: Tensor) -> bool:
    """Whether all values lie in [0, 1]."""
    low, high = x.aminmax()
    return low.item() >= 0 and high.item() <= 1


def _vamp(latent: int, components: int, encoded: Encoded | None) -> Vamp:
    if encoded is None:
        raise ConfigError(
            "prior=vamp is a mixture of the guide's q(z | x), which needs a guide of one layer and data to start at. Here the "
            "prior is that of another layer, or of features. Use -o prior=gmm, or the recipe vampprior with -o levels=2."
        )
    if encoded.posterior in ("full", "flow"):
        raise ConfigError(
            f"the VampPrior is a mixture of diagonal Gaussians, whose density takes two matrix products, but these posteriors "
            f"are {encoded.posterior}. Use posterior=diagonal or posterior=isotropic."
        )
    x = encoded.x
    if components > len(x):
        raise ConfigError(
            f"components={components} pseudo-inputs start at training data, of which there are {len(x)}. "
            f"Use components={len(x)} or fewer."
        )
    start = torch.randperm(len(x))[:components]
    clip = (0.0, 1.0) if lies_in_unit_range(x) else None
    return Vamp(encoded.encoder, x[start], clip, [y[start] for y in encoded.given], encoded.mask)


def _flow(family: str, latent: int, **options: Any) -> Flow:
    """A flow of coupling layers that starts near the identity, and so p(z) near N(0, I)."""
    flow = getattr(zuko_flows(), family)(latent, hidden_features=FLOW_HIDDEN, passes=2, **options)
    start_near_identity(flow)
    return Flow(flow)


# name -> (width of the latent layer, components of a mixture, what a mixture of posteriors is made of or None) -> conditional
PRIORS: dict[str, Callable[[int, int, Encoded | None], nn.Module]] = {
    "normal": lambda latent, components, encoded: StandardNormal(latent),
    "gmm": lambda latent, components, encoded: GaussianMixturePrior(latent, components),
    "vamp": _vamp,
    # The coupling layers of Dinh et al. 2017: two passes of zuko's MAF, for its RealNVP has another form that no graph holds.
    "realnvp": lambda latent, components, encoded: _flow("MAF", latent, transforms=4),
    "spline": lambda latent, components, encoded: _flow("NSF", latent, transforms=3),
}
