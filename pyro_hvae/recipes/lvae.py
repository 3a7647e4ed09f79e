"""Ladder VAE: messages from x, fused with the prior on the way down."""

from typing import Any

from torch import Tensor

from pyro_hvae.conditionals import Gaussian
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import TopDown
from pyro_hvae.models import Chain
from pyro_hvae.networks import mlp
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes.building_blocks import BuildingBlocks, check_dims
from pyro_hvae.recipes.recipe import Stage


def lvae(
    x: Tensor | Batch,
    *,
    dims: tuple[int, ...] = (8, 4),
    widths: tuple[int, ...] = (128, 64),
    likelihood: str = "gaussian",
    sigma: float = 0.2,
    learn_sigma: bool = False,
    prior: str = "normal",
    components: int = 10,
    activation: str = "leaky-relu",
    norm: bool = True,
) -> list[Stage]:
    """Ladder VAE: bottom-up messages fused with the generative prior on the way down (Soenderby et al. 2016).

    Every layer has two dense layers of its width in `widths`, with batch normalisation (`norm`) in all but the heads.
    """
    dims = check_dims(dims)
    if len(widths) != len(dims):
        example = ",".join(str(max(16, 512 >> layer)) for layer in range(len(dims)))
        raise ConfigError(f"lvae needs one width a layer: dims={dims} but widths={widths}. Example: -o widths={example}.")
    more: dict[str, Any] = {"activation": activation, "learn_sigma": learn_sigma, "norm": norm, "squash": True}
    more |= {"prior": prior, "components": components}
    blocks = BuildingBlocks(x, likelihood, sigma, (widths[0], widths[0]), **more)
    inputs = [blocks.joined_features, *widths[:-1]]
    steps = [mlp(i, w, (w,), activation, norm=norm, end=False) for i, w in zip(inputs, widths, strict=True)]
    if layer := blocks.input_layer(blocks.x.mean(0)):
        steps[0].insert(0, layer)
    messages = [Gaussian(w, d, (), gain=1.0, std="softplus") for w, d in zip(widths, dims, strict=True)]
    options: Any = {"activation": activation, "norm": norm}
    levels = [
        Gaussian(dims[i] + blocks.width, dims[i - 1], (widths[i], widths[i]), gain=1.0, std="softplus", **options)
        for i in range(len(dims) - 1, 0, -1)
    ]
    model = Chain(blocks.prior_of(dims[-1]), levels, blocks.decoder(dims[0] + blocks.width), given=blocks.given)
    return [Stage("lvae", ELBO()(model, TopDown(steps, messages, levels, **blocks.reads)))]
