"""What a metric of a run is: a function with options, and the one value of it that tables show first."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Metric"]


@dataclass(frozen=True)
class Metric:
    """A metric's entry in the table.

    Attributes:
        measure: (run, **options) -> dict of primitives; its parameters with a default are `-o` options.
        headline: the key of the value that a table shows for it.
        better: "higher", "lower", or "" where neither is.
        unit: of the headline.
        published: run -> the paper's value for what this run is, for people, or None.
    """

    measure: Callable[..., dict[str, Any]]
    headline: str
    better: str = "higher"
    unit: str = ""
    published: Callable[[Any], str | None] | None = None
