"""What a data set is here: three splits of whole tensors with their factors of variation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError

__all__ = ["Dataset", "Split", "Batches"]


@dataclass(frozen=True)
class Split:
    """Images or vectors x of shape (n, *event), float in [0, 1] for images, and factor name -> values of shape (n,)."""

    x: Tensor
    factors: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    Attributes:
        train, validation, test: disjoint splits; choices are made on validation, figures reported on test.
        read_angles: for data with an angle, images -> (angles, squared errors to the nearest genuine image).
        ends: two images (2, *event) between which `interpolate` goes unless told otherwise; else the first two test images.
        inverse: for scaled data, features (n, *event) -> the quantities measured, such as joint angles in degrees.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    read_angles: Callable[[Tensor], tuple[np.ndarray, np.ndarray]] | None = None
    ends: Tensor | None = None
    inverse: Callable[[Tensor], Tensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.x.shape[1:])


class Batches:
    """An endless, reproducible stream of batches: a fresh permutation per epoch, the ragged rest dropped.

    The order depends on the seed alone. `state_dict` is the generator at the start of the epoch and the position in it, so
    a resumed stream continues with exactly the batch that would have come next.
    """

    def __init__(self, x: Tensor, batch_size: int, seed: int) -> None:
        if batch_size > len(x):
            raise ConfigError(f"a batch of {batch_size} does not fit into {len(x)} training data. Use --batch-size {len(x)}.")
        self.x, self.batch_size = x, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self._new_epoch()

    def _new_epoch(self) -> None:
        self.epoch_state, self.position = self.generator.get_state(), 0
        self.order = torch.randperm(len(self.x), generator=self.generator).to(self.x.device)

    def next(self) -> Tensor:
        """The next batch, shape (batch_size, *event)."""
        if self.position + self.batch_size > len(self.x):
            self._new_epoch()
        index = self.order[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return self.x[index]

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"generator": self.epoch_state, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        generator, position = state["generator"], state["position"]
        assert isinstance(generator, Tensor) and isinstance(position, int)
        self.generator.set_state(generator)
        self._new_epoch()
        self.position = position
