"""Compact data: bytes in memory, a mapped file or a function that draws them; they become floats when they are read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.batch import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.runtime import fixed_seed

DEVICE_BYTES = 2**30  # a smaller store moves to the device as a whole, a larger one is read batch by batch
MEMORY_BYTES = 2**32  # largest size of `load_into_memory`
PIECE_ROWS = 256  # rows that `load_into_memory` reads at a time
SAMPLE_VALUES = 2**26  # numbers in a `sample`: enough for a mean, few enough for a laptop's memory


def as_float(raw: Tensor) -> Tensor:
    """Floats: bytes become grey values in [0, 1], other numbers keep their value.

    >>> as_float(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    if raw.dtype == torch.uint8:
        return raw.float().div_(255)
    return raw if raw.is_floating_point() else raw.float()


def as_grey(raw: Tensor) -> Tensor:
    """Whole numbers from 0 to 255 as grey values in [0, 1]."""
    return as_float(raw.to(torch.uint8)).contiguous()


def bernoulli(raw: Tensor) -> Tensor:
    """Dynamic binarisation of bytes v: draws every pixel as Bernoulli(v / 255) from the global generator of raw's device.

    A byte u is uniform over 0, ..., 254, so that P(u < v) = v / 255 exactly: black stays black and white stays white. Random
    bytes are cheaper than random floats.
    """
    ones = torch.empty_like(raw).random_(0, 255) < raw
    return ones.view(torch.uint8).float()  # four times faster than from booleans


@dataclass(frozen=True)
class Drawn:
    """Data that are drawn when they are read.

    Attributes:
        draw: a pure function from indices (k,), int64 in [0, n), to raw data (k, ...).
        shape: (n, ...), of all data.
    """

    draw: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, ...]

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self.draw(index.cpu().numpy()))


