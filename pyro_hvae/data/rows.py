"""Data that are stored compactly, mapped from a file or drawn on demand, and become floats only when some are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Drawn", "Rows", "as_float", "bernoulli"]

DEVICE_BYTES = 2**30  # bytes; what is smaller moves to the device as a whole, what is larger is read batch by batch
MEMORY_BYTES = 2**32  # bytes of features that are made once and held
PIECE_ROWS = 256  # of them made at a time
SAMPLE_VALUES = 2**26  # values; enough for a mean, too few to fill a laptop's memory


def as_float(raw: Tensor) -> Tensor:
    """Bytes as grey values in [0, 1], numbers as they are.

    >>> as_float(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    if raw.dtype == torch.uint8:
        return raw.float().div_(255)
    return raw if raw.is_floating_point() else raw.float()


def bernoulli(raw: Tensor) -> Tensor:
    """Dynamic binarisation of bytes: every pixel drawn anew as Bernoulli(v / 255), by the global generator of raw's device.

    A byte u is uniform over 0, ..., 254, so that P(u < v) is v / 255 exactly: black stays black and white stays white. Random
    bytes are cheaper than random floats.
    """
    ones = torch.empty_like(raw).random_(0, 255) < raw
    return ones.view(torch.uint8).float()  # four times as fast as from booleans


@dataclass(frozen=True)
class Drawn:
    """Data made when asked for.

    Attributes:
        draw: indices (k,), int64 in [0, n) -> raw data (k, ...), a pure function. shape: (n, ...) of them all.
    """

    draw: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, ...]

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self.draw(index.cpu().numpy()))


@dataclass(frozen=True, eq=False)
class Rows:
    """n data x of shape (n, *event), read like a tensor along their first axis: `rows[:100]`, `rows[index]`, `rows[3]`.

    Attributes:
        store: a tensor (in memory, on a device or mapped from a file), or `Drawn`.
        prepare: raw data from the store -> floats (see `as_float`, `bernoulli`).
        event: shape of one datum as given out; default the store's.
        select: which of the store's data these are, int64 (n,); None means all.
        ahead: reading is slow (a mapped file, drawing), so `Batches` does it ahead of time in a thread of its own.
        device: where data are given out, and prepared.

    >>> Rows(torch.tensor([[0, 51], [102, 255]], dtype=torch.uint8))[1]
    tensor([0.4000, 1.0000])
    """

    store: Tensor | Drawn
    prepare: Callable[[Tensor], Tensor] = as_float
    event: tuple[int, ...] | None = None
    select: Tensor | None = None
    ahead: bool = False
    device: torch.device = torch.device("cpu")

    @classmethod
    def of(cls, x: "Tensor | Rows") -> "Rows":
        """Rows of a tensor (n, *event); rows are returned as they are."""
        return x if isinstance(x, Rows) else cls(x, device=x.device)

    def __len__(self) -> int:
        return self.store.shape[0] if self.select is None else len(self.select)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self), *(self.store.shape[1:] if self.event is None else self.event)])

    @property
    def home(self) -> torch.device:
        """Where the store is: indices are best made there."""
        return self.store.device if isinstance(self.store, Tensor) else torch.device("cpu")

    def raw(self, index: Tensor) -> Tensor:
        """The store's own values at indices (k,)."""
        if self.select is not None:
            index = self.select[index.to(self.select.device)]
        index = index.to(self.home)
        # Many times as fast as the same by [index].
        return self.store.index_select(0, index) if isinstance(self.store, Tensor) else self.store[index]

    def give(self, raw: Tensor) -> Tensor:
        """What `raw` returned, on the device and prepared."""
        return self.prepare(raw.to(self.device))

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, slice) and self.select is None and isinstance(self.store, Tensor):
            return self.give(self.store[index])  # without copying the store
        where = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index]
        return self.give(self.raw(where)) if where.dim() else self.give(self.raw(where[None]))[0]

    def split(self, size: int) -> Iterator[Tensor]:
        """Floats in pieces of at most `size`, as `Tensor.split`."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def take(self, index: Tensor | np.ndarray) -> "Rows":
        """Only the data at the given indices, in their order, still unread."""
        index = torch.arange(len(self))[torch.as_tensor(index)]
        return replace(self, select=index if self.select is None else self.select[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Rows":
        """The same data through a function of batches (k, *event), applied without gradient whenever some are read."""
        prepare = self.prepare

        @torch.no_grad()
        def both(raw: Tensor) -> Tensor:
            return function(prepare(raw))

        # One is read to learn the shape; what that draws must not be missed in the caller's stream of noise.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            event = tuple(both(self.raw(torch.zeros(1, dtype=torch.int64)).to(self.device)).shape[1:])
        return replace(self, prepare=both, event=event)

    def sample(self, values: int = SAMPLE_VALUES) -> Tensor:
        """All data as floats where that is at most `values` numbers, else a fixed random selection of as many as fit."""
        count = max(1, values // max(1, self.shape[1:].numel()))
        if len(self) <= count:
            return self[:]
        return self[torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:count]]

    def load_into_memory(self) -> "Rows":
        """The same data, read once and held where they are given out; as they are where that takes more than 4 GiB.

        What is drawn anew whenever data are read (see `bernoulli`) is then drawn once.
        """
        # Always the same draws, and none missed in the caller's stream of noise: a resumed run holds what it held before.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(0)
            one = self[:1]
            if len(self) * one.nbytes > MEMORY_BYTES:
                return self
            store = torch.empty(len(self), *one.shape[1:], dtype=one.dtype, device=self.device)
            start = 0
            for piece in self.split(PIECE_ROWS):
                store[start : start + len(piece)] = piece
                start += len(piece)
        return Rows(store, device=self.device)

    def to(self, device: torch.device | str) -> "Rows":
        """Given out on a device; a store that fits there easily moves as a whole, a larger one batch by batch."""
        device = torch.device(device)
        if isinstance(self.store, Tensor) and self.store.device != device and self.store.nbytes <= DEVICE_BYTES:
            select = None if self.select is None else self.select.to(device)
            return replace(self, store=self.store.to(device), select=select, ahead=False, device=device)
        return replace(self, device=device)
