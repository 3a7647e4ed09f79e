"""What a measure is, and how sides are timed against each other: interleaved in one process, medians of ratios."""

import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from pyro_hvae.compilation.captured_loss import Captured
from pyro_hvae.reports import format_table

__all__ = ["Measure", "Side", "against", "device", "eagerly", "header", "interleaved", "report", "skipped"]

Side = Callable[[], Any]


@dataclass(frozen=True)
class Measure:
    """One number and what it has to be.

    Attributes:
        ratio: what was measured, None where it could not be. unit: what it is, such as "time / eager".
        bar: what it has to reach, None where it is only told. most: the bar is an upper one; else a lower one.
        detail: whatever else belongs into the JSON.
    """

    name: str
    ratio: float | None
    unit: str
    bar: float | None = None
    most: bool = True
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool | None:
        """Whether the bar is met; None where there is no bar or no number."""
        if self.bar is None or self.ratio is None:
            return None
        return self.ratio <= self.bar if self.most else self.ratio >= self.bar

    def row(self) -> dict[str, Any]:
        """A line of the table."""
        bar = "" if self.bar is None else f"{'<=' if self.most else '>='} {self.bar:g}"
        verdict = {True: "ok", False: "NOT MET", None: self.detail.get("skipped", "")}[self.ok]
        ratio = None if self.ratio is None else f"{self.ratio:.3g}"
        return {"measure": self.name, "is": self.unit, "ratio": ratio, "bar": bar, "ok": verdict}

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        kind = "at most" if self.most else "at least"
        ratio = self.ratio if self.ratio is not None and math.isfinite(self.ratio) else None  # which JSON can say
        known = {"name": self.name, "ratio": ratio, "bar": self.bar, "ok": self.ok, "kind": kind, "unit": self.unit}
        return known | dict(self.detail)


def skipped(name: str, unit: str, why: str, bar: float | None = None, most: bool = True) -> Measure:
    """A measure that could not be taken here."""
    return Measure(name, None, unit, bar, most, {"skipped": why})


def device() -> torch.device:
    """Where training steps are measured: a GPU where torch sees one (CUDA_VISIBLE_DEVICES= hides it), else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def interleaved(sides: Mapping[str, Side], rounds: int, turn: float = 0.15, warm: int = 3) -> dict[str, list[float]]:
    """Seconds of one call of each side in every round: A B C, A B C, ...

    CPU time of this process, which other users of a shared machine disturb little; on a GPU the time between two events.

    Arguments:
        turn: seconds that a side is called over and over in a round, so that no clock is too coarse; 0 calls it once.
        warm: calls beforehand, which compile and allocate.
    """
    times = {}
    for name, side in sides.items():
        for _ in range(warm):
            side()
        times[name] = _clocked(side, 1) if turn else 0.0
    calls = {name: max(1, round(turn / seconds)) if turn else 1 for name, seconds in times.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(_clocked(side, calls[name]))
    return taken


def _clocked(side: Side, calls: int) -> float:
    """Seconds of one call."""
    if device().type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            side()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls
    begin = time.process_time()
    for _ in range(calls):
        side()
    return (time.process_time() - begin) / calls


def against(taken: Mapping[str, list[float]], one: str, other: str) -> tuple[float, dict[str, Any]]:
    """Median over the rounds of the ratio of two sides' times, and what is kept of it: its quartiles and both medians in ms."""
    ratios = [a / b for a, b in zip(taken[one], taken[other], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    ms = {name: 1e3 * statistics.median(taken[name]) for name in (one, other)}
    return statistics.median(ratios), {"quartiles": [quartiles[0], quartiles[2]], "ms": ms, "rounds": len(ratios)}


def eagerly(captured: Captured | None) -> str | None:
    """Why what should be a compiled graph is none; None where it is."""
    if captured is None or captured.eager is not None or not captured.compile:
        return f"not a compiled graph: {captured.eager if captured and captured.eager else 'compiling failed'}"
    return None


def header() -> dict[str, str | int]:
    """What decides the numbers: device, threads and versions."""
    where = device()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.processor() or platform.machine()
    versions = {package: version(package) for package in ("torch", "pyro-ppl")}
    known = {"device": f"{where.type} ({name})", "threads": torch.get_num_threads(), "python": platform.python_version()}
    return known | versions


def report(measures: Iterable[Measure]) -> str:
    """The table."""
    return format_table([measure.row() for measure in measures])
