"""Importance-weighted autoencoder."""

from typing import Any

from torch import Tensor

from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes.building_blocks import BuildingBlocks
from pyro_hvae.recipes.recipe import Stage


def iwae(
    x: Tensor | Batch,
    *,
    levels: int = 1,
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
    """IWAE with one or two stochastic levels and K particles (Burda et al. 2016)."""
    if levels not in (1, 2):
        raise ConfigError(f"iwae has one or two stochastic levels, got levels={levels}.")
    more: dict[str, Any] = {"learn_sigma": learn_sigma, "prior": prior, "components": components}
    blocks = BuildingBlocks(x, likelihood, sigma, hidden, upper, activation, network, posterior, **more)
    return [Stage("iwae", ELBO(particles=particles)(*blocks.markov_chain([latent, latent2][:levels])))]
