"""What the axes of an array mean: vectors, series, images with their channels, or volumes."""

from collections.abc import Sequence

import numpy as np

FEW, MANY = 5, 16  # numbers of channels: few are shorter than a side, many at most half as long


def find_channel_axis(shape: Sequence[int]) -> int | None:
    """The axis of channels of images, 1 or 3; None for volumes (n, depth, height, width), which have none.

    It is an end of length 1 or 3, else one of at most 5 that is shorter than both other axes, or of at most 16 that is at most
    half as long. If both ends could be it, the shorter one is, and of equal ones the first.

    >>> [find_channel_axis(shape) for shape in ((9, 3, 8, 8), (9, 8, 8, 4), (9, 5, 8, 6), (9, 8, 8, 8))]
    [1, 3, 1, None]
    """
    for channels in (1, 3):
        if found := [axis for axis in (1, 3) if shape[axis] == channels]:
            return found[0]
    sides = {1: min(shape[2:]), 3: min(shape[1:3])}
    few = [axis for axis in (1, 3) if shape[axis] <= FEW and shape[axis] < sides[axis]]
    many = [axis for axis in (1, 3) if shape[axis] <= MANY and 2 * shape[axis] <= sides[axis]]
    return min(few or many, key=lambda axis: shape[axis], default=None)


def arrange_axes(array: np.ndarray) -> np.ndarray:
    """Vectors (n, d), or images (n, channels, height, width), of an array as it is stored; a view where that can be.

    Series (n, t, 1) and (n, 1, t) are vectors. Volumes, and arrays of more axes, are flattened to vectors, row-major.
    """
    shape = array.shape
    if array.ndim == 3 and 1 not in shape[1:]:
        return array[:, None]
    if array.ndim == 4 and (axis := find_channel_axis(shape)):
        return array if axis == 1 else array.transpose(0, 3, 1, 2)
    return array.reshape(len(array), -1)


def describe_layout(stored: Sequence[int], shape: Sequence[int]) -> str:
    """What data of a shape are, in words, if they were stored in an array of another shape.

    >>> describe_layout((9, 50, 1), (9, 50)), describe_layout((9, 4, 8, 6), (9, 4, 8, 6))
    ('series of 50 values (as vectors)', '6 x 8 images of 4 channels')
    """
    if len(shape) > 2:
        return f"{shape[3]} x {shape[2]} images" + ("" if shape[1] in (1, 3) else f" of {shape[1]} channels")
    if len(stored) == 2:
        return f"vectors of {shape[1]}"
    sides = [side for side in stored[1:] if side > 1]
    if len(sides) < 2:
        return f"series of {shape[1]} values (as vectors)"
    return (
        f"arrays of {' x '.join(map(str, stored[1:]))}, flattened to vectors of {shape[1]}: networks do not see which are near"
    )
