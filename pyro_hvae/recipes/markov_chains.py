"""Markov chains of latents with bottom-up guides: VAE, IWAE, VHP and the stacked HVAE."""

from collections.abc import Sequence

from torch import Tensor

from pyro_hvae.conditionals.gaussian import StandardNormal
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import BottomUp
from pyro_hvae.models import Chain
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.recipes.building_blocks import Parts, positive_dims
from pyro_hvae.recipes.recipe import Stage

__all__ = ["hvae", "iwae", "vae", "vhp"]


def _chain(parts: Parts, dims: Sequence[int]) -> tuple[Chain, BottomUp]:
    """A Markov chain of Gaussian layers with its bottom-up guide; `dims` from z1 upwards."""
    pairs = list(zip(dims[:-1], dims[1:], strict=True))
    levels = [parts.down(above, below) for below, above in reversed(pairs)]
    up = [parts.up(below, above) for below, above in pairs]
    model = Chain(StandardNormal(dims[-1]), levels, parts.decoder(dims[0]))
    return model, BottomUp([parts.encoder(dims[0]), *up])


def vae(
    x: Tensor,
    *,
    latent: int = 2,
    likelihood: str = "gaussian",
    sigma: float = 0.5,
    posterior: str = "diagonal",
    hidden: tuple[int, ...] = (128, 128),
    activation: str = "tanh",
    network: str = "mlp",
    squash: bool = False,
) -> list[Stage]:
    """VAE with prior N(0, I): loss = C + KL. Also the beta-VAE, whose beta belongs to the schedule.

    Arguments:
        squash: the mean of x is a sigmoid, for a Gaussian or Laplace likelihood of data in [0, 1].
    """
    parts = Parts(x, likelihood, sigma, hidden, (), activation, network, posterior, squash=squash)
    model, guide = _chain(parts, [latent])
    return [Stage("vae", ELBO()(model, guide))]


def iwae(
    x: Tensor,
    *,
    levels: int = 1,
    latent: int = 2,
    latent2: int = 2,
    particles: int = 16,
    likelihood: str = "gaussian",
    sigma: float = 0.5,
    posterior: str = "diagonal",
    hidden: tuple[int, ...] = (128, 128),
    upper: tuple[int, ...] = (128, 128),
    activation: str = "tanh",
    network: str = "mlp",
) -> list[Stage]:
    """IWAE with one or two stochastic levels and K particles (Burda et al. 2016)."""
    if levels not in (1, 2):
        raise ConfigError(f"iwae has one or two stochastic levels, got levels={levels}.")
    parts = Parts(x, likelihood, sigma, hidden, upper, activation, network, posterior)
    model, guide = _chain(parts, [latent, latent2][:levels])
    return [Stage("iwae", ELBO(particles=particles)(model, guide))]


def vhp(
    x: Tensor,
    *,
    latent: int = 2,
    latent2: int = 2,
    particles: int = 16,
    likelihood: str = "gaussian",
    sigma: float = 0.5,
    posterior: str = "diagonal",
    hidden: tuple[int, ...] = (128, 128),
    upper: tuple[int, ...] = (128, 128),
    activation: str = "tanh",
    network: str = "mlp",
) -> list[Stage]:
    """Variational hierarchical prior: z1 = the paper's z, z2 = its zeta, K particles of zeta in the inner bound.

    With one particle the second layer's bound is the plain ELBO: the weak second layer of the paper's appendix B.4.
    """
    parts = Parts(x, likelihood, sigma, hidden, upper, activation, network, posterior)
    model, guide = _chain(parts, [latent, latent2])
    shared = {"z1"} if particles > 1 else set()
    return [Stage("vhp", ELBO(particles=particles, shared=shared)(model, guide))]


def hvae(
    x: Tensor,
    *,
    dims: tuple[int, ...] = (8, 8, 8),
    likelihood: str = "gaussian",
    sigma: float = 0.2,
    learn_sigma: bool = False,
    hidden: tuple[int, ...] = (128, 128),
    upper: tuple[int, ...] = (64, 64),
    activation: str = "relu",
    network: str = "mlp",
    std: str = "sigmoid",
) -> list[Stage]:
    """Markov HVAE of any number of Gaussian layers, dims from z1 upwards (Zhao et al. 2017, eq. 4-5 and B.1)."""
    parts = Parts(x, likelihood, sigma, hidden, upper, activation, network, std=std, learn_sigma=learn_sigma, squash=True)
    model, guide = _chain(parts, positive_dims(dims))
    return [Stage("hvae", ELBO()(model, guide))]
