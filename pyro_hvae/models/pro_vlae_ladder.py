"""The networks of pro-VLAE (sizes from the authors' code): the activation comes before what they call batch normalisation."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from pyro_hvae.errors import ConfigError
from pyro_hvae.models.ladder import Rung
from pyro_hvae.models.ladder_blocks import (
    Blocks,
    Head,
    LadderNetworks,
    doubling_conv,
    image_net,
    ladder_image_shape,
    require_concat,
    require_four_layers,
)


def pro_shapes(event: Sequence[int], dims: Sequence[int], width: int, join: str, norm: str | None) -> LadderNetworks:
    """dSprites and 3D Shapes: as many halvings as layers and one more (width 32: 32 channels everywhere, 256 features).

    Images whose sides cannot be halved so often get a black margin (28 x 28 become 32 x 32), which the output cuts off again.
    """
    depth = len(dims)
    c, height, breadth = ladder_image_shape(event, "pro-shapes", 1)
    h, w = (side + -side % 2 ** (depth + 1) for side in (height, breadth))
    if h > 2 * height or w > 2 * breadth:
        raise ConfigError(
            f"network=pro-shapes halves the sides {depth + 1} times for {depth} layers, too often for images of "
            f"{height} x {breadth}. Use fewer layers (-o dims=2,2) or -o network=dense."
        )
    above, left = (h - height) // 2, (w - breadth) // 2
    margin = (left, w - breadth - left, above, h - height - above)
    b, n, wide = Blocks(nn.ELU, norm or "affine", norm_last=True), width, 8 * width
    maps = [(c, h, w), *[(n, h >> i, w >> i) for i in range(1, depth + 2)]]
    sizes = [math.prod(m) for m in maps]
    steps: dict[str, nn.Module] = {}
    heads: dict[str, Head] = {}
    rungs: dict[str, Rung] = {}
    for i in range(1, depth + 1):
        steps[f"z{i}"] = image_net(maps[i - 1], *b.down(maps[i - 1][0], n))
        heads[f"z{i}"] = (nn.Sequential(image_net(maps[i], *b.down(n, n)), b.dense(sizes[i + 1], wide)), wide)
    steps["z1"] = image_net(event, nn.ZeroPad2d(margin), *b.down(c, n))
    for i in range(depth, 0, -1):
        top = i == depth
        inputs = n if top or join != "concat" else 2 * n
        net = image_net((inputs, *maps[i + 1][1:]), *b.up(inputs, n))
        branch = b.dense(dims[i - 1], wide, sizes[i + 1])
        rungs[f"z{i}"] = Rung(branch, net, sizes[i + 1], "concat" if top else join)
    output = image_net(maps[1], doubling_conv(n, c), nn.ZeroPad2d((-margin[0], -margin[1], -margin[2], -margin[3])))
    return LadderNetworks(steps, heads, rungs, output, sizes[1])


def pro_celeba(event: Sequence[int], dims: Sequence[int], width: int, join: str, norm: str | None) -> LadderNetworks:
    """CelebA: four layers, twice the channels in each (width 64: 64, 128, 256, 512, and 1024 features at the top)."""
    c, h, w = ladder_image_shape(event, "pro-celeba", 32)
    require_four_layers(dims, "pro-celeba", 7)
    require_concat(join, "pro-celeba")
    b, n, wide = Blocks(lambda: nn.LeakyReLU(0.2), norm or "affine", norm_last=True), width, 16 * width
    plain = replace(b, norm="none")
    maps = [(c, h, w), *[(n << i, h >> (i + 1), w >> (i + 1)) for i in range(4)]]
    steps: dict[str, nn.Module] = {}
    for i in range(1, 5):
        steps[f"z{i}"] = image_net(maps[i - 1], *b.down(maps[i - 1][0], maps[i][0]))
    top = (8 * n, h >> 4, w >> 4)
    heads = {
        "z1": (image_net(maps[1], *b.down(n, n), *b.down(n, n, 1)), n * (h >> 2) * (w >> 2)),
        "z2": (image_net(maps[2], *b.down(2 * n, 2 * n), *b.down(2 * n, 4 * n)), 4 * n * (h >> 4) * (w >> 4)),
        "z3": (image_net(maps[3], *b.down(4 * n, 4 * n), *b.down(4 * n, 8 * n)), 8 * n * (h >> 5) * (w >> 5)),
        "z4": (b.dense(math.prod(top), wide, wide), wide),
    }
    low = (n, h >> 2, w >> 2)
    sizes = [math.prod(low), math.prod(maps[3]), math.prod(top)]
    nets = [
        image_net((2 * n, *low[1:]), *plain.up(2 * n, n)),
        image_net((8 * n, *maps[3][1:]), *b.up(8 * n, 2 * n), *b.up(2 * n, n, 1)),
        image_net((16 * n, *top[1:]), *b.up(16 * n, 8 * n, 1), *b.up(8 * n, 4 * n)),
    ]
    rungs = {"z4": Rung(b.dense(dims[3], wide, wide, sizes[2]), nn.Identity(), sizes[2])}
    for i in (2, 1, 0):
        branch = (b if i else plain).dense(dims[i], sizes[i])
        rungs[f"z{i + 1}"] = Rung(branch, nets[i], sizes[i])
    return LadderNetworks(steps, heads, rungs, image_net(maps[1], doubling_conv(n, c)), math.prod(maps[1]))
