"""A file read block by block, for checksums of files of any size."""

from collections.abc import Iterator
from typing import BinaryIO


def read_blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file, or all of a shorter one, in blocks of a megabyte at most."""
    file.seek(0)
    while size > 0 and (block := file.read(min(size, 2**20))):
        size -= len(block)
        yield block
