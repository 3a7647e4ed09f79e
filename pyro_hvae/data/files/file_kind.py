"""The kind of a user's file by its name."""

import re
from collections.abc import Collection
from pathlib import Path

from pyro_hvae.errors import ConfigError, require_known

IDX = re.compile(r".*(\.idx(\d?-ubyte)?|-ubyte)(\.gz)?")


def find_kind(path: Path) -> str:
    """The end of a file's name, in small letters, that tells what it holds.

    >>> [find_kind(Path(name)) for name in ("a.b.npy", "wine.CSV.gz", "t10k-images-idx3-ubyte.gz", "c.idx")]
    ['.npy', '.csv.gz', '.idx', '.idx']
    """
    if IDX.fullmatch(path.name.lower()):
        return ".idx"
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    return "".join(suffixes).lower()


def require_kind(path: Path, known: Collection[str]) -> str:
    """The kind of a file; raises `ConfigError` where it is none of the known ones, or the name is nothing but its end."""
    if path.name.lower() in known:
        raise ConfigError(f"'{path}' is the end of a name without a name before it. Put one there: codes{path.name}")
    require_known("kind of file", (kind := find_kind(path)) or path.name, known)
    return kind
