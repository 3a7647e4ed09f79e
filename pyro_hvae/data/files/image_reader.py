"""Decodes image files: a user's image of any kind, a published grey PNG; and shrinks images by averaging areas."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from pyro_hvae.data.files.data_file import convert_errors
from pyro_hvae.data.files.declared_sizes import check_declared_size
from pyro_hvae.errors import DataError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm"}
# Only these decoders run, whatever the name of a file is: others start programs (PostScript) or are rarely tested.
STACKS = (".tif", ".tiff")
NEW_SUBFILE_TYPE, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 254, 258, 262, 339  # tags of a TIFF file
PREVIEW_OR_MASK, WHITE_IS_ZERO, SIGNED = 1 | 4, 0, 2
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


def read_image(path: Path, size: int = 0, channels: int = 0) -> np.ndarray:
    """The image in a file, or the first of several, as `read_pages` gives it."""
    return next(read_pages(path, size, channels))


def read_pages(path: Path, size: int = 0, channels: int = 0) -> Iterator[np.ndarray]:
    """The images in a file, upright, as uint8 (channels, height, width): every page of a TIFF file, else the first image.

    The camera's orientation (EXIF) is applied. Transparent pixels are blended with white. Grey values of 12 or 16 bits are
    scaled so that white stays white; colours of 16 bits lose their lower eight bits. Signed bytes go from black, -128, to
    white, 127. A palette is grey if all its colours are. CMYK and other colour spaces are converted to RGB without a colour
    profile. Of an animation, the first frame is read; pages of a TIFF that are previews or masks of others are left out.

    Arguments:
        path: of a PNG, JPEG, BMP, GIF, WebP, TIFF or PBM/PGM/PPM file.
        size: scales the shorter side to it (bicubic, antialiased) and cuts out the centre, size x size; 0 keeps the size.
        channels: 1 converts to grey (ITU-R 601 luma), 3 to colour; 0 keeps the channels.

    Raises:
        DataError: for a file that cannot be read, is damaged or of another kind, has pixels of 32 bits, or has so many pixels
            that it may be an attack (see `PIL.Image.MAX_IMAGE_PIXELS`).
    """
    with _open_image(path) as file:
        for page in _list_pages(path, file):
            with _decoding(path):
                file.seek(page)
                shape = (*file.size, len(file.getbands()))
                check_declared_size(path, "the image", shape, np.dtype("u1"), path.stat().st_size, True)
                image = _to_grey_or_rgb(*_turn_upright(file), str(file.format))
                if channels:
                    image = image.convert("L" if channels == 1 else "RGB")
                if size:
                    image = ImageOps.fit(image, (size, size))
                pixels = np.asarray(image)
            yield pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def count_pages(path: Path) -> int:
    """The number of images that `read_pages` gives; raises `DataError` as that does."""
    if path.suffix.lower() not in STACKS:
        return 1
    with _open_image(path) as file:
        return len(_list_pages(path, file))


class _BoundedReader(io.BufferedReader):
    """A file that makes room for what is left of it, however long a piece a decoder asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextlib.contextmanager
def _open_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    # From a stream: of a path, Pillow maps uncompressed pixels, and exchanges the sides of a turned image before it does.
    with contextlib.ExitStack() as stack:
        with _decoding(path):
            file = stack.enter_context(Image.open(stack.enter_context(_BoundedReader(io.FileIO(path))), formats=FORMATS))
        yield file


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turns any error and every suspicious size into a `DataError`, and silences the decoders' other warnings."""
    with convert_errors(f"cannot read the image {path}", "Replace or remove it."), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(f"{path} has suspiciously many pixels: {error}. Make it smaller, or remove it.") from error
        except Image.UnidentifiedImageError as error:
            with path.open("rb") as file:
                start = file.read(4)
            if start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                why = "is damaged, or a TIFF of a layout that is not read. Save it as PNG"
            else:
                why = f"is not an image of a known kind ({', '.join(FORMATS)}). Replace or remove it"
            raise DataError(f"{path} {why}.") from error


