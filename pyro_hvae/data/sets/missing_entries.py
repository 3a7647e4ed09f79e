"""Missing entries of a user's data: masks beside arrays, how many entries are missing, and columns of which all are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pyro_hvae.data.dataset import Split
from pyro_hvae.data.files.array_files import StoredArray
from pyro_hvae.errors import DataError

MASKS = ("observed", "mask")  # names, in small letters, of boolean arrays that say which entries of the data are known
PIECE = 2**22  # values read at once


def is_mask(name: str, member: StoredArray) -> bool:
    return name.lower() in MASKS and member.dtype.kind == "b"


def find_mask(path: Path, members: Mapping[str, StoredArray], data: StoredArray) -> StoredArray | None:
    """The mask beside an array of data, true where an entry is known; None where there is none.

    Raises:
        DataError: for two masks, or one of another shape than the data.
    """
    masks = [member for name, member in members.items() if is_mask(name, member) and member.name != data.name]
    if len(masks) > 1:
        raise DataError(f"{path} has two masks of missing entries, {masks[0].name} and {masks[1].name}. Remove one of them.")
    if masks and masks[0].shape != data.shape:
        raise DataError(
            f"the mask '{masks[0].name}' of {path} has the shape {masks[0].shape}, but the data have {data.shape}. Give it one "
            "boolean for each entry of the data, true where it is known, or rename it if it is no mask of missing entries."
        )
    return masks[0] if masks else None


def hide(array: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Floats with NaN in the entries that are not observed.

    >>> hide(np.array([[3, 9]], dtype=np.uint8), np.array([[True, False]]))
    array([[ 3., nan]], dtype=float32)
    """
    values = array.astype(np.result_type(array.dtype, np.float32))
    values[~observed] = np.nan
    return values


def mark_missing(splits: Sequence[Split], columns: Sequence[str]) -> tuple[list[Split], str]:
    """The splits, all incomplete if one of them is, and what is to be said about it; both as they are if none is.

    Arguments:
        splits: training, validation and test data.
        columns: the names of the columns of vectors, where these are known.

    Raises:
        DataError: for a column of vectors without a value in the training data.
    """
    if not any(split.x.incomplete for split in splits):
        return list(splits), ""
    known = [_count_known(split) for split in splits]
    if len(known[0].shape) == 1 and (empty := (known[0] == 0).nonzero().flatten().tolist()):
        names = [f"'{columns[place]}'" if columns else str(place) for place in empty[:5]]
        more = f" and {len(empty) - 5:,} more" if len(empty) > 5 else ""
        raise DataError(
            f"the {len(splits[0]):,} training data have no value at all of x in column {', '.join(names)}{more}, so nothing "
            "can be learned about it. Leave it out."
        )
    total = sum(split.x.shape.numel() for split in splits)
    missing = total - int(sum(count.sum() for count in known))
    marked = [split.with_x(replace(split.x, incomplete=True)) for split in splits]
    return marked, f"; {missing:,} of {total:,} entries are missing ({100 * missing / total:.3g} %)"


def _count_known(split: Split) -> torch.Tensor:
    """How many data have each entry of x, of the shape of a datum."""
    rows = split.x.alone
    count = torch.zeros(rows.shape[1:], dtype=torch.int64)
    for piece in rows.split(max(1, PIECE // max(1, count.numel()))):
        count += (~piece.isnan()).sum(0)
    return count
