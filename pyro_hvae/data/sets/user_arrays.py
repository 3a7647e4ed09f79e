"""Images or vectors from a user's file of arrays: finds the arrays and interprets their shapes and values."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.array_values import may_be_grey
from pyro_hvae.data.dataset import Split
from pyro_hvae.data.files.array_files import ARRAY_READERS, StoredArray
from pyro_hvae.data.files.file_kind import find_kind
from pyro_hvae.data.rows import Rows, as_grey
from pyro_hvae.data.sets.array_factors import COLUMN_NAMES, add_text_factors, describe_array, is_text, read_column, read_factors
from pyro_hvae.data.sets.array_layouts import arrange_axes, describe_layout
from pyro_hvae.data.sets.array_ranges import check_grey_range, find_range, iterate_pieces
from pyro_hvae.data.sets.missing_entries import find_mask, hide, is_mask
from pyro_hvae.data.sets.user_parts import UserParts
from pyro_hvae.data.sets.user_splits import PARTS
from pyro_hvae.errors import DataError, unknown_name

NAMES = ("", "x", "images", "imgs", "image", "data")  # names for the array of data, in order of preference


def read_arrays(path: Path, key: str = "") -> UserParts:
    """Data with factors from the arrays in a file.

    Arrays of shape (n, d), and series (n, t, 1), are vectors. (n, h, w), (n, c, h, w) and (n, h, w, c) are images; see
    `find_channel_axis` for which axis c is. Volumes and arrays of more axes are flattened. The values of images mean

        bool                   0 and 1
        floats                 grey values in [0, 1], nothing else
        uint8, other integers  bytes, 0 to 255, which are divided by 255; but 0 and 1 if no value is above 1

    Values of vectors do not change, except that uint8 are bytes there, too. All data are read as float32.

    Among several arrays the data are the array `key`, else x, images, imgs, image or data, else the only one with at least
    two axes. Names with train, val (valid, validation) or test as one of their words, such as x_train, test_images or
    train/data, belong to that part, if there are training data among them. Every other array of shape (n,) or (n, 1), and
    every table of shape (n, 2) to (n, 32), becomes a factor of its name; the columns of a table become name_0, name_1, ... So
    does an array of n texts if few of them differ. An
    array of texts called columns or feature_names, one for each column of vectors, names them. The description names what is
    not used, such as other texts, pickled objects, wider tables and arrays of another length.

    NaN is a missing entry. So is every entry for which a boolean array called observed or mask, of the shape of the data, is
    false, whatever the data hold there.

    A .npy file is mapped, not read as a whole. So are bytes of an HDF5 file, after a copy into the cache (see `cache_array`).
    Other arrays are held in memory. Values other than bytes and bools are read through once to find their range.

    Raises:
        ConfigError: when there is no array `key`.
        DataError: when the file cannot be read or is incomplete; when several arrays could be the data; when the data are
            empty, have another shape or type, or contain infinity or a value out of range: the message says where; for
            a mask of another shape.
    """
    members = ARRAY_READERS[find_kind(path)](path)
    if key and key not in members and key not in {_split_name(name)[1] for name in members}:
        raise unknown_name("array", key, members)
    parts = _group_by_part(members, key)
    names = {part: _choose_array(path, held, key) for part, held in parts.items()}
    arrays = {part: _read_data(path, parts[part][name], parts[part]) for part, name in names.items()}
    if len(shapes := {array.shape[1:] for array, *_ in arrays.values()}) > 1:
        raise DataError(f"the parts of {path} differ in shape: {', '.join(map(str, shapes))}. They have to be of one shape.")
    highest = max(top for _, top, _ in arrays.values())
    splits, held = {}, {member.name for held in parts.values() for member in held.values()}
    unused = {name: "no data in this part" for name in (member.name for member in members.values()) if name not in held}
    grey = {}
    for part, (array, _, incomplete) in arrays.items():
        stored = parts[part][names[part]]
        grey[part] = highest > 1 and may_be_grey(stored.dtype.kind in "iu", stored.dtype == np.uint8, array.shape)
        hidden = grey[part] and array.dtype.kind == "f"  # a mask made floats of whole numbers
        store = torch.from_numpy(array / np.float32(255) if hidden else array)
        x = Rows(store, as_grey if grey[part] and not hidden else _to_floats, ahead=stored.mapped, incomplete=incomplete)
        others = {name: m for name, m in parts[part].items() if name != names[part] and not is_mask(name, m)}
        factors, left_out = read_factors(path, others, len(array))
        splits[part], unused = Split(x, factors), unused | left_out
    labels = add_text_factors(parts, splits, unused)
    stored, shape = parts["train"][names["train"]], splits["train"].x.shape
    what = describe_layout(stored.shape, shape)
    meaning = " as grey values" if grey["train"] else ""
    columns, about = _read_columns(members, shape)
    if columns:
        unused = {name: why for name, why in unused.items() if name.lower() not in COLUMN_NAMES}
    what += f" from {describe_array(path, stored)}, {stored.dtype.name}{meaning}{about}"
    return UserParts(splits, what, labels, columns, unused=unused, beside=lambda part: read_array_columns(path, key, part))


def read_array_columns(path: Path, key: str = "", part: str = "train") -> dict[str, np.ndarray]:
    """The arrays of numbers or texts of shape (n,) beside the n data of a part, by name; without the word for the part."""
    held = _group_by_part(ARRAY_READERS[find_kind(path)](path), key)[part]
    shape = held[_choose_array(path, held, key)].shape[:1]
    return {name: read_column(m) for name, m in held.items() if m.shape == shape and (m.dtype.kind in "biufUS" or is_text(m))}


@dataclass(frozen=True)
class SingleArray:
    """The array of data in a file of one part.

    Attributes:
        stored: as the file has it.
        mask: of its missing entries, if there is one.
        values: (n, d) or (n, c, h, w), with NaN in missing entries; in [0, 255] where they are grey values.
        grey: whether they are.
    """

    stored: StoredArray
    mask: StoredArray | None
    values: np.ndarray
    grey: bool


def read_single_array(path: Path, key: str = "") -> SingleArray:
    """The array of data in a file of one part.

    Raises:
        ConfigError, DataError: as `read_arrays`, and for a file of several parts.
    """
    members = ARRAY_READERS[find_kind(path)](path)
    parts = _group_by_part(members, key)
    if len(parts) > 1:
        names = [_choose_array(path, held, key) for held in parts.values()]
        full = [held[name].name for held, name in zip(parts.values(), names, strict=True)]
        raise DataError(f"{path} has several parts: {', '.join(full)}. Save the one that is meant in a file of its own.")
    (held,) = parts.values()
    stored = held[_choose_array(path, held, key)]
    values, highest, _ = _read_data(path, stored, held)
    grey = highest > 1 and may_be_grey(stored.dtype.kind in "iu", stored.dtype == np.uint8, values.shape)
    return SingleArray(stored, find_mask(path, held, stored), values, grey)


def _read_columns(members: dict[str, StoredArray], shape: Sequence[int]) -> tuple[tuple[str, ...], str]:
    """The names of the columns of vectors of shape (n, d), and what is to be said about names that do not fit."""
    for member in members.values() if len(shape) == 2 else ():
        # Texts of variable length are objects in an HDF5 file; objects of another kind of file are not read.
        if member.name.lower() not in COLUMN_NAMES or member.dtype.kind not in "USO":
            continue
        with contextlib.suppress(DataError):
            names = [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in member.read().flat]
            if len(names) == shape[1]:
                return tuple(names), ""
            return (), f"; the {len(names)} names in '{member.name}' are not used, for there are {shape[1]} columns"
    return (), ""


def _to_floats(raw: Tensor) -> Tensor:
    # Images with channels last are a transposed view, which not all networks accept.
    return raw.float().contiguous()


def _split_name(name: str) -> tuple[str, str]:
    """The part in an array's name, and the rest of the name.

    >>> _split_name("x_train"), _split_name("test/labels"), _split_name("contest")
    (('train', 'x'), ('test', 'labels'), ('', 'contest'))
    """
    words = re.split(r"([_./ -])", name)
    for position, word in enumerate(words):
        if part := PARTS.get(word.lower()):
            rest = words[: max(0, position - 1)] + words[position + 1 if position else 2 :]
            return part, "".join(rest)
    return "", name


def _group_by_part(members: dict[str, StoredArray], key: str) -> dict[str, dict[str, StoredArray]]:
    """Part -> its arrays by name. All arrays are for training if no name contains "train"."""
    parts: dict[str, dict[str, StoredArray]] = {}
    for name, member in members.items():
        part, rest = _split_name(name)
        if other := parts.setdefault(part, {}).get(rest):
            raise DataError(f"{other.name} and {name} are both '{rest}' of the {part} data. Rename or remove one.")
        parts[part][rest] = member
    data = set(_find_candidates(parts.get("train", {}), key))
    if not data or key in members:
        return {"train": members}
    # A part counts only if it has the same array: a file may have test labels without test data.
    return {part: held for part, held in parts.items() if part and data & set(_find_candidates(held, key))}


def _find_candidates(members: dict[str, StoredArray], key: str) -> list[str]:
    """Names of the arrays that could be the data; only the most likely ones if `NAMES` has them."""
    wide = {
        name: member
        for name, member in members.items()
        if len(member.shape) > 1 and member.shape[1:] != (1,) and not is_mask(name, member)
    }
    if key:
        return [key] if key in members else []
    for wanted in NAMES:
        if found := [name for name in wide if name.lower() == wanted]:
            return found
    return list(wide)


def _choose_array(path: Path, members: dict[str, StoredArray], key: str) -> str:
    found = _find_candidates(members, key) or list(members)
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{m.name} {m.shape} {m.dtype}" for m in members.values())
    raise DataError(
        f"it is not clear which array of {path} holds the data: {listed or 'there is none'}. "
        "Call it x in the file, or name it by the data option key=NAME."
    )


def _read_data(path: Path, member: StoredArray, members: Mapping[str, StoredArray]) -> tuple[np.ndarray, float, bool]:
    """The array as (n, d) or (n, c, h, w), its highest value (for bytes: 1, or 2 for any above 1), and whether it has NaN."""
    title, shape, kind = describe_array(path, member), member.shape, member.dtype.kind
    if is_text(member):
        raise DataError(f"{title} is an array of texts; data are numbers. Save it as uint8 or float32.")
    if kind == "O":
        raise DataError(
            f"{title} holds pickled objects, which can run any program when they are loaded, so it is not opened. "
            "Save it as one array of numbers: numpy.save(path, numpy.stack(x))."
        )
    if kind not in "biuf":
        what = "a cell, structure, sparse or complex array" if member.dtype == "V" else f"an array of {member.dtype}"
        raise DataError(f"{title} is {what}; data are real numbers. Save it as a plain array of uint8 or float32.")
    if len(shape) < 2:
        raise DataError(
            f"{title} has shape {shape}. Known are vectors (n, d), and images (n, h, w), (n, c, h, w) and (n, h, w, c). "
            "Reshape it."
        )
    if 0 in shape:
        raise DataError(f"{title} is empty: its shape is {shape}. Save at least three data.")
    array, mask = member.read(), find_mask(path, members, member)
    if mask and not (observed := mask.read()).all():
        array = hide(array, observed)
    arranged = arrange_axes(array)
    if array.dtype == np.bool_:
        return arranged, 1.0, False
    if array.dtype == np.uint8:
        return arranged, next((2.0 for piece in iterate_pieces(array) if piece.max() > 1), 1.0), False
    lowest, highest, missing = find_range(title, array)
    if arranged.ndim > 2:
        check_grey_range(title, kind == "f", lowest, highest)
    return arranged, highest, missing
