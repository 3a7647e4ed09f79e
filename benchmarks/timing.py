"""Measures with their bars, and timing of several sides in turns: medians of ratios over rounds."""

import math
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pyro_hvae.compilation import Captured

Side = Callable[[], Any]
Times = Mapping[str, list[float]]


@dataclass(frozen=True)
class Measure:
    """One measured number and its bar.

    Attributes:
        ratio: the number; None if it could not be measured. unit: what the number is, such as "time / eager".
        bar: the number that must be reached; None if there is none. most: the bar is an upper one, else a lower one.
        detail: further entries of the JSON.
    """

    name: str
    ratio: float | None
    unit: str
    bar: float | None = None
    most: bool = True
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool | None:
        """Whether the bar is met; None without a bar or a number."""
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
        """The JSON object; a number that is not finite is null."""
        ratio = self.ratio if self.ratio is not None and math.isfinite(self.ratio) else None
        fields = {"name": self.name, "ratio": ratio, "bar": self.bar, "ok": self.ok}
        return fields | {"kind": "at most" if self.most else "at least", "unit": self.unit, **self.detail}


def device() -> torch.device:
    """Device of the training steps: a GPU if torch sees one (CUDA_VISIBLE_DEVICES= hides it), else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cpu_time(function: Side, calls: int = 1) -> tuple[float, Any]:
    """CPU seconds of one call, and the value of the last call."""
    value, start = None, time.process_time()
    for _ in range(calls):
        value = function()
    return (time.process_time() - start) / calls, value


def device_time(side: Side, calls: int) -> float:
    """Seconds of one call: CPU time, or on a GPU the time between two events."""
    if device().type != "cuda":
        return cpu_time(side, calls)[0]
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        side()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def interleaved(sides: Mapping[str, Side], rounds: int, turn: float = 0.15, warm: int = 3) -> dict[str, list[float]]:
    """Seconds of one call of each side in every round: A B C, A B C, ...

    CPU time of this process, which other users of a shared machine disturb little; on a GPU the time between two events. A side
    is first called `warm` times, to compile and allocate. In a round it is called repeatedly for `turn` seconds (0: once), so
    that no clock is too coarse.
    """
    calls = {}
    for name, side in sides.items():
        for _ in range(warm):
            side()
        calls[name] = max(1, round(turn / device_time(side, 1))) if turn else 1
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(device_time(side, calls[name]))
    return times


def ratio_of(times: Times, one: str, other: str) -> tuple[float, dict[str, Any]]:
    """Median over rounds of the ratio of two sides' times; and its quartiles with both medians in ms."""
    ratios = [a / b for a, b in zip(times[one], times[other], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    ms = {name: 1e3 * statistics.median(times[name]) for name in (one, other)}
    return statistics.median(ratios), {"quartiles": [quartiles[0], quartiles[2]], "ms": ms, "rounds": len(ratios)}


def compare(name: str, times: Times, one: str, other: str, unit: str, bar: float | None = None, most: bool = True) -> Measure:
    """The measure of the ratio of two sides' times."""
    ratio, detail = ratio_of(times, one, other)
    return Measure(name, ratio, unit, bar, most, detail)


def peak_mib() -> float:
    """The largest memory of this process so far (Linux). `ru_maxrss` would include that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The value of a call in a fresh process, whose memory peak is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def reason_not_compiled(captured: Captured | None) -> str | None:
    """The reason why a captured loss is no compiled graph; None if it is one."""
    if captured is None or captured.eager is not None or not captured.compile:
        return f"not a compiled graph: {captured.eager if captured and captured.eager else 'compiling failed'}"
    return None


def environment() -> dict[str, str | int]:
    """Device, threads and versions, on which the numbers depend."""
    where = device()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.processor() or platform.machine()
    known = {"device": f"{where.type} ({name})", "threads": torch.get_num_threads(), "python": platform.python_version()}
    return known | {package: version(package) for package in ("torch", "pyro-ppl")}
