"""Detects runs that end collapsed: their code says nothing about x."""

from collections.abc import Mapping
from typing import Any

SILENT = 0.05  # nats per datum, below which a code says nothing


def describe_collapse(row: Mapping[str, Any]) -> str:
    """A line about the last metric row of a run whose code has no rate, else an empty text.

    The sum of the rates counts: that of one site of a chain is no KL. An autoencoder, whose code is a point, has no rates.

    >>> describe_collapse({"rate.z1": 0.02, "rate.z2": 0.01})[:75]
    'The run ends collapsed: the rate of its code is 0.03 nats per datum, so x d'
    >>> describe_collapse({"rate.z1": 5.0, "rate.z2": 0.01}), describe_collapse({"rate.z1": 0.0})
    ('', '')
    """
    rates = [value for key, value in row.items() if key.startswith("rate.")]
    if not any(rates) or sum(rates) >= SILENT:
        return ""
    return (
        f"The run ends collapsed: the rate of its code is {sum(rates):.2g} nats per datum, so x does not depend on it. "
        "Fix a smaller standard deviation of x (sigma=0.1), or begin with a small beta (the schedule warmup, hv.WarmUp)."
    )
