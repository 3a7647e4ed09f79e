"""The directory of a run in a process that trains it with others and writes none of its files."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runtime import is_writer


class ReadOnlyRun(RunDirectory):
    """A run that another process holds and writes: its files can be read, and what would write does nothing."""

    def require_empty(self) -> None: ...
    def create(self, experiment: Experiment, record: Mapping[str, Any] | None = None) -> None: ...
    def update(self, **values: Any) -> None: ...
    def append_row(self, row: Mapping[str, Any]) -> None: ...
    def resume(self, step: int, rows: int | None = None) -> None: ...

    def write(self, name: str, text: str | bytes) -> Path:
        return self.results / name

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield


def shared_run(path: str | os.PathLike[str]) -> RunDirectory:
    """The directory of a run for this process, which writes it if it is the only one or the first of several."""
    return RunDirectory(path) if is_writer() else ReadOnlyRun(path)
