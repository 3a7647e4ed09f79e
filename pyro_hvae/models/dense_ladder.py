"""The fully connected ladder, for data of any shape."""

import math
from collections.abc import Sequence

from torch import nn

from pyro_hvae.models.ladder import Rung
from pyro_hvae.models.ladder_blocks import Blocks, Head, LadderNetworks
from pyro_hvae.networks import linear


def dense(event: Sequence[int], dims: Sequence[int], width: int, join: str, norm: str | None) -> LadderNetworks:
    """One layer of the width per step, one before every head, one in every branch, one after every join."""
    blocks = Blocks(nn.ReLU, norm or "none")
    pixels, sites = math.prod(event), [f"z{i + 1}" for i in range(len(dims))]
    inputs = [pixels, *[width] * (len(dims) - 1)]
    steps: dict[str, nn.Module] = {site: blocks.dense(i, width) for site, i in zip(sites, inputs, strict=True)}
    heads: dict[str, Head] = {site: (blocks.dense(width, width), width) for site in sites}
    rungs = {sites[-1]: Rung(blocks.dense(dims[-1], width), blocks.dense(width, width), width)}
    joined = 2 * width if join == "concat" else width
    for site, d in list(zip(sites, dims, strict=True))[-2::-1]:
        rungs[site] = Rung(blocks.dense(d, width), blocks.dense(joined, width), width, join)
    return LadderNetworks(steps, heads, rungs, linear(width, pixels), width)
