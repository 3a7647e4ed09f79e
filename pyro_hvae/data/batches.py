"""The stream of training batches: a reproducible order, and a thread that reads ahead where reading is slow."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data.batch import Batch
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.runtime import share_of


class Batches:
    """An endless, reproducible stream of batches: a new permutation in each epoch, without the incomplete last batch.

    The order depends only on the seed. `state_dict` holds the generator at the start of the epoch and the position in the
    epoch, so a resumed stream continues with the next batch. Random values in a batch (dynamic binarisation) come from
    torch's global generator when the batch is returned, so they resume with that generator.

    Of several processes each has its share of every batch: the shares in the order of the processes are the batch of one.
    """

    def __init__(self, x: Tensor | Batch | Rows, batch_size: int, seed: int) -> None:
        if batch_size > len(x):
            raise ConfigError(f"a batch of {batch_size} does not fit into {len(x)} training data. Use one of {len(x)}.")
        self.x, self.batch_size = Rows.of(x), batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.reader = ThreadPoolExecutor(1, "batches") if self.x.ahead else None
        self._new_epoch()

    def _new_epoch(self) -> None:
        self.epoch_state, self.position = self.generator.get_state(), 0
        self.order = torch.randperm(len(self.x), generator=self.generator).to(self.x.home)
        self.pending: Future[Tensor] | None = None

    def _index(self) -> Tensor:
        return self.order[self.position : self.position + self.batch_size][share_of(self.batch_size)]

    def next(self) -> Any:
        """The next batch of (batch_size, *event), or a process's share: a tensor, or a `Batch` with what is given beside x."""
        if self.position + self.batch_size > len(self.x):
            self._new_epoch()
        index = self._index()
        raw = self.pending.result() if self.pending else self.x.raw(index)
        self.position += self.batch_size
        # After the last batch of an epoch the next order is not drawn yet, so nothing is read ahead.
        more = self.position + self.batch_size <= len(self.x)
        self.pending = self.reader.submit(self.x.raw, self._index()) if self.reader and more else None
        return self.x.give(raw, index)

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"generator": self.epoch_state, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        generator, position = state["generator"], state["position"]
        assert isinstance(generator, Tensor) and isinstance(position, int)
        if not 0 <= position <= len(self.x) or position % self.batch_size:
            raise ValueError(f"position {position} is not between batches of {self.batch_size} in {len(self.x)} data.")
        self.generator.set_state(generator)
        self._new_epoch()
        self.position = position
