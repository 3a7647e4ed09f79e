"""Objects rendered from many sides: Aubry's 3D chairs, and faces that users render from the Basel face model."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pyro_hvae.data.dataset import Dataset, FactorGrid
from pyro_hvae.data.files.array_cache import cache_array
from pyro_hvae.data.files.data_file import File, find, read_checked
from pyro_hvae.data.files.image_reader import decode_grey_png, shrink_by_area
from pyro_hvae.data.option_checks import check_seed, split_sizes
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import ConfigError, DataError

SIDE = 64  # pixels of an image
RENDER = 600  # pixels of a published chair
MODELS, VIEWS = 1_393, 62  # of the published chairs
CHAIRS = File(
    "rendered_chairs",
    how="It is the folder in https://www.di.ens.fr/willow/research/seeing3Dchairs/data/rendered_chairs.tar, unpacked.",
)
FACES = File(
    "faces3d",
    how="The Basel face model's licence forbids passing renders on: get the model from faces.dmi.unibas.ch, render every face "
    "from the same sides, and save grey images of 64 x 64 pixels as faces3d/<identity>/<view>.png.",
)


def _list_views(root: Path, pattern: str, view: str) -> tuple[list[str], list[str], list[Path]]:
    """Identities, views, and the images of all pairs of them in row-major order.

    Arguments:
        root: folder of all images.
        pattern: of the images' paths below the root; the first folder is the identity.
        view: regular expression for the name of a file, whose group is the view. Files with other names are skipped.

    Raises:
        DataError: when there are too few identities for three splits, or an identity lacks a view or has one twice.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(root.glob(pattern)):
        identity = path.relative_to(root).parts[0]
        if not identity.startswith(".") and (match := re.fullmatch(view, path.name)):
            if (other := found.setdefault(identity, {}).setdefault(match[1], path)) != path:
                raise DataError(f"{other} and {path.name} are of the same view, {match[1]}. Remove one of them.")
    if len(found) < 3:
        raise DataError(
            f"{root} holds images {pattern} of {len(found)} identities; at least three are needed, as no identity is in two of "
            "the three splits. Check that it is the right folder, completely unpacked."
        )
    views = sorted(set().union(*found.values()))
    for identity, images in found.items():
        if absent := [name for name in views if name not in images]:
            raise DataError(
                f"{root / identity} lacks {len(absent)} of the {len(views)} views that others have, such as {absent[0]}. Every "
                "identity needs the same views: add them, or remove them everywhere."
            )
    return list(found), views, [images[name] for images in found.values() for name in views]


def _build_dataset(
    name: str,
    cached: str,
    images: tuple[list[str], list[str], list[Path]],
    read: Callable[[Path], np.ndarray],
    data_seed: int,
    note: str,
) -> Dataset:
    """Splits the images by identity: a tenth, rounded down, for validation, as many for testing, the rest for training."""
    identities, views, paths = images

    def fill(out: np.ndarray) -> None:
        with ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter's lock
            starts = range(0, len(paths), len(views))  # one identity at a time, to bound the memory
            for start in tqdm(starts, f"reading {name}", leave=False, disable=None, delay=1):
                stop = start + len(views)
                out[start:stop, 0] = list(pool.map(read, paths[start:stop]))

    grid = FactorGrid(
        {"identity": len(identities), "view": len(views)},
        Rows(cache_array(cached, paths, (len(paths), 1, SIDE, SIDE), fill), ahead=True),
    )
    held = max(1, len(identities) // 10)
    order = torch.from_numpy(np.random.default_rng(data_seed).permutation(len(identities)))
    parts = order.split(split_sizes(len(identities), held, held))
    splits = (grid.take((part[:, None] * len(views) + torch.arange(len(views))).flatten()) for part in parts)
    return Dataset(name, *splits, counts={"images": len(paths)}, note=note, grid=grid)


def _read_chair(path: Path, crop: int) -> np.ndarray:
    start = (RENDER - crop) // 2
    pixels = decode_grey_png(read_checked(path), path, RENDER)
    return 255 - shrink_by_area(pixels[start : start + crop, start : start + crop], SIDE)


def chairs3d(crop: int = 400, data_seed: int = 0) -> Dataset:
    """1,393 chairs from 62 sides (Aubry et al. 2014), 64 x 64 grey values in [0, 1] with a background of 0.

    The folder rendered_chairs of the published archive goes to the data folder. Its images are
    rendered_chairs/<model>/renders/image_NNN_pPPP_tTTT_rRRR.png, 600 x 600 on white. They are converted to their luma, cut
    to the central square, averaged over areas (see `shrink_by_area`) and inverted. The VHP paper (Klushyn et al. 2019) states
    neither crop nor split, and crops differ between publications. The factor "identity" is the model's position among the
    sorted folders; "view" is the position of (p, t), elevation and azimuth, among the sorted pairs. No model is in two
    splits: 80, 10 and 10 % of the models at random. The first reading takes minutes; its result is kept in the cache.

    Arguments:
        crop: side of the central square in pixels, 64 to 600.
        data_seed: seed of the split by model.

    Raises:
        ConfigError: for a crop outside its range or a negative seed.
        DataError: when the folder is missing, a model lacks a view, or an image is damaged.
    """
    if not SIDE <= crop <= RENDER:
        raise ConfigError(f"crop is the side in pixels of the central square, from {SIDE} to {RENDER}, got {crop}.")
    check_seed(data_seed)
    images = _list_views(find(CHAIRS), "*/renders/*.png", r"image_\d+_(p\d+_t\d+)_r\d+\.png")
    found = len(images[0]), len(images[1])
    whole = "All" if found == (MODELS, VIEWS) else f"Not the published {MODELS:,} x {VIEWS} but"
    note = f"{whole} {found[0]:,} models x {found[1]} views, the central {crop} pixels of {RENDER}; split by model."
    return _build_dataset("chairs3d", f"chairs3d-{crop}", images, partial(_read_chair, crop=crop), data_seed, note)


def faces3d(data_seed: int = 0) -> Dataset:
    """Rendered faces, 64 x 64 grey values in [0, 1], as in the VHP paper (Klushyn et al. 2019): 2,000 faces from 37 sides.

    The images come from the Basel face model (Paysan et al. 2009). Its licence forbids passing them on, so users render
    their own: faces3d/<identity>/<view>.png in the data folder, every identity with the same views, any number of both.
    The factors "identity" and "view" are positions among the sorted names, so numbers in names need leading zeros. No identity
    is in two splits: 80, 10 and 10 % of the identities at random.

    Arguments:
        data_seed: seed of the split by identity.

    Raises:
        ConfigError: for a negative seed.
        DataError: when the folder is missing, an identity lacks a view, or an image is damaged or not 64 x 64.
    """
    check_seed(data_seed)
    images = _list_views(find(FACES), "*/*.png", r"([^.].*)\.png")
    note = f"Faces rendered by the user, {len(images[0]):,} identities x {len(images[1])} views; split by identity."
    return _build_dataset(
        "faces3d", "faces3d", images, lambda path: decode_grey_png(read_checked(path), path, SIDE), data_seed, note
    )
