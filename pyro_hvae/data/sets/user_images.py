"""Images from a folder: every kind of image file brought to one size and one kind of pixel."""

import os
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from pyro_hvae.data.dataset import Split
from pyro_hvae.data.files.array_cache import cache_array
from pyro_hvae.data.rows import Rows
from pyro_hvae.data.sets.user_splits import PARTS
from pyro_hvae.errors import DataError

__all__ = ["IMAGES", "list_images", "read_image", "read_images"]

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm"}
# Only these decoders run, whatever a file is called: others start programs (PostScript) or are rarely tested.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


def read_images(folder: Path, size: int = 0, channels: int = 0) -> tuple[dict[str, Split], str, list[str]]:
    """Part -> images uint8 (n, channels, height, width) with the factor "class", what was done in words, the classes' names.

    Files with a known suffix, in the order of their names; others are passed over, as are names that begin with "." and
    folders called __MACOSX. Links are followed, but never back into a folder that they are in. Folders at the top that are
    all called train, validation (val, valid) or test are parts. Folders at the top, or within the parts, are classes,
    numbered in the order of their names; what is deeper belongs to them. A single folder is no class.

    The images are decoded once, into the cache (see `cache_array`), and mapped into memory from there.

    Arguments:
        folder: that holds them. size, channels: see `read_image`.

    Raises:
        DataError: when there are no images, some are in classes and some not, one cannot be read, or they differ in size
            (without `size`) or in colour (without `channels`), naming the file.
    """
    names, others = list_images(folder)
    if not names:
        more = f"{len(others)} other files such as" if len(others) > 1 else "one other file,"
        seen = f", but only {more} {', '.join(others[:3])}" if others else ": it is empty"
        raise DataError(f"{folder} holds no images{seen}. Images are {', '.join(sorted(IMAGES))} files.")
    tops = {name.partition("/")[0] for name in names}
    in_parts = all("/" in name for name in names) and all(top.lower() in PARTS for top in tops)
    if in_parts and not any(PARTS[top.lower()] == "train" for top in tops):
        raise DataError(f"{folder} has images for {', '.join(sorted(tops))}, but no folder 'train'. Add or rename one.")
    labels, classes = _number_classes(folder, [name.partition("/")[2] if in_parts else name for name in names])

    first = read_image(folder / names[0], size, channels)

    def fill(array: np.ndarray) -> None:
        for index, name in enumerate(tqdm(names, "reading images", leave=False, disable=None, delay=1)):
            image = read_image(folder / name, size, channels)
            if image.shape != first.shape:
                raise DataError(_describe_difference(folder, (names[0], first.shape), (name, image.shape)))
            array[index] = image

    # What is not in the files: how they are read.
    name = f"own-{zlib.crc32(repr((names, size, channels)).encode()):08x}"
    store = cache_array(name, [folder / name for name in names], (len(names), *first.shape), fill)
    x = Rows(store, ahead=True)
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(PARTS[name.partition("/")[0].lower()] if in_parts else "train", []).append(index)
    factors = {"class": labels} if len(classes) > 1 else {}
    parts = {
        part: Split(x.take(torch.tensor(index)), {factor: values[index] for factor, values in factors.items()})
        for part, index in members.items()
    }
    return parts, _summarize(first.shape, len(names), size, channels, classes), classes


