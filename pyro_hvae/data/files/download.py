"""Downloads a published file from the first mirror that sends the right bytes; the file is complete or absent."""

import contextlib
import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from http.client import HTTPException, IncompleteRead, responses
from pathlib import Path

from pyro_hvae import __version__
from pyro_hvae.data.files.data_file import File, convert_errors
from pyro_hvae.errors import DataError
from pyro_hvae.runtime import DATA_VARIABLE, atomic_write, data_folder

Progress = Callable[[int, int | None], object]
"""Called with the bytes so far and the bytes in total (None if unknown)."""

TIMEOUT = 20.0  # seconds in which a server has to connect or to send something
PAUSE = 2.0  # seconds before the second try
PATIENCE = 60.0  # seconds after which a server has to have sent SLOWEST bytes per second on average
SLOWEST = 2**10
LIMIT = 2**32  # bytes, for a file of unknown size
PIECE = 2**18  # bytes that are read at a time
BUSY = (429, 502, 503, 504)  # status codes after which a second try is worthwhile


class _MirrorError(Exception):
    """Why a mirror did not send the file; `temporary` if a second try is worthwhile."""

    def __init__(self, why: str, temporary: bool = False) -> None:
        super().__init__(why)
        self.temporary = temporary


def verify(file: File) -> str:
    """Compares a file in the data folder with its checksum: the SHA-256 if it is known, else the MD5.

    Returns:
        "verified", "missing", "wrong checksum", or "present, no checksum known".

    Raises:
        DataError: when the file exists and cannot be read.

    >>> verify(File("nowhere/at-all.bin"))
    'missing'
    """
    path = data_folder() / file.path
    kind, wanted = file.digest
    with convert_errors(f"cannot read {path}", "Check that it is a file you may read."):
        if wanted is None or not path.exists():  # a folder has no checksum
            return "present, no checksum known" if path.exists() else "missing"
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    return "verified" if found == wanted else "wrong checksum"


def download(file: File, progress: Progress | None = None) -> Path:
    """Path of a published file in the data folder; downloads the file if it is missing.

    The mirrors are tried in order. A mirror that is busy, silent or breaks off gets a second try. Only http and https are
    followed. The bytes go to a temporary file beside the place, ending in ".part". That file gets the final name when it is
    complete and its checksum is right, and is removed otherwise. A download may therefore be interrupted, or run twice at the
    same time. (A process that is killed leaves its ".part", which may be removed.)

    Arguments:
        progress: called when bytes arrive. A second try counts from zero.

    Raises:
        DataError: when a file of this name with another checksum exists; when there is no mirror, or no mirror has the file:
            the message gives each answer and says how to get the file by hand; when the data folder cannot be written.
    """
    path = data_folder() / file.path
    state = verify(file)
    if state == "wrong checksum":
        raise DataError(
            f"{path} is not the expected file ({file.checksum}): it is damaged, incomplete or another version. "
            "Remove it to download it again."
        )
    if state != "missing":
        return path
    place = f"{path} ({file.checksum})" if file.checksum else str(path)
    if not file.urls:
        how = f" {file.how}" if file.how else ""
        raise DataError(f"{file.path} cannot be downloaded by a program.{how} Put it at {place}.")
    answers: list[str] = []
    for url in file.urls:
        for pause in (PAUSE, None):
            try:
                return _download_once(url, file, path, progress)
            except _MirrorError as error:
                if pause is None or not error.temporary:
                    answers.append(f"{url}: {error}")
                    break
                time.sleep(pause)
    raise DataError(
        f"no mirror has {file.path}: {'; '.join(answers)}. Offline? Get it elsewhere and put it at {place}, or set the "
        f"environment variable {DATA_VARIABLE} to a folder that has it as {file.path}."
    )


def _download_once(url: str, file: File, path: Path, progress: Progress | None) -> Path:
    """Writes the file of one mirror to its path, or leaves nothing there."""
    kind, wanted = file.digest
    digest, done = hashlib.new(kind, usedforsecurity=False), 0
    room = f" with room for {file.size / 1e6:,.1f} MB" if file.size else ""
    hint = f"Make the folder {data_folder()} writable, or set the environment variable {DATA_VARIABLE} to one{room}."
    with atomic_write(path, hint, shared=True) as part:  # `_read_pieces` has converted errors of the network
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as stream, contextlib.closing(_read_pieces(url, file.size)) as pieces:
            for piece, total in pieces:
                stream.write(piece)
                digest.update(piece)
                done += len(piece)
                if progress:
                    progress(done, total)
        if wanted is not None and (found := digest.hexdigest()) != wanted:
            raise _MirrorError(f"another file, its {kind} is {found} and should be {wanted}")
    return path


def _read_pieces(url: str, size: int | None) -> Generator[tuple[bytes, int | None], None, None]:
    """Yields the bytes that a server sends, and the total number of bytes if known.

    Raises:
        _MirrorError: when the server sends fewer bytes than announced or more than `size` (or `LIMIT`), is too slow, or fails.
    """
    done, start, limit = 0, time.monotonic(), LIMIT if size is None else size
    try:
        with _http_opener().open(url, timeout=TIMEOUT) as answer:
            announced = answer.headers.get("Content-Length", "")
            total = int(announced) if announced.isdecimal() else size
            if size is not None and total != size:
                raise _MirrorError(f"another file, of {total:,} bytes instead of {size:,}")
            while piece := answer.read1(PIECE):
                done += len(piece)
                if done > limit:
                    raise _MirrorError(f"too long, more than {limit:,} bytes")
                if (seconds := time.monotonic() - start) > PATIENCE and done < SLOWEST * seconds:
                    raise _MirrorError(f"too slow, {done:,} bytes in {seconds:.0f} seconds")
                yield piece, total
        if total is not None and done < total:
            raise _MirrorError(f"broke off after {done:,} of {total:,} bytes", temporary=True)
    except urllib.error.HTTPError as error:
        error.close()
        refused = ", a redirection that is not followed" if 300 <= error.code < 400 else ""
        status = f"HTTP {error.code} {responses.get(error.code, '')}".strip()
        raise _MirrorError(status + refused, temporary=error.code in BUSY) from error
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        text = str(cause) or type(cause).__name__
        # A server may have put control characters into the text.
        why = "".join(letter if letter.isprintable() else "?" for letter in text[:200])
        raise _MirrorError(why, isinstance(cause, TimeoutError | ConnectionResetError | IncompleteRead)) from error


def _http_opener() -> urllib.request.OpenerDirector:
    """An opener for http and https only: `urllib.request.urlopen` reads local files and follows redirections to ftp, too."""
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
