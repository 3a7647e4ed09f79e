"""Reads files from zip and tar archives without unpacking them. An archive's own statements (names, sizes) are not trusted."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from pyro_hvae.data.files.data_file import convert_errors, read_checked
from pyro_hvae.errors import DataError

LARGEST, TOTAL = 2**26, 2**35  # limits in bytes, of one member and of all
PIECE = 2**16  # bytes that are decompressed at a time
# First bytes of a compressed tar archive -> the function that opens it.
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def read_named_members(
    path: Path, names: Iterable[str], largest: int = LARGEST, shorten: Callable[[str], str] = str
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the named files of an archive, or of the unpacked folder, in any order.

    Arguments:
        path: of the archive or the folder.
        names: each begins with the name of the archived folder, as in "subjects/02/02_01.amc".
        largest: see `read_members`.
        shorten: a member's name -> the part of it that is compared with the names.

    Raises:
        DataError: when a file is missing, and as for `read_members`.
    """
    wanted = frozenset(names)
    if path.is_dir():
        yield from ((name, read_checked(path.parent / name)) for name in sorted(wanted))
        return
    missing = set(wanted)
    for member, content in read_members(path, lambda member: shorten(member) in wanted, largest):
        missing.discard(name := shorten(member))
        yield name, content
        if not missing:
            return
    if missing:
        raise DataError(
            f"{path} lacks {len(missing):,} of {len(wanted):,} files, such as {min(missing)}. Replace it by the original, or "
            "choose what does not need them."
        )


def read_members(
    path: Path, wanted: Callable[[str], bool], largest: int = LARGEST, total: int = TOTAL
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the wanted files, one after the other in the archive's order; nothing is written to disk.

    The content shows the kind of archive: zip (stored or deflated), or tar, plain or compressed by gzip, bzip2 or xz.
    Checksums are verified: in a zip archive that of each member when it is read, in a compressed tar archive that of the
    whole when its end is reached. A caller may stop earlier.

    Arguments:
        path: of the archive.
        wanted: a member's name, such as "images/one.png" -> whether to read it. Directories are skipped.
        largest, total: limits in bytes for one decompressed member and for all of them. In a tar archive unwanted members
            count towards the total, because they are decompressed, too.

    Raises:
        DataError: when the archive cannot be read, or is encrypted, damaged, incomplete or larger than allowed; when a wanted
            name leads out of the archive (absolute, "..", a drive), occurs twice, or belongs to a link or a device.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with zipfile.ZipFile(path := Path(folder, "a.zip"), "w") as archive:
    ...         archive.writestr("b/one.txt", "1"), archive.writestr("../two.png", "2")
    ...     dict(read_members(path, lambda name: name.endswith(".txt")))
    (None, None)
    {'b/one.txt': b'1'}
    """
    names: set[str] = set()

    def select(name: str, regular: bool) -> bool:
        if not wanted(name):
            return False
        place = PureWindowsPath(name)  # knows both kinds of slashes, and drives
        if place.anchor or ".." in place.parts:
            raise _refuse(path, name, "leads out of the archive")
        if not regular:
            raise _refuse(path, name, "is a link or a device, not a file")
        if name in names:
            raise _refuse(path, name, "occurs twice")
        names.add(name)
        return True

    with convert_errors(f"{path} cannot be read as a tar or zip archive"), path.open("rb") as stream:
        start = stream.read(6)
        stream.seek(0)
        kind, read = ("zip", _read_zip) if start.startswith(b"PK") else ("tar", _read_tar)
        with convert_errors(f"{path} cannot be read as a {kind} archive"):
            yield from read(path, stream, start, select, largest, total)


def _refuse(path: Path, name: str, why: str) -> DataError:
    return DataError(f"{path}: the member {name!r} {why}. Replace the archive by the original.")


def _too_large(path: Path, name: str, limit: int) -> DataError:
    return _refuse(path, name, f"exceeds the limit of {limit:,} decompressed bytes")


def _read_zip(
    path: Path, stream: IO[bytes], start: bytes, select: Callable[[str, bool], bool], largest: int, total: int
) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            # The type is 0 if the archive comes from a system without such types.
            regular = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
            if member.is_dir() or not select(member.filename, regular):
                continue
            if member.flag_bits & 1:
                raise _refuse(path, member.filename, "is encrypted")
            # `zipfile` decompresses other kinds without a limit.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _refuse(path, member.filename, "is compressed by a method that is not supported")
            content = bytearray()
            with archive.open(member) as source:
                while piece := source.read(PIECE):
                    content += piece
                    if len(content) > min(largest, total):
                        raise _too_large(path, member.filename, min(largest, total))
            total -= len(content)
            yield member.filename, bytes(content)


def _read_tar(
    path: Path, stream: IO[bytes], start: bytes, select: Callable[[str, bool], bool], largest: int, total: int
) -> Iterator[tuple[str, bytes]]:
    opener = next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), None)
    with opener(stream) if opener else stream as plain:
        source = _BoundedStream(plain, max(largest, PIECE), total)
        archive, end = tarfile.open(fileobj=source, mode="r:"), -1
        while (member := archive.next()) is not None:
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # else it keeps all members in memory
            # A negative size leads back, into an endless loop.
            if archive.offset <= end:
                raise _refuse(path, member.name, "has an impossible size")
            end = archive.offset
            if not member.isdir() and select(member.name, member.isreg() and not member.issparse()):
                if member.size > largest:
                    raise _too_large(path, member.name, largest)
                source.seek(member.offset_data)
                content = source.read(member.size)
                if len(content) < member.size:
                    raise _refuse(path, member.name, "is incomplete")
                yield member.name, content
        # `tarfile` takes a damaged header for the end of the archive. The real end is a block of zeros.
        if source.block != bytes(tarfile.BLOCKSIZE):
            raise DataError(f"{path} breaks off or is damaged after {max(end, 0):,} bytes. Replace it by the original.")
        while source.read(PIECE):  # until the decompressor verifies its checksum
            pass


class _BoundedStream(io.BufferedIOBase):
    """A stream that is read in pieces of at most `largest` bytes, up to byte `total`. `block` is the last piece."""

    def __init__(self, stream: IO[Any], largest: int, total: int) -> None:
        self.stream, self.largest, self.total, self.block = stream, largest, total, b""

    def read(self, size: int | None = -1, /) -> bytes:
        # The sizes come from headers of members and of long names and may be anything.
        if size is None or not 0 <= size <= self.largest:
            raise ValueError(f"a header asks for {size} bytes")
        room = self.total - self.tell()
        self.block = self.stream.read(min(size, room + 1))
        if len(self.block) > room:
            raise ValueError(f"it exceeds the limit of {self.total:,} decompressed bytes")
        return self.block

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if offset > self.total:
            raise ValueError(f"it exceeds the limit of {self.total:,} decompressed bytes")
        return self.stream.seek(offset)

    def tell(self) -> int:
        return self.stream.tell()
