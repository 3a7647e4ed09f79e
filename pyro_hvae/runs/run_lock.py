"""The lock of a run directory: one process at a time trains a run."""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pyro_hvae.errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "train.lock"


@contextmanager
def lock_run(path: Path) -> Iterator[None]:
    """Holds the lock of a run directory, a file with the process and host of its owner, for the block.

    The operating system drops the lock of a process that dies, so the file that it leaves behind holds nobody up. Only that of
    another host does, for nothing here shows whether its owner is alive.

    Raises:
        DataError: when another process trains the run, or the directory cannot be written.
    """
    file = _acquire(path / LOCK)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (path / LOCK).unlink(missing_ok=True)
        file.close()


def require_unlocked(path: Path) -> None:
    """Raises `DataError` when another process trains the run."""
    if (path / LOCK).exists():
        with lock_run(path):
            pass


def is_trained(path: Path) -> bool:
    """Whether another process trains the run."""
    try:
        require_unlocked(path)
    except DataError:
        return True
    return False


def _acquire(lock: Path) -> IO[str]:
    """Opens the lock file and writes its new owner into it."""
    try:
        while True:
            file = open(lock, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115, closed when the lock is given back
            try:
                _require_free(file, lock)
                if _is_there(file, lock):
                    break
            except BaseException:
                file.close()
                raise
            file.close()  # its owner has just given it back
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        file.flush()
    except OSError as error:
        why = f"cannot write '{lock}', which keeps other processes from this run: {error.strerror}"
        raise DataError(f"{why}. Make the directory writable, or go on with a copy of it.") from error
    return file


def _require_free(file: IO[str], lock: Path) -> None:
    """Takes the lock of the operating system, where it has one; raises `DataError` for a lock file with an owner."""
    pid, host = _read_owner(file)
    free = _try_lock(file)
    if free is False:
        pid, host = _read_owner(file)
        owner = f"process {pid} on {host}" if host else "its process has only just begun"
        raise DataError(f"another process trains the run '{lock.parent}' ({owner}). Wait until it ends, or stop it.")
    if host not in (None, socket.gethostname()) or (free is None and pid is not None and _is_alive(pid)):
        raise DataError(
            f"another process trains the run '{lock.parent}', as '{lock}' says (process {pid} on {host}). Wait until it ends, "
            "or stop it. Where it no longer exists, delete that file."
        )


def _read_owner(file: IO[str]) -> tuple[int | None, str | None]:
    """Process and host in a lock file; None for an empty or damaged one."""
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return int(owner["pid"]), str(owner["host"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None, None


def _try_lock(file: IO[str]) -> bool | None:
    """Whether the lock was free and is now this process's; None where the system or the file system has none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # signal 0 would be Ctrl-C there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return pid > 0


def _is_there(file: IO[str], lock: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(lock))
    except FileNotFoundError:
        return False
