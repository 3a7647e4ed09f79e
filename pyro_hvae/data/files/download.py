"""Downloads published files: from the first mirror that gives the right bytes, all of them or none."""

import contextlib
import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from http.client import HTTPException, IncompleteRead, responses
from pathlib import Path

from pyro_hvae import __version__
from pyro_hvae.data.files.data_file import File
from pyro_hvae.errors import DataError
from pyro_hvae.runtime.atomic_files import atomic_write
from pyro_hvae.runtime.folders import DATA_VARIABLE, data_folder

__all__ = ["Progress", "download", "verify"]

Progress = Callable[[int, int | None], object]
"""Called with the bytes so far and those in all (None where that is unknown)."""

TIMEOUT = 20.0  # seconds in which a server has to connect or to send something
PAUSE = 2.0  # seconds before a server that was busy is asked once more
PATIENCE = 60.0  # seconds after which a server has to have sent SLOWEST bytes per second on average
SLOWEST = 2**10
LIMIT = 2**32  # bytes, of a file whose size is not known
PIECE = 2**18  # bytes; the most that is read at a time
BUSY = (429, 502, 503, 504)


class _Answer(Exception):
    """Why one mirror did not give the file; `passing` where it may do so in a moment."""

    def __init__(self, why: str, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


def verify(file: File) -> str:
    """How a file in the data folder compares with its checksum: SHA-256 where it is known, else MD5.

    Returns:
        "verified", "missing", "wrong checksum", or "present, no checksum known".

    Raises:
        DataError: when it is there and cannot be read.

    >>> verify(File("nowhere/at-all.bin"))
    'missing'
    """
    path = data_folder() / file.path
    kind, wanted = file.digest
    if wanted is None:  # a folder is among these
        return "present, no checksum known" if path.exists() else "missing"
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Check that it is a file you may read.") from error
    return "verified" if found == wanted else "wrong checksum"


def download(file: File, progress: Progress | None = None) -> Path:
    """A published file in the data folder, downloaded unless it is there already.

    Its mirrors are tried in their order; one that is busy, silent or breaks off is asked once more. Nothing but http and https
    is followed. The bytes go to a file of its own beside the place, ending in ".part", which gets the right name only when it
    is complete and its checksum is right, and is removed otherwise: a download may be interrupted or made twice at a time. (A
    process that is killed outright leaves its ".part", which may be removed.)

    Arguments:
        progress: called whenever some bytes have come; a second attempt counts from the beginning.

    Raises:
        DataError: when a file of this name with another checksum is in the way; when there is no mirror, or none has the file,
            saying what each answered and how to get it by hand; when the data folder cannot be written.
    """
    path = data_folder() / file.path
    state = verify(file)
    if state == "wrong checksum":
        raise DataError(
            f"{path} is not the file expected ({file.checksum}): it is damaged, incomplete or another version. "
            "Remove it to have it downloaded anew."
        )
    if state != "missing":
        return path
    place = f"{path} ({file.checksum})" if file.checksum else str(path)
    if not file.urls:
        how = f" {file.how}" if file.how else ""
        raise DataError(f"{file.path} cannot be downloaded by a program.{how} Put it at {place}.")
    answers: list[str] = []
    for url in file.urls:
        try:
            return _patiently(url, file, path, progress)
        except _Answer as error:
            answers.append(f"{url}: {error}")
    raise DataError(
        f"no mirror has {file.path}: {'; '.join(answers)}. Offline? Get it elsewhere and put it at {place}, or set the "
        f"environment variable {DATA_VARIABLE} to a folder that has it as {file.path}."
    )


def _patiently(url: str, file: File, path: Path, progress: Progress | None) -> Path:
    """One mirror's file, asked for a second time where the first answer may have been bad luck."""
    try:
        return _complete(url, file, path, progress)
    except _Answer as error:
        if not error.passing:
            raise
    time.sleep(PAUSE)
    return _complete(url, file, path, progress)


def _complete(url: str, file: File, path: Path, progress: Progress | None) -> Path:
    """One mirror's file under its name, or nothing."""
    kind, wanted = file.digest
    digest, done = hashlib.new(kind, usedforsecurity=False), 0
    room = f" with room for {file.size / 1e6:,.1f} MB" if file.size else ""
    hint = f"Make the folder {data_folder()} writable, or set the environment variable {DATA_VARIABLE} to one{room}."
    with atomic_write(path, hint, shared=True) as part:  # errors of the network have become an _Answer
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as stream, contextlib.closing(_pieces(url, file.size)) as pieces:
            for piece, total in pieces:
                stream.write(piece)
                digest.update(piece)
                done += len(piece)
                if progress:
                    progress(done, total)
        if wanted is not None and (found := digest.hexdigest()) != wanted:
            raise _Answer(f"another file, its {kind} is {found} and should be {wanted}")
    return path


def _pieces(url: str, size: int | None) -> Generator[tuple[bytes, int | None], None, None]:
    """What a server sends, with its whole length if known: as much as it announced, never more than `size` or `LIMIT`.

    Raises:
        _Answer: for everything else.
    """
    done, start = 0, time.monotonic()
    try:
        with _opener().open(url, timeout=TIMEOUT) as answer:
            announced = answer.headers.get("Content-Length", "")
            total = int(announced) if announced.isdecimal() else size
            if size is not None and total != size:
                raise _Answer(f"another file, of {total:,} bytes instead of {size:,}")
            while piece := answer.read1(PIECE):
                done += len(piece)
                if done > (LIMIT if size is None else size):
                    raise _Answer(f"too long, more than {LIMIT if size is None else size:,} bytes")
                if (seconds := time.monotonic() - start) > PATIENCE and done < SLOWEST * seconds:
                    raise _Answer(f"too slow, {done:,} bytes in {seconds:.0f} seconds")
                yield piece, total
        if total is not None and done < total:
            raise _Answer(f"broke off after {done:,} of {total:,} bytes", passing=True)
    except urllib.error.HTTPError as error:
        error.close()
        refused = ", a redirection that is not followed" if 300 <= error.code < 400 else ""
        known = f"HTTP {error.code} {responses.get(error.code, '')}".strip()
        raise _Answer(known + refused, passing=error.code in BUSY) from error
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        passing = isinstance(cause, TimeoutError | ConnectionResetError | IncompleteRead)
        raise _Answer(_plain(cause), passing) from error


def _opener() -> urllib.request.OpenerDirector:
    """Knows http and https alone: that of `urllib.request.urlopen` reads local files and follows redirections to ftp."""
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", f"pyro-hvae/{__version__}")]
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _plain(cause: object) -> str:
    """An error in short, without what a server might have put there to confuse a terminal."""
    text = str(cause) or type(cause).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])
