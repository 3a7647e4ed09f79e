"""Decodes image files: a user's image of any kind, a published grey PNG; and shrinks images by averaging areas."""

import io
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pyro_hvae.data.files.data_file import convert_errors
from pyro_hvae.errors import DataError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm"}
# Only these decoders run, whatever the name of a file is: others start programs (PostScript) or are rarely tested.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


def read_image(path: Path, size: int = 0, channels: int = 0) -> np.ndarray:
    """An upright image as uint8 (channels, height, width).

    The camera's orientation (EXIF) is applied. Transparent pixels are blended with white. Grey values of 16 bits are divided
    by 257, so that white stays white; colours of 16 bits lose their lower eight bits. A palette is grey if all its colours
    are. CMYK and other colour spaces are converted to RGB without a colour profile. Of an animation, the first frame is read.

    Arguments:
        path: of a PNG, JPEG, BMP, GIF, WebP, TIFF or PBM/PGM/PPM file.
        size: scales the shorter side to it (bicubic, antialiased) and cuts out the centre, size x size; 0 keeps the size.
        channels: 1 converts to grey (ITU-R 601 luma), 3 to colour; 0 keeps the channels.

    Raises:
        DataError: for a file that cannot be read, is damaged or of another kind, has pixels of 32 bits, or has so many pixels
            that it may be an attack (see `PIL.Image.MAX_IMAGE_PIXELS`).
    """
    with convert_errors(f"cannot read the image {path}", "Replace or remove it."), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as file:
                image = _to_grey_or_rgb(ImageOps.exif_transpose(file), str(file.format))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(f"{path} has suspiciously many pixels: {error}. Make it smaller, or remove it.") from error
        except Image.UnidentifiedImageError as error:
            raise DataError(f"{path} is not an image of a known kind ({', '.join(FORMATS)}). Replace or remove it.") from error
    if channels:
        image = image.convert("L" if channels == 1 else "RGB")
    if size:
        image = ImageOps.fit(image, (size, size))
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _to_grey_or_rgb(image: Image.Image, kind: str) -> Image.Image:
    """An opaque image of mode L (grey) or RGB."""
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits per pixel, whose value of white is unknown; save it with 8 or 16")
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
