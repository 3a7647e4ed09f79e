"""VampPrior: the prior is the mixture of the posteriors at learnt pseudo-inputs."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_hvae.conditionals import Gaussian
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import Autoregressive, BottomUp
from pyro_hvae.models import Chain
from pyro_hvae.networks import join_inputs
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes.building_blocks import BuildingBlocks
from pyro_hvae.recipes.recipe import Stage


def vampprior(
    x: Tensor | Batch,
    *,
    levels: int = 1,
    latent: int = 2,
    latent2: int = 2,
    components: int = 50,
    likelihood: str = "gaussian",
    sigma: float = 0.5,
    learn_sigma: bool = False,
    posterior: str = "diagonal",
    hidden: tuple[int, ...] = (128, 128),
    upper: tuple[int, ...] = (128, 128),
    activation: str = "tanh",
    network: str = "mlp",
) -> list[Stage]:
    """VAE whose top prior is the mixture of its own posteriors at learnt pseudo-inputs (Tomczak and Welling 2018).

    With two levels x sees both latents, and the guide is q(z2 | x) q(z1 | x, z2).

    Deviation: with conditions y the pseudo-inputs have learnt conditions of their own, so that the top prior stays p(z), not
    p(z | y); the mixture given y would encode all pseudo-inputs anew for every datum. Nothing is missing in a pseudo-input.
    """
    if levels not in (1, 2):
        raise ConfigError(f"vampprior has one or two levels, got levels={levels}.")
    if levels == 2 and not hidden:
        raise ConfigError(
            "with two levels q(z1 | x, z2) reads features of x, as many as the last of the hidden widths, but there is none. "
            "Example: -o hidden=128,128."
        )
    more: dict[str, Any] = {"learn_sigma": learn_sigma, "prior": "vamp", "components": components}
    blocks = BuildingBlocks(x, likelihood, sigma, hidden, upper, activation, network, posterior, **more)
    top = [latent, latent2][levels - 1]
    encoder = blocks.encoder(top)
    prior = blocks.prior_of(top, encoder)
    width, given = blocks.width, blocks.given
    if levels == 1:
        model = Chain(prior, [], blocks.decoder(latent + width), given=given)
        return [Stage("vampprior", ELBO()(model, BottomUp([encoder], **blocks.reads)))]
    level = blocks.prior_level(latent2 + width, latent)
    model = Chain(prior, [level], blocks.decoder(latent + latent2 + width), skip=True, given=given)
    trunk = blocks.trunk(hidden[-1])
    q1 = _WithTrunk(trunk, Gaussian([(hidden[-1],), (latent2,)], latent, (hidden[-1] + latent2,), gain=1.0))
    return [Stage("vampprior", ELBO()(model, Autoregressive({"z2": encoder, "z1": q1}, **blocks.reads)))]


class _WithTrunk(nn.Module):
    """q(z | f(x, mask, y), last parent): computes the features f before x meets any particles."""

    def __init__(self, trunk: nn.Module, conditional: nn.Module) -> None:
        super().__init__()
        self.trunk, self.conditional = trunk, conditional

    def forward(self, *parents: Tensor) -> dist.Independent:
        *inputs, above = parents
        return self.conditional(self.trunk(join_inputs(inputs)), above)
