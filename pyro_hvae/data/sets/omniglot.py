"""OMNIGLOT (Lake et al. 2015): 1,623 characters of 50 alphabets, drawn by 20 people each, as 28 x 28 images."""

import io
import tomllib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.binarisation import binarize_splits, check_binarize
from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files.archives import read_named_members
from pyro_hvae.data.files.array_cache import cache_array
from pyro_hvae.data.files.data_file import convert_errors, find, find_optional, read_checked
from pyro_hvae.data.files.image_reader import decode_grey_png, shrink_by_area
from pyro_hvae.data.files.published_files import FILES
from pyro_hvae.errors import ConfigError, DataError, require_known

CHARDATA = FILES["OMNIGLOT/chardata.mat"]
# Their checksums are for downloads only: the same images exist in other archives, so reading checks the content.
IMAGES = {part: FILES[f"OMNIGLOT/{part}.zip"] for part in ("images_background", "images_evaluation")}
# Part -> alphabet -> number of characters, in the order of the characters' official numbers 1 to 1,623.
ALPHABETS: dict[str, dict[str, int]] = tomllib.loads(Path(__file__).with_name("omniglot_alphabets.toml").read_text("utf-8"))
DRAWERS, DRAWING, SIDE = 20, 105, 28  # a drawing has 105 x 105 pixels, an image 28 x 28
LARGEST = 2**16  # bytes of a drawing; real ones have some hundreds
TRAIN, TEST = 24_345, 8_070  # images of the literature
HELD_OUT, HELD_CHARACTERS = 1_345, 96
SHUFFLE = 123  # seed with which Burda et al. (2016) shuffle before they split
NOTES = (
    "The official drawings, resized by area: not the chardata.mat of the literature, with whose likelihoods those on these "
    "images are not comparable digit for digit.",
    "chardata.mat of Burda et al. (2016), the images and the test split of the literature.",
)
TWINS = {  # at 28 x 28 pixels; chardata.mat was not searched
    ("images", "random"): " One image occurs twice, in training and in validation (character 191, drawers 18 and 2).",
    ("images", "characters"): " One training image occurs twice (character 191, drawers 2 and 18).",
    ("chardata", "random"): "",
}
SOURCES, SPLITS = ("auto", "chardata", "images"), ("random", "characters")
NUMBERS = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


def omniglot(source: str = "auto", split: str = "random", binarize: str = "dynamic", data_seed: int = 777) -> Dataset:
    """Handwritten characters, 28 x 28 with ink = 1: 23,000 training, 1,345 validation and 8,070 test images.

    There are two sources:

    - "chardata" is the file of the literature, OMNIGLOT/chardata.mat in the data folder (Burda et al. 2016), with its test
      images. The 1,345 validation images are those of its authors: the last of the other images, shuffled by
      `numpy.random.RandomState(123)`. Grey values are rounded to 256 levels.
    - "images" are the official drawings of 105 x 105 pixels, OMNIGLOT/images_background.zip and images_evaluation.zip,
      unpacked or not, or torchvision's folder omniglot-py. Each pixel is the mean over the 3.75 x 3.75 pixels it covers (see
      `shrink_by_area`). It is unknown how chardata.mat was resized, so likelihoods are not comparable with the literature
      digit for digit.

    The factors are "alphabet" (0 to 49), "character" (0 to 1,622, each of one alphabet) and, for "images", "drawer" (0 to 19,
    not the same people for all alphabets). Each source numbers alphabets and characters in its own order.

    Arguments:
        source: "chardata", "images", or "auto": chardata.mat if it exists and has the split, else the drawings.
        split: "random" or "characters". With "random", all characters may be in all splits; for "images" the same shuffle gives
            splits of the literature's sizes and leaves out 45 of the 32,460 images (chardata.mat lacks as many; it is unknown
            which). "characters" is for "images" only: the test data are the 13,180 images of the 20 evaluation alphabets, the
            validation data 96 characters of the 30 background alphabets drawn by the same generator (1,920 images), the
            training data the rest (17,360).
        binarize: as in `binarize_splits`; the literature uses "dynamic".
        data_seed: seed of the pixels that are drawn once. The split does not depend on it.

    Raises:
        ConfigError: for an unknown source, split or kind of binarisation, or a negative seed; for
            source=chardata with split=characters.
        DataError: when a file is missing or corrupt, or lacks an image.
    """
    require_known("source", source, SOURCES)
    require_known("split", split, SPLITS)
    if source == "chardata" and split == "characters":
        raise ConfigError("chardata.mat has one split only. Use source=images with split=characters, or split=random.")
    check_binarize(binarize, data_seed)  # before the files are read
    if source == "auto":
        source = "chardata" if split == "random" and find_optional(CHARDATA) else "images"
    x, factors, counts = _read_chardata() if source == "chardata" else _read_drawings()
    parts = _split_indices(source, split, len(x))
    rows = binarize_splits(binarize, data_seed, *(x[part] for part in parts))
    labels = ({name: values[part] for name, values in factors.items()} for part in parts)
    note = f"{NOTES[source == 'chardata']} Split: {split}. Binarisation: {binarize}."
    if left_out := len(x) - sum(map(len, parts)):
        note += f" Left out: {left_out} of {len(x):,} images, so that the splits have the literature's sizes."
    note += TWINS[source, split]
    return Dataset("omniglot", *map(Split, rows, labels), counts=counts, note=note)


