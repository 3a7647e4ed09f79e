"""Checkpoints: tensors and primitives only, written atomically with a checksum, never executed when read."""

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pyro_hvae.errors import CheckpointError
from pyro_hvae.runtime import atomic_write, read_blocks

FORMAT_VERSION = 1
PRIMITIVES = (str, int, float, bool, type(None))
# The comment of the zip archive that torch writes: this mark and the checksum of all that stands before the checksum.
MARK, DIGITS = b"pyro-hvae sha256 ", 64


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
    with atomic_write(path, "Make room, or make the folder writable.") as part:
        try:
            with open(part, "wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # torch's own, of a file that was not written to its end
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        _seal(part)
        try:
            torch.load(part, map_location="cpu", weights_only=True, mmap=True)  # does not read the tensors' values
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"'{path}' was not written, for it could not be opened again: {error}") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU, by `torch.load(weights_only=True)` and nothing else.

    Raises:
        CheckpointError: missing, damaged, truncated or foreign file, pickled objects, or a newer format.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint '{path}'. Train first, or name another run.")
    _check_seal(path)
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


def _seal(path: Path) -> None:
    """Writes the checksum of a checkpoint into the comment of its archive."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = MARK + b"0" * DIGITS
    with open(path, "rb+") as file:
        end = path.stat().st_size - DIGITS
        digest = _hash_until(file, end)
        file.seek(end)
        file.write(digest)


def _check_seal(path: Path) -> None:
    """Raises `CheckpointError` where the checksum of a file does not hold.

    Files that older versions or `torch.save` wrote have the checksums of the archive's members alone. Compressed archives are
    refused: torch writes none, and a small one could take all memory.
    """
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            file.seek(max(0, size - 2 * len(MARK) - 2 * DIGITS))
            _, sealed, digits = file.read().partition(MARK)
            if sealed and (len(digits) != DIGITS or digits != _hash_until(file, size - DIGITS)):
                raise _damaged(path, "its checksum does not hold")
        if not zipfile.is_zipfile(path):
            return  # torch says what else it is
        with zipfile.ZipFile(path) as archive:
            if packed := [member.filename for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]:
                raise _damaged(path, f"'{packed[0]}' is compressed, which torch never does")
            if not sealed and (name := archive.testzip()):
                raise _damaged(path, f"the checksum of '{name}' does not hold")
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint '{path}': {error.strerror}.") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _hash_until(file: BinaryIO, end: int) -> bytes:
    """The checksum of the first `end` bytes of a file, in hexadecimal digits."""
    total = hashlib.sha256()
    for block in read_blocks(file, end):
        total.update(block)
    return total.hexdigest().encode()


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint '{path}' is damaged: {why}. It was not loaded. Use the run's other checkpoint (last or best) if that one "
        "is whole, or train again."
    )
