"""The directory of a run: config.toml, run.json, program.json, metrics.jsonl, checkpoints/, figures/ and eval/."""

import json
import math
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import tomli_w

from pyro_hvae.errors import CheckpointError, ConfigError, DataError, require_known
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.export_format import is_export
from pyro_hvae.runs.file_schema import ANY, PROGRAM, ROW, find_misfit
from pyro_hvae.runs.json_checksum import add_checksum, take_checksum
from pyro_hvae.runs.run_lock import LOCK, is_trained, lock_run, require_unlocked
from pyro_hvae.runtime import atomic_write, runs_folder

MAKE_WRITABLE = "Make room or the folder writable, and give the command again with --resume; a new run may take another --out."
_MOVE_AWAY = "Delete or move the file; the run needs it for the record only."


def replace_nonfinite(values: Any) -> Any:
    """The same values with None in the place of inf and nan, which JSON does not have."""
    if isinstance(values, Mapping):
        return {k: replace_nonfinite(v) for k, v in values.items()}
    if isinstance(values, list | tuple):
        return [replace_nonfinite(v) for v in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    packages = ("pyro-hvae", "torch", "pyro-ppl", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def find_run(name: str | os.PathLike[str]) -> Path:
    """The run called `name`: a directory, a unique prefix of a name below `runs_folder()`, or `last`.

    Raises:
        DataError: when there is none, or the prefix is ambiguous.
    """
    path, root = Path(name), runs_folder()
    if str(name) and os.path.isdir(path):  # False also for a name that is too long
        return path
    runs = sorted(p for p in root.glob("*") if (p / "run.json").is_file()) if os.path.isdir(root) else []
    if str(name) == "last":
        if not runs:
            raise DataError(f"there is no run below '{root}' yet. Train one: pyro-hvae train vhp --dataset pendulum.")
        return max(runs, key=lambda p: (p / "run.json").stat().st_mtime)
    # An empty name, as of an unset variable in a script, begins every other one.
    matches = [p for p in runs if p.name == str(name)] or [p for p in runs if str(name) and p.name.startswith(str(name))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DataError(f"'{name}' is the beginning of several runs: {', '.join(p.name for p in matches)}. Name one of them.")
    known = ", ".join(p.name for p in runs[-8:]) or "none yet"
    raise DataError(f"there is no run '{name}', neither as a directory nor below '{root}'. Known: {known}.")


def _write_toml(experiment: Experiment) -> str:
    """The text of a configuration; raises `ConfigError` for a value that TOML does not have."""
    try:
        return tomli_w.dumps(experiment.to_dict())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the run's configuration cannot be written: {error}. Use numbers, texts and lists.") from error


def _parse_row(line: bytes, sealed: bool) -> tuple[dict[str, Any] | None, bool]:
    """The metric row in a line, None for what is none, and whether rows have checksums from here on.

    Arguments:
        sealed: whether they have before it; an older version wrote none.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None, sealed
    if find_misfit(row, ROW, "row"):
        return None, sealed
    holds = take_checksum(row)
    return (row if holds or (holds is None and not sealed) else None), sealed or holds is not None


FOLDERS = ("checkpoints", "figures", "eval")
CHECKPOINTS = ("last", "best")


class RunDirectory:
    """The files of one run in the directory `path`. The constructor touches no file; `create` makes the directory.

    Arguments:
        results: where results and pictures are written, if that is another folder, as for an exported model.
    """

    def __init__(self, path: str | os.PathLike[str], results: Path | None = None) -> None:
        self.path = Path(path)
        self.results = self.path if results is None else results
        self.metrics = self.path / "metrics.jsonl"

    def require_empty(self) -> None:
        """Raises `ConfigError` when the directory is not empty, or is a file."""
        if os.path.exists(self.path) and not self.path.is_dir():
            raise ConfigError(f"--out '{self.path}' is a file, not a directory. Choose another place.")
        if os.path.isdir(self.path) and any(self.path.iterdir()) and not self._unused():
            require_unlocked(self.path)
            if not self.checkpoint().is_file():
                raise ConfigError(
                    f"'{self.path}' is not empty, and there is no run to go on with: it has no last checkpoint. Move or delete "
                    "it, or choose another --out."
                )
            raise ConfigError(f"'{self.path}' is not empty. Go on with it by --resume {self.path}, or choose another --out.")

    def _unused(self) -> bool:
        """Whether this is a run without a checkpoint or a metric row: it ended before its first step, and may start again."""
        known = {"config.toml", "run.json", "program.json"}
        left = {LOCK, "checkpoints/.last.pt.part", *(f".{name}.part" for name in known)}  # behind by a killed process
        files = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}
        files = {name for name in files if not name.startswith("tensorboard/")}
        folders = {path.name for path in self.path.glob("*") if path.is_dir()}
        return (files <= left or "config.toml" in files <= known | left) and folders <= {*FOLDERS, "tensorboard"}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for this process (see `lock_run`), and makes its directory where that is missing."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot write to '{self.path}': {error.strerror}. Choose another place with --out.") from error
        with lock_run(self.path):
            yield

    def create(self, experiment: Experiment, record: Mapping[str, Any] | None = None) -> None:
        """Makes an empty run and writes its configuration, and the `record` of a user's own program (see `record_program`).

        Raises:
            ConfigError: when the directory is not empty. DataError: when it cannot be written.
        """
        self.require_empty()
        config = _write_toml(experiment)
        try:
            for name in FOLDERS:
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot write to '{self.path}': {error.strerror}. Choose another place with --out.") from error
        self.write("config.toml", config)
        if record is not None:
            self.write_json("program.json", record)
        self.update(command=[Path(sys.argv[0]).name, *sys.argv[1:]], seed=experiment.train.seed, versions=package_versions())

    def require_writable(self, folder: str) -> None:
        """Makes a folder of the run where it is missing; raises `DataError` when nothing can be written to it."""
        path = self.results / folder
        try:
            path.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise DataError(f"cannot write to '{path}', where the run keeps its results: {error.strerror}.") from error

    def write(self, name: str, text: str | bytes) -> Path:
        """Writes a file of the run atomically and returns its path."""
        path = self.results / name
        with atomic_write(path, MAKE_WRITABLE) as part:
            if self.results != self.path:
                part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def write_config(self, experiment: Experiment) -> None:
        self.write("config.toml", _write_toml(experiment))

    def write_json(self, name: str, values: Mapping[str, Any]) -> Path:
        """Writes values as JSON with a checksum, which `read_json` takes off again."""
        return self.write(name, json.dumps(add_checksum(replace_nonfinite(values)), indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Contents of a JSON file of the run, empty when it is absent; raises `DataError` when it is damaged."""
        path = self.path / name
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"'{path}' cannot be read: {error}. {_MOVE_AWAY}") from error
        if misfit := find_misfit(values, PROGRAM if name == "program.json" else {...: ANY}, "it"):
            raise DataError(f"'{path}' is damaged: {misfit}. {_MOVE_AWAY}")
        if take_checksum(values) is False:
            raise DataError(f"'{path}' is damaged, or was edited: its checksum does not hold. {_MOVE_AWAY}")
        return values

    def update(self, **values: Any) -> None:
        """Merges values into run.json."""
        self.write_json("run.json", self.read_json("run.json") | values)

    def describe_early_end(self) -> str:
        """That the training of the run has not come to its end, and why; empty for a run that has."""
        state = self.read_json("run.json")
        status, at = state.get("status"), f" at step {state['step']}" if "step" in state else ""
        if is_trained(self.path):
            return "The run is still being trained."
        ends = {"finished": "", "diverged": f"Its training diverged{at}.", "interrupted": f"Its training was stopped{at}."}
        return ends.get(status or "finished", "Its training ended by an error, or was killed.")

    def checkpoint(self, which: str = "last") -> Path:
        return self.path / "checkpoints" / f"{which}.pt"

    def require_checkpoint(self, which: str = "last") -> Path:
        """The path of a checkpoint; raises `CheckpointError` when it is missing, `ConfigError` for a name but last and best."""
        require_known("checkpoint", which, CHECKPOINTS)
        if is_export(self.path):
            raise ConfigError(
                f"'{self.path}' is an exported model: it has no optimiser, schedule and order of data to go on with. "
                "Name the run that it was exported from; in Python, hv.fit trains the pair of hv.load from its weights."
            )
        if not (path := self.checkpoint(which)).is_file():
            if not any(self.checkpoint(name).is_file() for name in CHECKPOINTS):
                raise CheckpointError(
                    f"run '{self.path}' has no checkpoint '{which}' (looked for {path}): it ended before its first step, or is "
                    f"none. {'The same command starts' if self._unused() else 'Move it away; the same command then starts'} it "
                    "again."
                )
            raise CheckpointError(
                f"run '{self.path}' has no checkpoint '{which}' (looked for {path}). Name another or train one. "
                "('best' is only written once validation has run after REWO's initial phase.)"
            )
        return path

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Adds one line with a checksum to metrics.jsonl."""
        try:
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write(json.dumps(add_checksum(row)) + "\n")
        except OSError as error:
            raise DataError(f"cannot write '{self.metrics}': {error.strerror}.") from error

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; warns of damaged lines, which are left out, and of a lost end of a finished run."""
        lines = self._lines()
        if damaged := [number for number, (_, row) in enumerate(lines, 1) if row is None]:
            where = ", ".join(map(str, damaged))
            warnings.warn(f"'{self.metrics}' is damaged in line {where}, which is left out.", stacklevel=3)
        rows = [row for _, row in lines if row is not None]
        end, state = max((row["step"] for row in rows), default=0), dict[str, Any]()
        with suppress(DataError):
            state = self.read_json("run.json")
        if state.get("status") == "finished" and isinstance(step := state.get("step"), int) and step > end:
            warnings.warn(f"'{self.metrics}' ends at step {end} of {step}: its later rows are lost.", stacklevel=3)
        return rows

    def _lines(self) -> list[tuple[bytes, dict[str, Any] | None]]:
        """The lines of metrics.jsonl with their rows, None for a damaged line. A killed process may have left half of the last
        one, which does not count."""
        try:
            *whole, last = self.metrics.read_bytes().split(b"\n") if self.metrics.is_file() else [b""]
        except OSError as error:
            raise DataError(f"cannot read '{self.metrics}': {error.strerror}.") from error
        lines, sealed = list[tuple[bytes, dict[str, Any] | None]](), False
        for line in whole:
            row, sealed = _parse_row(line, sealed)
            lines.append((line, row))
        row, _ = _parse_row(last, sealed)
        return lines if row is None else [*lines, (last, row)]

    def resume(self, step: int, rows: int | None = None) -> None:
        """Drops the metric rows after a step, which a resumed run measures again.

        Arguments:
            rows: their number up to the step, where it is known; warns of fewer.
        """
        kept, lines = list[bytes](), self._lines()
        for number, (line, _) in enumerate(lines):
            following = (later["step"] for _, later in lines[number:] if later is not None)
            if next(following, step) <= step:  # a damaged line goes with the next whole one
                kept.append(line + b"\n")
        if rows is not None and len(kept) < rows:
            lost = f"{rows - len(kept)} of {rows} rows up to step {step} are lost"
            warnings.warn(f"'{self.metrics}' is not whole: {lost}.", stacklevel=3)
        self.write("metrics.jsonl", b"".join(kept))