def _list_pages(path: Path, file: Any) -> list[int]:
    """The pages of a TIFF that are images; of other files the first."""
    if path.suffix.lower() not in STACKS or file.format != "TIFF":
        return [0]
    with _decoding(path):
        kinds = []
        for page in range(file.n_frames):
            file.seek(page)
            kinds.append(file.tag_v2.get(NEW_SUBFILE_TYPE, 0))
    return [page for page, kind in enumerate(kinds) if not kind & PREVIEW_OR_MASK] or [0]


def _turn_upright(file: Any) -> tuple[Image.Image, int, bool]:
    """The image as the camera was held, and of grey values of more than 8 bits that of white and whether 0 is white."""
    white, inverted, flip = 65535, False, False
    if file.format == "TIFF":
        inverted = file.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        white = 2 ** min(16, file.tag_v2.get(BITS_PER_SAMPLE, (16,))[0]) - 1
        flip = file.mode == "L" and file.tag_v2.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    elif file.format == "PNG" and file.tile:
        raw, transparent = str(file.tile[0][3]), file.info.get("transparency")
        bits = {"L;2": 2, "L;4": 4}.get(raw, 8)
        if isinstance(transparent, int) and transparent < 2**bits < 256:  # Pillow scales pixels, but not this
            file.info["transparency"] = transparent * 255 // (2**bits - 1)
        if raw.startswith("LA;16"):
            return ImageOps.exif_transpose(file).convert("LA"), white, False
    image = ImageOps.exif_transpose(file)
    return (Image.fromarray(np.asarray(image) ^ 128) if flip else image), white, inverted


def _to_grey_or_rgb(image: Image.Image, white: int, inverted: bool, kind: str) -> Image.Image:
    """An opaque image of mode L (grey) or RGB."""
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        grey = np.asarray(image).astype(np.int32)
        grey = white - grey if inverted else grey
        grey[grey == image.info.get("transparency")] = white
        return Image.fromarray(((grey * 255 + white // 2) // white).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            "it has pixels of 32 bits, or signed ones of 16, whose value of white is unknown; save it with 8 or 16"
        )
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        opaque = Image.new(image.mode, image.size, "white")
        # Not `alpha_composite`, which knows only RGBA.
        opaque.paste(image, mask=image.getchannel("A"))
        return opaque.convert("L" if image.mode == "LA" else "RGB")
    if image.mode == "P":  # all GIFs have a palette, grey ones too
        levels = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
        return image.convert("L" if (levels == levels[:, :1]).all() else "RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def decode_grey_png(content: bytes, name: str | Path, size: int) -> np.ndarray:
    """The grey values of a square PNG image, (size, size), uint8; colours become their luma (ITU-R 601).

    Arguments:
        content: of the file.
        name: of the file, for errors.
        size: the expected height and width in pixels.

    Raises:
        DataError: when the file is not a PNG image, is damaged, or has another size.
    """
    with (
        convert_errors(f"{name} cannot be read as a PNG image"),
        Image.open(io.BytesIO(content), formats=("PNG",)) as image,
    ):
        if image.size == (size, size):
            return np.asarray(image.convert("L"))
        raise DataError(
            f"{name} has {image.width} x {image.height} pixels instead of {size} x {size}. Replace it by the original."
        )


@cache
def _area_weights(old: int, new: int) -> np.ndarray:
    """Weights (new, old) of the old pixels along an axis in each new pixel: the shares of the overlaps; rows sum to one."""
    edges, units = np.linspace(0, old, new + 1), np.arange(old)
    overlap = np.minimum(edges[1:, None], units + 1) - np.maximum(edges[:-1, None], units)
    return overlap.clip(min=0) * new / old


def shrink_by_area(pixels: np.ndarray, size: int) -> np.ndarray:
    """Square images (..., n, n), uint8, -> (..., size, size): each new pixel is the rounded mean over the area it covers.

    The integral is exact also if n / size is not a whole number, so an image keeps its mean. The box filters of image
    libraries take whole pixels only.

    >>> shrink_by_area(np.array([[0, 90, 90], [0, 90, 90], [0, 0, 0]], dtype=np.uint8), 2)
    array([[30, 90],
           [10, 30]], dtype=uint8)
    """
    weights = _area_weights(pixels.shape[-1], size)
    return np.rint(weights @ pixels @ weights.T).astype(np.uint8)
