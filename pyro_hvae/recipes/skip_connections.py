"""Hierarchies whose layers see more than their neighbour: autoregressive HVAE, VampPrior, ladder VAE."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
from pyro_hvae.conditionals.vamp import Vamp
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import Autoregressive, BottomUp, TopDown
from pyro_hvae.models import Chain
from pyro_hvae.networks.fully_connected import mlp
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.recipes.building_blocks import Parts, positive_dims
from pyro_hvae.recipes.recipe import Stage

__all__ = ["ar_hvae", "lvae", "vampprior"]


def ar_hvae(
    x: Tensor,
    *,
    dims: tuple[int, ...] = (8, 8, 8),
    likelihood: str = "gaussian",
    sigma: float = 0.2,
    learn_sigma: bool = False,
    hidden: tuple[int, ...] = (128, 128),
    upper: tuple[int, ...] = (64, 64),
    features: int = 128,
    activation: str = "relu",
    network: str = "mlp",
    std: str = "sigmoid",
) -> list[Stage]:
    """Autoregressive HVAE: every layer and x see all layers above (Zhao et al. 2017, eq. 3).

    The paper does not give its guide; ours is z1, z2, ... in turn, each given all below and the same features of x.
    """
    dims = tuple(positive_dims(dims))
    parts = Parts(x, likelihood, sigma, hidden, upper, activation, network, std=std, learn_sigma=learn_sigma, squash=True)
    levels = [parts.down(sum(dims[level:]), dims[level - 1]) for level in range(len(dims) - 1, 0, -1)]
    model = Chain(StandardNormal(dims[-1]), levels, parts.decoder(sum(dims)), skip=True)
    q = {f"z{i + 1}": parts.up(features + sum(dims[:i]), dims[i]) for i in range(len(dims))}
    return [Stage("ar-hvae", ELBO()(model, Autoregressive(q, parts.trunk(features))))]


def vampprior(
    x: Tensor,
    *,
    levels: int = 1,
    latent: int = 2,
    latent2: int = 2,
    components: int = 50,
    likelihood: str = "gaussian",
    sigma: float = 0.5,
    hidden: tuple[int, ...] = (128, 128),
    upper: tuple[int, ...] = (128, 128),
    activation: str = "tanh",
    network: str = "mlp",
) -> list[Stage]:
    """VAE whose top prior is the mixture of its own posteriors at learnt pseudo-inputs (Tomczak and Welling 2018).

    With two levels x sees both latents, and the guide is q(z2 | x) q(z1 | x, z2).
    """
    if levels not in (1, 2):
        raise ConfigError(f"vampprior has one or two levels, got levels={levels}.")
    if components > len(x):
        raise ConfigError(f"components={components} pseudo-inputs start at training data, of which there are {len(x)}.")
    parts = Parts(x, likelihood, sigma, hidden, upper, activation, network)
    encoder = parts.encoder([latent, latent2][levels - 1])
    prior = Vamp(encoder, x[torch.randperm(len(x))[:components]], (0.0, 1.0) if parts.in_unit_range else None)
    if levels == 1:
        return [Stage("vampprior", ELBO()(Chain(prior, [], parts.decoder(latent)), BottomUp([encoder])))]
    model = Chain(prior, [parts.down(latent2, latent)], parts.decoder(latent + latent2), skip=True)
    trunk = parts.trunk(hidden[-1])
    q1 = _Featured(trunk, Gaussian([(hidden[-1],), (latent2,)], latent, (hidden[-1] + latent2,)))
    return [Stage("vampprior", ELBO()(model, Autoregressive({"z2": encoder, "z1": q1})))]


class _Featured(nn.Module):
    """q(z | f(x), other parents): the features are taken before x meets any particles."""

    def __init__(self, trunk: nn.Module, conditional: nn.Module) -> None:
        super().__init__()
        self.trunk, self.conditional = trunk, conditional

    def forward(self, x: Tensor, *others: Tensor) -> dist.Independent:
        return self.conditional(self.trunk(x), *others)


def lvae(
    x: Tensor,
    *,
    dims: tuple[int, ...] = (8, 4),
    widths: tuple[int, ...] = (128, 64),
    likelihood: str = "gaussian",
    sigma: float = 0.2,
    learn_sigma: bool = False,
    activation: str = "leaky-relu",
    norm: bool = True,
) -> list[Stage]:
    """Ladder VAE: bottom-up messages fused with the generative prior on the way down (Soenderby et al. 2016).

    Every layer has two dense layers of its width in `widths`, with batch normalisation (`norm`) in all but the heads.
    """
    dims = tuple(positive_dims(dims))
    if len(widths) != len(dims):
        raise ConfigError(f"lvae needs one width a layer: dims={dims} but widths={widths}. Example: -o widths=512,256,128.")
    parts = Parts(
        x, likelihood, sigma, (widths[0], widths[0]), activation=activation, learn_sigma=learn_sigma, norm=norm, squash=True
    )
    inputs = [torch.Size(parts.event).numel(), *widths[:-1]]
    steps = [mlp(i, w, (w,), activation, norm=norm, end=False) for i, w in zip(inputs, widths, strict=True)]
    messages = [Gaussian(w, d, (), std="softplus") for w, d in zip(widths, dims, strict=True)]
    levels = [
        Gaussian(dims[i], dims[i - 1], (widths[i], widths[i]), activation=activation, std="softplus", norm=norm)
        for i in range(len(dims) - 1, 0, -1)
    ]
    model = Chain(StandardNormal(dims[-1]), levels, parts.decoder(dims[0]))
    return [Stage("lvae", ELBO()(model, TopDown(steps, messages, levels)))]
