"""What a data set is here: three splits with their factors of variation, and what else is known about the data."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.files.data_file import File
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import ConfigError, unknown_name

__all__ = ["Dataset", "FactorGrid", "Source", "Split", "check_names", "check_seed", "check_side", "check_size", "split_sizes"]

MAX_BYTES = 2**34  # bytes of generated data that are held in memory


class Split:
    """Data and the factors that are known of them.

    Attributes:
        x: `Rows` of shape (n, *event): floats in [0, 1] for images (n, channels, height, width), once read.
        factors: name -> values of shape (n,); integers for classes and grid positions, floats for continuous factors.
    """

    def __init__(self, x: Rows | Tensor, factors: Mapping[str, Tensor] | None = None) -> None:
        self.x, self.factors = Rows.of(x), dict(factors or {})

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class FactorGrid:
    """All combinations of some factors' values, one image each, in row-major order (the last factor changes fastest).

    Attributes:
        sizes: factor name -> how many values it has; a factor of size one is constant.
        x: the images of the whole grid, read or drawn only where asked for.

    >>> grid = FactorGrid({"shape": 3, "scale": 6}, Rows(torch.zeros(18, 1, 8, 8)))
    >>> grid.index(torch.tensor([[2, 1]])).tolist(), grid.values(torch.tensor([13])).tolist()
    ([13], [[2, 1]])
    """

    sizes: Mapping[str, int]
    x: Rows

    def index(self, values: Tensor) -> Tensor:
        """Factor values (k, factors), int64, -> positions in the grid (k,)."""
        return torch.from_numpy(np.ravel_multi_index(tuple(values.cpu().numpy().T), tuple(self.sizes.values())))

    def values(self, index: Tensor) -> Tensor:
        """Positions in the grid (k,) -> factor values (k, factors), int64."""
        return torch.from_numpy(np.stack(np.unravel_index(index.cpu().numpy(), tuple(self.sizes.values())), 1))

    def split(self, seed: int, validation: int = 0, test: int = 0) -> tuple[Split, Split, Split]:
        """Training, validation and test data: the grid dealt out at random, all but the given numbers to training.

        Arguments:
            validation, test: 0 means 5,000 and 10,000, but no more than a tenth of the grid each.

        Raises:
            ConfigError: for a negative number, or when nothing is left to train on.
        """
        check_seed(seed)
        tenth = max(1, len(self.x) // 10)
        sizes = split_sizes(len(self.x), validation or min(5_000, tenth), test or min(10_000, tenth))
        parts = torch.from_numpy(np.random.default_rng(seed).permutation(len(self.x))).split(sizes)
        train, held, last = (Split(self.x.take(part), self.named(self.values(part))) for part in parts)
        return train, held, last

    def named(self, values: Tensor) -> dict[str, Tensor]:
        """Factor values (k, factors) by name."""
        return dict(zip(self.sizes, values.unbind(1), strict=True))


def split_sizes(count: int, validation: int, test: int) -> list[int]:
    """How many of `count` data go to training, validation and test; raises `ConfigError` when none are left to train on.

    >>> split_sizes(100, 10, 20)
    [70, 10, 20]
    """
    if validation < 1 or test < 1 or (train := count - validation - test) < 1:
        raise ConfigError(
            f"{count:,} data cannot be dealt out as {validation:,} for validation, {test:,} for testing and at least one for "
            "training. Choose smaller numbers, or a larger part of the data."
        )
    return [train, validation, test]


def check_size(size: int, each: int) -> None:
    """Raises `ConfigError` for a number of data below one, or of more than `MAX_BYTES` bytes in all at so many `each`."""
    if size < 1 or size * each > MAX_BYTES:
        why = "it is at least 1" if size < 1 else f"these would need {size * each / 2**30:,.0f} GiB of memory"
        raise ConfigError(f"size={size} is no number of training data to use: {why}. Example: -o size=10000.")


def check_names(kind: str, chosen: Sequence[str], known: Collection[str]) -> None:
    """Raises `ConfigError` for an unknown name of some kind (the nearest is suggested), a repeated one, or none at all."""
    for name in chosen:
        if name not in known:
            raise unknown_name(kind, name, known)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"{kind}s needs at least one name and each only once, got {', '.join(chosen) or 'none'}.")


def check_seed(data_seed: int) -> None:
    """Raises `ConfigError` for a negative seed."""
    if data_seed < 0:
        raise ConfigError(f"data_seed, the seed of what is random in a data set, is at least 0, got {data_seed}.")


def check_side(side: int) -> None:
    """Raises `ConfigError` for another side than 64 pixels or what joining two or four along either axis leaves of them."""
    if side not in (64, 32, 16):
        raise ConfigError(f"side is 64, 32 or 16 pixels, got {side}. Example: -o side=32.")


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    Attributes:
        train, validation, test: disjoint splits; choices are made on validation, figures reported on test.
        counts: what the source holds before it is split, as name of the part -> number of data.
        note: what has to be known to compare numbers: which version or split this is, whether it was verified.
        labels: integer factor -> the names of its values 0, 1, ..., for people.
        identity: what tells whether these are still the same data, for one's own; a run remembers it.
        grid: for factorial data, all combinations of the factors.
        picture: for data that are no images, x (n, *event) -> images (n, channels, height, width) in [0, 1] of them.
        read_angles: for data with an angle, images -> (angles, squared errors to the nearest genuine image).
        ends: name -> two data (2, *event) between which `interpolate` goes unless told otherwise; else the first two test data.
        crops: for images made of textures, side in pixels -> `Dataset` of squares of those.
        inverse: for scaled data, features (n, *event) -> the quantities measured, such as joint angles in degrees.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    counts: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    identity: str = ""
    grid: FactorGrid | None = None
    picture: Callable[[Tensor], Tensor] | None = None
    read_angles: Callable[[Tensor], tuple[np.ndarray, np.ndarray]] | None = None
    ends: Mapping[str, Tensor] = field(default_factory=dict)
    inverse: Callable[[Tensor], Tensor] | None = None
    crops: Callable[[int], "Dataset"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.x.shape[1:])


@dataclass(frozen=True)
class Source:
    """A data set's entry in the table.

    Attributes:
        load: (**options) -> `Dataset`; its parameters with a default are the set's `-o` options.
        files: what it is read from, for `data download` and `data verify`; empty for generated data.
        licence: of the data.
    """

    load: Callable[..., Dataset]
    files: tuple[File, ...] = ()
    licence: str = "generated"

    def __call__(self, **options: object) -> Dataset:
        return self.load(**options)

    @property
    def summary(self) -> str:
        """The first sentence of the loader's docstring."""
        if isinstance(self.load, partial):
            return f"your own data at {self.load.args[0]}"
        return (inspect.getdoc(self.load) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def origin(self) -> str:
        """How its files are come by: "built in" (there are none), "download" or "by hand"."""
        if not self.files:
            return "built in"
        return "download" if all(file.urls for file in self.files) else "by hand"
