"""Standardised vectors: every column less its mean and divided by its standard deviation, both of the training data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.batch import Batch
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import ConfigError, DataError

PIECE = 2**22  # values measured at once
STEPS = 4  # between neighbouring numbers of a column: what varies less is constant
ROUNDING = 1e-12  # of a column's largest value: what varies less than this may be rounding
EXTREME = 1010  # powers of two that leave room for differences, squares and values of the networks


@dataclass(frozen=True)
class Standardization:
    """The scaling of vectors, (x - mean) / scale column by column.

    Attributes:
        mean, scale: of each column; the scale of a constant column is 1, so that it becomes 0.

    >>> by = Standardization.measure(Rows(torch.tensor([[10.0, 5.0], [30.0, 5.0]])))
    >>> by, by.rows(Rows(torch.tensor([[40.0, 5.0]])))[:].tolist(), by.log_scales(torch.zeros(1, 2))
    (Standardization(mean=(20.0, 5.0), scale=(10.0, 1.0)), [[2.0, 0.0]], tensor([2.3026], dtype=torch.float64))
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def measure(cls, x: Rows, columns: Sequence[str] = ()) -> "Standardization":
        """The scaling that gives data mean 0 and (population) standard deviation 1. NaN, a missing entry, does not count.

        Arguments:
            columns: names, for messages.

        Raises:
            ConfigError: for data that are not vectors. DataError: for a column that double precision cannot standardise: of
                values above 2^1010 or that vary by less than 2^-1010, or that vary about as little as they are rounded.
        """
        if len(x.shape) != 2:
            raise ConfigError(
                f"standardize=true is for vectors, but these data have the shape {tuple(x.shape[1:])}. Leave it out: "
                "images are grey values in [0, 1]."
            )
        pieces = torch.arange(len(x)).split(max(1, PIECE // max(1, x.shape[1])))
        largest, total, count = torch.zeros(()), torch.zeros(()), torch.zeros(())
        for i in pieces:
            largest = torch.maximum(largest, _exact(x, x.raw(i)).nan_to_num(0).abs().amax(0))
        # Each column in a power of two of about its largest value: nothing is rounded, and no sum or square overflows.
        exponents = largest.frexp().exponent.clamp(-EXTREME, EXTREME).cpu().numpy()
        unit = torch.from_numpy(np.ldexp(1.0, exponents)).to(largest)
        for i in pieces:
            values = _exact(x, x.raw(i)) / unit
            total, count = values.nansum(0) + total, (~values.isnan()).sum(0) + count
        mean = total / count
        squares = torch.zeros_like(mean)
        for i in pieces:
            squares += (_exact(x, x.raw(i)) / unit - mean).square().nansum(0)
        scale = (squares / count).sqrt()
        scale = scale.where(scale > STEPS * torch.finfo(scale.dtype).eps * largest / unit, 0.0)
        _require_exact(largest, unit * mean, unit * scale, columns)
        return cls(tuple((unit * mean).tolist()), tuple((unit * scale).where(scale > 0, 1.0).tolist()))

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[float]]) -> "Standardization":
        """The inverse of `to_dict`; raises `ConfigError` for what is none."""
        try:
            return cls(tuple(map(float, values["mean"])), tuple(map(float, values["scale"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the run's configuration has no valid mean and scale of standardised data: {error}.") from error

    def to_dict(self) -> dict[str, list[float]]:
        """The scaling in lists, as a run's configuration has it."""
        return {"mean": list(self.mean), "scale": list(self.scale)}

    def log_scales(self, x: Tensor | Batch | Rows) -> Tensor:
        """The sum of log scale over the observed columns of each datum, (n,), float64.

        The log-density of a datum in its own units is that of the standardised datum less this.
        """
        logs = torch.tensor([math.log(scale) for scale in self.scale], dtype=torch.float64)
        if isinstance(x, Rows) and x.incomplete:
            return torch.cat([self.log_scales(piece) for piece in x.split(max(1, PIECE // len(logs)))])
        known = x.observed if isinstance(x, Batch) else None
        return logs.sum().expand(len(x)) if known is None else known.cpu().double() @ logs

    def rows(self, x: Rows) -> Rows:
        """The standardised data, as float32; NaN stays. In memory where they fit, else standardised at each reading."""

        return replace(x, prepare=lambda raw: self.apply(_exact(x, raw)).float()).load_into_memory()

    def apply(self, values: Tensor) -> Tensor:
        """Data in their own units (..., d) -> standardised data of the same type; `undo` is the inverse."""
        return (values - self._vector("mean", values)) / self._vector("scale", values)

    def rescale(self, x: Rows, other: "Standardization") -> Rows:
        """Data that were standardised by another mean and scale, standardised by these at each reading."""
        return replace(x, prepare=lambda raw: self.apply(other.undo(x.prepare(raw))).float())

    def undo(self, features: Tensor) -> Tensor:
        """Standardised data (..., d) -> data in their own units, float64 where the device has it."""
        values = features if features.device.type == "mps" else features.double()
        return values * self._vector("scale", values) + self._vector("mean", values)

    def _vector(self, name: str, like: Tensor) -> Tensor:
        return torch.tensor(getattr(self, name), dtype=like.dtype, device=like.device)

    def require_equal(self, other: "Standardization | None", of: str) -> None:
        """Raises `DataError` where the scaling of the data called `of` differs by more than rounding from this one, a run's."""
        for name in ("mean", "scale"):
            mine, theirs = (np.array(getattr(by, name, ())) for by in (self, other))
            if mine.shape != theirs.shape or np.any(np.abs(mine - theirs) > 1e-6 * np.array(self.scale)):
                raise DataError(
                    f"the run was trained on data standardised by another {name} than the training data of {of} have. "
                    "Restore its configuration and its data if they were changed, or train anew."
                )


def _exact(x: Rows, raw: Tensor) -> Tensor:
    """Raw values of rows as they are read, but without rounding to float32: a column of large values may vary little."""
    values = x.prepare(raw) if raw.dtype == torch.uint8 else raw
    return values if values.device.type == "mps" else values.double()


def _require_exact(largest: Tensor, mean: Tensor, scale: Tensor, columns: Sequence[str]) -> None:
    """Raises `DataError` for the first column whose largest value, mean and standard deviation double precision cannot hold."""
    for i, (high, centre, spread) in enumerate(zip(largest.tolist(), mean.tolist(), scale.tolist(), strict=True)):
        if high > 2.0**EXTREME:
            why = f"has values up to {high:.3g}, too large for double precision. Give it in a larger unit, or leave it out"
        elif 0 < spread < 2.0**-EXTREME:
            why = f"varies by {spread:.3g}, too little for double precision. Give it in a smaller unit, or leave it out"
        elif 0 < spread <= ROUNDING * high:
            why = (
                f"varies by {spread:.3g} around {centre:.6g}, so little that it may be rounding. Subtract a constant from it "
                "if it is not, or leave it out"
            )
        else:
            continue
        raise DataError(f"column {columns[i] if len(columns) else i} {why}.")
