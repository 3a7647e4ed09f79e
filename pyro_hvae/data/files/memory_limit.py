"""A limit for what a file says about its own size: it is compared with the free memory before anything is made."""

import os
from pathlib import Path

from pyro_hvae.errors import DataError


def require_memory(size: int, path: Path) -> None:
    """Raises `DataError` where what is read from a file needs more bytes than are free."""
    if size > (free := free_memory()):
        number, unit = (size / 1e12, "TB") if size > 1e12 else (size / 1e9, "GB")
        raise DataError(
            f"{path} needs {number:,.3g} {unit} of memory, but {free / 1e9:,.3g} GB are free. It is damaged, or too large: "
            "use a larger machine, or a part of the data."
        )


def free_memory() -> int:
    """Bytes that a process can still take without swapping; of a system that does not tell, its whole memory or 2**40."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40
