"""The one rule by which arrays and tensors of any type become floats: that of a user's files, for arrays in Python too."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import DataError


def is_grey(integers: bool, are_bytes: bool, axes: int, highest: float) -> bool:
    """Whether numbers are grey values from 0 to 255: bytes, and integers of images, unless no value is above 1."""
    return integers and highest > 1 and (axes > 2 or are_bytes)


def to_floats(x: Any, dtype: torch.dtype | None = None) -> Tensor:
    """An array, a tensor or a list of such as floats of shape (n, *event).

    Booleans become 0 and 1. Bytes, and integers of images (n, h, w) or (n, c, h, w), are grey values and are divided by 255,
    unless no value of all is above 1. Other numbers keep their value.

    Arguments:
        dtype: of the result; None keeps floats of a tensor, and takes torch's default for all else.

    Raises:
        DataError: for values that are no numbers, or integers of images outside 0..255.

    >>> to_floats(np.array([[0, 51], [102, 255]], dtype=np.uint8))
    tensor([[0.0000, 0.2000],
            [0.4000, 1.0000]])
    >>> to_floats(np.array([[0, 51], [102, 255]]))
    tensor([[  0.,  51.],
            [102., 255.]])
    """
    if isinstance(x, Tensor) and x.is_floating_point():
        return x if dtype in (None, x.dtype) else x.to(dtype)
    raw, dtype = _to_tensor(x), dtype or torch.get_default_dtype()
    if raw.is_floating_point() or raw.dtype == torch.bool or not raw.numel():
        return raw.to(dtype)
    low, high = (value.item() for value in raw.aminmax())
    if not is_grey(True, raw.dtype == torch.uint8, raw.dim(), high):
        return raw.to(dtype)
    if low < 0 or high > 255:
        raise DataError(
            f"x is an array of images with integers from {low} to {high}, but grey values go from 0 to 255. Give floats where "
            "they are no grey values: x.float() of a tensor, x.astype('float32') of an array."
        )
    return raw.to(dtype).div_(255)


def _to_tensor(x: Any) -> Tensor:
    if isinstance(x, list | tuple) and x and all(isinstance(value, Tensor) for value in x):
        x = torch.stack(list(x))
    if isinstance(x, Tensor):
        if x.is_complex():
            raise DataError(f"x is a tensor of {x.dtype}, but data are real numbers.")
        return x if x.dtype in (torch.bool, torch.uint8) or x.is_floating_point() else x.long()
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise DataError(f"x is {type(x).__name__} of {array.dtype}, but data are numbers.")
    if array.dtype not in (np.bool_, np.uint8, np.float32, np.float64):
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    # A copy: a tensor cannot share memory that is read-only, reversed or of another byte order.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
