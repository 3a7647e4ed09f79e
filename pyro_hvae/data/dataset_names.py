"""Names of data sets: which are paths, and the errors for those that lead to none. Needs neither torch nor the table."""

import os
from collections.abc import Iterable
from pathlib import Path

from pyro_hvae.errors import DataError, unknown_name


def is_path(name: str) -> bool:
    """Whether a name is a path: it has a separator or a suffix, which no entry of the table has.

    >>> is_path("photos/"), is_path("codes.npy"), is_path("mnist-static")
    (True, True, False)
    """
    return "/" in name or os.sep in name or bool(Path(name).suffix) or name in (".", "..", "~")


def require_dataset(name: str, known: Iterable[str]) -> None:
    """Raises the error for a name that is neither `known` nor a path of something.

    Raises:
        ConfigError: for an unknown name, suggesting the nearest.
        DataError: for a path that does not exist.
    """
    if name in known:
        return
    path = os.path.expanduser(name)  # these two never raise, for a name that is too long or the home of nobody
    if is_path(name):
        if not os.path.exists(path):
            raise DataError(f"there is no file or folder '{name}' to read data from. Check the path, or put the data back.")
        return
    error = unknown_name("dataset", name, known)
    if os.path.exists(path):
        error.args = (f"{error} For your own data of that name use a path: --dataset ./{name}.",)
    raise error
