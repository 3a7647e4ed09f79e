"""The kind of a user's file by its name."""

import re
from pathlib import Path

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
