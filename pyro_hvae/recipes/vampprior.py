"""VampPrior: the prior is the mixture of the posteriors at learnt pseudo-inputs."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.conditionals import Gaussian, Vamp
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import Autoregressive, BottomUp
from pyro_hvae.models import Chain
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes.building_blocks import BuildingBlocks
from pyro_hvae.recipes.recipe import Stage


def vampprior(
    x: Tensor,
    *,
    levels: int = 1,
    latent: int = 2,
    latent2: int = 2,
    components: int = 50,
    likelihood: str = "gaussian",
    sigma: float = 0.5,
    learn_sigma: bool = False,
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
        raise ConfigError(
            f"components={components} pseudo-inputs start at training data, of which there are {len(x)}. "
            f"Use components={len(x)} or fewer."
        )
    blocks = BuildingBlocks(x, likelihood, sigma, hidden, upper, activation, network, learn_sigma=learn_sigma)
    encoder = blocks.encoder([latent, latent2][levels - 1])
    prior = Vamp(encoder, x[torch.randperm(len(x))[:components]], (0.0, 1.0) if blocks.in_unit_range else None)
    if levels == 1:
        return [Stage("vampprior", ELBO()(Chain(prior, [], blocks.decoder(latent)), BottomUp([encoder])))]
    model = Chain(prior, [blocks.prior_level(latent2, latent)], blocks.decoder(latent + latent2), skip=True)
    trunk = blocks.trunk(hidden[-1])
    q1 = _WithTrunk(trunk, Gaussian([(hidden[-1],), (latent2,)], latent, (hidden[-1] + latent2,), gain=1.0))
    return [Stage("vampprior", ELBO()(model, Autoregressive({"z2": encoder, "z1": q1})))]


class _WithTrunk(nn.Module):
    """q(z | f(x), other parents): computes the features f(x) before x meets any particles."""

    def __init__(self, trunk: nn.Module, conditional: nn.Module) -> None:
        super().__init__()
        self.trunk, self.conditional = trunk, conditional

    def forward(self, x: Tensor, *others: Tensor) -> dist.Independent:
        return self.conditional(self.trunk(x), *others)
