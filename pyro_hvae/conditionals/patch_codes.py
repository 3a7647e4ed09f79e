"""Maps of patch codes: images to maps and back, and the conditionals of images that they make (Sahoo 2020)."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.conditionals.gaussian import Gaussian
from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import Patches

# Images of one chunk: intermediate results of an image take megabytes, and few fit into a processor's cache.
CHUNK_SIZES = {"cpu": 4}
CHUNK_SIZE = 256  # on other devices


def _in_chunks(function: Callable[..., Tensor], x: Tensor, dims: int, *given: Tensor) -> Tensor:
    """Computes a function of rows for x of shape (*plates, `dims` more), chunk by chunk where no gradient is needed.

    Given inputs, with one more dim than plates that broadcast to those of x, are further arguments of the function.
    """
    plates, size = x.shape[:-dims], CHUNK_SIZES.get(x.device.type, CHUNK_SIZE)
    rows = [x.reshape(-1, *x.shape[-dims:]), *(y.expand(*plates, y.shape[-1]).reshape(-1, y.shape[-1]) for y in given)]
    if torch.is_grad_enabled() or len(rows[0]) <= size:
        values = function(*rows)
    else:
        chunks = zip(*(part.split(size) for part in rows), strict=True)
        values = torch.cat([function(*chunk) for chunk in chunks])
    return values.reshape(*plates, *values.shape[1:])


class PatchEncoder(nn.Module):
    r"""The map of an image's codes, the posterior means of all its patches, in one convolution pass.

    A fully connected encoder's first layer on a patch is a convolution with a kernel of the patch's size, all others are
    1 x 1 convolutions; so this equals the encoder on `patches.cut(x)`, zeros beyond the border included, at less cost.

    Arguments:
        q: q(z1 | patch), a `Gaussian` with a fully connected network. patches: which are encoded.

    Attributes:
        spread: buffer; the `variance_over_patches` that the codes had when the layer above began to learn; 0 until then.

    Shapes: (*plates, channels, height, width) -> (*plates, latents, rows, columns).

    Raises:
        ConfigError: for a network that does not begin with a linear layer, a squashed mean, or other patches than `patches`.

    >>> q = Gaussian((3, 7, 7), 16, hidden=(8,))
    >>> encode, x = PatchEncoder(q, Patches(3, 16, 16)), torch.rand(5, 3, 16, 16)
    >>> separately = q(encode.patches.cut(x)).mean.movedim(-1, 1)
    >>> encode(x).shape, torch.allclose(encode(x), separately, atol=1e-5)
    (torch.Size([5, 16, 16, 16]), True)
    """

    spread: Tensor

    def __init__(self, q: Gaussian, patches: Patches) -> None:
        super().__init__()
        first = q.net[0] if isinstance(q.net, nn.Sequential) else None
        if not isinstance(first, nn.Linear):
            raise ConfigError("codes of all patches in one convolution need an encoder that begins with a linear layer (mlp).")
        if q.squash:
            raise ConfigError("codes in one convolution are those of an unbounded Gaussian: build the encoder without squash.")
        if q.parents != [patches.event]:
            raise ConfigError(f"the encoder reads patches of shape {q.parents[0]}, but those to encode have {patches.event}.")
        self.q, self.patches = q, patches
        self.register_buffer("spread", torch.zeros(()))

    @property
    def event(self) -> tuple[int, int, int]:
        """The shape of one image's map."""
        return self.q.features, self.patches.rows, self.patches.columns

    def forward(self, x: Tensor) -> Tensor:
        size = self.patches.channels, self.patches.height, self.patches.width
        if x.shape[-3:] != size:
            raise ConfigError(f"the texture encoder was made for images of shape {size}, got {tuple(x.shape[-3:])}.")
        return _in_chunks(self._encode, x, 3)

    def _encode(self, x: Tensor) -> Tensor:
        first, *others = self.q.net  # pyright: ignore[reportGeneralTypeIssues]  # __init__ requires a Sequential
        bias = first.bias if self.q.input_mean is None else first.bias - first.weight @ self.q.input_mean
        weight = first.weight.view(-1, *self.patches.event)
        # Channels last, so that the linear layers find them side by side: twice as fast.
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
        h = nn.functional.conv2d(x, weight, bias, self.patches.stride, self.patches.padding).movedim(1, -1)
        for layer in others:
            h = layer(h)
        return h[..., : self.q.features].movedim(-1, 1)

    @torch.no_grad()
    def variance_over_patches(self, x: Tensor) -> Tensor:
        """The variance of codes over all patches of all images x, summed over latents; 0 for a constant code."""
        return self(x).double().transpose(0, 1).flatten(1).var(1, correction=0).sum()


