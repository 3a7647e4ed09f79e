"""Cost of the commands: all of `train` against its bare steps, and the seconds until a command answers.

`train` runs in this process as typed, with its bar, rows, validation, schedule, batches and checkpoints. After every thousand
steps it waits while as many bare steps are made: the captured pass of the same experiment on one batch, and Adam. Both sides
compile in the first thousand, which do not count. Times are wall times. The other commands run in processes of their own.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.studies import flags
from benchmarks.timing import Measure, Side, ratio_of, reason_not_compiled
from pyro_hvae.compilation import Captured, capture
from pyro_hvae.runs import Tracker, resolve
from pyro_hvae.runs.trackers import TRACKERS
from pyro_hvae.training import plan
from pyro_hvae.training.training_step import TrainingPass

BLOCK = 1000  # steps; whole periods of rows, validation and checkpoints
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
RUNS: list[tuple[str, str, dict[str, str]]] = [("vae", "digits", {}), ("vhp", "pendulum", {"starts": "1"})]


def measures(quick: bool) -> list[Measure]:
    blocks, rounds = (2, 2) if quick else (9, 7)
    return [
        *(measure_training(*run, blocks) for run in RUNS[: 1 if quick else 2]),
        measure_wall_time("pyro-hvae --help", 0.5, rounds, "--help"),
        measure_wall_time("train --dry-run", 5.0, rounds, "train", "vhp", "--dataset", "pendulum", "--dry-run"),
    ]


class Terminal(io.StringIO):
    """A stream on which the bar is drawn as on a terminal."""

    def isatty(self) -> bool:
        return True


class BareSteps(Tracker):
    """Counts the steps of a run, and makes as many bare steps after every block. Times both sides by every clock."""

    def __init__(self, bare: Side) -> None:
        self.bare, self.steps = bare, 0
        self.times: dict[str, dict[str, list[float]]] = {clock: {"train": [], "bare": []} for clock in CLOCKS}
        self.start_clocks()

    def start_clocks(self) -> None:
        self.since = {clock: now() for clock, now in CLOCKS.items()}

    def stop_clocks(self, side: str) -> None:
        if self.steps > BLOCK + 1:  # the first block compiles
            for clock, now in CLOCKS.items():
                self.times[clock][side].append((now() - self.since[clock]) / BLOCK)

    def step(self, row: Mapping[str, Any] | None) -> None:
        self.steps += 1
        if self.steps % BLOCK != 1 or self.steps == 1:  # one step later, so that a block has its row, validation, checkpoint
            return
        self.stop_clocks("train")
        self.start_clocks()
        for _ in range(BLOCK):
            self.bare()
        self.stop_clocks("bare")
        self.start_clocks()


def measure_training(recipe: str, dataset: str, options: dict[str, str], blocks: int) -> Measure:
    from pyro_hvae.cli.command_group import cli

    bare, captured = bare_step(recipe, dataset, options)
    tracker = BareSteps(bare)
    call = ["train", recipe, "--dataset", dataset, *flags(f"{key}={value}" for key, value in options.items())]
    call += ["--steps", str((blocks + 1) * BLOCK + 1), "--compile", "--track", "bare-steps", "--json", "--out"]
    with patch.dict(TRACKERS, {"bare-steps": lambda run: tracker}), tempfile.TemporaryDirectory() as folder:
        with redirect_stderr(Terminal()), redirect_stdout(io.StringIO()):
            cli.main([*call, str(Path(folder, "run"))], standalone_mode=False)
    name, unit = f"train, {recipe}, {dataset}", "wall time / bare captured steps"
    if why := reason_not_compiled(captured):
        return Measure(name, None, unit, 1.1, detail={"skipped": why})
    ratio, detail = ratio_of(tracker.times["wall"], "train", "bare")
    detail["cpu_ratio"], _ = ratio_of(tracker.times["cpu"], "train", "bare")
    return Measure(name, ratio, unit, 1.1, detail=detail)


def bare_step(recipe: str, dataset: str, options: dict[str, str]) -> tuple[Side, Captured]:
    """A step of the same experiment without anything around it, and its graph."""
    made = plan(resolve(recipe, dataset, options=options))
    objective, schedule, settings = made.stages[0].objective.train(), made.schedules[0], made.experiment.train
    x = made.stages[0].training_data(made.dataset.train.x, torch.device("cpu"))[: settings.batch_size]
    training_pass = TrainingPass(objective, schedule)
    captured = capture(training_pass)
    optimizer = torch.optim.Adam(objective.parameters(), settings.lr, fused=True)

    def step() -> None:
        captured(x, *training_pass.arguments(schedule))
        optimizer.step()

    return step, captured


def measure_wall_time(name: str, bar: float, rounds: int, *arguments: str) -> Measure:
    """Wall seconds of a command in a process of its own; the files that it reads are in memory already."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call = [sys.executable, "-m", "pyro_hvae", *arguments]
        subprocess.run(call, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        seconds.append(time.perf_counter() - start)
    return Measure(name, statistics.median(seconds), "wall seconds", bar, detail={"seconds": seconds})
