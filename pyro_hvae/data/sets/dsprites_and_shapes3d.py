"""The two factorial sets of the disentanglement literature: dSprites (Matthey et al. 2017), 3D Shapes (Burgess and Kim 2018).

Each set has one image for each combination of factors, so the position of an image gives its factors. The published files
are read once; their own lists of factors are compared with that order.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.dataset import Dataset, FactorGrid
from pyro_hvae.data.files.array_cache import cache_array
from pyro_hvae.data.files.data_file import File, convert_errors, find, read_checked
from pyro_hvae.data.files.published_files import list_files
from pyro_hvae.data.option_checks import check_seed
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import missing_extra

(DSPRITES,), (SHAPES3D,) = list_files("dsprites"), list_files("3dshapes")
SPRITES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
SHAPES = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
VALIDATION, TEST = 5_000, 10_000  # images
SLAB = 2**14  # images that are read at a time, at most 200 MB


def dsprites(data_seed: int = 0) -> Dataset:
    """White shapes on black, 737,280 binary images (1, 64, 64): all combinations of five factors.

    The published dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz goes to dsprites/ in the data folder. The factors, numbered in
    the file's order, are "shape" (square, ellipse, heart), "scale" (6 from 0.5 to 1), "orientation" (40 from 0 to 2 pi, the
    first and the last equal), "x" and "y" (32 each). The file's single colour is left out. In the cache (377 MB) a byte holds
    eight pixels, which become floats 0 and 1 when images are read. 5,000 random images are for validation, 10,000 for testing;
    the literature trains and measures on all images, which are in `grid`.

    Arguments:
        data_seed: of the split.

    Raises:
        ConfigError: for a negative seed. DataError: when the file is missing, corrupt, or holds other images.
    """
    check_seed(data_seed)
    store = _read_into_cache("dsprites", DSPRITES, (math.prod(SPRITES.values()), 512), _pack_sprites)
    x = Rows(store, prepare=unpack_bits, event=(1, 64, 64), ahead=True)
    return _build_dataset("dsprites", FactorGrid(SPRITES, x), data_seed)


def shapes3d(data_seed: int = 0) -> Dataset:
    """An object in a room, 480,000 colour images (3, 64, 64) in [0, 1]: all combinations of six factors.

    The published 3dshapes.h5 goes to 3dshapes/ in the data folder. The first reading needs h5py, the extra `data`, and takes
    minutes. The images are mapped from the cache (5.9 GB). The factors, numbered in the file's order, are "floor_hue",
    "wall_hue" and "object_hue" (10 each), "scale" (8 from 0.75 to 1.25), "shape" (4) and "orientation" (15 from -30 to 30
    degrees). 5,000 random images are for validation, 10,000 for testing; the literature trains and measures on all images,
    which are in `grid`.

    Arguments:
        data_seed: of the split.

    Raises:
        ConfigError: for a negative seed. DeviceError: when h5py is needed and not installed.
        DataError: when the file is missing, corrupt, or holds other images.
    """
    check_seed(data_seed)
    store = _read_into_cache("shapes3d", SHAPES3D, (math.prod(SHAPES.values()), 3, 64, 64), _copy_shapes)
    return _build_dataset("shapes3d", FactorGrid(SHAPES, Rows(store, ahead=True)), data_seed)


def unpack_bits(raw: Tensor) -> Tensor:
    """Bits (n, 512), uint8 -> images (n, 1, 64, 64) of 0. and 1.; the first pixel is the highest bit of the first byte.

    >>> bits = torch.zeros(1, 512, dtype=torch.uint8)
    >>> bits[0, 0] = 0b10100000
    >>> unpack_bits(bits)[0, 0, 0, :4]
    tensor([1., 0., 1., 0.])
    """
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=raw.device)
    return (raw[..., None] >> places).bitwise_and_(1).float().view(-1, 1, 64, 64)


def _build_dataset(name: str, grid: FactorGrid, data_seed: int) -> Dataset:
    note = f"{VALIDATION + TEST:,} random images are held out (seed {data_seed}); the literature trains and measures on all."
    return Dataset(name, *grid.split(data_seed, VALIDATION, TEST), counts={"images": len(grid.x)}, note=note, grid=grid)


def _read_into_cache(name: str, file: File, shape: tuple[int, ...], fill: Callable[[io.BytesIO, np.ndarray], None]) -> Tensor:
    """The array that `fill` makes from the file's content, from the cache."""
    path = find(file)

    def fill_from_file(array: np.ndarray) -> None:
        content = io.BytesIO(read_checked(path, file))
        with convert_errors(f"{path} is not the published file"):
            fill(content, array)

    return cache_array(name, [path], shape, fill_from_file)


