"""What the commands add: the whole of `train` to its bare steps, and the time until one sees something.

`train` runs in this process as typed, with its bar, rows, validation, schedule, batches and checkpoints. After every thousand
steps it is held while the same number of bare steps is made: the captured pass of the same experiment on a batch at hand, and
Adam. Both are compiled in the first thousand, which do not count. By the wall clock, as the other commands, each in a process
of its own.
"""

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.measures import Measure, Side, against, eagerly, skipped
from pyro_hvae.compilation.captured_loss import Captured, capture
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.runs.trackers import TRACKERS, Tracker
from pyro_hvae.training.experiment_plan import plan
from pyro_hvae.training.training_step import TrainingPass

__all__ = ["measures"]

BLOCK = 1000  # steps: whole periods of rows, validation and checkpoints
RUNS = {"vae, digits": ("vae", "digits", {}), "vhp, pendulum": ("vhp", "pendulum", {"starts": "1"})}


def measures(quick: bool) -> list[Measure]:
    blocks = 2 if quick else 9
    runs = dict(list(RUNS.items())[:1]) if quick else RUNS
    found = [_whole(name, recipe, dataset, options, blocks) for name, (recipe, dataset, options) in runs.items()]
    rounds = 2 if quick else 7
    dry = ("train", "vhp", "--dataset", "pendulum", "--dry-run")
    return [*found, _seconds("pyro-hvae --help", 0.5, rounds, "--help"), _seconds("train --dry-run", 5.0, rounds, *dry)]


class _Terminal(io.StringIO):
    """Where the bar is drawn as on a terminal."""

    def isatty(self) -> bool:
        return True


class _Halves(Tracker):
    """Hears of every step, and after every block makes as many bare ones."""

    def __init__(self, bare: Side) -> None:
        self.bare, self.steps, self.since = bare, 0, _now()
        self.whole: list[dict[str, float]] = []
        self.alone: list[dict[str, float]] = []

    def step(self, row: Mapping[str, Any] | None) -> None:
        self.steps += 1
        if self.steps % BLOCK != 1 or self.steps == 1:  # the row, validation and checkpoint of a block are behind it
            return
        if self.steps > BLOCK + 1:
            self.whole.append(_passed(self.since))
        since = _now()
        for _ in range(BLOCK):
            self.bare()
        if self.steps > BLOCK + 1:
            self.alone.append(_passed(since))
        self.since = _now()


CLOCKS = ("wall", "cpu")


def _now() -> dict[str, float]:
    return {"wall": time.perf_counter(), "cpu": time.process_time()}


def _passed(since: Mapping[str, float]) -> dict[str, float]:
    return {clock: now - since[clock] for clock, now in _now().items()}


def _whole(name: str, recipe: str, dataset: str, options: dict[str, str], blocks: int) -> Measure:
    from pyro_hvae.cli.command_group import cli

    bare, captured = _bare(recipe, dataset, options)
    halves = _Halves(bare)
    TRACKERS["halves"] = lambda run: halves  # type: ignore[assignment]  # the table holds classes
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    steps = str((blocks + 1) * BLOCK + 1)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(_Terminal()):
            out = ["--steps", steps, "--compile", "--track", "halves", "--out", str(Path(folder, "run")), "--json"]
            with contextlib.redirect_stdout(io.StringIO()):
                cli.main(["train", recipe, "--dataset", dataset, *flags, *out], standalone_mode=False)
    finally:
        del TRACKERS["halves"]
    unit = "wall time / bare captured steps"
    if why := eagerly(captured):
        return skipped(f"train, {name}", unit, why, 1.1)
    sides = {"train": halves.whole, "bare": halves.alone}
    wall, cpu = ({side: [block[clock] / BLOCK for block in blocks] for side, blocks in sides.items()} for clock in CLOCKS)
    ratio, detail = against(wall, "train", "bare")
    detail["cpu_ratio"], _ = against(cpu, "train", "bare")
    return Measure(f"train, {name}", ratio, unit, 1.1, detail=detail)


def _bare(recipe: str, dataset: str, options: dict[str, str]) -> tuple[Side, Captured]:
    """Steps of the same experiment without anything around them, and their graph."""
    made = plan(resolve(recipe, dataset, options=options))
    objective, schedule = made.stages[0].objective.train(), made.schedules[0]
    x = made.stages[0].training_data(made.dataset.train.x, torch.device("cpu"))[: made.experiment.train.batch_size]
    passing = TrainingPass(objective, schedule)
    captured = capture(passing)
    optimizer = torch.optim.Adam(objective.parameters(), made.experiment.train.lr, fused=True)

    def step() -> None:
        captured(x, *passing.arguments(schedule))
        optimizer.step()

    return step, captured


def _seconds(name: str, bar: float, rounds: int, *arguments: str) -> Measure:
    """Wall seconds of a command in a process of its own; what it reads from the disk is in memory already."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        call = [sys.executable, "-m", "pyro_hvae", *arguments]
        subprocess.run(call, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        taken.append(time.perf_counter() - start)
    return Measure(name, statistics.median(taken), "wall seconds", bar, detail={"seconds": taken})
