"""The networks of VLAE (Zhao et al. 2017, section 5, sizes from the authors' code), for any depth where that makes sense.

In that code a layer's head does not share the step to h_l but reads h_{l-1}: its "h" ladder starts at x.
Convolutions of stride 1 have kernel 3 here instead of 4.
"""

import math
from collections.abc import Sequence

from torch import nn

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
    same_size_conv,
)
from pyro_hvae.networks import linear


def _blocks(norm: str | None) -> Blocks:
    return Blocks(lambda: nn.LeakyReLU(0.1), norm or "batch")


def vlae_mnist(event: Sequence[int], dims: Sequence[int], width: int, join: str, norm: str | None) -> LadderNetworks:
    """MNIST: convolutions for z1, fully connected layers of 16 widths above (width 64: 64 and 128 channels, 1024 features)."""
    c, h, w = ladder_image_shape(event, "vlae-mnist", 4)
    blocks, wide, depth = _blocks(norm), 16 * width, len(dims)
    flat = 2 * width * (h // 4) * (w // 4)

    def convs() -> nn.Module:
        return image_net(event, *blocks.down(c, width), *blocks.down(width, 2 * width))

    steps: dict[str, nn.Module] = {}
    heads: dict[str, Head] = {"z1": (convs(), flat)}
    for level in range(2, depth + 1):
        first = level == 2
        into = convs() if first else blocks.dense(wide, wide, wide)
        steps[f"z{level}"] = nn.Sequential(into, linear(flat if first else wide, wide))
        heads[f"z{level}"] = (blocks.dense(wide, wide, wide), wide)
    rungs = {}
    for level in range(depth, 0, -1):
        top = level == depth
        inputs = wide if top or join != "concat" else 2 * wide
        # The authors' f_1 leads straight to the image.
        net = nn.Sequential(blocks.dense(inputs, wide, wide), linear(wide, wide)) if level > 1 else blocks.dense(inputs, flat)
        rungs[f"z{level}"] = Rung(blocks.dense(dims[level - 1], wide), net, wide, "concat" if top else join)
    small = (2 * width, h // 4, w // 4)
    output = image_net(small, *blocks.up(2 * width, width), doubling_conv(width, c))
    return LadderNetworks(steps, heads, rungs, output, flat)


def vlae_svhn(event: Sequence[int], dims: Sequence[int], width: int, join: str, norm: str | None) -> LadderNetworks:
    """SVHN: one more halving and twice the channels per layer, a dense top (width 64: 64, 128, 256, then 1024)."""
    depth = len(dims)
    c, h, w = ladder_image_shape(event, "vlae-svhn", 2 ** (depth - 1), any_depth=True)
    require_concat(join, "vlae-svhn")
    blocks, wide = _blocks(norm), 16 * width
    channels = [c, *[width << i for i in range(depth - 1)]]
    maps = [(n, h >> i, w >> i) for i, n in enumerate(channels)]
    sizes = [math.prod(m) for m in maps]

    def convs(level: int) -> nn.Module:
        a, b = channels[level - 1], channels[level]
        return image_net(maps[level - 1], *blocks.down(a, b), *blocks.down(b, b, 1))

    heads: dict[str, Head] = {f"z{i}": (convs(i), sizes[i]) for i in range(1, depth)}
    heads[f"z{depth}"] = (blocks.dense(sizes[-1], wide, wide), wide)
    steps: dict[str, nn.Module] = {f"z{i}": convs(i - 1) for i in range(2, depth + 1)}
    rungs = {f"z{depth}": Rung(blocks.dense(dims[-1], wide), blocks.dense(wide, wide, wide), wide)}
    for i in range(depth - 1, 0, -1):
        d, small = dims[i - 1], maps[i]
        # The first join concatenates z itself and features; the others concatenate maps of the same sides.
        first = i == depth - 1
        below = [] if i == 1 else blocks.up(channels[i], channels[i - 1], 1)
        up = [*blocks.up(channels[i] if first else 2 * channels[i], channels[i]), *below]
        if first:
            net = nn.Sequential(blocks.dense(d + wide, sizes[i]), image_net(small, *up))
            rungs[f"z{i}"] = Rung(nn.Identity(), net, d)
        else:
            rungs[f"z{i}"] = Rung(blocks.dense(d, sizes[i]), image_net((2 * channels[i], *small[1:]), *up), sizes[i])
    return LadderNetworks(steps, heads, rungs, image_net((width, h, w), same_size_conv(width, c)), width * h * w)


def vlae_celeba(event: Sequence[int], dims: Sequence[int], width: int, join: str, norm: str | None) -> LadderNetworks:
    """CelebA: four layers on maps of a half, an eighth and a sixteenth of the sides (width 64: 64, 256, 512, then 1024)."""
    c, h, w = ladder_image_shape(event, "vlae-celeba", 16)
    require_four_layers(dims, "vlae-celeba", 10)
    require_concat(join, "vlae-celeba")
    b, n, wide = _blocks(norm), width, 16 * width
    maps = [(c, h, w), (n, h // 2, w // 2), (4 * n, h // 8, w // 8), (8 * n, h // 16, w // 16)]
    sizes = [math.prod(m) for m in maps]

    def convs(level: int) -> nn.Module:
        if level == 1:
            return image_net(maps[0], *b.down(c, n), *b.down(n, n, 1))
        if level == 2:
            return image_net(maps[1], *b.down(n, 2 * n), *b.down(2 * n, 2 * n, 1), *b.down(2 * n, 4 * n))
        return image_net(maps[2], *b.down(4 * n, 4 * n, 1), *b.down(4 * n, 8 * n), *b.down(8 * n, 8 * n, 1))

    steps: dict[str, nn.Module] = {f"z{i + 1}": convs(i) for i in (1, 2, 3)}
    heads: dict[str, Head] = {f"z{i}": (convs(i), sizes[i]) for i in (1, 2, 3)}
    heads["z4"] = (b.dense(sizes[3], wide, wide), wide)
    up3 = [*b.up(16 * n, 8 * n, 1), *b.up(8 * n, 4 * n), *b.up(4 * n, 4 * n, 1)]
    up2 = [*b.up(8 * n, 2 * n), *b.up(2 * n, 2 * n, 1), *b.up(2 * n, n)]
    rungs = {"z4": Rung(b.dense(dims[3], wide), b.dense(wide, wide, sizes[3]), wide)}
    for i, up in ((3, up3), (2, up2), (1, b.up(2 * n, n))):
        rungs[f"z{i}"] = Rung(b.dense(dims[i - 1], sizes[i]), image_net((2 * maps[i][0], *maps[i][1:]), *up), sizes[i])
    return LadderNetworks(steps, heads, rungs, image_net((n, h, w), same_size_conv(n, c)), n * h * w)
