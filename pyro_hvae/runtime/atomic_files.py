"""Atomic writing: a file is replaced as a whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyro_hvae.errors import ConfigError, DataError


@contextmanager
def atomic_write(path: Path, hint: str, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary file beside `path`; after the block it is synced and replaces `path`, after an error it is removed.

    Arguments:
        hint: what to do when `path` cannot be written, a sentence for the error.
        shared: several processes may write `path` at once, so each gets its own temporary file. A killed process leaves its
            file behind, which may be removed. (`tempfile` does not fit: only its own user can read its files.)

    Raises:
        DataError: for every `OSError`, also one of the block.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part" if shared else f".{path.name}.part")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror or error}. {hint}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def require_new_file(path: Path, overwrite: bool = False) -> None:
    """Checks, before what is written has been computed, that a file can be written.

    Raises:
        ConfigError: for one that is there, unless it may be overwritten. DataError: for a folder that cannot be written.
    """
    if path.exists() and not overwrite:
        raise ConfigError(
            f"{path} is there already. Choose another name, or overwrite it (--overwrite on the command "
            "line, overwrite=True in Python)."
        )
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise DataError(f"cannot write '{path}'. Choose a folder that exists and that you may write to.")
