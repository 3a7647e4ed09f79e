"""A decoder of any framework as a function of NumPy arrays, with its pullback where gradients are at hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError

Pullback = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class ForeignDecoder:
    """x = f(z) of a user's `decode`: codes (n, d) in float64 to flattened data (n, J), in float32 or as the decoder gives them.

    Attributes:
        decode: takes codes as `like` is, and returns n rows of any shape.
        like: codes of the user's, an array or a tensor, which give the type and the device.
        vjp: of arrays, z -> (x, pull) with pull(v) = J(z)^T v of every row, as `jax.vjp` has it. Tensors need none.
    """

    decode: Callable[[Any], Any]
    like: Any
    vjp: Callable[[Any], tuple[Any, Callable[[Any], Any]]] | None = None

    @property
    def differentiable(self) -> bool:
        """Whether there is a pullback."""
        return self.vjp is not None or isinstance(self.like, Tensor)

    @torch.no_grad()
    def __call__(self, z: np.ndarray) -> np.ndarray:
        """The decoded data.

        Raises:
            ConfigError: for another number of rows than z has, and for values that are not finite.
        """
        frames, _ = self._frames(self.decode(self._codes(z)), len(z))
        if wrong := (~np.isfinite(frames).all(1)).sum():
            raise ConfigError(
                f"decode returns NaN or infinite values for {wrong} of {len(z)} codes on and between the data. Look at the "
                "decoder there first."
            )
        return frames

    def linearise(self, z: np.ndarray) -> tuple[np.ndarray, Pullback]:
        """The decoded data (n, J), finite or not, and their pullback: (n, J) -> (n, d).

        Raises:
            ConfigError: for another number of rows, a decoder of tensors without a gradient, a pullback of another shape.
        """
        if isinstance(self.like, Tensor):
            return self._linearise_tensors(z)
        assert self.vjp is not None
        decoded, pull = self.vjp(self._codes(z))
        frames, array = self._frames(decoded, len(z))

        def pullback(v: np.ndarray) -> np.ndarray:
            found = np.asarray(_to_array(pull(v.reshape(array.shape).astype(array.dtype))), dtype=np.float64)
            if found.shape != z.shape:
                raise ConfigError(
                    f"the pullback of vjp returns shape {found.shape} for codes of shape {z.shape}. Let it return J(z)^T v of "
                    "every row, which has the shape of the codes."
                )
            return found

        return frames, pullback

    def _linearise_tensors(self, z: np.ndarray) -> tuple[np.ndarray, Pullback]:
        with torch.enable_grad():
            codes = self._codes(z).requires_grad_()
            decoded = self.decode(codes)
        if not isinstance(decoded, Tensor) or not decoded.requires_grad:
            raise ConfigError(
                "decode returns no gradient with respect to the codes, which a geodesic needs: it detaches them, or runs under "
                "torch.no_grad. Leave that out, or use geodesics=False."
            )
        frames, _ = self._frames(decoded, len(z))

        def pullback(v: np.ndarray) -> np.ndarray:
            (found,) = torch.autograd.grad(decoded, codes, torch.as_tensor(v).reshape(decoded.shape).to(decoded))
            return found.cpu().double().numpy()

        return frames, pullback

    def _codes(self, z: np.ndarray) -> Any:
        if isinstance(self.like, Tensor):
            dtype = self.like.dtype if self.like.is_floating_point() else None
            return torch.as_tensor(z).to(self.like.device, dtype or torch.get_default_dtype())
        return z.astype(self.like.dtype if self.like.dtype.kind == "f" else np.float64)

    def _frames(self, decoded: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Decoded data as (n, J), and in the decoder's shape and type."""
        array = _to_array(decoded)
        if array.ndim == 0 or len(array) != rows or not array.size:
            raise ConfigError(
                f"decode returns shape {array.shape} for {rows} codes. Let it return one row for each code, (n, d) -> (n, ...)."
            )
        return array.reshape(rows, -1).astype(np.promote_types(array.dtype, np.float32), copy=False), array


def _to_array(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().to(torch.promote_types(values.dtype, torch.float32)).cpu().numpy()
    return np.asarray(values)
