"""The range of the values of an array, read piece by piece, and which ranges images may have."""

from collections.abc import Iterator

import numpy as np

from pyro_hvae.data.array_values import explain_nonfinite
from pyro_hvae.errors import DataError

PIECE = 2**22  # values read at once


def check_grey_range(title: str, floats: bool, lowest: float, highest: float) -> None:
    """Raises `DataError` unless the values of images can be grey values."""
    kind, limit = ("floats", 1) if floats else ("integers", 255)
    if lowest < 0 or highest > limit:
        bytes_inside = floats and lowest >= 0 and highest <= 255
        advice = "Divide by 255, or save as uint8" if bytes_inside else "Scale them"
        raise DataError(
            f"the values of {title} go from {lowest:g} to {highest:g}, but images are {kind} from 0 to {limit}. {advice}; "
            "or save data that are not images as vectors (n, d)."
        )


def iterate_pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of an array in pieces of at most `PIECE` values."""
    rows = max(1, PIECE // max(1, array[0].size))
    return (array[start : start + rows] for start in range(0, len(array), rows))


def find_range(title: str, array: np.ndarray) -> tuple[float, float, bool]:
    """Lowest and highest value, and whether some are NaN, read piece by piece.

    Raises:
        DataError: for the first value that is infinite or no float32, and where all are NaN.
    """
    lowest, highest, missing, done = np.inf, -np.inf, False, 0
    for piece in iterate_pieces(array):
        with np.errstate(over="ignore"):
            finite = np.isfinite(piece.astype(np.float32, copy=False))
        if not finite.all():
            nan = np.isnan(piece)
            finite, missing = finite | nan, missing or bool(nan.any())
        if not finite.all():
            index = np.unravel_index(np.argmin(finite), finite.shape)
            where = (done + int(index[0]), *map(int, index[1:]))
            raise DataError(f"{title} has the value {piece[index]} at index {where}{explain_nonfinite(piece[index])}")
        lowest, highest = min(lowest, float(np.fmin.reduce(piece, None))), max(highest, float(np.fmax.reduce(piece, None)))
        done += len(piece)
    if highest < lowest:
        raise DataError(f"{title} has no value: every entry is missing. Leave it out.")
    return lowest, highest, missing
