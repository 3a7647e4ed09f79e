"""What a reader finds in a user's own data, before parts that the source does not give are taken at random."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from pyro_hvae.data.dataset import Split


@dataclass(frozen=True)
class UserParts:
    """Data by part, and what is known about them.

    Attributes:
        parts: "train", and optionally "validation" and "test".
        what: what was understood, in words.
        split: where the parts come from, in words, if all three are there.
        unused: name -> why it is left aside.
        labels, columns, picture, inverse: as in `Dataset`.
        beside: reads what the source has of each row besides x: a part of `parts` -> name -> values (rows of the part,), or of
            all rows of the source where the data have their `places` in it.
    """

    parts: Mapping[str, Split]
    what: str
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    columns: Sequence[str] = ()
    picture: Callable[[Tensor], Tensor] | None = None
    inverse: Callable[[Tensor], Tensor] | None = None
    split: str = "split as given"
    unused: Mapping[str, str] = field(default_factory=dict)
    beside: Callable[[str], Mapping[str, np.ndarray]] | None = None


def describe_unused(reasons: Mapping[str, str]) -> str:
    """The end of a sentence that names what a reader left aside, each with its reason; empty where that is nothing.

    >>> describe_unused({"when": "dates", "id": "row numbers"})
    '; not used: when (dates), id (row numbers)'
    """
    return f"; not used: {', '.join(f'{name} ({why})' for name, why in reasons.items())}" if reasons else ""
