"""Checkpoints: tensors and primitives only, written atomically, never executed when read."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.errors import CheckpointError
from pyro_hvae.runtime import atomic_write

FORMAT_VERSION = 1
PRIMITIVES = (str, int, float, bool, type(None))


def _check_primitive(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_primitive(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_primitive(item, where)
    elif not isinstance(value, Tensor) and type(value) not in PRIMITIVES:  # a NumPy number is a subclass of float
        raise CheckpointError(
            f"{where} holds a {type(value).__name__}; a checkpoint holds tensors and primitives only, which are opened without "
            "running code. Make it a tensor or a plain number."
        )


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content` (tensors, str, int, float, bool, None, lists and dicts of these) with the format version.

    The file gets its name only after it has been opened as `load_checkpoint` opens it.

    Raises:
        CheckpointError: for other content. DataError: when the file cannot be written.
    """
    content = {"format_version": FORMAT_VERSION, **content}
    _check_primitive(content, "checkpoint")
    with atomic_write(path, "Choose another place with --out.") as part:
        torch.save(content, part)
        try:
            torch.load(part, map_location="cpu", weights_only=True, mmap=True)  # does not read the tensors' values
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"'{path}' was not written, for it could not be opened again: {error}") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU, by `torch.load(weights_only=True)` and nothing else.

    Raises:
        CheckpointError: missing, truncated or foreign file, pickled objects, or a newer format.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint '{path}'. Train first, or name another run.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on foreign pickles, which are refused below anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint '{path}' is damaged or holds pickled objects, which could run code. It was not loaded. "
            "Use a file that pyro-hvae wrote, or train again."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"checkpoint '{path}' is truncated or not a checkpoint ({reason}). Use --checkpoint best, or train again."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("format_version"), int):
        raise CheckpointError(f"'{path}' is not a pyro-hvae checkpoint (no format version). Train again.")
    if content["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint '{path}' has format version {content['format_version']}, this pyro-hvae reads up to "
            f"{FORMAT_VERSION}. Upgrade the clone of pyro-hvae: git pull."
        )
    return content