def read_image(path: Path, size: int = 0, channels: int = 0) -> np.ndarray:
    """An image as uint8 (channels, height, width), upright.

    The camera's orientation (EXIF) is applied. Transparent pixels are blended with white. Grey values of 16 bits are
    divided by 257, so that white stays white; colours of 16 bits lose their lower eight. Palettes are grey where all their
    colours are, else coloured; CMYK and other colour spaces are converted to RGB without a colour profile. Of an animation
    the first frame is taken.

    Arguments:
        path: of a PNG, JPEG, BMP, GIF, WebP, TIFF or PBM/PGM/PPM file.
        size: the shorter side is scaled to it (bicubic, antialiased) and the centre cut out, size x size; 0 keeps all.
        channels: 1 makes it grey (ITU-R 601 luma), 3 coloured; 0 keeps what it is.

    Raises:
        DataError: for a file that cannot be read, is no such image, is damaged, has pixels of 32 bits, or is so large
            (see `PIL.Image.MAX_IMAGE_PIXELS`) that it may be an attack.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as file:
                image = _to_grey_or_rgb(ImageOps.exif_transpose(file), str(file.format))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} has suspiciously many pixels: {error}. Make it smaller, or remove it.") from error
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{path} is no image of a kind known here ({', '.join(FORMATS)}). Replace or remove it.") from error
    except Exception as error:  # decoders raise nearly everything on damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"cannot read the image {path}: {reason}. Replace or remove it.") from error
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
        raise ValueError("it has 32 bits per pixel, of which white is not known; save it with 8 or 16")
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        opaque = Image.new(image.mode, image.size, "white")
        # Both bands of LA would do, but alpha_composite knows RGBA only.
        opaque.paste(image, mask=image.getchannel("A"))
        return opaque.convert("L" if image.mode == "LA" else "RGB")
    if image.mode == "P":  # as are all GIFs, grey ones too
        levels = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
        return image.convert("L" if (levels == levels[:, :1]).all() else "RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def list_images(folder: Path) -> tuple[list[str], list[str]]:
    """Relative names of the images and of other files, sorted; composed and decomposed accents sort alike."""
    names = sorted(_walk_folder(folder, "", frozenset()), key=lambda name: (unicodedata.normalize("NFC", name), name))
    return [name for name in names if _is_image(name)], [name for name in names if not _is_image(name)]


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGES


def _walk_folder(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[str]:
    if (real := os.path.realpath(folder)) in above:
        return
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(), entry.is_file()) for entry in entries]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}. Check that you may read it.") from error
    for name, is_folder, is_file in found:
        if name.startswith(".") or name == "__MACOSX":
            continue
        if is_folder:
            yield from _walk_folder(folder / name, f"{prefix}{name}/", above | {real})
        elif not is_file and _is_image(name):
            raise DataError(f"{folder / name} is no file that could be read, such as a broken link. Replace or remove it.")
        else:
            yield f"{prefix}{name}"


def _number_classes(folder: Path, names: list[str]) -> tuple[torch.Tensor, list[str]]:
    """Position of every image's folder among the folders, and these; no folders where no image is in one."""
    outside = [name for name in names if "/" not in name]
    if not outside:
        tops = [name.partition("/")[0] for name in names]
        classes = sorted(set(tops), key=lambda top: (unicodedata.normalize("NFC", top), top))
        number = {name: position for position, name in enumerate(classes)}
        return torch.tensor([number[top] for top in tops]), classes
    if len(outside) < len(names):
        inside = next(name for name in names if "/" in name)
        raise DataError(
            f"{folder} has images both in folders, such as {inside}, and outside, such as {outside[0]}. Sub-folders are "
            "classes: move all images into them, or all out."
        )
    return torch.zeros(len(names), dtype=torch.int64), []


def _describe_difference(folder: Path, one: tuple[str, tuple[int, ...]], other: tuple[str, tuple[int, ...]]) -> str:
    (a, (channels, *size)), (b, (other_channels, *other_size)) = one, other
    if size != other_size:
        sizes = f"{a} has {size[1]} x {size[0]} pixels, {b} has {other_size[1]} x {other_size[0]}"
        return f"the images in {folder} differ in size: {sizes}. Bring them to one: -o size=64 scales and crops them."
    kinds = {1: "grey", 3: "coloured"}
    colours = f"{a} is {kinds[channels]}, {b} is {kinds[other_channels]}"
    return f"the images in {folder} differ in colour: {colours}. Choose -o channels=1 or -o channels=3."


def _summarize(shape: tuple[int, ...], count: int, size: int, channels: int, classes: list[str]) -> str:
    parts = [f"{count:,} images of {shape[2]} x {shape[1]} pixels, {'grey' if shape[0] == 1 else 'colour'}"]
    parts += ["shorter side scaled and the centre cut out"] if size else []
    parts += ["converted to grey"] if channels == 1 else ["converted to colour"] if channels == 3 else []
    if len(classes) > 1:
        shown = ", ".join(f"{number} {name}" for number, name in enumerate(classes[:10]))
        parts.append(f"{len(classes)} classes ({shown}{', ...' if len(classes) > 10 else ''})")
    return ", ".join(parts)
