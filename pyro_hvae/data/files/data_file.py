"""Where data files are, and that they are the right ones."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pyro_hvae.errors import DataError
from pyro_hvae.runtime.folders import DATA_VARIABLE, data_folder

__all__ = ["File", "find_optional", "find", "read_checked"]


@dataclass(frozen=True)
class File:
    """A published file that a data set is read from.

    Attributes:
        path: below the data folder, with "/" between the parts.
        size: in bytes, where it is known; a download that goes beyond is stopped.
        sha256, md5: checksums in hexadecimal. MD5 is what most publishers state; it finds damage and mix-ups, it does not
            withstand an attacker, so SHA-256 is preferred where both are known.
        urls: mirrors in the order in which they are tried; none where only the user can get the file.
        how: how to come by it, as a sentence.
        instead: paths of what will do as well, such as an unpacked copy; they have no checksum and are held to their format.
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
        """The kind of checksum there is, as `hashlib.new` takes it, and what it should be; None where none is known."""
        return ("SHA-256", self.sha256) if self.sha256 else ("MD5", self.md5)

    @property
    def checksum(self) -> str:
        """For messages, such as "SHA-256 440f..."; empty where none is known."""
        kind, wanted = self.digest
        return f"{kind} {wanted}" if wanted else ""


def find_optional(file: File) -> Path | None:
    """Where a file is below the data folder, or the first of those that do instead of it; None where there is none."""
    root = data_folder()
    return next((root / name for name in (file.path, *file.instead) if (root / name).exists()), None)


def find(file: File) -> Path:
    """Where a file is below the data folder, or the first of those that do instead of it.

    Raises:
        DataError: when none of them exists, saying how to get it and where to put it.
    """
    if path := find_optional(file):
        return path
    root = data_folder()
    instead = f" (or {' or '.join(file.instead)})" if file.instead else ""
    known = f" ({file.checksum})" if file.checksum else ""
    how = f" {file.how}" if file.how else ""
    raise DataError(
        f"no data file {file.path}{instead}.{how} Its place is {root / file.path}{known}, or set the environment variable "
        f"{DATA_VARIABLE} to the folder that contains {file.path.split('/')[0]}."
    )


def read_checked(path: Path, file: File | None = None) -> bytes:
    """The content of a file, looked at by nobody before its checksum is found right.

    Arguments:
        path: where it is. file: what it should be; None, or one without a checksum, checks nothing.

    Raises:
        DataError: when the file cannot be read or is not the one expected.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Check that it is a file you may read.") from error
    kind, wanted = file.digest if file else ("", None)
    if wanted and (found := hashlib.new(kind, content, usedforsecurity=False).hexdigest()) != wanted:
        raise DataError(
            f"{path} is not the file expected: its {kind} is {found}, it should be {wanted}. It is damaged, "
            "incomplete or another version; replace it by the original."
        )
    return content
