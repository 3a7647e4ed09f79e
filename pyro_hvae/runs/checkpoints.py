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


def _check_primitive(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_primitive(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_primitive(item, where)
    elif value is not None and not isinstance(value, Tensor | str | int | float | bool):
        raise TypeError(f"{where} holds a {type(value).__name__}; a checkpoint holds tensors and primitives only.")


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content` (tensors, str, int, float, bool, None, lists and dicts of these) with the format version."""
    content = {"format_version": FORMAT_VERSION, **content}
    _check_primitive(content, "checkpoint")
    with atomic_write(path, "Choose another place with --out.") as part:
        torch.save(content, part)


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
