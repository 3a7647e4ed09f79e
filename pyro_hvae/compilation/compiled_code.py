"""The folder of compiled code: a checksum for every file, by which a damaged one is removed before it is used.

Inductor loads what it finds there: source and graphs, of which a damaged one ends a compilation, and libraries, of which a
damaged one could end the process or compute something else. What is removed here is compiled again.
"""

import atexit
import contextlib
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pyro_hvae.errors import DataError
from pyro_hvae.runtime import atomic_write

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CHECKSUMS, IN_USE = "checksums.json", "in_use.lock"
MARKED = "programs"  # a sub-folder of our own, with a file for each program (see `is_compiled`)
MARKS = (".lock", ".load_ok")  # of Inductor; they are empty


class CompiledCode:
    """The compiled code in `folder`, looked through once in a process.

    Files without a checksum are remains of a process that was killed while it compiled, and are removed, too, unless another
    process uses the folder and may be compiling right now. A library of such a process is often empty: the linker creates it
    at its final place before it writes. Inductor would neither load nor replace it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept, self.failed = folder, dict[str, int](), False  # kept: file -> time of its last change
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            alone, checksums = self._is_alone(), self._read_checksums()
            for name, path in self._files():
                wanted, found = checksums.get(name), path.stat()
                mark = not found.st_size and path.suffix in MARKS
                damaged = _hash(path) != wanted or not (found.st_size or mark)
                if damaged if wanted else alone and not mark:
                    path.unlink(missing_ok=True)
                else:
                    self.kept[name] = found.st_mtime_ns
        atexit.register(self.record)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Records what the block compiles. Where it fails, nothing is recorded any more: files may be half written."""
        try:
            yield
        except BaseException:
            self.failed = True
            raise
        self.record()

    def record(self) -> None:
        """Notes the checksums of files that are new or were written again since the folder was looked through."""
        if self.failed:
            return
        with contextlib.suppress(OSError, DataError):  # the next process compiles anew what has no checksum
            new = dict[str, str]()
            for name, path in self._files():
                if self.kept.get(name) != (time := path.stat().st_mtime_ns):
                    new[name], self.kept[name] = _hash(path), time
            if new:
                with atomic_write(self.folder / CHECKSUMS, "", shared=True) as part:
                    part.write_text(json.dumps(self._read_checksums() | new))

    def _read_checksums(self) -> dict[str, str]:
        try:
            values = json.loads((self.folder / CHECKSUMS).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return values if isinstance(values, dict) else {}

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name not in (CHECKSUMS, IN_USE) and path.parent.name != MARKED:
                yield path.relative_to(self.folder).as_posix(), path

    def _is_alone(self) -> bool:
        """Marks the folder as used by this process until it ends; returns whether no other one uses it."""
        if fcntl is None:
            return False
        self.mark: Any = open(self.folder / IN_USE, "a")  # noqa: SIM115, open while the process lives
        try:
            fcntl.flock(self.mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        with contextlib.suppress(OSError):
            fcntl.flock(self.mark, fcntl.LOCK_SH)
        return alone


@cache
def compiled_code(folder: Path) -> CompiledCode:
    """The compiled code in a folder, looked through at the first call of a process."""
    return CompiledCode(folder)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
