"""Reads files out of zip and tar archives without unpacking them, trusting nothing that an archive says of itself."""

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

from pyro_hvae.data.files.data_file import read_checked
from pyro_hvae.errors import DataError

__all__ = ["read_named_members", "read_members"]

LARGEST, TOTAL = 2**26, 2**35  # bytes, of one member and of all
PIECE = 2**16  # bytes; the most that is decompressed at a time
# How the compressed kinds of tar begin, and what reads them.
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def read_named_members(
    path: Path, names: Iterable[str], largest: int = LARGEST, shorten: Callable[[str], str] = str
) -> Iterator[tuple[str, bytes]]:
    """Name and content of all the named files of an archive, or of the unpacked folder, in any order.

    Arguments:
        names: each with the name of the folder that was archived in front, as in "subjects/02/02_01.amc".
        largest: of `read_members`. shorten: a member's name -> what of it is compared with the names.

    Raises:
        DataError: when one is missing, and as `read_members` does.
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
    """Name and content of the files wanted, one after the other in the archive's order; nothing is written to disk.

    Which kind of archive it is, is seen from its content: zip (stored or deflated), or tar, plain or compressed by gzip, bzip2
    or xz. Checksums are compared: in zip archives those of the members read, in compressed tar archives that of the whole when
    its end is reached; who has enough may stop earlier.

    Arguments:
        path: the archive.
        wanted: name as in the archive, such as "images/one.png" -> whether to read it. Directories are passed over.
        largest, total: how many bytes a member and all of them may have when decompressed; those of a tar archive count with
            the ones not wanted, which have to be decompressed as well.

    Raises:
        DataError: when the archive cannot be read, is encrypted, damaged, incomplete or larger than allowed; when a name
            wanted leads out of the archive (absolute, "..", a drive), is there twice, or is of a link or a device.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with zipfile.ZipFile(path := Path(folder, "a.zip"), "w") as archive:
    ...         archive.writestr("b/one.txt", "1"), archive.writestr("../two.png", "2")
    ...     dict(read_members(path, lambda name: name.endswith(".txt")))
    (None, None)
    {'b/one.txt': b'1'}
    """
    seen: set[str] = set()

    def chosen(name: str, regular: bool) -> bool:
        if not wanted(name):
            return False
        place = PureWindowsPath(name)  # knows both kinds of slashes, and drives
        if place.anchor or ".." in place.parts:
            raise _refused(path, name, "leads out of the archive")
        if not regular:
            raise _refused(path, name, "is a link or a device, no file")
        if name in seen:
            raise _refused(path, name, "is there twice")
        seen.add(name)
        return True

    kind = "tar or zip"
    try:
        with path.open("rb") as stream:
            start = stream.read(6)
            kind = "zip" if start.startswith(b"PK") else "tar"
            stream.seek(0)
            yield from (_read_zip if kind == "zip" else _read_tar)(path, stream, start, chosen, largest, total)
    except DataError:
        raise
    # The decompressors' own errors (lzma.LZMAError, zlib.error) have only Exception in common.
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as a {kind} archive: {str(error) or type(error).__name__}. Replace it by the original."
        ) from error


def _refused(path: Path, name: str, why: str) -> DataError:
    return DataError(f"{path}: the member {name!r} {why}. Replace the archive by the original.")


def _too_large(path: Path, name: str, limit: int) -> DataError:
    return _refused(path, name, f"goes beyond the {limit:,} bytes allowed when decompressed")


def _read_zip(
    path: Path, stream: IO[bytes], start: bytes, chosen: Callable[[str, bool], bool], largest: int, total: int
) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            # 0 where the archive was made on a system that knows no such types.
            regular = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
            if member.is_dir() or not chosen(member.filename, regular):
                continue
            if member.flag_bits & 1:
                raise _refused(path, member.filename, "is encrypted")
            # The module decompresses other kinds without a limit.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _refused(path, member.filename, "is compressed by a rare method, which is not read here")
            content = bytearray()
            with archive.open(member) as source:
                while piece := source.read(PIECE):
                    content += piece
                    if len(content) > min(largest, total):
                        raise _too_large(path, member.filename, min(largest, total))
            total -= len(content)
            yield member.filename, bytes(content)


def _read_tar(
    path: Path, stream: IO[bytes], start: bytes, chosen: Callable[[str, bool], bool], largest: int, total: int
) -> Iterator[tuple[str, bytes]]:
    opener = next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), None)
    with opener(stream) if opener else stream as plain:
        source = _BoundedStream(plain, max(largest, PIECE), total)
        archive, end = tarfile.open(fileobj=source, mode="r:"), -1
        while (member := archive.next()) is not None:
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # it would keep them, however many
            # A negative size would lead back, and round for ever.
            if archive.offset <= end:
                raise _refused(path, member.name, "has an impossible size")
            end = archive.offset
            if not member.isdir() and chosen(member.name, member.isreg() and not member.issparse()):
                if member.size > largest:
                    raise _too_large(path, member.name, largest)
                source.seek(member.offset_data)
                content = source.read(member.size)
                if len(content) < member.size:
                    raise _refused(path, member.name, "is incomplete")
                yield member.name, content
        # The module takes a damaged header for the end, which is a block of zeros.
        if source.block != bytes(tarfile.BLOCKSIZE):
            raise DataError(f"{path} breaks off or is damaged after {max(end, 0):,} bytes. Replace it by the original.")
        while source.read(PIECE):  # so that the decompressor gets to its checksum
            pass


class _BoundedStream(io.BufferedIOBase):
    """A stream read in pieces of at most `largest` bytes, and no further than to byte `total`; `block` is the last piece."""

    def __init__(self, stream: IO[Any], largest: int, total: int) -> None:
        self.stream, self.largest, self.total, self.block = stream, largest, total, b""

    def read(self, size: int | None = -1, /) -> bytes:
        # The sizes asked for are those that headers state, of members and of long names; they may be anything.
        if size is None or not 0 <= size <= self.largest:
            raise ValueError(f"a header asks for {size} bytes")
        room = self.total - self.tell()
        self.block = self.stream.read(min(size, room + 1))
        if len(self.block) > room:
            raise ValueError(f"it goes beyond the {self.total:,} bytes allowed when decompressed")
        return self.block

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if offset > self.total:
            raise ValueError(f"it goes beyond the {self.total:,} bytes allowed when decompressed")
        return self.stream.seek(offset)

    def tell(self) -> int:
        return self.stream.tell()
