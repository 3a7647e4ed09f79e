"""The directory of a run: config.toml, run.json, program.json, metrics.jsonl, checkpoints/, figures/ and eval/."""

import json
import math
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import tomli_w

from pyro_hvae.errors import CheckpointError, ConfigError, DataError, require_known
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.program_record import find_other_settings, record_program
from pyro_hvae.runtime import atomic_write, runs_folder


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
    if str(name) and path.is_dir():
        return path
    runs = sorted(p for p in root.glob("*") if (p / "run.json").is_file()) if root.is_dir() else []
    if str(name) == "last":
        if not runs:
            raise DataError(f"there is no run below '{root}' yet. Train one: pyro-hvae train vhp --dataset pendulum.")
        return max(runs, key=lambda p: (p / "run.json").stat().st_mtime)
    matches = [p for p in runs if p.name == str(name)] or [p for p in runs if p.name.startswith(str(name))]
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


class RunDirectory:
    """The files of one run in the directory `path`. The constructor touches no file; `create` makes the directory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metrics = self.path / "metrics.jsonl"

    def require_empty(self) -> None:
        """Raises `ConfigError` when the directory is not empty, or is a file."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out '{self.path}' is a file, not a directory. Choose another place.")
        if self.path.is_dir() and any(self.path.iterdir()) and not self._unused():
            raise ConfigError(f"'{self.path}' is not empty. Go on with it by --resume {self.path}, or choose another --out.")

    def _unused(self) -> bool:
        """Whether this is a run without a checkpoint or a metric row: it failed before its first step, and may start again."""
        files = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}
        return "config.toml" in files and files <= {"config.toml", "run.json", "program.json"}

    def create(self, experiment: Experiment, *pair: Any) -> None:
        """Makes an empty run and writes its configuration, and what it keeps of a user's own `pair` (model, guide).

        Raises:
            ConfigError: when the directory is not empty. DataError: when it cannot be written.
        """
        self.require_empty()
        config = _write_toml(experiment)
        try:
            for name in ("checkpoints", "figures", "eval"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot write to '{self.path}': {error.strerror}. Choose another place with --out.") from error
        self.write("config.toml", config)
        if experiment.recipe is None and pair:
            self.write_json("program.json", record_program(experiment.program, *pair))
        self.update(command=[Path(sys.argv[0]).name, *sys.argv[1:]], seed=experiment.train.seed, versions=package_versions())

    def require_writable(self, folder: str) -> None:
        """Makes a folder of the run where it is missing; raises `DataError` when nothing can be written to it."""
        path = self.path / folder
        try:
            path.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise DataError(f"cannot write to '{path}', where the run keeps its results: {error.strerror}.") from error

    def write(self, name: str, text: str) -> Path:
        """Writes a text file of the run atomically and returns its path."""
        path = self.path / name
        with atomic_write(path, "Choose another place with --out.") as part:
            part.write_bytes(text.encode())
        return path

    def write_config(self, experiment: Experiment) -> None:
        self.write("config.toml", _write_toml(experiment))

    def write_json(self, name: str, values: Mapping[str, Any]) -> Path:
        return self.write(name, json.dumps(replace_nonfinite(values), indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Contents of a JSON file of the run, empty when it is absent; raises `DataError` when it is damaged."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, ValueError) as error:
            raise DataError(f"'{path}' cannot be read: {error}.") from error

    def update(self, **values: Any) -> None:
        """Merges values into run.json."""
        self.write_json("run.json", self.read_json("run.json") | values)

    def checkpoint(self, which: str = "last") -> Path:
        return self.path / "checkpoints" / f"{which}.pt"

    def require_checkpoint(self, which: str = "last") -> Path:
        """The path of a checkpoint; raises `CheckpointError` when it is missing, `ConfigError` for a name but last and best."""
        require_known("checkpoint", which, ("last", "best"))
        if not (path := self.checkpoint(which)).is_file():
            raise CheckpointError(
                f"run '{self.path}' has no checkpoint '{which}' (looked for {path}). Name another or train one. "
                "('best' is only written once validation has run after REWO's initial phase.)"
            )
        return path

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Adds one line to metrics.jsonl."""
        try:
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise DataError(f"cannot write '{self.metrics}': {error.strerror}.") from error

    def rows(self) -> list[dict[str, Any]]:
        """All complete rows of metrics.jsonl (a killed process may leave half a line)."""
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.is_file() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def resume(self, step: int, model: Any, guide: Any) -> None:
        """Drops the metric rows after a step, which a resumed run measures again; warns of another pair than the run's."""
        if other := find_other_settings(model, guide, self.read_json("program.json")):
            warnings.warn(f"this is not the pair of the run '{self.path}', which goes on with it: {other}.", stacklevel=3)
        rows = [json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step]
        self.write("metrics.jsonl", "".join(rows))
