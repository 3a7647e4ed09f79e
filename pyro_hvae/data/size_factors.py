"""The size of a datum of counts, as an input that multiplies their means: its total, or a column such as an exposure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from pyro_hvae.data.conditions import Condition, is_number, to_number
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.networks import SIZE_FACTOR

TOTAL = "total"  # the name of the size that is computed from x
PIECE = 2**22  # values of x read at once


@dataclass(frozen=True)
class SizeFactor(Condition):
    r"""The size s = v / scale of a datum, relative to the mean size of the training data, which has s = 1.

    Attributes:
        name: of a factor or column v, or "total", where v is the sum of the datum's counts. With missing entries s is estimated
            from the others, $s = \sum_d x_d / \sum_d m_d$ over the known d, which is v / scale where all are known.
        scale: mean of v in the training data.
        means: of a total, m, the mean of each entry of x in the training data; empty for a column.

    >>> depth = SizeFactor("depth", scale=200.0)
    >>> depth.key, depth.parse("500"), depth.describe(torch.ones(1))
    ('size_factor', tensor([2.5000]), '200')
    >>> total = SizeFactor.measure_total(Rows(torch.tensor([[1.0, 0.0, 7.0], [3.0, 0.0, 1.0]])))
    >>> total.of(torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.0, torch.nan]])).tolist()
    [[0.5], [0.5]]
    """

    means: tuple[float, ...] = ()

    @classmethod
    def measure_total(cls, x: Rows) -> "SizeFactor":
        """The total of counts with the means of training data; NaN, a missing entry, does not count."""
        total, known = torch.zeros(()), torch.zeros(())
        for piece in _pieces(x):
            total, known = total + piece.nansum(0), known + (~piece.isnan()).sum(0)
        means = total / known.clamp(min=1)
        return cls(TOTAL, scale=means.sum().item(), means=tuple(means.tolist()))

    @classmethod
    def measure_column(cls, name: str, values: Tensor) -> "SizeFactor":
        """The size that a factor or column of the training data gives."""
        return cls(name, scale=values.double().mean().item())

    @property
    def key(self) -> str:
        return SIZE_FACTOR

    def of(self, x: Tensor | Rows, part: str = "given") -> Tensor:
        """The sizes (n, 1) of data (n, *event) by their total; `part` names the data in errors.

        Raises:
            DataError: for data without counts, or with counts only where the training data have none, and where sizes are not
                positive as entries are no counts.
        """
        if isinstance(x, Rows):
            return torch.cat([self.of(piece, part) for piece in _pieces(x)])
        x, means = x.flatten(1).double(), torch.tensor(self.means, dtype=torch.float64)
        size = (x.nansum(1) / means.where(~x.isnan(), 0).sum(1)).float()
        if wrong := int((~_is_size(size)).sum()):
            if len(others := x[(x < 0) | (x.isfinite() & (x != x.round()))]):
                raise DataError(
                    f"size_factor={self.name} is the sum of counts, but {len(others):,} entries of the {part} data are "
                    f"negative or fractional, such as {others[0].item():.6g}. Use data of counts (0, 1, 2, ...), not "
                    "standardised, or leave size_factor out."
                )
            why = "have no counts, so that their size is 0"
            if size.isinf().any():
                why = "have no counts, or only where the training data have none, so that their size is 0 or infinite"
            raise DataError(
                f"{wrong:,} of the {len(x):,} {part} data {why}, and p(x | size) says nothing about them. Leave them out, or "
                "give sizes as a column: size_factor=COLUMN."
            )
        return size[:, None]

    def parse(self, text: str) -> Tensor:
        if not (number := to_number(text)) or number < 0:
            raise ConfigError(
                f"{self.name}={text} is no size of a datum, which is a positive number. Example: {self.name}={self.scale:.4g}."
            )
        if not _is_size(torch.tensor(number / self.scale, dtype=torch.float64).float()):
            limits = torch.finfo(torch.float32)
            raise ConfigError(
                f"{self.name}={text} is beyond the range of float32, in which sizes are from {limits.tiny * self.scale:.2g} to "
                f"{limits.max * self.scale:.2g}. Example: {self.name}={self.scale:.4g}."
            )
        return super().parse(text)

    def encode(self, values: Tensor) -> Tensor:
        """Sizes in their own unit (n,) -> relative to the mean one, float32 (n, 1).

        Raises:
            DataError: for one that is not positive and finite.
        """
        sizes = super().encode(values)
        if bad := values[~_is_size(sizes[:, 0])].tolist():
            raise DataError(
                f"'{self.name}' is the size of a datum, which is positive, but {len(bad):,} of {len(values):,} are not, such "
                f"as {bad[0]:g}. Leave these rows out, or correct them."
            )
        return sizes

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "scale": self.scale, "means": list(self.means)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SizeFactor":
        known = Condition.from_dict({"name": values.get("name"), "mean": 0.0, "scale": values.get("scale")})
        means = values.get("means")
        if not isinstance(means, list | tuple) or not all(map(is_number, means)):
            raise ConfigError("the run's configuration has no valid size factor: its means are no list of numbers.")
        return cls(known.name, scale=known.scale, means=tuple(map(float, means)))


def _is_size(values: Tensor) -> Tensor:
    """Which float32 numbers are positive, finite and of full precision."""
    return (values >= torch.finfo(torch.float32).tiny) & values.isfinite()


def read_condition(values: Mapping[str, Any]) -> Condition:
    """A condition or a size factor from the plain values of `to_dict`; raises `ConfigError` for what is none."""
    return (SizeFactor if "means" in values else Condition).from_dict(values)


def give_totals(conditions: Sequence[Condition], x: Tensor | Rows, part: str = "given") -> dict[str, Tensor]:
    """The size of data (n, *event) under its key, where it is their total; nothing else. `part` names the data in errors."""
    return {c.key: c.of(x, part) for c in conditions if _is_total(c)}


def is_read(condition: Condition) -> bool:
    """Whether the values of a condition are those of a factor or column, and not computed from x."""
    return not _is_total(condition)


def _is_total(condition: Condition) -> TypeGuard[SizeFactor]:
    return isinstance(condition, SizeFactor) and bool(condition.means)


def _pieces(x: Rows) -> Any:
    return (piece.flatten(1).double() for piece in x.alone.split(max(1, PIECE // max(1, math.prod(x.shape[1:])))))
