"""Detects runs that end collapsed: their code says nothing about x."""

from collections.abc import Mapping
from typing import Any

SILENT = 0.05  # nats per datum, below which a code says nothing
SHORT = 100  # steps, of a run that has had no time to learn a code


def describe_collapse(row: Mapping[str, Any]) -> str:
    """A line about the last metric row of a run whose code has no rate, else (or for a short run) an empty text.

    The sum of the rates counts: that of one site of a chain is no KL. An autoencoder, whose code is a point, has no rates.

    >>> describe_collapse({"step": 900, "rate.z1": 0.02, "rate.z2": 0.01})[:75]
    'The run ends collapsed: the rate of its code is 0.03 nats per datum, so x d'
    >>> [describe_collapse({"step": step, "rate.z1": rate}) for step, rate in ((900, 5.0), (900, 0.0), (9, 0.02))]
    ['', '', '']
    """
    rates = [value for key, value in row.items() if key.startswith("rate.")]
    if not any(rates) or sum(rates) >= SILENT or row["step"] < SHORT:
        return ""
    return (
        f"The run ends collapsed: the rate of its code is {sum(rates):.2g} nats per datum, so x does not depend on it. "
        "Fix a smaller standard deviation of x (sigma=0.1), or begin with a small beta (the schedule warmup, hv.WarmUp)."
    )
