"""A published data file: its path, checksum and mirrors; functions that find it and read it with its checksum verified."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyro_hvae.errors import DataError, HVAEError
from pyro_hvae.runtime import DATA_VARIABLE, data_folder


@dataclass(frozen=True)
class File:
    """A published file that a data set is read from.

    Attributes:
        path: below the data folder, with "/" between the parts.
        size: in bytes, or None if unknown. A longer download is stopped.
        sha256, md5: checksums in hexadecimal. Most publishers state the MD5, which finds damage and mix-ups but does not
            withstand an attacker. The SHA-256 is used where both are known.
        urls: mirrors, in the order in which they are tried; empty if a program cannot get the file.
        how: a sentence that says how to get the file.
        instead: paths that serve as well, such as an unpacked copy. They have no checksum; their format is checked.
    """

    path: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    urls: tuple[str, ...] = ()
    how: str = ""
    instead: tuple[str, ...] = ()

    @property
    def digest(self) -> tuple[str, str | None]:
        """The kind of checksum, as `hashlib.new` takes it, and its value; the value is None if no checksum is known."""
        return ("SHA-256", self.sha256) if self.sha256 else ("MD5", self.md5)

    @property
    def checksum(self) -> str:
        """The checksum in a message, such as "SHA-256 440f..."; empty if none is known."""
        kind, wanted = self.digest
        return f"{kind} {wanted}" if wanted else ""


@contextlib.contextmanager
def convert_errors(subject: str, advice: str = "Replace it by the original.") -> Iterator[None]:
    """Turns any error of the block into a `DataError` with the message "SUBJECT: REASON. ADVICE"; our own errors pass.

    Decoders raise many errors on damaged files (OSError, SyntaxError, ValueError, struct.error, zlib.error, ...), which have
    only `Exception` in common.
    """
    try:
        yield
    except HVAEError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{subject}: {reason.rstrip('.')}. {advice}") from error


def find_optional(file: File) -> Path | None:
    """Path of a file below the data folder, or of the first file that serves instead; None if there is none."""
    root = data_folder()
    return next((root / name for name in (file.path, *file.instead) if os.path.exists(root / name)), None)


def find(file: File) -> Path:
    """Path of a file below the data folder, or of the first file that serves instead.

    Raises:
        DataError: when none of them exists; the message says how to get the file and where to put it.
    """
    if path := find_optional(file):
        return path
    instead = f" (or {' or '.join(file.instead)})" if file.instead else ""
    known = f" ({file.checksum})" if file.checksum else ""
    how = f" {file.how}" if file.how else ""
    raise DataError(
        f"no data file {file.path}{instead}.{how} Its place is {data_folder() / file.path}{known}, or set the environment "
        f"variable {DATA_VARIABLE} to the folder that contains {file.path.split('/')[0]}."
    )


def read_checked(path: Path, file: File | None = None) -> bytes:
    """The content of a file, after its checksum has been verified.

    Arguments:
        path: of the file.
        file: the expected file; None, or a file without a known checksum, checks nothing.

    Raises:
        DataError: when the file cannot be read or has another checksum.
    """
    with convert_errors(f"cannot read {path}", "Check that it is a file you may read."):
        content = path.read_bytes()
    kind, wanted = file.digest if file else ("", None)
    if wanted and (found := hashlib.new(kind, content, usedforsecurity=False).hexdigest()) != wanted:
        raise DataError(
            f"{path} is not the expected file: its {kind} is {found}, it should be {wanted}. It is damaged, "
            "incomplete or another version; replace it by the original."
        )
    return content
