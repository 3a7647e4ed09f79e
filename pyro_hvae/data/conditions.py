"""A condition: a factor or column that programs are given beside x, as a one-hot class or a standardised number."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_hvae.data.batch import RESERVED
from pyro_hvae.errors import ConfigError, unknown_name
from pyro_hvae.networks import SIZE_FACTOR


@dataclass(frozen=True)
class Condition:
    """One thing that the programs are given: a class as a one-hot vector, or a number as (v - mean) / scale.

    Attributes:
        name: of the factor or column, as the data call it.
        classes: names of the classes in their order; empty for a number.
        mean, scale: of a number, those of the training data.

    >>> kind = Condition("kind", ("cat", "dog", "owl"))
    >>> kind.parse("dog"), kind.encode(torch.tensor([0, 2])).tolist(), kind.describe(kind.parse("2"))
    (tensor([0., 1., 0.]), [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], 'owl')
    >>> Condition("age", mean=40.0, scale=10.0).parse("55")
    tensor([1.5000])
    """

    name: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @property
    def key(self) -> str:
        """The argument under which programs are given it: the name, with "_" for what no identifier has and after a keyword.

        >>> Condition("cell type").key, Condition("7").key, Condition("x").key, Condition("class").key
        ('cell_type', '_7', 'x_', 'class_')
        """
        key = "".join(c if f"_{c}".isidentifier() else "_" for c in self.name)
        key = key if key.isidentifier() else f"_{key}"
        return f"{key}_" if key in (*RESERVED, SIZE_FACTOR) or iskeyword(key) else key

    @property
    def width(self) -> int:
        """The length of an encoded value."""
        return len(self.classes) or 1

    def encode(self, values: Tensor) -> Tensor:
        """Positions of classes, or numbers in their own unit, (n,) -> float32 (n, width).

        Raises:
            ConfigError: for a position that no class has.
        """
        if not self.classes:
            return ((values.double() - self.mean) / self.scale).float()[:, None]
        if len(values) and not (values.min() >= 0 and values.max() < len(self.classes)):
            raise ConfigError(f"'{self.name}' has the classes 0 to {len(self.classes) - 1}, got {values.tolist()}.")
        return one_hot(values.long(), len(self.classes)).float()

    def parse(self, text: str) -> Tensor:
        """The encoded value (width,) of a class by its name, or by its number if no name is a number; or of a number.

        Raises:
            ConfigError: for an unknown class, naming all, or a text that is no finite number.
        """
        if not self.classes:
            if (number := to_number(text)) is None:
                raise ConfigError(f"{self.name}={text} is no number. Example: {self.name}={self.mean:.4g}.")
            return self.encode(torch.tensor([number], dtype=torch.float64))[0]
        if (place := self._find(text)) is None:
            raise unknown_name(f"class of '{self.name}'", text, self.classes)
        return self.encode(torch.tensor([place]))[0]

    def _find(self, text: str) -> int | None:
        if text in self.classes:
            return self.classes.index(text)
        numbers, wanted = [to_number(name) for name in self.classes], to_number(text)
        if wanted is not None and numbers.count(wanted) == 1:  # "0.50" for "0.5"
            return numbers.index(wanted)
        by_place = text.isdecimal() and not any(number is not None for number in numbers)
        return int(text) if by_place and int(text) < len(self.classes) else None

    def describe(self, row: Tensor) -> str:
        """The class or the number of an encoded value (width,), the inverse of `parse`."""
        if self.classes:
            return self.classes[int(row.argmax())]
        return f"{row.double().item() * self.scale + self.mean:.4g}"

    def to_dict(self) -> dict[str, Any]:
        """The condition in plain values, as a run's configuration has it."""
        kind = {"classes": list(self.classes)} if self.classes else {"mean": self.mean, "scale": self.scale}
        return {"name": self.name, **kind}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Condition":
        """The inverse of `to_dict`; raises `ConfigError` for what is none."""
        try:
            name, classes = values["name"], values.get("classes", ())
            if not isinstance(name, str) or not isinstance(classes, list | tuple):
                raise ValueError("its name is no text, or its classes are no list")
            if not all(isinstance(text, str) for text in classes):
                raise ValueError("its classes are no texts")
            if len(set(classes)) < len(classes) or ("classes" in values and not classes):
                raise ValueError("its classes are none or not different")
            mean, scale = (0.0, 1.0) if classes else (values["mean"], values["scale"])
            if not (is_number(mean) and is_number(scale) and scale > 0):
                raise ValueError(f"mean={mean!r} and scale={scale!r} are no mean and scale")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the run's configuration has no valid condition: {error}.") from error
        return cls(name, tuple(classes), float(mean), float(scale))


def is_number(value: Any) -> bool:
    """Whether a value of a file is a finite number that float32 has."""
    return type(value) in (int, float) and abs(value) < 2.0**127


def to_number(text: str) -> float | None:
    """The finite number that a text says, else None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
