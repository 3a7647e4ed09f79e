"""What a reader finds in a user's own data, before parts that the source does not give are taken at random."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from pyro_hvae.data.dataset import Split


@dataclass(frozen=True)
class UserParts:
    """Data by part, and what is known about them.

    Attributes:
        parts: "train", and optionally "validation" and "test".
        what: what was understood, in words.
        split: where the parts come from, in words, if all three are there.
        labels, columns, picture, inverse: as in `Dataset`.
    """

    parts: Mapping[str, Split]
    what: str
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    columns: Sequence[str] = ()
    picture: Callable[[Tensor], Tensor] | None = None
    inverse: Callable[[Tensor], Tensor] | None = None
    split: str = "split as given"
