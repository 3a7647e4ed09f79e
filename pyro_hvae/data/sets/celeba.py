"""CelebA (Liu et al. 2015): celebrities' faces, cropped and shrunk to 64 x 64 as in the VLAE and pro-VLAE papers."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files.archives import read_named_members
from pyro_hvae.data.files.array_cache import cache_array
from pyro_hvae.data.files.data_file import File, convert_errors, find, find_optional, read_checked
from pyro_hvae.data.files.published_files import FILES
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import DataError, require_known

COUNTS = {"training": 162_770, "validation": 19_867, "test": 19_962}
IMAGES, PARTITION = FILES["celeba/img_align_celeba.zip"], FILES["celeba/list_eval_partition.txt"]
ATTRIBUTES = FILES["celeba/list_attr_celeba.txt"]
SIZE = (178, 218)  # width, height of the aligned images
LARGEST = 2**20  # bytes of an image; real ones have about 7,000
# Left, upper, right and lower border of the part that is shrunk to 64 x 64, and the filter.
CROPS = {
    "vlae": ((35, 55, 143, 163), Image.Resampling.BILINEAR),
    "provlae": ((15, 45, 163, 193), Image.Resampling.LANCZOS),
}
NAMES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry "
    "Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns "
    "Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
).split()


def celeba(crop: str = "vlae") -> Dataset:
    """Aligned faces, (3, 64, 64) in [0, 1], in the authors' partition: 162,770 to train, 19,867 to validate, 19,962 to test.

    The files img_align_celeba.zip (or the folder img_align_celeba with its 202,599 images of 178 x 218),
    list_eval_partition.txt and, optionally, list_attr_celeba.txt go to celeba/ in the data folder. With the last file, the 40
    attributes are factors, such as "Smiling": 1 if the image has it, else 0. The images are shrunk once, which takes minutes,
    into the cache (2.5 GB per crop), and mapped from there.

    Arguments:
        crop: "vlae" for the central 108 x 108, shrunk bilinearly (Zhao et al. 2017); "provlae" for the 148 x 148 from column 15
            and row 45, shrunk by a Lanczos filter (Li et al. 2020). Zhao et al. scale values to [-1, 1], which is 2 x - 1 of
            ours. They also stretch the contrast of each crop to the whole range and split 80 to 20 in no fixed order, which
            this data set does not.

    Raises:
        ConfigError: for an unknown crop. DataError: when a file is missing or corrupt, naming the image or line.
    """
    require_known("crop", crop, CROPS)
    images, partition = find(IMAGES), _read_table(find(PARTITION), PARTITION, (), {"0": 0, "1": 1, "2": 2})
    parts = [np.flatnonzero(partition == part) for part in range(3)]
    if [len(part) for part in parts] != list(COUNTS.values()):
        found = ", ".join(f"{len(part):,}" for part in parts)
        raise DataError(f"{PARTITION.path} has {found} images in its parts. Replace it by the original.")
    factors = _read_attributes()

    def fill(array: np.ndarray) -> None:
        places = {f"img_align_celeba/{_image_name(place)}": place for place in range(len(array))}
        for name, content in read_named_members(images, places, LARGEST):
            array[places[name]] = _decode_face(content, f"{images}: {name}", *CROPS[crop])

    store = cache_array(f"celeba-{crop}", [images], (len(partition), 3, 64, 64), fill)
    whole = Split(Rows(store, ahead=True), factors)
    note = f"The authors' partition, in crops as for {crop}, with values in [0, 1]."
    return Dataset("celeba", *map(whole.take, parts), counts=COUNTS, note=note)


def _image_name(place: int) -> str:
    return f"{place + 1:06d}.jpg"


def _read_table(path: Path, file: File, names: Sequence[str], values: Mapping[str, int]) -> np.ndarray:
    """The values that a text file gives each image, int64 (n, names), or (n,) for a single column without a name.

    A line is an image's name and its values. Above named columns are two lines: the number of images, and the names.
    """
    lines = read_checked(path, file).decode("ascii", errors="replace").splitlines()
    count, heading, columns = sum(COUNTS.values()), 2 if names else 0, len(names) or 1
    if len(lines) != heading + count:
        raise DataError(f"{path} has {len(lines):,} lines instead of {heading + count:,}. Replace it by the original.")
    if names and lines[1].split() != names:
        raise DataError(f"{path}, line 2: not the names of the {columns} attributes. Replace the file by the original.")
    table = np.empty((count, columns), dtype=np.int64)
    for place, line in enumerate(lines[heading:]):
        name, *words = line.split() or [""]
        if name != _image_name(place) or len(words) != columns or not values.keys() >= set(words):
            raise DataError(
                f"{path}, line {heading + place + 1}: not {_image_name(place)} and {columns} times one of {', '.join(values)}. "
                "Replace the file by the original."
            )
        table[place] = [values[word] for word in words]
    return table if names else table[:, 0]


def _read_attributes() -> dict[str, Tensor]:
    """Attribute -> 0 or 1 for every image; empty if the file is missing."""
    path = find_optional(ATTRIBUTES)
    if path is None:
        return {}
    table = torch.from_numpy(_read_table(path, ATTRIBUTES, NAMES, {"-1": 0, "1": 1}))
    return dict(zip(NAMES, table.unbind(1), strict=True))


def _decode_face(content: bytes, name: str, box: tuple[int, int, int, int], resample: Image.Resampling) -> np.ndarray:
    """The part of an image within `box`, shrunk, shape (3, 64, 64)."""
    with convert_errors(f"{name} cannot be read as an aligned face"):
        image = Image.open(io.BytesIO(content), formats=("JPEG",))
        if image.size != SIZE or image.mode != "RGB":
            raise ValueError(f"{image.width} x {image.height} pixels of mode {image.mode} instead of 178 x 218 in colour")
        return np.asarray(image.crop(box).resize((64, 64), resample)).transpose(2, 0, 1)
