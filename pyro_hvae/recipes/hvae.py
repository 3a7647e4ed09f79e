"""HVAE of any depth: a Markov chain of layers, or autoregressive."""

from torch import Tensor

from pyro_hvae.data import Batch
from pyro_hvae.guides import Autoregressive
from pyro_hvae.models import Chain
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes.building_blocks import BuildingBlocks, check_dims
from pyro_hvae.recipes.recipe import Stage


def hvae(
    x: Tensor | Batch,
    *,
    dims: tuple[int, ...] = (8, 8, 8),
    likelihood: str = "gaussian",
    sigma: float = 0.2,
    learn_sigma: bool = False,
    posterior: str = "diagonal",
    prior: str = "normal",
    components: int = 10,
    hidden: tuple[int, ...] = (128, 128),
    upper: tuple[int, ...] = (64, 64),
    activation: str = "relu",
    network: str = "mlp",
    std: str = "sigmoid",
) -> list[Stage]:
    """Markov HVAE of any number of Gaussian layers, dims from z1 upwards (Zhao et al. 2017, eq. 4-5 and B.1)."""
    more = {"std": std, "learn_sigma": learn_sigma, "squash": True, "prior": prior, "components": components}
    blocks = BuildingBlocks(x, likelihood, sigma, hidden, upper, activation, network, posterior, **more)
    return [Stage("hvae", ELBO()(*blocks.markov_chain(check_dims(dims))))]


def ar_hvae(
    x: Tensor | Batch,
    *,
    dims: tuple[int, ...] = (8, 8, 8),
    likelihood: str = "gaussian",
    sigma: float = 0.2,
    learn_sigma: bool = False,
    prior: str = "normal",
    components: int = 10,
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
    dims = check_dims(dims)
    more = {"std": std, "learn_sigma": learn_sigma, "squash": True, "prior": prior, "components": components}
    blocks = BuildingBlocks(x, likelihood, sigma, hidden, upper, activation, network, **more)
    levels = [blocks.prior_level(sum(dims[level:]) + blocks.width, dims[level - 1]) for level in range(len(dims) - 1, 0, -1)]
    decoder, top = blocks.decoder(sum(dims) + blocks.width), blocks.prior_of(dims[-1])
    model = Chain(top, levels, decoder, skip=True, given=blocks.given)
    q = {f"z{i + 1}": blocks.posterior_level(features + sum(dims[:i]), dims[i]) for i in range(len(dims))}
    return [Stage("ar-hvae", ELBO()(model, Autoregressive(q, blocks.trunk(features), **blocks.reads)))]
