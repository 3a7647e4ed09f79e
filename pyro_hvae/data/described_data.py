"""All of a data set but its rows: what travels with an exported model, and what stands in for the data where it is opened."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from pyro_hvae.data.batch import Batch, check_name, x_of
from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.rows import SAMPLE_VALUES, Rows, as_float, as_grey
from pyro_hvae.data.standardization import Standardization
from pyro_hvae.errors import ConfigError, DataError

MOST = 2**40  # numbers in a datum that torch can count
LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, eq=False)
class AbsentRows(Rows):
    """Data of which the shape is known, and what stands beside them, but no row. Asking for one raises `DataError`.

    Attributes:
        why: there are none, and what to do; a message.
    """

    why: str = ""

    @property
    def shape(self) -> torch.Size:
        return self.store.shape if isinstance(self.store, Tensor) else torch.Size(self.store.shape)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise DataError(self.why)

    __len__ = __getitem__ = raw = given_at = take = split = complete = sample = map = load_into_memory = with_given = _refuse

    def to(self, device: torch.device | str) -> "AbsentRows":
        return self


@dataclass(frozen=True)
class Description:
    """A data set without its rows, in plain values.

    Attributes:
        name, note, counts, labels, columns: as `Dataset` has them.
        shape: of one datum. low, high: least and largest known value of the training data that sized the networks.
        incomplete: whether entries are missing among them. given: name -> width of what programs are given beside x.
        standardization: mean and scale of standardised data, as `Standardization.to_dict` has them.
        grey: whether they are grey values, of whole numbers from 0 to 255.
    """

    name: str
    shape: tuple[int, ...]
    low: float
    high: float
    incomplete: bool = False
    given: dict[str, int] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    labels: dict[str, Sequence[str]] = field(default_factory=dict)
    standardization: dict[str, list[float]] | None = None
    note: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    grey: bool = False

    @classmethod
    def of(cls, data: Dataset) -> "Description":
        """The description of a data set; reads a sample of its training data, the one that sizes networks."""
        rows, sample = data.train.x, data.train.x.sample()
        known = x_of(sample)[sample.observed] if isinstance(sample, Batch) and sample.observed is not None else x_of(sample)
        low, high = known.aminmax()
        return cls(
            data.name,
            data.shape,
            low.item(),
            high.item(),
            rows.incomplete,
            {name: math.prod(values.shape[1:]) for name, values in rows.given.items()},
            tuple(data.columns),
            {name: list(texts) for name, texts in data.labels.items()},
            data.standardization.to_dict() if data.standardization else None,
            data.note,
            dict(data.counts),
            rows.grey,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Description":
        """The inverse of `to_dict`, for values of the right types; raises `ConfigError` for those that describe no data."""
        data = cls(**{**values, "shape": tuple(values["shape"]), "columns": tuple(values.get("columns", ()))})
        for name in data.given:
            check_name(name)
        sizes = (math.prod(data.shape), *data.shape, *data.given.values())
        if not data.shape or min(sizes) < 1 or max(sizes) > MOST or not -LARGEST <= data.low <= data.high <= LARGEST:
            raise ConfigError(
                f"data of the shape {data.shape} with values from {data.low} to {data.high}, given {data.given}, do not exist."
            )
        by, first, *rest = data.scaling, *data.shape
        if len(data.columns) not in (0, first) or (by and (rest or len(by.mean) != first)):
            raise ConfigError(f"data of the shape {data.shape} do not have the columns or the scaling that it names.")
        return data

    @property
    def scaling(self) -> Standardization | None:
        return Standardization.from_dict(self.standardization) if self.standardization else None

    def dataset(self, why: str) -> Dataset:
        """The data set with `AbsentRows`, whose message is `why`."""
        given = {name: torch.zeros(0, width) for name, width in self.given.items()}
        prepare = as_grey if self.grey else as_float
        rows = AbsentRows(torch.zeros(0, *self.shape), prepare, given=given, incomplete=self.incomplete, why=why)
        by = self.scaling
        return Dataset(
            self.name,
            *(Split(rows) for _ in range(3)),
            counts=self.counts,
            note=self.note,
            labels=self.labels,
            inverse=by.undo if by else None,
            standardization=by,
            columns=self.columns,
        )

    def stand_in(self, count: int = 2, most: int = SAMPLE_VALUES) -> Tensor | Batch:
        """Data of this shape and range: what networks are sized by, before their weights are replaced.

        Arguments:
            count: how many, at least two. most: numbers that they may have altogether.

        Raises:
            ConfigError: where they have more.
        """
        count = max(2, count)
        if count * math.prod(self.shape) > most:
            raise ConfigError(
                f"{count} data of the shape {self.shape} have more than {most:,} numbers, which no such pair has."
            )
        x = torch.full((count, *self.shape), self.low)
        x[1] = self.high
        given = {name: torch.ones(count, width) for name, width in self.given.items()}
        if not given and not self.incomplete:
            return x
        return Batch(x, given, torch.ones_like(x, dtype=torch.bool) if self.incomplete else None)