def _split_indices(source: str, split: str, count: int) -> list[np.ndarray]:
    """Indices of the training, validation and test images."""
    shuffled = np.random.RandomState(SHUFFLE).permutation
    if split == "characters":
        known, unknown = (sum(alphabets.values()) for alphabets in ALPHABETS.values())
        letters = np.concatenate([shuffled(known), known + np.arange(unknown)])
        order = (letters[:, None] * DRAWERS + np.arange(DRAWERS)).ravel()
        return np.split(order, [(known - HELD_CHARACTERS) * DRAWERS, known * DRAWERS])
    test = TRAIN + np.arange(TEST)
    order = np.concatenate([shuffled(TRAIN), test]) if source == "chardata" else shuffled(count)[: TRAIN + TEST]
    return np.split(order, [TRAIN - HELD_OUT, TRAIN])


def _read_chardata() -> tuple[Tensor, dict[str, Tensor], dict[str, int]]:
    """Images (n, 1, 28, 28), uint8, of the training file and then the test file; their factors; the number in each file."""
    from scipy.io import loadmat, whosmat  # imported here, because few users need it

    path, arrays = find(CHARDATA), {}
    content = read_checked(path)
    with convert_errors(f"{path} cannot be read as 28 x 28 characters"):
        # Shapes are checked before an array is made: a damaged file may announce objects, or sizes that no memory holds.
        found = {name: shape for name, shape, kind in whosmat(io.BytesIO(content)) if kind in NUMBERS}
        for start, count in (("", TRAIN), ("test", TEST)):
            for name, height in (("data", SIDE**2), ("target", 50), ("targetchar", 1)):
                if (shape := found.get(start + name)) != (height, count):
                    raise ValueError(f"'{start}{name}' should hold {height} x {count} numbers, its shape is {shape}")
        for name in ("data", "target", "targetchar"):
            both = loadmat(io.BytesIO(content), variable_names=[name, f"test{name}"])
            arrays[name] = np.concatenate([both[name], both[f"test{name}"]], 1, dtype=np.float32, casting="unsafe")
        if not (arrays["data"].min() >= 0 and arrays["data"].max() <= 1):  # also true for NaN
            raise ValueError("it holds grey values outside [0, 1]")
    grey = np.rint(255 * arrays["data"]).astype(np.uint8)
    # An image is a column in MATLAB's order (down first), so rows and columns are swapped.
    x = np.ascontiguousarray(grey.T.reshape(-1, 1, SIDE, SIDE).swapaxes(2, 3))
    alphabet = arrays["target"].argmax(0)
    _, character = np.unique(np.stack([alphabet, arrays["targetchar"][0]], 1), axis=0, return_inverse=True)
    factors = {"alphabet": torch.from_numpy(alphabet), "character": torch.from_numpy(character.reshape(-1))}
    return torch.from_numpy(x), factors, {"training file": TRAIN, "test file": TEST}


def _list_drawings(part: str) -> list[str]:
    """Paths of the images of a part, relative to the unpacked folder, in the order of their official numbers."""
    letters = [(p, name, k) for p, names in ALPHABETS.items() for name, count in names.items() for k in range(1, count + 1)]
    return [
        f"{part}/{alphabet}/character{k:02d}/{number:04d}_{drawer:02d}.png"
        for number, (p, alphabet, k) in enumerate(letters, 1)
        if p == part
        for drawer in range(1, DRAWERS + 1)
    ]


def _read_drawings() -> tuple[Tensor, dict[str, Tensor], dict[str, int]]:
    """Images (n, 1, 28, 28), uint8, of all drawings with ink = 255; their factors; the number in each part."""
    names = {part: _list_drawings(part) for part in ALPHABETS}
    paths = {part: find(IMAGES[part]) for part in ALPHABETS}
    sources = [
        file for part, path in paths.items() for file in ([path.parent / n for n in names[part]] if path.is_dir() else [path])
    ]
    if absent := [file for file in sources if not file.is_file()]:
        raise DataError(f"{len(absent):,} images are missing, the first of them {absent[0]}. Unpack the archive anew.")

    def fill(out: np.ndarray) -> None:
        place = {name: i for i, name in enumerate(sum(names.values(), []))}
        for part, path in paths.items():
            for name, content in read_named_members(path, names[part], LARGEST):
                out[place[name], 0] = shrink_by_area(255 - decode_grey_png(content, f"{path}: {name}", DRAWING), SIDE)

    counts = {part: len(images) for part, images in names.items()}
    x = cache_array("omniglot-28", sources, (sum(counts.values()), 1, SIDE, SIDE), fill)
    sizes = torch.tensor([count for alphabets in ALPHABETS.values() for count in alphabets.values()])
    alphabet = torch.arange(len(sizes)).repeat_interleave(sizes * DRAWERS)
    index = torch.arange(len(x))
    return x, {"alphabet": alphabet, "character": index // DRAWERS, "drawer": index % DRAWERS}, counts
