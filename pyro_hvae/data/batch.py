"""Data with what stands beside them: inputs that the programs are given, and which entries are observed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any, TypeVar

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError

OBSERVED = "observed"  # the name under which a program is given the mask
RESERVED = ("x", "size", OBSERVED, "self")  # arguments of programs that are no given inputs

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Batch:
    """Data x with given inputs y, for p(x | y), and with a mask for missing entries. It is indexed and split like a tensor.

    Attributes:
        x: data of shape (B, *event). Entries that are not observed hold 0.
        given: name -> values beside each datum, shape (B, ...), which programs receive as keyword arguments.
        observed: booleans of the shape of x, true where an entry is known; None where all are.

    Raises:
        ConfigError: for values or a mask of another number of rows or another shape, or a reserved name.

    >>> batch = Batch(torch.zeros(4, 3), {"y": torch.arange(4)})
    >>> len(batch[1:3]), batch[1:3].given["y"]
    (2, tensor([1, 2]))
    """

    x: Tensor
    given: Mapping[str, Tensor] = field(default_factory=dict)
    observed: Tensor | None = None

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            check_name(name)
            _require_tensor(f"the given input '{name}'", value)
            if value.dim() < 1 or value.shape[0] != self.x.shape[0]:  # `len` would be a constant of a graph
                rows = f"{len(value)} rows" if value.dim() else "one value"
                raise ConfigError(f"the given input '{name}' has {rows}, but x has {len(self.x)}. Give one row for each datum.")
        if self.observed is not None:
            _require_tensor(f"the mask '{OBSERVED}'", self.observed)
        if self.observed is not None and self.observed.shape != self.x.shape:
            raise ConfigError(
                f"the mask 'observed' has the shape {tuple(self.observed.shape)}, but x has {tuple(self.x.shape)}. Give one "
                "boolean for each entry of x, true where it is known."
            )

    @staticmethod
    def of(x: Tensor, given: Mapping[str, Tensor] | None = None, observed: Tensor | None = None) -> "Tensor | Batch":
        """A batch of x whose NaN entries are missing, whatever `observed` says; x itself where there is nothing beside it.

        On other devices than the CPU nothing waits to find NaN where there is no `observed`.
        """
        known = ~x.isnan() if x.is_floating_point() and (observed is not None or x.device.type == "cpu") else None
        if observed is not None:
            observed = torch.as_tensor(observed, device=x.device)
            if observed.dtype != torch.bool:
                raise ConfigError(f"the mask 'observed' is of {observed.dtype}. Give booleans, true where an entry is known.")
            known = observed if known is None or known.shape != observed.shape else known & observed
        elif known is None or known.all():
            return Batch(x, given) if given else x
        return Batch(x.where(known, 0) if known.shape == x.shape else x, given or {}, known)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    @property
    def is_cuda(self) -> bool:
        return self.x.is_cuda

    def __getitem__(self, index: Any) -> "Batch":
        """Some rows: a slice, a list or a tensor of positions; a single position keeps its dim, as a batch of one."""
        if not isinstance(index, slice) and not (isinstance(index, Tensor) and index.dim()):
            index = torch.arange(len(self))[index].reshape(-1).to(self.device)
        given = {name: value[index] for name, value in self.given.items()}
        return Batch(self.x[index], given, None if self.observed is None else self.observed[index])

    def split(self, size: int) -> Iterator["Batch"]:
        """Pieces of at most `size` rows, like `Tensor.split`."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device | str) -> "Batch":
        given = {name: value.to(device) for name, value in self.given.items()}
        return Batch(self.x.to(device), given, None if self.observed is None else self.observed.to(device))

    def with_x(self, x: Tensor) -> "Tensor | Batch":
        """The same given inputs beside other data, all of which are observed."""
        return Batch(x, self.given) if self.given else x

    def with_nan(self) -> Tensor:
        """x with NaN in the entries that are not observed."""
        return self.x if self.observed is None else self.x.where(self.observed, torch.nan)


def _require_tensor(what: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise ConfigError(f"{what} of a Batch is a {type(value).__name__}. Make it a tensor: torch.as_tensor(values).")


def check_name(name: str) -> None:
    """Raises `ConfigError` for a name that a program could not take as an argument beside x."""
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED or iskeyword(name):
        raise ConfigError(
            f"a given input cannot be called {name!r}: programs take it as an argument beside {', '.join(RESERVED)}. Use a "
            "name such as y, and class_ for a class."
        )


def x_of(data: "Tensor | Batch") -> Tensor:
    """The data alone, without what stands beside them."""
    return data.x if isinstance(data, Batch) else data


def given_of(data: Any) -> dict[str, Tensor]:
    """The given inputs beside data; none beside a tensor."""
    return dict(data.given) if isinstance(data, Batch) else {}