class PatchDecoder(nn.Module):
    """Decodes a map of codes to an image: every code to its patch E[patch | z1], and joins overlapping patches.

    Arguments:
        p: p(patch | z1), a conditional of one parent. patches: where the patches lie, and how they are joined.

    Shapes: (*plates, latents, rows, columns) -> (*plates, channels, height, width).

    >>> decode = PatchDecoder(Gaussian(16, (3, 7, 7), hidden=(8,), scale=1.0), Patches(3, 16, 16))
    >>> decode(torch.zeros(5, 16, 16, 16)).shape
    torch.Size([5, 3, 16, 16])
    """

    def __init__(self, p: nn.Module, patches: Patches) -> None:
        super().__init__()
        self.p, self.patches = p, patches

    def forward(self, maps: Tensor) -> Tensor:
        return _in_chunks(lambda rows: self.patches.put(self.p(rows.movedim(1, -1)).mean), maps, 3)


class ImagePosterior(nn.Module):
    """A posterior given the map of codes, as a posterior given the image: q(z2 | x [, y]) = q(z2 | encode(x) [, y]).

    >>> encode = PatchEncoder(Gaussian((3, 7, 7), 16, hidden=(8,)), Patches(3, 16, 16))
    >>> ImagePosterior(Gaussian((16, 16, 16), 4, hidden=(8,)), encode)(torch.rand(5, 3, 16, 16)).batch_shape
    torch.Size([5])
    """

    def __init__(self, q: Gaussian, encode: PatchEncoder) -> None:
        super().__init__()
        self.q, self.encode = q, encode

    def forward(self, x: Tensor, *given: Tensor) -> dist.Independent:
        # Encodes and infers in one chunk: the maps of many images are larger than a laptop's memory.
        mean, scale = _in_chunks(self._moments, x, 3, *given).unbind(-1)
        return dist.Normal(mean, scale).to_event(len(self.q.event))

    def _moments(self, x: Tensor, *given: Tensor) -> Tensor:
        fn = self.q(self.encode(x), *given)
        return torch.stack([fn.mean, fn.stddev], -1)


class ImageLikelihood(nn.Module):
    """A likelihood of the map of codes, as one of the image: p(x | z2 [, y]) = N(decode(E[z1 | z2 [, y]]), scale^2 I).

    >>> p = Gaussian(4, (16, 16, 16), hidden=(8,), scale=1.0)
    >>> decode = PatchDecoder(Gaussian(16, (3, 7, 7), hidden=(8,), scale=1.0), Patches(3, 16, 16))
    >>> ImageLikelihood(p, decode, 1.0)(torch.zeros(5, 4)).event_shape
    torch.Size([3, 16, 16])
    """

    def __init__(self, p: nn.Module, decode: PatchDecoder, scale: float) -> None:
        super().__init__()
        self.p, self.decode, self.scale = p, decode, scale

    def forward(self, z: Tensor, *given: Tensor) -> dist.Independent:
        mean = _in_chunks(lambda *rows: self.decode(self.p(*rows).mean), z, 1, *given)
        return dist.Normal(mean, torch.full_like(mean, self.scale)).to_event(3)
