"""Where data files are, and that they are the right ones: the only module of the data sets that knows folders and checksums."""

import hashlib
import os
import sys
from pathlib import Path

from pyro_hvae.errors import DataError

__all__ = ["VARIABLE", "data_root", "find", "read_checked"]

VARIABLE = "PYRO_HVAE_DATA"


def data_root() -> Path:
    """The folder of all data files: the environment's PYRO_HVAE_DATA, else `pyro-hvae` in the platform's own data folder.

    That is $XDG_DATA_HOME or ~/.local/share on Linux, ~/Library/Application Support on macOS, and %LOCALAPPDATA% on
    Windows. The folder need not exist.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return folder / "pyro-hvae"


def find(*names: str, md5: str | None = None) -> Path:
    """The first of the named files (or folders) that exists below the data folder.

    Every loader comes by its files here, so that fetching a missing one has a single place to go to.

    Arguments:
        names: alternatives in order of preference, relative to the data folder, with "/" between the parts.
        md5: the checksum of the first alternative where one is known, for the message.

    Raises:
        DataError: when none of them exists, saying where to put it.
    """
    root = data_root()
    for name in names:
        if (path := root / name).exists():
            return path
    others = f" (or {' or '.join(names[1:])})" if names[1:] else ""
    known = f" (MD5 {md5})" if md5 else ""
    raise DataError(
        f"no data file {names[0]}{others}. Put it at {root / names[0]}{known}, or set the environment variable {VARIABLE} "
        f"to the folder that contains {names[0].split('/')[0]}."
    )


def read_checked(path: Path, md5: str | None = None) -> bytes:
    """The content of a file, looked at by nobody before its checksum is found right.

    Arguments:
        path: the file.
        md5: its MD5 in hexadecimal; None where none is known, which checks nothing.

    Raises:
        DataError: when the file cannot be read or is not the one expected.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Check that it is a file you may read.") from error
    # MD5 because that is what the data's publishers state; it finds damage and mix-ups, it does not withstand an attacker.
    if md5 and (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
        raise DataError(
            f"{path} is not the file expected: its MD5 is {found}, it should be {md5}. It is damaged, incomplete or another "
            "version; replace it by the original."
        )
    return content
