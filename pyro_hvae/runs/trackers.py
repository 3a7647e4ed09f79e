"""Trackers report the progress of training: a progress bar in the terminal, TensorBoard."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyro_hvae.errors import DataError, missing_extra, require_known


class Tracker:
    """Receives the events of `fit`; subclasses override the methods of the events they report.

    The events are: the planned and finished steps, the start of one of several stages, every step with its row if one is
    logged, the steps that a stage did not need, remarks, warnings, and the end.
    """

    def start(self, steps: int, done: int) -> None: ...
    def stage(self, name: str, steps: int) -> None: ...
    def step(self, row: Mapping[str, Any] | None) -> None: ...
    def shorten(self, steps: int) -> None: ...
    def tell(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def close(self) -> None: ...


class _Stderr:
    """Standard error, where a line that cannot be written ends no training: the terminal may be closed, the disk full."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Progress(Tracker):
    """A bar with loss, beta, constraint, rates and the time left in a terminal or notebook; elsewhere plain lines on stderr."""

    SHOWN = {"loss": "loss", "beta": "beta", "constraint": "C"}

    def __init__(self, every: int = 1000) -> None:
        from tqdm.auto import tqdm  # the bar of a notebook where this is one; imported here, for it loads asyncio

        self.make_bar, notebook = tqdm, any(each.__module__ == "tqdm.notebook" for each in tqdm.__mro__)
        self.every, self.shown, self.stream = every, sys.stderr.isatty() or notebook, _Stderr()

    def start(self, steps: int, done: int) -> None:
        self.done = self.printed = done
        self.every = min(self.every, max(1, steps // 5))  # so that a short run prints some lines, too
        self.bar = self.make_bar(
            total=steps, initial=done, disable=not self.shown, file=self.stream, unit="step", dynamic_ncols=True
        )

    def stage(self, name: str, steps: int) -> None:
        self.bar.write(f"Stage '{name}': {steps:,} steps at most.", file=self.stream)

    def step(self, row: Mapping[str, Any] | None) -> None:
        self.done += 1
        self.bar.update()
        if row is None:
            return
        shown = {text: row[key] for key, text in self.SHOWN.items() if key in row}
        shown |= {key: value for key, value in row.items() if key.startswith("rate.")}
        text = " ".join(f"{key} {value:.3g}" for key, value in shown.items())
        self.bar.set_postfix_str(text, refresh=False)
        if not self.shown and (self.done - self.printed >= self.every or self.done == self.bar.total):
            self.printed = self.done
            print(f"step {self.done} of {self.bar.total}: {text}", file=self.stream, flush=True)

    def shorten(self, steps: int) -> None:
        self.bar.total -= steps
        self.bar.refresh()

    def tell(self, message: str) -> None:
        self.bar.write(message, file=self.stream)

    def warn(self, message: str) -> None:
        self.bar.write(f"Warning: {message}", file=self.stream)

    def close(self) -> None:
        self.bar.close()


class TensorBoard(Tracker):
    """Writes every number of every row as a scalar to the run's `tensorboard` folder (extra `tensorboard`)."""

    def __init__(self, run: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing_extra("tensorboard", "--track tensorboard") from error
        self._make_writer = lambda: SummaryWriter(str(run / "tensorboard"))

    def start(self, steps: int, done: int) -> None:
        try:
            self.writer = self._make_writer()  # not earlier: `fit` creates the run in an empty directory
        except OSError as error:
            raise DataError(f"cannot write '{error.filename}' for TensorBoard: {error.strerror}. Move it away.") from error

    def step(self, row: Mapping[str, Any] | None) -> None:
        if row is None:
            return
        for key, value in row.items():
            if key != "step":
                self.writer.add_scalar(key, value, row["step"])

    def stage(self, name: str, steps: int) -> None:
        self.writer.add_text("stage", name)

    def tell(self, message: str) -> None:
        self.writer.add_text("remark", message)

    def warn(self, message: str) -> None:
        self.writer.add_text("warning", message)

    def close(self) -> None:
        self.writer.close()


TRACKERS = {"tensorboard": TensorBoard}


def make_trackers(names: tuple[str, ...], run: Path) -> list[Tracker]:
    """Trackers of a run by name; raises `ConfigError` for an unknown name."""
    for name in names:
        require_known("tracker", name, TRACKERS)
    return [TRACKERS[name](run) for name in names]
