"""Ladders of independent latents: VLAE, and pro-VLAE, which is VLAE trained layer by layer."""

from typing import Any

from torch import Tensor, nn

from pyro_hvae.conditionals import Gaussian
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import Heads
from pyro_hvae.models import Ladder, ladder_networks
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes.building_blocks import BuildingBlocks, check_dims
from pyro_hvae.recipes.recipe import Stage


def vlae(
    x: Tensor | Batch,
    *,
    dims: tuple[int, ...] = (2, 2, 2),
    network: str = "dense",
    width: int = 128,
    join: str = "concat",
    norm: str = "default",
    likelihood: str = "gaussian",
    sigma: float = 0.2,
    learn_sigma: bool = False,
    prior: str = "normal",
    components: int = 10,
    std: str = "exp",
) -> list[Stage]:
    """Independent layers that enter networks at their own depth (Zhao et al. 2017, section 4), dims from z1 upwards.

    `network` is a key of `LADDERS`, `width` its scale and `norm` its normalisation (batch, affine, none). `join` is how a layer
    meets the features from above: `concat`, as both papers have it, `gated` as the VLAE authors' code on MNIST, or `sum`.
    """
    dims = check_dims(dims)
    if width < 1:
        raise ConfigError(f"width is that of the ladder's networks, at least 1, got {width}.")
    reads = "mlp" if network == "dense" else network
    more: dict[str, Any] = {"learn_sigma": learn_sigma, "squash": True, "prior": prior, "components": components}
    blocks = BuildingBlocks(x, likelihood, sigma, (), network=reads, **more)
    make, options = ladder_networks(network), (width, join, None if norm == "default" else norm)
    # The given inputs join z_L in the top branch, and x where the guide reads it, so that each needs networks of its own.
    nets = up = make(blocks.output_event, (*dims[:-1], dims[-1] + blocks.width), *options)
    if blocks.given or blocks.mask or blocks.output_event != blocks.event:
        up = make(blocks.joined_event, dims, *options)
    sizes = {f"z{level}": d for level, d in enumerate(dims, start=1)}
    priors = {site: blocks.prior_of(sizes[site]) for site in nets.rungs}
    model = Ladder(priors, nets.rungs, blocks.decoder_with(nets.features, net=nets.output), blocks.given)
    heads = {
        site: nn.Sequential(net, Gaussian(features, sizes[site], (), gain=1.0, std=std))
        for site, (net, features) in up.heads.items()
    }
    layer: nn.Module | None = blocks.input_layer(blocks.x.mean(0))
    if layer and not (blocks.given or blocks.mask):  # x comes alone, in its shape
        layer = nn.Sequential(nn.Flatten(1), layer)
    return [Stage("ladder", ELBO()(model, Heads(heads, up.steps, layer, **blocks.reads)))]
