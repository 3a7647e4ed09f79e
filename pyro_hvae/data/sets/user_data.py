"""A user's own data by path: a folder of images, a table, an AnnData file, motions, or arrays in a file."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files.array_cache import hash_files
from pyro_hvae.data.files.array_files import ARRAY_READERS
from pyro_hvae.data.files.file_kind import find_kind
from pyro_hvae.data.files.image_reader import IMAGE_SUFFIXES, STACKS, count_pages
from pyro_hvae.data.files.table_files import TABLE_READERS
from pyro_hvae.data.sets.missing_entries import mark_missing
from pyro_hvae.data.sets.user_annotated import read_annotated
from pyro_hvae.data.sets.user_arrays import read_arrays
from pyro_hvae.data.sets.user_images import list_images, read_images
from pyro_hvae.data.sets.user_motions import MOTION_SUFFIXES, list_motions, read_motions
from pyro_hvae.data.sets.user_parts import UserParts, describe_unused
from pyro_hvae.data.sets.user_splits import check_fractions, split_at_random
from pyro_hvae.data.sets.user_tables import interpret_table
from pyro_hvae.data.standardization import Standardization
from pyro_hvae.errors import ConfigError, DataError

PICKLES = {".pkl", ".pickle", ".p", ".pt", ".pth", ".ckpt", ".joblib", ".dill"}
TABLES = {".xlsx", ".xls", ".ods", ".txt", ".dat", ".json", ".jsonl", ".feather", ".arrow", ".dta", ".sav", ".rds", ".rdata"}
IMAGES, TABLE, ARRAYS, ANNOTATED = "a folder of images", "a table", "a file of arrays", "an AnnData file"
MOTIONS = "a recorded motion"
KINDS = {
    **dict.fromkeys(TABLE_READERS, TABLE),
    **dict.fromkeys(ARRAY_READERS, ARRAYS),
    ".h5ad": ANNOTATED,
    **dict.fromkeys(MOTION_SUFFIXES, MOTIONS),
}
KNOWN = f"Known are folders of images or of motions, and {', '.join(KINDS)} files"
# Option -> the kinds of data that have it.
OPTIONS = {
    "size": (IMAGES,),
    "channels": (IMAGES,),
    "key": (ARRAYS,),
    "columns": (TABLE, ANNOTATED, MOTIONS),
    "labels": (TABLE, ANNOTATED),
    "layer": (ANNOTATED,),
    "stride": (MOTIONS,),
}


def load_user_data(
    path: str | Path,
    size: int = 0,
    channels: int = 0,
    key: str = "",
    data_seed: int = 0,
    validation: float = 0.1,
    test: float = 0.1,
    standardize: bool = False,
    columns: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
    layer: str = "",
    stride: int = 0,
) -> Dataset:
    """Images or vectors from a folder of images, a table, an AnnData file, or arrays in a file.

    See `read_images` for a folder, whose sub-folders become the factor "class", `interpret_table` for a table, whose columns of
    few different texts become factors, `read_annotated` for .h5ad, `read_motions` for .bvh and .amc files or a folder of them,
    and `read_arrays` for other files. Folders or arrays called train, validation (val, valid) and test are these splits;
    missing validation or test data are taken from the training data at random. Motions are cut in time.

    The split depends only on the seed and on the number and order of the data: the order of the images' names (relative to the
    folder, with "/" between the parts, compared character by character) or of the array's rows. It is the same on every
    machine. `Dataset.note` says what was done to the data. Pickles are never opened.

    NaN in arrays, empty cells of tables, and what a mask beside arrays hides are missing entries: all splits are then
    incomplete (see `Rows`).

    Arguments:
        path: of the folder or file.
        size: for a folder: images are scaled and cropped to size x size pixels; 0 keeps their common size.
        channels: for a folder: 1 converts images to grey, 3 to colour; 0 keeps their channels.
        key: for a file with several arrays: the array that holds the data.
        data_seed: of the split.
        validation, test: fractions of the data, for splits that the source does not give.
        standardize: for vectors: every column less its mean and divided by its standard deviation, both of the training data
            (see `Standardization`). `Dataset.inverse` gives the data's own units back.
        columns: for a table, an AnnData file or motions: the columns of x; empty for all that hold numbers or move.
        labels: for tables and AnnData files: the columns (of obs) that are factors; empty for all that hold classes.
        layer: for an AnnData file: the layer that is x; empty for X.
        stride: for motions: keeps every stride-th frame; 0 keeps all.

    Raises:
        ConfigError: for an option that is out of range or for the other kind of source, for fewer than three data, or for
            images that are to be standardised.
        DataError: when the path does not exist or is of no known kind, its content cannot be used, or the training data have
            no value of a column.
    """
    check_fractions(data_seed, validation, test)
    if size < 0:
        raise ConfigError(f"size is the width and height in pixels, or 0 for the images' own, got {size}.")
    if channels not in (0, 1, 3):
        raise ConfigError(f"channels is 1 for grey, 3 for colour, or 0 for what the images are, got {channels}.")
    path = Path(os.path.expanduser(path))
    options = dict(size=size, channels=channels, key=key, columns=columns, labels=labels, layer=layer, stride=stride)
    found, identity = _read_path(path, options, validation, test)
    if standardize and found.inverse:
        raise ConfigError("standardize=true is not for motions, whose channels are scaled to [-1, 1] already. Leave it out.")
    parts = {part: _place(held) for part, held in found.parts.items()}
    drawn = [part for part in ("validation", "test") if part not in parts]
    split = f"{' and '.join(drawn)} data dealt out at random with data_seed={data_seed}" if drawn else found.split
    counts = {part: len(held) for part, held in parts.items()} if len(parts) > 1 else {"all": len(parts["train"])}
    splits, missing = mark_missing(split_at_random(parts, data_seed, validation, test), found.columns)
    by = Standardization.measure(splits[0].x, found.columns) if standardize else None
    if by:
        splits = [part.with_x(by.rows(part.x)) for part in splits]
        split += "; standardised by mean and standard deviation of the training data"
    return Dataset(
        Path(os.path.abspath(path)).name,
        *splits,
        counts=counts,
        note=f"Your own data: {found.what}{missing}{describe_unused(found.unused)}; {split}.",
        labels=found.labels,
        identity=identity,
        picture=found.picture,
        inverse=by.undo if by else found.inverse,
        standardization=by,
        columns=found.columns,
        unused=found.unused,
        beside=(lambda part: read(part if part in parts else "train")) if (read := found.beside) else None,
    )


def _place(split: Split) -> Split:
    """The data of a part with their rows in it, where the reader does not say more."""
    return split if split.places is not None else Split(split.x, split.factors, torch.arange(len(split)))


def _read_path(path: Path, options: Mapping[str, Any], validation: float, test: float) -> tuple[UserParts, str]:
    """What a path holds, read with the options of its kind, and its identity just before.

    Raises:
        ConfigError: for an option of another kind.
    """
    kind = find_kind(path)
    if os.path.isdir(path):
        what = IMAGES if list_images(path)[0] or not list_motions(path) else MOTIONS
    elif not os.path.exists(path):
        raise DataError(f"there is no file or folder {path}. Check the path.")
    elif not os.path.isfile(path):  # a pipe would wait for ever
        raise DataError(f"{path} is neither a file nor a folder. Save the data in a file.")
    elif kind in STACKS and count_pages(path) > 1:
        what = IMAGES
    elif kind not in KINDS:
        raise DataError(_explain_refusal(path, kind))
    else:
        what = KINDS[kind]
    for name, having in OPTIONS.items():
        if options[name] and what not in having:
            raise ConfigError(f"{name} is an option of {' or '.join(having)}, but {path} is {what}. Leave it out.")
    identity = identify_data(path)
    if what == IMAGES:
        parts = read_images(path, options["size"], options["channels"], identity)
    elif what == TABLE:
        parts = interpret_table(path, TABLE_READERS[kind](path), options["columns"], options["labels"])
    elif what == ANNOTATED:
        parts = read_annotated(path, options["layer"], options["columns"], options["labels"])
    elif what == MOTIONS:
        parts = read_motions(path, options["columns"], options["stride"] or 1, validation, test)
    else:
        parts = read_arrays(path, options["key"])
    return parts, identity


def identify_data(path: Path) -> str:
    """The number of files, their bytes, and checksums of their names and sizes and of their content.

    It does not depend on times or on the path. What stands before the comma is all that runs of older versions recorded.

    Raises:
        DataError: when a file cannot be read.
    """
    if path.is_dir():
        files = list_images(path)[0] or list_motions(path)
    elif find_kind(path) in MOTION_SUFFIXES:
        path, files = path.parent, list_motions(path)
    else:
        files = [""]
    content = hash_files(path, files)  # it reads every file, so all are there
    sizes = [(path / name).stat().st_size for name in files]
    names = zlib.crc32(repr(list(zip(files, sizes, strict=True))).encode())
    return f"{len(files)} {'file' if len(files) == 1 else 'files'} of {sum(sizes)} bytes ({names:08x}), content {content}"


def _explain_refusal(path: Path, suffix: str) -> str:
    if suffix in PICKLES:
        return (
            f"{path} is not opened: a {suffix} file is a pickle, which can run any program when it is loaded. If you trust it, "
            "load it yourself and save the array with numpy.save."
        )
    if suffix in IMAGE_SUFFIXES:
        return f"{path} is a single image. Name the folder that contains the images."
    if suffix in TABLES:
        return f"{path} is of no kind that tables are read from. Save it as .csv, with a line of names. {KNOWN}."
    if suffix.endswith(".gz") and not suffix.startswith(".tar"):
        return f"{path} is compressed. Unpack it: gunzip '{path.name}'. {KNOWN}."
    if suffix in (".zip", ".tar", ".tar.gz", ".tgz", ".xz", ".bz2", ".7z"):
        return f"{path} is an archive. Unpack it and name the folder. {KNOWN}."
    return f"{path} is of no kind that data are read from. {KNOWN}; save other arrays with numpy.save."
