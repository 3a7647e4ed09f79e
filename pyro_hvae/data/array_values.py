"""The one rule by which arrays and tensors of any type become floats: that of a user's files, for arrays in Python too."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import DataError


def may_be_grey(integers: bool, are_bytes: bool, shape: Sequence[int]) -> bool:
    """Whether numbers are grey values from 0 to 255, if one of them is above 1: bytes, and integers of images.

    Images have at least two sides; series (n, t, 1) are no images.
    """
    return integers and (are_bytes or sum(side > 1 for side in shape[1:]) > 1)


def refuse_bits(title: str, dtype: np.dtype, values: np.ndarray) -> None:
    """Raises `DataError` for whole numbers (n, *event) of 0 and 1 only, which are handed over where grey values were learned.

    Read by themselves they are 0 and 1, 255 times brighter than among grey values.

    Arguments:
        dtype: as stored; of values with a mask, which are floats, too.
    """
    if may_be_grey(dtype.kind in "iu", dtype == np.uint8, values.shape) and values.size and np.nanmax(values) == 1:
        raise DataError(
            f"{title} holds whole numbers of 0 and 1 only, but the model learned grey values from 0 to 255, of which 1 is "
            "nearly black. Give booleans (x == 1) where 1 is white, or floats (x / 255) where it is a grey value."
        )


def to_floats(x: Any, dtype: torch.dtype | None = None, grey: bool | None = None) -> Tensor:
    """An array, a tensor or a list of such as floats of shape (n, *event).

    Booleans become 0 and 1. Bytes, and integers of images (n, h, w) or (n, c, h, w), are grey values and are divided by 255,
    unless no value of all is above 1. Other numbers keep their value.

    Arguments:
        dtype: of the result; None keeps floats of a tensor, and takes torch's default for all else.
        grey: whether earlier data of the same source were grey values, not bits; None if there were none.

    Raises:
        DataError: for values that are no numbers, integers of images outside 0..255, or grey values after bits.

    >>> to_floats(np.array([[0, 51], [102, 255]], dtype=np.uint8))
    tensor([[0.0000, 0.2000],
            [0.4000, 1.0000]])
    >>> to_floats(np.array([[0, 51], [102, 255]]))
    tensor([[  0.,  51.],
            [102., 255.]])
    """
    raw, dtype = to_tensor(x), dtype or (x.dtype if isinstance(x, Tensor) and x.is_floating_point() else None)
    values = raw.to(dtype or torch.get_default_dtype())
    if not raw.numel() or not may_be_grey(raw.dtype in (torch.uint8, torch.int64), raw.dtype == torch.uint8, raw.shape):
        return values
    low, high = (value.item() for value in raw.aminmax())
    if high <= 1 and not grey:
        return values
    if low < 0 or high > 255:
        raise DataError(
            f"x is an array of images with integers from {low} to {high}, but grey values go from 0 to 255. Give "
            "floats where they are no grey values: x.float() of a tensor, x.astype('float32') of an array."
        )
    if grey is False:
        raise DataError(
            f"x holds whole numbers up to {high}, read as grey values from 0 to 255, but earlier data of this pair held 0 and "
            "1 only, read as they are. Give floats in both cases: x.float() / 255, or x.float()."
        )
    return values.div_(255)


def explain_nonfinite(value: Any) -> str:
    """The end of a sentence on a number that is no finite float32: why, and what to do.

    >>> explain_nonfinite(np.float64(1e300))
    ', beyond the largest number of single precision, 3.403e+38. Scale the data, for example by a larger unit.'
    """
    if np.isfinite(value):
        limit = f"{np.finfo(np.float32).max:.4g}"
        return f", beyond the largest number of single precision, {limit}. Scale the data, for example by a larger unit."
    return ". Replace values that are not finite, by NaN where they are missing."


def to_tensor(x: Any, name: str = "x") -> Tensor:
    """An array, a tensor or a list of such as a tensor of booleans, bytes, int64 or floats; raises `DataError` for others.

    Arguments:
        name: of the value, for messages.
    """
    if isinstance(x, list | tuple) and x and all(isinstance(value, Tensor) for value in x):
        x = torch.stack(list(x))
    if isinstance(x, Tensor):
        if x.is_complex():
            raise DataError(f"{name} is a tensor of {x.dtype}, but data are real numbers.")
        return x if x.dtype in (torch.bool, torch.uint8) or x.is_floating_point() else x.long()
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        advice = "" if name == "x" else " Give classes as the whole numbers 0, 1, ..., or as one column of 0 and 1 for each."
        raise DataError(f"{name} is {type(x).__name__} of {array.dtype}, but data are numbers.{advice}")
    if array.dtype not in (np.bool_, np.uint8, np.float32, np.float64):
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    # A copy: a tensor cannot share memory that is read-only, reversed or of another byte order.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
