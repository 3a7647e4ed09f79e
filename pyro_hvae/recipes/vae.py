"""VAE with one latent layer. The beta-VAE is the same pair."""

from typing import Any

from torch import Tensor

from pyro_hvae.data import Batch
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes.building_blocks import BuildingBlocks
from pyro_hvae.recipes.recipe import Stage


def vae(
    x: Tensor | Batch,
    *,
    latent: int = 2,
    likelihood: str = "gaussian",
    sigma: float = 0.5,
    learn_sigma: bool = False,
    prior: str = "normal",
    components: int = 10,
    posterior: str = "diagonal",
    hidden: tuple[int, ...] = (128, 128),
    activation: str = "tanh",
    network: str = "mlp",
    squash: bool = False,
) -> list[Stage]:
    """VAE: loss = C + KL. Also the beta-VAE, whose beta belongs to the schedule.

    Arguments:
        squash: the mean of x is a sigmoid, for a Gaussian or Laplace likelihood of data in [0, 1].
    """
    more: dict[str, Any] = {"learn_sigma": learn_sigma, "squash": squash, "prior": prior, "components": components}
    blocks = BuildingBlocks(x, likelihood, sigma, hidden, (), activation, network, posterior, **more)
    return [Stage("vae", ELBO()(*blocks.markov_chain([latent])))]
