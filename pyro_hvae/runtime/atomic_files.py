"""Files that are whole or not there at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyro_hvae.errors import DataError

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path, hint: str, shared: bool = False) -> Iterator[Path]:
    """A temporary neighbour to write to, which takes the place of `path` when the block ends, synced, and else is removed.

    Arguments:
        hint: what to do when the place cannot be written, a sentence for the error.
        shared: several processes may write the same file at a time, so each gets a neighbour of its own. Not `tempfile`'s,
            whose files are for the user alone. A process that is killed outright leaves its neighbour, which may be removed.

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