@dataclass(frozen=True, eq=False)
class Rows:
    """n data of shape (n, *event), indexed like a tensor along the first axis: `rows[:100]`, `rows[index]`, `rows[3]`.

    What is read is a tensor, or a `Batch` where the data have given inputs or missing entries.

    Attributes:
        store: a tensor (in memory, on a device or mapped from a file), or `Drawn`.
        prepare: raw data of the store -> floats (see `as_float`, `bernoulli`).
        event: shape of one prepared datum; default: that of the store.
        select: indices of these data in the store, int64 (n,); None means all.
        ahead: reading is slow (a mapped file, drawing), so `Batches` reads ahead in a thread.
        device: where data are prepared and returned.
        given: name -> values for each datum of the store, (stored data, ...): inputs of the programs beside x.
        incomplete: NaN among the prepared data are missing entries.

    >>> Rows(torch.tensor([[0, 51], [102, 255]], dtype=torch.uint8))[1]
    tensor([0.4000, 1.0000])
    """

    store: Tensor | Drawn
    prepare: Callable[[Tensor], Tensor] = as_float
    event: tuple[int, ...] | None = None
    select: Tensor | None = None
    ahead: bool = False
    device: torch.device = torch.device("cpu")
    given: Mapping[str, Tensor] = field(default_factory=dict)
    incomplete: bool = False

    @classmethod
    def of(cls, x: "Tensor | Batch | Rows") -> "Rows":
        """Rows of a tensor (n, *event) or of a batch; rows are returned unchanged."""
        if isinstance(x, Batch):
            return cls(x.with_nan(), device=x.device, given=x.given, incomplete=x.observed is not None)
        return x if isinstance(x, Rows) else cls(x, device=x.device)

    @property
    def alone(self) -> "Rows":
        """The same data as tensors, without given inputs, and with NaN in missing entries."""
        return replace(self, given={}, incomplete=False)

    def __len__(self) -> int:
        return self.store.shape[0] if self.select is None else len(self.select)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self), *(self.store.shape[1:] if self.event is None else self.event)])

    @property
    def grey(self) -> bool:
        """Whether whole numbers of the store are read as grey values from 0 to 255."""
        if self.prepare is not as_float:
            return self.prepare is as_grey
        one = self.store if isinstance(self.store, Tensor) else self.raw(torch.zeros(1, dtype=torch.int64))
        return one.dtype == torch.uint8

    @property
    def home(self) -> torch.device:
        """Device of the store; indices on it need no transfer."""
        return self.store.device if isinstance(self.store, Tensor) else torch.device("cpu")

    def _stored(self, index: Tensor) -> Tensor:
        """Places in the store of the data at indices (k,)."""
        return (index if self.select is None else self.select[index.to(self.select.device)]).to(self.home)

    def raw(self, index: Tensor) -> Tensor:
        """The stored values at indices (k,)."""
        return self._read(self._stored(index))

    def _read(self, stored: Tensor) -> Tensor:
        # `index_select` is many times faster than `store[index]`.
        return self.store.index_select(0, stored) if isinstance(self.store, Tensor) else self.store[stored]

    def give(self, raw: Tensor, index: Tensor) -> Any:
        """Moves the result of `raw(index)` to the device, prepares it and puts beside it what is given."""
        if not self.given and not self.incomplete:
            return self.prepare(raw.to(self.device))
        return self._beside(raw, self.given_at(index))

    def given_at(self, index: Tensor) -> dict[str, Tensor]:
        """The given inputs of the data at indices (k,), where they are stored; x is not read."""
        return self._given_in(self._stored(index))

    def _given_in(self, stored: Tensor) -> dict[str, Tensor]:
        return {name: values.index_select(0, stored) for name, values in self.given.items()}

    def _beside(self, raw: Tensor, given: Mapping[str, Tensor]) -> Any:
        x = self.prepare(raw.to(self.device))
        given = {name: values.to(self.device) for name, values in given.items()}
        if not self.incomplete:
            return Batch(x, given) if given else x
        observed = ~x.isnan()
        return Batch(x.where(observed, 0), given, observed)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice) and self.select is None and isinstance(self.store, Tensor):
            return self._beside(self.store[index], {name: values[index] for name, values in self.given.items()})  # no copy
        if isinstance(index, slice) and self.select is not None:  # no array of positions
            stored = self.select[index].to(self.home)
            return self._beside(self._read(stored), self._given_in(stored))
        where = self._positions(index)
        if where.dim():
            return self.give(self.raw(where), where)
        one = self.give(self.raw(where[None]), where[None])
        return one if isinstance(one, Batch) else one[0]

    def _positions(self, index: Any) -> Tensor:
        """What an index selects: `torch.arange(len(self))[index]`, of which pieces and batches need no such array."""
        if isinstance(index, slice) and (index.step or 1) > 0:
            start, stop, step = index.indices(len(self))
            return torch.arange(start, max(start, stop), step)
        index = index.cpu() if isinstance(index, Tensor) else index
        if (
            isinstance(index, Tensor)
            and index.dtype == torch.int64
            and index.numel()
            and 0 <= index.min()
            and index.max() < len(self)
        ):
            return index
        return torch.arange(len(self))[index]

    def split(self, size: int) -> Iterator[Any]:
        """Floats in pieces of at most `size`, like `Tensor.split`."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def take(self, index: Tensor | np.ndarray) -> "Rows":
        """The data at the given indices, in that order, not read yet."""
        index = self._positions(torch.as_tensor(index)).clone()
        return replace(self, select=index if self.select is None else self.select[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Rows":
        """The same data with a function of batches (k, *event), applied without gradient at each reading."""
        if self.incomplete:
            raise ConfigError(
                "x has missing entries, and this recipe trains on features of x, which need all of them. Use another recipe, "
                "or fill the entries in."
            )
        prepare = self.prepare

        @torch.no_grad()
        def prepare_and_apply(raw: Tensor) -> Tensor:
            return function(prepare(raw))

        # Reads one datum to learn the shape, without advancing the caller's random stream.
        with fixed_seed(0):
            event = tuple(prepare_and_apply(self.raw(torch.zeros(1, dtype=torch.int64)).to(self.device)).shape[1:])
        return replace(self, prepare=prepare_and_apply, event=event)

    def hold(self, index: Tensor) -> "Rows":
        """The data at indices (k,), read now and kept in their stored type, which is small."""
        return replace(self, store=self.raw(index), select=None, ahead=False, given=self.given_at(index))

    def complete(self) -> "Rows":
        """The data of which no entry is missing."""
        if not self.incomplete:
            return self
        known = torch.cat([batch.observed.flatten(1).all(1) for batch in self.split(PIECE_ROWS)]).cpu()
        return replace(self.take(known.nonzero()[:, 0]), incomplete=False)

    def sample(self, values: int = SAMPLE_VALUES) -> Any:
        """Floats of all data if they are at most `values` numbers, else of a fixed random subset of that size."""
        count = max(1, values // max(1, self.shape[1:].numel()))
        if len(self) <= count:
            return self[:]
        return self[torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:count]]

    def load_into_memory(self) -> "Rows":
        """The same data as floats on the device; unchanged if they need more than 4 GiB.

        Values that are drawn at each reading (see `bernoulli`) are drawn once here.
        """
        # A fixed seed, and the caller's random stream stays where it is: a resumed run gets the same values.
        with fixed_seed(0):
            rows = self.alone
            one = rows[:1]
            if len(self) * one.nbytes > MEMORY_BYTES:
                return self
            store = torch.empty(len(self), *one.shape[1:], dtype=one.dtype, device=self.device)
            start = 0
            for piece in rows.split(PIECE_ROWS):
                store[start : start + len(piece)] = piece
                start += len(piece)
        given = {name: values.to(self.device) for name, values in self.given_at(torch.arange(len(self))).items()}
        return Rows(store, device=self.device, given=given, incomplete=self.incomplete)

    def draw_once(self) -> "Rows":
        """The same data; those that are drawn at each reading (see `bernoulli`) are drawn now, where they fit into memory."""
        return self.load_into_memory() if self.prepare is bernoulli else self

    def with_given(self, given: Mapping[str, Tensor]) -> "Rows":
        """The same data with given inputs beside them, name -> values of shape (n, ...), in the order of the rows.

        Raises:
            ConfigError: as `Batch`.
        """
        Batch(torch.empty(len(self), 0), given)  # checks names and sizes
        if self.select is None:
            return replace(self, given={**self.given, **given})
        stored, placed = self._stored(torch.arange(len(self))), dict(self.given)
        if len(stored.unique()) < len(stored):  # one place in the store has several values, as after drawing with replacement
            return self.hold(torch.arange(len(self))).with_given(given)
        for name, values in given.items():
            placed[name] = values.new_zeros(self.store.shape[0], *values.shape[1:]).to(self.home)
            placed[name][stored] = values.to(self.home)
        return replace(self, given=placed)

    def to(self, device: torch.device | str) -> "Rows":
        """The same data returned on a device. A store of at most 1 GiB moves as a whole, a larger one batch by batch."""
        device = torch.device(device)
        if isinstance(self.store, Tensor) and self.store.device != device and self.store.nbytes <= DEVICE_BYTES:
            select = None if self.select is None else self.select.to(device)
            given = {name: values.to(device) for name, values in self.given.items()}
            return replace(self, store=self.store.to(device), select=select, ahead=False, device=device, given=given)
        return replace(self, device=device)
