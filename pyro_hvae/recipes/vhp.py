"""Variational hierarchical prior: a learned prior of two levels."""

from typing import Any

from torch import Tensor

from pyro_hvae.data import Batch
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes.building_blocks import BuildingBlocks
from pyro_hvae.recipes.recipe import Stage


def vhp(
    x: Tensor | Batch,
    *,
    latent: int = 2,
    latent2: int = 2,
    particles: int = 16,
    likelihood: str = "gaussian",
    sigma: float = 0.5,
    learn_sigma: bool = False,
    prior: str = "normal",
    components: int = 10,
    posterior: str = "diagonal",
    hidden: tuple[int, ...] = (128, 128),
    upper: tuple[int, ...] = (128, 128),
    activation: str = "tanh",
    network: str = "mlp",
) -> list[Stage]:
    """Variational hierarchical prior (Klushyn et al. 2019): z1 = the paper's z, z2 = its zeta, K particles of zeta.

    The particles stand in the inner bound, that of log p(z1). One particle is the plain ELBO, with a weak z2 (appendix B.4).
    """
    more: dict[str, Any] = {"learn_sigma": learn_sigma, "prior": prior, "components": components}
    blocks = BuildingBlocks(x, likelihood, sigma, hidden, upper, activation, network, posterior, **more)
    elbo = ELBO(particles=particles, shared={"z1"} if particles > 1 else set())
    return [Stage("vhp", elbo(*blocks.markov_chain([latent, latent2])))]
