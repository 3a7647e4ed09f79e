"""A data set: three splits of data with their factors of variation, and the entry that loads it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.files.array_cache import stat_file
from pyro_hvae.data.files.data_file import File, find_optional
from pyro_hvae.data.option_checks import check_seed, split_sizes
from pyro_hvae.data.rows import Rows
from pyro_hvae.data.standardization import Standardization


class Split:
    """Data and their known factors.

    Attributes:
        x: `Rows` of shape (n, *event). Images (n, channels, height, width) are read as floats in [0, 1].
        factors: name -> values of shape (n,); integers for classes and grid positions, floats for continuous factors.
        places: of a user's own data, their rows in the source, from 0, int64 (n,); None where there is no such source.
    """

    def __init__(self, x: Rows | Tensor, factors: Mapping[str, Tensor] | None = None, places: Tensor | None = None) -> None:
        self.x, self.factors, self.places = Rows.of(x), dict(factors or {}), places

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor | np.ndarray) -> "Split":
        """The data at the given indices, their factors and places."""
        factors = {name: values[index] for name, values in self.factors.items()}
        return Split(self.x.take(index), factors, None if self.places is None else self.places[index])

    def with_x(self, x: Rows, factors: Mapping[str, Tensor] | None = None) -> "Split":
        """The same data with another x, and with more factors."""
        return Split(x, {**self.factors, **(factors or {})}, self.places)

    def __repr__(self) -> str:
        factors = f"; factors: {', '.join(self.factors)}" if self.factors else ""
        return f"Split({len(self):,} data {tuple(self.x.shape[1:])}{factors})"


@dataclass(frozen=True)
class FactorGrid:
    """One image for each combination of the factors' values, in row-major order: the last factor changes fastest.

    Attributes:
        sizes: factor name -> number of its values; a factor of size one is constant.
        x: the images of the whole grid. An image is read or drawn on demand.

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
        """Splits the grid at random into training, validation and test data.

        Arguments:
            validation, test: sizes of these splits; 0 means 5,000 and 10,000, but at most a tenth of the grid each.

        Raises:
            ConfigError: for a negative number, or when no training data are left.
        """
        check_seed(seed)
        tenth = max(1, len(self.x) // 10)
        sizes = split_sizes(len(self.x), validation or min(5_000, tenth), test or min(10_000, tenth))
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self.x)))
        train, validation_split, test_split = map(self.take, order.split(sizes))
        return train, validation_split, test_split

    def take(self, index: Tensor) -> Split:
        """The images at positions (k,) and their factors."""
        return Split(self.x.take(index), dict(zip(self.sizes, self.values(index).unbind(1), strict=True)))


@dataclass(frozen=True, repr=False)
class Dataset:
    """A named data set.

    Attributes:
        train, validation, test: disjoint splits. Choices are made on validation data; figures are reported on test data.
        counts: name of a part of the source -> number of its data, before the split.
        note: what a reader needs to compare numbers: the version, the split, whether the files were verified.
        labels: integer factor -> names of its values 0, 1, ...
        identity: of a user's own data, by what they hold (see `identify_data`). A run keeps it to notice a change.
        grid: for factorial data, all combinations of the factors.
        picture: for data that are not images, a function from x (n, *event) to images (n, channels, height, width) in [0, 1].
        read_angles: for data with an angle, a function from images to (angles, squared errors to the nearest genuine image).
        ends: name -> two data (2, *event), the default end points of `interpolate`; else it takes the first two test data.
        crops: for images made of textures, a function from a side in pixels to a `Dataset` of squares of the textures.
        inverse: for scaled data, a function from features (n, *event) to measured quantities, such as joint angles in degrees.
        standardization: the scaling of standardised vectors, which `inverse` undoes.
        columns: of vectors, the names of their columns where these are known.
        unused: name -> why a reader left this part of a user's own data aside.
        beside: of a user's own data, a function that reads what the source has of each row besides x, such as identifiers,
            classes and names of files: part ("training", "validation", "test") -> name -> values (rows of the source,), to be
            read at the `places` of the part's data.
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
    standardization: Standardization | None = None
    columns: Sequence[str] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
    crops: Callable[[int], "Dataset"] | None = None
    beside: Callable[[str], Mapping[str, np.ndarray]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.x.shape[1:])

    @property
    def space(self) -> str:
        """What x is, for what is measured in its units."""
        return "standardised data" if self.standardization else "data"

    def draw(self, x: Tensor) -> Tensor:
        """What pictures show of data (n, *event): their picture, else they themselves in their own units."""
        convert = self.picture or self.inverse
        return convert(x) if convert else x

    def __repr__(self) -> str:
        parts = {"training": self.train, "validation": self.validation, "test": self.test}
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in parts.items())
        return f"Dataset({self.name}: {sizes} data {self.shape})"


@dataclass(frozen=True)
class Source:
    """A data set's entry in the table.

    Attributes:
        load: (**options) -> `Dataset`. Its parameters with a default are the data set's `-o` options.
        files: the files it is read from, for `data download` and `data verify`; empty for generated data.
        licence: of the data.
        identify: for files that anything may replace, a function that tells what they hold now.
    """

    load: Callable[..., Dataset]
    files: tuple[File, ...] = ()
    licence: str = "generated"
    identify: Callable[[], str] | None = None

    def __call__(self, **options: object) -> Dataset:
        return self.load(**options)

    def state(self) -> str:
        """What a load would read now. Equal states of one process give equal data, so that these need not be read again."""
        if self.identify:
            return self.identify()
        return repr([stat_file(path) for file in self.files if (path := find_optional(file))])

    @property
    def summary(self) -> str:
        """The first sentence of the loader's docstring."""
        if isinstance(self.load, partial):
            return f"your own data at {self.load.args[0]}"
        return (inspect.getdoc(self.load) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def origin(self) -> str:
        """How to get its files: "built in" (there are none), "download" or "by hand"."""
        if not self.files:
            return "built in"
        return "download" if all(file.urls for file in self.files) else "by hand"
