"""One's own data without code: a folder of images, or arrays in a .npy, .npz or HDF5 file."""

import os
import zlib
from pathlib import Path

from pyro_hvae.data.dataset import Dataset
from pyro_hvae.data.sets.user_arrays import ARRAYS, read_arrays
from pyro_hvae.data.sets.user_images import IMAGES, list_images, read_images
from pyro_hvae.data.sets.user_splits import check_fractions, split_at_random
from pyro_hvae.errors import ConfigError, DataError

__all__ = ["load_user_data"]

PICKLES = {".pkl", ".pickle", ".p", ".pt", ".pth", ".ckpt", ".joblib", ".dill"}
KNOWN = f"Known are folders of images and {', '.join(ARRAYS)} files"


def load_user_data(
    path: str | Path,
    size: int = 0,
    channels: int = 0,
    key: str = "",
    data_seed: int = 0,
    validation: float = 0.1,
    test: float = 0.1,
) -> Dataset:
    """Images or vectors of one's own, from a folder of images or a .npy, .npz, .h5 or .hdf5 file.

    A folder: see `read_images` for how images of every kind become n images of one size. Sub-folders are classes and become
    the factor "class". Arrays: see `read_arrays` for the shapes and ranges. Folders, or arrays, called train, validation
    (val, valid) and test are these splits; what is missing of validation and test is dealt out of the rest at random.

    The split depends on the seed and the number of data alone, whose order is that of the names of the images (relative to
    the folder, with "/" between the parts, compared character by character) or of the rows of the array: it is the same on
    every machine. `Dataset.note` says what was done to the data. Pickles are never opened.

    Arguments:
        path: of the folder or file.
        size: of a folder of images: its images are scaled and cropped to size x size pixels; 0 keeps their common size.
        channels: of a folder of images: 1 makes them grey, 3 coloured; 0 keeps what they all are.
        key: of a file with several arrays: which one holds the data.
        data_seed: of the split. validation, test: fractions of the data, where the source does not say which they are.

    Raises:
        ConfigError: for an option out of range or of the other kind of source, or fewer than three data.
        DataError: when nothing, or nothing known, is at the path, or something in it cannot be used.
    """
    check_fractions(data_seed, validation, test)
    if size < 0:
        raise ConfigError(f"size is the width and height in pixels, or 0 for the images' own, got {size}.")
    if channels not in (0, 1, 3):
        raise ConfigError(f"channels is 1 for grey, 3 for colour, or 0 for what the images are, got {channels}.")
    path = Path(path).expanduser()
    suffix, classes = path.suffix.lower(), []
    if os.path.isdir(path):
        if key:
            raise ConfigError(f"key={key} names an array, but {path} is a folder of images. Leave it out.")
        parts, what, classes = read_images(path, size, channels)
    elif not os.path.exists(path):
        raise DataError(f"there is no file or folder {path}. Check the path.")
    elif suffix in ARRAYS:
        if size or channels:
            raise ConfigError(f"size and channels are for folders of images; the arrays of {path} are taken as they are.")
        parts, what = read_arrays(path, key)
    else:
        raise DataError(_explain_refusal(path, suffix))
    drawn = [part for part in ("validation", "test") if part not in parts]
    split = f"{' and '.join(drawn)} data dealt out at random with data_seed={data_seed}" if drawn else "split as given"
    counts = {part: len(held) for part, held in parts.items()} if len(parts) > 1 else {"all": len(parts["train"])}
    train, held, last = split_at_random(parts, data_seed, validation, test)
    note = f"Your own data: {what}; {split}."
    name, labels = Path(os.path.abspath(path)).name, {"class": classes}
    return Dataset(name, train, held, last, counts=counts, note=note, labels=labels, identity=_fingerprint(path))


def _fingerprint(path: Path) -> str:
    """The number of files, their bytes, and a checksum of their names and sizes: times and places may change, data may not."""
    files = list_images(path)[0] if path.is_dir() else [""]
    sizes = [(path / name).stat().st_size for name in files]
    return f"{len(files)} files of {sum(sizes)} bytes ({zlib.crc32(repr(list(zip(files, sizes, strict=True))).encode()):08x})"


def _explain_refusal(path: Path, suffix: str) -> str:
    if suffix in PICKLES:
        return (
            f"{path} is not opened: a {suffix} file is a pickle, which can run any program when it is loaded. If you trust it, "
            "load it yourself and save the array with numpy.save."
        )
    if suffix in IMAGES:
        return f"{path} is a single image. Name the folder that contains the images."
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z"):
        return f"{path} is an archive. Unpack it and name the folder. {KNOWN}."
    return f"{path} is of no kind that data are read from. {KNOWN}; save other arrays with numpy.save."
