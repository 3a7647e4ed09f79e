"""Matrix products and convolutions in 16 bits, everything else in 32."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pyro_hvae.errors import require_known

# name -> dtype of the products of networks; None leaves them as they are.
PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bf16": torch.bfloat16}
PRODUCTS = {getattr(nn.functional, name) for name in ("linear", "conv1d", "conv2d", "conv3d")} | {
    getattr(nn.functional, f"conv_transpose{n}d") for n in (1, 2, 3)
}


def network_precision(precision: str) -> AbstractContextManager[Any]:
    r"""A context that takes the matrix products and convolutions of networks in another precision; their results are float32.

    Products, which make a network slow, are taken in 16 bits; weights, gradients, activations, draws and log-densities are
    not. (A whole pass under autocast would hand rounded means to a density that divides them by a small sigma.)

    Arguments:
        precision: "float32" (nothing changes) or "bf16".

    Raises:
        ConfigError: for another name.

    >>> layer = nn.Linear(3, 2)
    >>> with network_precision("bf16"):
    ...     layer(torch.ones(3)).dtype
    torch.float32
    """
    require_known("precision", precision, PRECISIONS)
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else _LowPrecisionProducts(dtype)


class _LowPrecisionProducts(TorchFunctionMode):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func not in PRODUCTS or args[0].dtype != torch.float32:
            return func(*args, **kwargs)
        low = [a.to(self.dtype) if isinstance(a, Tensor) else a for a in args]
        return func(*low, **{k: v.to(self.dtype) if isinstance(v, Tensor) else v for k, v in kwargs.items()}).float()
