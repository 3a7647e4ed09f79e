"""Sources of textures: five drawn by formula, a folder of images, or an .npz file of images."""

import difflib
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pyro_hvae.data.files.array_files import ARRAY_READERS
from pyro_hvae.data.files.image_reader import IMAGE_SUFFIXES, read_image
from pyro_hvae.errors import ConfigError, DataError, unknown_name

SIDE = 80  # pixels, as in the paper
COMPARED = 500  # images of a large folder that are compared; more would take seconds at every start

Readers = dict[str, Callable[[], np.ndarray]]


def _mix_colours(share: np.ndarray, *colours: tuple[int, int, int]) -> np.ndarray:
    """Blends two colours: the first where the share (SIDE, SIDE) is 0, the second where it is 1."""
    first, second = np.array(colours, dtype=np.float64)
    return np.rint(first + share[..., None] * (second - first)).astype(np.uint8)


def _draw_waves(directions: int, period: float) -> np.ndarray:
    """A sum of plane waves of a period in pixels, clipped to [0, 1], which gives soft edges and plain areas."""
    row, column = np.mgrid[0:SIDE, 0:SIDE]
    angles = 0.7 + math.pi * np.arange(directions) / directions
    phases = 2 * math.pi / period * (np.cos(angles) * column[..., None] + np.sin(angles) * row[..., None])
    return np.clip(0.5 + np.cos(phases + 2.0 * np.arange(directions)).sum(-1), 0.0, 1.0)


def _draw_checkerboard() -> np.ndarray:
    row, column = np.mgrid[0:SIDE, 0:SIDE] // 8 % 2
    return np.array([[230, 40, 40], [40, 80, 220], [250, 220, 50], [30, 150, 70]], dtype=np.uint8)[2 * row + column]


BUILT_IN: Readers = {
    "checks": lambda: _mix_colours((np.mgrid[0:SIDE, 0:SIDE] // 3).sum(0) % 2, (80, 0, 20), (250, 190, 70)),
    "stripes": lambda: _mix_colours(_draw_waves(1, 5.0), (0, 20, 110), (150, 220, 255)),
    "blobs": lambda: _mix_colours(_draw_waves(5, 6.0), (10, 70, 10), (200, 240, 90)),
    "checkerboard": _draw_checkerboard,
    "faint": lambda: _mix_colours(_draw_waves(5, 6.0), (122, 122, 122), (134, 134, 134)),
}
"""Name -> a texture by formula. The first three have high contrast, different mean colours, and details so fine that every part
has nearly the mean colour of the whole. The last two are of the paper's second challenge: coloured squares, low contrast."""


def choose_textures(source: str = "", names: tuple[str, ...] = (), count: int = 3, least: int = 1) -> dict[str, np.ndarray]:
    """Textures by name, each an array of bytes (80, 80, 3): red, green and blue.

    Images of every kind become colours of 8 bits (see `read_image`), grey images with equal channels. All are cut to their
    central square and resized to 80 x 80 as in the paper (by a bicubic, antialiased filter, our choice).

    Without names, `count` textures are chosen. Of the built-in textures these are the first. Of others, the first is the one
    with the highest `contrast`; each next one has the largest product of contrast and distance of its mean colour to the
    nearest mean colour of those chosen. The paper says only "3 high contrast textures". Of a folder with more than 500 images,
    the first 500 by name are compared.

    Arguments:
        source: a folder of images, named by their files; an .npz file with bytes `images` (n, height, width, 3) and
            optionally `names` (n,), else numbered from 0; empty for the built-in textures.
        names: of the textures.
        count: largest number of textures if no names are given.
        least: smallest allowed side of an image, in pixels.

    Raises:
        ConfigError: for a name that is unknown or given twice, or a count below one.
        DataError: where the source is missing, damaged or without images, or an image is too small, naming it.

    >>> {name: texture.shape for name, texture in choose_textures(count=2).items()}
    {'checks': (80, 80, 3), 'stripes': (80, 80, 3)}
    """
    if count < 1 or len(set(names)) < len(names):
        raise ConfigError(f"textures need a count above 0 and different names, got {count} and {', '.join(names) or 'none'}.")
    path = Path(os.path.expanduser(source))
    readers = BUILT_IN if not source else _open_npz(path) if path.suffix.lower() == ".npz" else _open_folder(path)
    for name in names:
        if name not in readers:
            near = difflib.get_close_matches(name, readers, 12, 0.0)
            raise unknown_name(f"texture among the {len(readers):,} of {source or 'the library'}", name, near)
    compared = names or list(readers)[: COMPARED if source else count]
    found = {name: _fit_to_square(readers[name](), f"{source}: image {name}", least) for name in compared}
    return found if names else _select_distinct(found, count)


def contrast(texture: np.ndarray) -> float:
    """Contrast of small patches: the standard deviation of one colour within the paper's patches of 7 x 7.

    Arguments:
        texture: bytes (80, 80, 3).

    Returns:
        The mean over patches and colours in grey levels, from 0 to 127.5.
    """
    patches = np.lib.stride_tricks.sliding_window_view(texture, (7, 7), (0, 1))[::3, ::3]
    return float(patches.std(axis=(-2, -1)).mean())


def _select_distinct(found: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    scores = np.array([contrast(texture) for texture in found.values()])
    means = np.array([texture.mean((0, 1)) for texture in found.values()])
    taken = [int(scores.argmax())]
    while len(taken) < min(count, len(found)):
        worth = scores * np.linalg.norm(means[:, None] - means[taken], axis=2).min(1)
        worth[taken] = -1  # below the worth of all others, which may be 0
        taken.append(int(worth.argmax()))
    return {name: texture for i, (name, texture) in enumerate(found.items()) if i in taken}


def _open_folder(path: Path) -> Readers:
    try:
        files = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."]
    except OSError as error:
        raise DataError(f"no textures in {path}: {error.strerror or error}. Name a folder of images or an .npz.") from error
    if not files:
        raise DataError(f"no textures in {path}: it has no images ({', '.join(sorted(IMAGE_SUFFIXES))}). Name another folder.")
    return {file.name: lambda file=file: read_image(file, channels=3).transpose(1, 2, 0) for file in sorted(files, key=str)}


def _open_npz(path: Path) -> Readers:
    members = ARRAY_READERS[".npz"](path)
    images, names = members.get("images"), members.get("names")
    if images is None or images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != 3 or 0 in images.shape:
        found = f"of shape {images.shape} and type {images.dtype}" if images else f"not among {', '.join(members) or 'nothing'}"
        raise DataError(f"{path}: 'images' is {found}. Textures are bytes of shape (n, height, width, 3).")
    if names and (names.dtype.kind != "U" or names.shape != images.shape[:1]):
        raise DataError(f"{path}: 'names' is of shape {names.shape} and type {names.dtype}, no text for each of the images.")
    pixels, count = images.read(), images.shape[0]
    titles = names.read().tolist() if names else [str(number) for number in range(count)]
    if len(set(titles)) < count:
        raise DataError(f"{path}: 'names' has {len(set(titles))} different names for {count} images. Make them different.")
    return {title: lambda image=image: image for title, image in zip(titles, pixels, strict=True)}


def _fit_to_square(pixels: np.ndarray, name: str, least: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if min(height, width) < least:
        raise DataError(f"{name} has only {width} x {height} pixels, but crops have {least} x {least}. Use a larger image.")
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (SIDE, SIDE)))