def _pack_sprites(content: io.BytesIO, array: np.ndarray) -> None:
    count, sizes = len(array), (1, *SPRITES.values())  # one colour
    with zipfile.ZipFile(content) as archive:
        classes = np.concatenate(list(_read_slabs(archive, "latents_classes", (count, len(sizes)), np.dtype(np.int64))))
        if not np.array_equal(classes, np.stack(np.unravel_index(np.arange(count), sizes), 1)):
            raise ValueError("its images are in another order than that of their factors")
        start = 0
        for images in _read_slabs(archive, "imgs", (count, 64, 64), np.dtype(np.uint8)):
            if images.max() > 1:
                raise ValueError("its pixels are not 0 or 1")
            array[start : start + len(images)] = np.packbits(images.reshape(len(images), -1), axis=1)
            start += len(images)


def _read_slabs(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yields an array of an .npz file in parts; refuses another shape or type, and so pickled objects."""
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0(stream) if version == (1, 0) else version
        if header != (shape, False, dtype):
            raise ValueError(f"its array '{name}' has the header {header} instead of {(shape, False, dtype)}")
        for start in range(0, shape[0], SLAB):
            part = (min(SLAB, shape[0] - start), *shape[1:])
            yield np.frombuffer(stream.read(math.prod(part) * dtype.itemsize), dtype).reshape(part)
        if stream.read(1):  # reading at the end also verifies the checksum
            raise ValueError(f"its array '{name}' is longer than it announces")


def _copy_shapes(content: io.BytesIO, array: np.ndarray) -> None:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("data", "reading 3dshapes.h5") from error
    count, sizes = len(array), tuple(SHAPES.values())
    with h5py.File(content, "r") as file:
        labels, images = _get_local_dataset(h5py, file, "labels"), _get_local_dataset(h5py, file, "images")
        for found, shape, kind in ((labels, (count, len(sizes)), "float64"), (images, (count, 64, 64, 3), "uint8")):
            if (found.shape, found.dtype) != (shape, kind):
                raise ValueError(f"its {found.name} is {found.dtype} of shape {found.shape} instead of {kind} of shape {shape}")
        for place, wanted in enumerate(np.unravel_index(np.arange(count), sizes)):
            values, codes = np.unique(labels[:, place], return_inverse=True)
            if len(values) != sizes[place] or not np.array_equal(codes, wanted):
                raise ValueError(f"its images are in another order than that of the factor {list(SHAPES)[place]}")
        # Whole chunks if possible: a chunk that is read in parts is decompressed for each part.
        rows = images.chunks[0] if images.chunks else 1
        slab = SLAB // rows * rows or SLAB
        for start in range(0, count, slab):
            array[start : start + slab] = images[start : start + slab].transpose(0, 3, 1, 2)


def _get_local_dataset(h5py: Any, file: Any, name: str) -> Any:
    """A dataset that is stored in the file itself; HDF5 also allows links to other files."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or file[name].is_virtual or file[name].external:
        raise ValueError(f"its '{name}' is kept in another file")
    return file[name]
