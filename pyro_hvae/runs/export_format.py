"""An exported model on disk: its files, what config.json holds, and how that is read. Needs no torch."""

import json
import os
from pathlib import Path
from typing import Any

from pyro_hvae.errors import CheckpointError
from pyro_hvae.runs.file_schema import ANY, CONFIG, PROGRAM, Kind, find_misfit
from pyro_hvae.runs.json_checksum import take_checksum

EXPORT_VERSION = 1
EXPORT_FORMAT = "pyro-hvae export"
EXPORT_CONFIG, EXPORT_WEIGHTS, EXPORT_CARD = "config.json", "model.safetensors", "README.md"
MOST_BYTES = 2**26  # of config.json
_AGAIN = "Get the folder again, or export the run again."

EXPORT: Kind = {
    "format": str,
    "format_version": int,
    "experiment": CONFIG,
    "data": (
        {
            "name": str,
            "shape": [int],
            "low": (float, int),
            "high": (float, int),
            "incomplete": bool,
            "given": {...: int},
            "columns": [str],
            "labels": {...: [str]},
            "standardization": ({"mean": [(float, int)], "scale": [(float, int)]}, type(None)),
            "note": str,
            "counts": {...: int},
            "grey?": bool,
        },
        type(None),
    ),
    "checkpoint": str,
    "step": int,
    "stages": int,
    "aliases": {...: str},
    "weights": {"sha256": str, "bytes": int},
    "program": (PROGRAM, type(None)),
    "evaluations": {...: {...: ANY}},
    "versions": {...: str},
    ...: ANY,
}


def is_export(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is an exported model, whole or not; a run has a config.toml."""
    path = Path(path)
    try:
        return not (path / "config.toml").exists() and any((path / name).exists() for name in (EXPORT_CONFIG, EXPORT_WEIGHTS))
    except OSError:
        return False


def read_export_config(path: Path) -> dict[str, Any]:
    """The config.json of an exported model; raises `CheckpointError` where it is missing, damaged, foreign or too new."""
    file = path / EXPORT_CONFIG
    if not file.is_file():
        raise CheckpointError(f"'{path}' is no whole export: it has no {EXPORT_CONFIG}. {_AGAIN}")
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"'{file}' cannot be read: {error}. {_AGAIN}") from error
    if not isinstance(values, dict) or values.get("format") != EXPORT_FORMAT:
        raise CheckpointError(f"'{path}' is not a model that pyro-hvae exported: its {EXPORT_CONFIG} does not say so.")
    if (version := values.get("format_version")) != EXPORT_VERSION:
        raise CheckpointError(
            f"'{file}' has format version {version!r}, but this pyro-hvae reads {EXPORT_VERSION}. Upgrade the clone of "
            "pyro-hvae: git pull."
        )
    if not take_checksum(values):
        raise CheckpointError(f"'{file}' is damaged, or was edited: its checksum does not hold. {_AGAIN}")
    if misfit := find_misfit(values, EXPORT, "it"):
        raise CheckpointError(f"'{file}' is not whole: {misfit}. {_AGAIN}")
    return values


def results_of_export(path: Path) -> Path:
    """The folder beside an exported model where its results and pictures go: the export itself stays what was shared."""
    path = Path(os.path.abspath(path))
    return path.with_name(f"{path.name}-results")
