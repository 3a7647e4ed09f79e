"""A user's folder of images: lists them, numbers the classes and reads all images into one array."""

import os
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pyro_hvae.data.dataset import Split
from pyro_hvae.data.files.array_cache import cache_array, hash_files
from pyro_hvae.data.files.image_reader import IMAGE_SUFFIXES, count_pages, read_image, read_pages
from pyro_hvae.data.rows import Rows
from pyro_hvae.data.sets.user_parts import UserParts
from pyro_hvae.data.sets.user_splits import PARTS
from pyro_hvae.errors import DataError


def read_images(path: Path, size: int = 0, channels: int = 0, content: str = "") -> UserParts:
    """Images (n, channels, height, width), uint8, with the factor "class".

    Reads files with a known suffix in the order of their names; every page of a TIFF file is an image. Other files are
    skipped, and so are names that begin with "." and folders called __MACOSX. Links are followed, except into a
    folder that contains them. If all folders at the top are called train, validation (val, valid) or test, they are parts.
    Folders at the top, or within the parts, are classes, numbered in the order of their names; deeper folders belong to them.
    A single folder is not a class.

    The images are decoded once into the cache (see `cache_array`) and mapped from there.

    Arguments:
        path: of the folder that holds the images, or of a single file of several pages.
        size, channels: see `read_image`.
        content: a checksum of all images; without it they are read for one.

    Raises:
        DataError: when there are no images, only some are in classes, one cannot be read, or they differ in size (without
            `size`) or in colour (without `channels`), naming the file.
    """
    folder = path if path.is_dir() else path.parent
    names, others = list_images(folder) if path.is_dir() else ([path.name], [])
    if not names:
        more = f"{len(others)} other files such as" if len(others) > 1 else "one other file,"
        found = f", but only {more} {', '.join(others[:3])}" if others else ": it is empty"
        raise DataError(f"{folder} holds no images{found}. Images are {', '.join(sorted(IMAGE_SUFFIXES))} files.")
    tops = {name.partition("/")[0] for name in names}
    in_parts = all("/" in name for name in names) and all(top.lower() in PARTS for top in tops)
    if in_parts and not any(PARTS[top.lower()] == "train" for top in tops):
        raise DataError(f"{folder} has images for {', '.join(sorted(tops))}, but no folder 'train'. Add or rename one.")
    labels, classes = _number_classes(folder, [name.partition("/")[2] if in_parts else name for name in names])

    first = read_image(folder / names[0], size, channels)
    pages = torch.tensor([count_pages(folder / name) for name in names])
    count = int(pages.sum())

    def fill(array: np.ndarray) -> None:
        index = 0
        for name in tqdm(names, "reading images", leave=False, disable=None, delay=1):
            for image in read_pages(folder / name, size, channels):
                if image.shape != first.shape:
                    raise DataError(_describe_difference(folder, (names[0], first.shape), (name, image.shape)))
                array[index] = image
                index += 1

    # The name identifies how the files are read; their content, what they hold.
    name = f"own-{zlib.crc32(repr((names, size, channels)).encode()):08x}"
    held = content or hash_files(folder, names)
    store = cache_array(name, [folder / name for name in names], (count, *first.shape), fill, version=2, content=held)
    whole = Split(Rows(store, ahead=True), {"class": labels.repeat_interleave(pages)} if len(classes) > 1 else {})
    members: dict[str, list[int]] = {}
    for index, name in zip(torch.arange(count).split(pages.tolist()), names, strict=True):
        members.setdefault(PARTS[name.partition("/")[0].lower()] if in_parts else "train", []).extend(index.tolist())
    parts = {part: whole.take(torch.tensor(index)) for part, index in members.items()}
    stacks = f" from the pages of {f'{len(names):,} files' if len(names) > 1 else 'one file'}" if count > len(names) else ""
    what = _summarize(first.shape, f"{count:,} images{stacks}", size, channels, classes, others)

    def read_beside(part: str) -> dict[str, np.ndarray]:
        texts = [name.encode(errors="surrogateescape").decode(errors="replace") for name in names]
        held = {"file": np.repeat(texts, pages.numpy())}
        if count > len(names):
            held["page"] = np.concatenate([np.arange(size) for size in pages.tolist()])
        return {name: values[members[part]] for name, values in held.items()}

    return UserParts(parts, what, {"class": classes}, beside=read_beside)


def list_images(folder: Path) -> tuple[list[str], list[str]]:
    """Sorted relative names of the images and of the other files; composed and decomposed accents sort alike."""
    names = sorted(_walk_folder(folder, "", frozenset()), key=lambda name: (unicodedata.normalize("NFC", name), name))
    return [name for name in names if _is_image(name)], [name for name in names if not _is_image(name)]


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


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
            raise DataError(f"{folder / name} is not a file that can be read, such as a broken link. Replace or remove it.")
        else:
            yield f"{prefix}{name}"


def _number_classes(folder: Path, names: list[str]) -> tuple[torch.Tensor, list[str]]:
    """For every image the position of its folder among all class folders, and their names; no names if there are no folders."""
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


def _summarize(shape: tuple[int, ...], images: str, size: int, channels: int, classes: list[str], others: list[str]) -> str:
    parts = [f"{images} of {shape[2]} x {shape[1]} pixels, {'grey' if shape[0] == 1 else 'colour'}"]
    parts += ["shorter side scaled and the centre cut out"] if size else []
    parts += ["converted to grey"] if channels == 1 else ["converted to colour"] if channels == 3 else []
    if len(classes) > 1:
        shown = ", ".join(f"{number} {name}" for number, name in enumerate(classes[:10]))
        parts.append(f"{len(classes)} classes ({shown}{', ...' if len(classes) > 10 else ''})")
    return ", ".join(parts) + (f"; not used: {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}" if others else "")
