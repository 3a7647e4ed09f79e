"""Street View House Numbers (Netzer et al. 2011): colour digits of 32 x 32, read from the publishers' MATLAB files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files.array_cache import cache_array
from pyro_hvae.data.files.data_file import convert_errors, find
from pyro_hvae.data.files.published_files import FILES
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import DataError, require_known

COUNTS = {"train": 73_257, "extra": 531_131, "test": 26_032}
HELD_OUT = 10_000  # the last images of the training file, for validation
TRAIN = {"extra": ("extra",), "train": ("train",), "both": ("train", "extra")}


def svhn(train: str = "extra") -> Dataset:
    """House numbers cut into single digits, (3, 32, 32) in [0, 1], with parts of their neighbours at the sides.

    The files train_32x32.mat, test_32x32.mat and (except for "train") extra_32x32.mat go to SVHN/ or svhn/ in the data folder.
    They are in MATLAB's version 5 with bytes `X` (32, 32, 3, n) and `y` (n, 1), where 10 stands for the digit 0. The factor
    "class" is the digit. The validation data are the last 10,000 images of the training file. This is our choice; the authors
    name none. The digits of a house follow each other in the files, so at most one house is in two splits. The images are
    mapped from the cache: 1.6 GB for the extra file, and as much memory once, when they are put there.

    Arguments:
        train: "extra" for the 531,131 easier images on which Zhao et al. (2017) train; "train" for the first 63,257 of the
            training file; "both" for these and then the extra images.

    Raises:
        ConfigError: for an unknown choice. DataError: when a file is missing or corrupt.
    """
    require_known("train", train, TRAIN)
    data, held_out, test = map(_read_part, (TRAIN[train], ("train",), ("test",)))
    before, after = COUNTS["train"] - HELD_OUT, COUNTS["train"]
    if "train" in TRAIN[train]:
        data = data.take(torch.cat([torch.arange(before), torch.arange(after, len(data))]))
    return Dataset(
        "svhn",
        data,
        held_out.take(torch.arange(before, after)),
        test,
        counts={f"{part} file": COUNTS[part] for part in dict.fromkeys((*TRAIN[train], "train", "test"))},
        note=f"Trained on: {' + '.join(TRAIN[train])}, without the training file's last {HELD_OUT:,} (validation).",
    )


def _read_part(names: tuple[str, ...]) -> Split:
    """Images (n, 3, 32, 32) and their digits, of one file after the other."""
    paths = {name: find(FILES[f"SVHN/{name}_32x32.mat"]) for name in names}
    digits = np.concatenate([_read_digits(path, COUNTS[name]) for name, path in paths.items()])

    def fill(array: np.ndarray) -> None:
        start = 0
        for name, path in paths.items():
            array[start : start + COUNTS[name]] = _read_variable(path, "X").transpose(3, 2, 0, 1)
            start += COUNTS[name]

    store = cache_array(f"svhn-{'-'.join(names)}", list(paths.values()), (len(digits), 3, 32, 32), fill)
    return Split(Rows(store, ahead=True), {"class": torch.from_numpy(digits)})


def _read_digits(path: Path, count: int) -> np.ndarray:
    """The digits of a file; checks first that the file announces `count` images, so that no other number is ever read."""
    from scipy.io import whosmat  # imported here and below, because few users need it

    with convert_errors(f"{path} is not a MATLAB file of version 5"):
        found = {name: (shape, kind) for name, shape, kind in whosmat(str(path), appendmat=False)}
    if found.get("X") != ((32, 32, 3, count), "uint8") or found.get("y") not in [((count, 1), "uint8"), ((count, 1), "double")]:
        raise DataError(
            f"{path} should hold bytes X (32, 32, 3, {count}) and numbers y ({count}, 1), it has {found or 'nothing'}. "
            "Replace it by the original."
        )
    y = _read_variable(path, "y")
    if not np.isin(y, np.arange(1, 11)).all():
        raise DataError(f"{path}: y has other values than the digits 1 to 9 and 10 for 0. Replace the file by the original.")
    return y[:, 0].astype(np.int64) % 10


def _read_variable(path: Path, name: str) -> Any:
    from scipy.io import loadmat

    with convert_errors(f"{path}: '{name}' cannot be read"):
        return loadmat(str(path), appendmat=False, variable_names=[name])[name]
