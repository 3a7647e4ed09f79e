"""Downloads from a server that does all that servers do wrong, and archives that lie, break off or lead elsewhere."""

import gzip
import hashlib
import io
import lzma
import os
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pyro_hvae import __version__
from pyro_hvae.data.files import archives
from pyro_hvae.data.files import download as fetch
from pyro_hvae.data.files.archives import read_members
from pyro_hvae.data.files.data_file import File
from pyro_hvae.data.files.download import download, verify
from pyro_hvae.errors import DataError

BODY = bytes(range(256)) * 4000  # several reads
SHA256, MD5 = hashlib.sha256(BODY).hexdigest(), hashlib.md5(BODY).hexdigest()
OTHER = BODY[::-1]
PACKED = gzip.compress(BODY, mtime=0)
NAME = "Set/raw/a.bin"


class Server(ThreadingHTTPServer):
    """Counts what it is asked for; `hold` is waited for by /slow and /stalled, `agents` are who asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.agents, self.hold = [], set(), threading.Event()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request, client_address):
        assert isinstance(sys.exc_info()[1], OSError)  # a client that has gone away


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format, *args):
        pass

    def answer(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        if length != "none":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server, path = self.server, self.path
        server.asked.append(path)
        server.agents.add(self.headers["User-Agent"])
        again = server.asked.count(path) > 1
        if path == "/good" or (path.startswith("/once-") and again):
            self.answer(200, BODY)
        elif path in ("/once-503", "/once-429"):
            self.answer(int(path[-3:]))
        elif path in ("/truncated", "/once-truncated"):
            self.answer(200, BODY[:-1], len(BODY))
        elif path == "/short":  # no length announced
            self.answer(200, BODY[:-1], "none")
        elif path == "/long":
            self.answer(200, BODY + b"x", "none")
        elif path == "/too-large":
            self.answer(200, BODY, len(BODY) + 1)
        elif path == "/plain":
            self.answer(200, BODY, "none")
        elif path == "/other":
            self.answer(200, OTHER)
        elif path == "/labelled":
            self.answer(200, PACKED, **{"Content-Encoding": "gzip"})
        elif path in ("/stalled", "/once-stalled"):
            self.answer(200, BODY[:1000], len(BODY))
            server.hold.wait(10)
        elif path.startswith("/to-"):
            self.answer(302, Location={"/to-good": "/good", "/to-loop": "/to-loop"}.get(path, path[4:]))
        elif path == "/reset":
            self.close_connection = True
        elif path == "/rubbish":
            self.wfile.write(b"\x1b[31mno http at all\x07\r\n\r\n")
        else:
            self.answer(404, b"<h1>" + b"not here" * 1000)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.hold.set()
        server.shutdown()
        thread.join()


def found(root):
    """All files below the data folder, which holds no leftovers."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def file(server, *paths, size=None, sha256=SHA256, **rest):
    return File(NAME, size, sha256, urls=tuple(map(server.url, paths)), **rest)


@pytest.mark.parametrize("size", [None, len(BODY)])
@pytest.mark.parametrize("path", ["/good", "/plain", "/to-good"])
def test_a_file_comes_whole_and_once(server, root, path, size):
    seen = []
    wanted = file(server, path, size=size)
    assert verify(wanted) == "missing"
    assert download(wanted, lambda *state: seen.append(state)) == root / NAME
    assert (root / NAME).read_bytes() == BODY and found(root) == {NAME} and verify(wanted) == "verified"
    done, totals = [s[0] for s in seen], {s[1] for s in seen}
    assert done == sorted(set(done)) and done[-1] == len(BODY) and len(done) > 1
    assert totals == {None if path == "/plain" and size is None else len(BODY)}
    before = list(server.asked)
    download(wanted, lambda *state: pytest.fail("nothing is to be done"))
    assert server.asked == before and server.agents == {f"pyro-hvae/{__version__}"}


def test_a_compressed_file_stays_as_published_whatever_its_server_calls_it(server, root):
    """A server may label a .gz file "Content-Encoding: gzip"; what undoes that stores other bytes than the published ones."""
    path = download(file(server, "/labelled", size=len(PACKED), sha256=hashlib.sha256(PACKED).hexdigest()))
    assert path.read_bytes() == PACKED


def test_others_may_read_what_was_downloaded(server, root):
    (root / "plain").write_bytes(b"")
    path = download(file(server, "/good"))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((root / "plain").stat().st_mode)


@pytest.mark.parametrize(
    ("path", "asked", "why"),
    [
        ("/absent", 1, "HTTP 404 Not Found;"),
        ("/other", 1, f"another file, its SHA-256 is {hashlib.sha256(OTHER).hexdigest()} and should be {SHA256};"),
        ("/truncated", 2, f"broke off after {len(BODY) - 1:,} of {len(BODY):,} bytes;"),
        ("/short", 2, f"broke off after {len(BODY) - 1:,} of {len(BODY):,} bytes;"),
        ("/long", 1, f"too long, more than {len(BODY):,} bytes;"),
        ("/too-large", 1, f"another file, of {len(BODY) + 1:,} bytes instead of {len(BODY):,};"),
        ("/stalled", 2, "timed out;"),
        ("/reset", 2, "Remote end closed connection without response;"),
        ("/rubbish", 1, "?[31mno http at all?"),
        ("/to-file:///etc/hostname", 1, "HTTP 302 Found, a redirection that is not followed;"),
        ("/to-ftp://127.0.0.1/a", 1, "unknown url type: ftp;"),
        ("/to-http://127.0.0.1:port/", 1, "nonnumeric port: 'port';"),
        ("/to-loop", 5, "HTTP 302 Found, a redirection that is not followed;"),
    ],
)
def test_the_next_mirror_is_tried(server, root, monkeypatch, path, asked, why):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.4 if "stalled" in path else 20)
    wanted = file(server, path, "/absent-too", size=len(BODY))
    with pytest.raises(DataError) as caught:
        download(wanted)
    message = str(caught.value)
    assert f"{server.url(path)}: {why}" in message and f"{server.url('/absent-too')}: HTTP 404 Not Found." in message
    assert f"Offline? Get it elsewhere and put it at {root / NAME} (SHA-256 {SHA256})" in message
    assert "PYRO_HVAE_DATA" in message and message.isprintable()
    assert found(root) == set() and server.asked.count(path) == asked
    assert download(file(server, path, "/good", size=len(BODY))).read_bytes() == BODY
    assert found(root) == {NAME}


@pytest.mark.parametrize("path", ["/once-503", "/once-429", "/once-truncated", "/once-stalled"])
def test_a_busy_mirror_is_asked_once_more(server, root, monkeypatch, path):
    pauses = []
    monkeypatch.setattr(fetch.time, "sleep", pauses.append)
    monkeypatch.setattr(fetch, "TIMEOUT", 0.4 if "stalled" in path else 20)
    assert download(file(server, path)).read_bytes() == BODY
    assert server.asked == [path, path] and found(root) == {NAME} and pauses == [fetch.PAUSE]


def test_no_server_and_no_url(root, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    for url in ("http://127.0.0.1:1/a", "file:///etc/hostname", "ftp://127.0.0.1/a", "data:,a", "a", "http:///a"):
        with pytest.raises(DataError, match="no mirror has Set/raw/a.bin: .*Offline"):
            download(File(NAME, urls=(url,)))
    with pytest.raises(DataError) as caught:
        download(File(NAME, md5=MD5, how="Ask its publisher for it."))
    assert str(caught.value) == (
        f"{NAME} cannot be downloaded by a program. Ask its publisher for it. Put it at {root / NAME} (MD5 {MD5})."
    )
    assert found(root) == set()


def test_what_a_size_and_a_checksum_are_good_for(server, root, monkeypatch):
    monkeypatch.setattr(fetch, "LIMIT", len(BODY) - 1)
    with pytest.raises(DataError, match=f"too long, more than {len(BODY) - 1:,} bytes"):
        download(file(server, "/good"))
    wanted = File(NAME, len(BODY), md5=MD5, urls=(server.url("/good"),))
    assert verify(wanted) == "missing"
    assert verify(File(NAME)) == "missing"
    download(wanted)
    assert verify(wanted) == "verified" and verify(File(NAME)) == "present, no checksum known"
    # SHA-256 decides where both are known.
    assert verify(File(NAME, sha256=SHA256, md5="0" * 32)) == "verified"
    assert verify(File(NAME, sha256="0" * 64, md5=MD5)) == "wrong checksum"


def test_another_file_in_the_way_is_left_alone(server, root):
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(OTHER)
    wanted = file(server, "/good")
    assert verify(wanted) == "wrong checksum"
    with pytest.raises(DataError, match=f"a.bin is not the expected file .SHA-256 {SHA256}.: .* Remove it"):
        download(wanted)
    assert (root / NAME).read_bytes() == OTHER and server.asked == []
    assert download(file(server, "/good", sha256=None)).read_bytes() == OTHER  # nothing speaks against it
    (root / NAME).unlink()
    (root / NAME).mkdir()
    with pytest.raises(DataError, match="cannot read .*a.bin"):
        verify(wanted)


def test_folders_that_cannot_be_written(server, root, monkeypatch):
    (root / "Set").write_bytes(b"a file where a folder should be")
    with pytest.raises(DataError, match="cannot (read|write) .*a.bin"):
        download(file(server, "/good"))
    wanted = File("b.bin", 3_000_000, sha256=SHA256, urls=(server.url("/good"),))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError) as caught:
        download(File("b.bin", len(BODY), sha256=SHA256, urls=wanted.urls))
    assert "b.bin': No space left on device" in str(caught.value) and f"the folder {root} writable" in str(caught.value)
    assert "PYRO_HVAE_DATA to one with room for 1.0 MB." in str(caught.value)
    assert found(root) == {"Set"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(server, root):
    root.chmod(0o500)
    try:
        with pytest.raises(DataError, match="cannot write .*a.bin: Permission denied.*PYRO_HVAE_DATA"):
            download(file(server, "/good"))
    finally:
        root.chmod(0o700)


def test_an_interrupted_download_leaves_nothing(server, root):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(file(server, "/good"), stop)
    assert found(root) == set()


def test_a_killed_download_leaves_nothing_under_the_name(server, root):
    code = (
        "from pyro_hvae.data.files.download import download; from pyro_hvae.data.files.data_file import File\n"
        f"file = File({NAME!r}, sha256={SHA256!r}, urls=({server.url('/stalled')!r},))\n"
        "download(file, lambda *_: print('some', flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"some\n"
        (part,) = found(root)
        assert os.path.basename(part).startswith(f".{os.path.basename(NAME)}.") and part.endswith(".part")
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    assert not (root / NAME).exists()
    assert download(file(server, "/good")).read_bytes() == BODY  # what was left is in nobody's way


def test_two_threads_may_download_the_same(server, root):
    together, results = threading.Barrier(2), []

    def one():
        first = iter([True])
        results.append(download(file(server, "/good"), lambda *_: together.wait(10) if next(first, False) else None))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [root / NAME] * 2 and (root / NAME).read_bytes() == BODY and found(root) == {NAME}
    assert server.asked == ["/good", "/good"]


# --- archives ---------------------------------------------------------------------------------------------------------

CONTENT = {"b/two.txt": b"2" * 10_000, "a/one.txt": b"1", "b/image.png": b"x" * 512}


def zipped(path, content, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def tarred(path, content, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = len(data), tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(data))
    return path


KINDS = {
    "stored.zip": lambda path, content: zipped(path, content, zipfile.ZIP_STORED),
    "deflated.zip": zipped,
    "a.tar": tarred,
    "a.tar.gz": lambda path, content: tarred(path, content, "w:gz"),
    "a.tar.bz2": lambda path, content: tarred(path, content, "w:bz2"),
    "a.tar.xz": lambda path, content: tarred(path, content, "w:xz"),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def text(name):
    return name.endswith(".txt")


@kinds
def test_members_come_in_the_archives_order(tmp_path, kind):
    path = KINDS[kind](tmp_path / "misnamed", {"b/": b"", **CONTENT})
    assert list(read_members(path, lambda name: True)) == list(CONTENT.items())
    assert list(read_members(path, text)) == [("b/two.txt", CONTENT["b/two.txt"]), ("a/one.txt", b"1")]
    assert next(read_members(path, text))[0] == "b/two.txt"
    assert dict(read_members(path, {"a/one.txt", "absent"}.__contains__)) == {"a/one.txt": b"1"}
    empty = KINDS[kind](tmp_path / "empty", {})
    assert list(read_members(empty, text)) == []
    assert {p.name for p in tmp_path.iterdir()} == {"misnamed", "empty"}


@kinds
@pytest.mark.parametrize("name", ["../x.txt", "a/../../x.txt", "/x.txt", "C:x.txt", "..\\x.txt", "\\\\host\\share\\x.txt"])
def test_names_that_lead_out(tmp_path, kind, name):
    path = KINDS[kind](tmp_path / kind, {name: b"evil", **CONTENT})
    with pytest.raises(DataError, match="x.txt' leads out of the archive. Replace the archive"):
        list(read_members(path, text))
    assert dict(read_members(path, lambda name: name == "a/one.txt")) == {"a/one.txt": b"1"}
    assert [p.name for p in tmp_path.rglob("*")] == [kind]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_links_and_devices_in_tar(tmp_path, kind):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("a/one.txt"))
        entry = tarfile.TarInfo("l.txt")
        entry.type, entry.linkname = kind, "a/one.txt"
        archive.addfile(entry)
    with pytest.raises(DataError, match="'l.txt' is a link or a device, not a file"):
        list(read_members(path, text))
    assert dict(read_members(path, lambda name: name == "a/one.txt")) == {"a/one.txt": b""}


def test_links_in_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/one.txt", "1")
        entry = zipfile.ZipInfo("l.txt")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/hostname")
    with pytest.raises(DataError, match="'l.txt' is a link or a device, not a file"):
        list(read_members(path, text))
    assert dict(read_members(path, lambda name: name == "a/one.txt")) == {"a/one.txt": b"1"}


@kinds
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(tmp_path, kind):
    once = {"a.txt": b"1"}

    class Twice(dict):
        def items(self):
            return [*once.items(), *once.items()]

    with pytest.raises(DataError, match="'a.txt' occurs twice"):
        list(read_members(KINDS[kind](tmp_path / kind, Twice()), text))


@kinds
def test_limits_are_exact(tmp_path, kind):
    path = KINDS[kind](tmp_path / kind, CONTENT)
    assert len(list(read_members(path, text, largest=10_000))) == 2
    with pytest.raises(DataError, match="'b/two.txt' exceeds the limit of 9,999 decompressed bytes"):
        list(read_members(path, text, largest=9_999))
    size = 10_001 if "zip" in kind else len((tmp_path / "plain").read_bytes()) if tarred(tmp_path / "plain", CONTENT) else 0
    assert len(list(read_members(path, text, total=size))) == 2
    with pytest.raises(DataError, match="exceeds the limit of .* decompressed bytes"):
        list(read_members(path, text, total=size - 1))


@pytest.mark.parametrize("kind", ["deflated.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_bombs_cost_no_memory(tmp_path, kind):
    size = 2**26
    path = KINDS[kind](tmp_path / kind, {"bomb.txt": bytes(size)})
    assert path.stat().st_size < size / 500
    tracemalloc.start()
    try:
        for limits in ({"largest": 2**20}, {"total": 2**20}):
            with pytest.raises(DataError, match="exceeds the limit of 1,048,576 decompressed"):
                list(read_members(path, text, **limits))
        assert tracemalloc.get_traced_memory()[1] < size / 4  # most of it the dictionary of xz
    finally:
        tracemalloc.stop()


def test_a_zip_that_understates_its_sizes(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.txt": bytes(2**20)})
    content = path.read_bytes()
    assert content.count(struct.pack("<I", 2**20)) == 2
    path.write_bytes(content.replace(struct.pack("<I", 2**20), struct.pack("<I", 10)))
    with pytest.raises(DataError, match="cannot be read as a zip archive: Bad CRC-32"):
        list(read_members(path, text))
    path.write_bytes(content.replace(struct.pack("<I", 2**20), struct.pack("<I", 2**31)))
    with pytest.raises(DataError, match="exceeds the limit of 1,000 decompressed"):
        list(read_members(path, text, largest=1000))


def test_tars_whose_sizes_lie(tmp_path):
    path = tmp_path / "a.tar"
    for size, why in (
        (2**40, "exceeds the limit"),
        (len(BODY) + 10_240, "breaks off|incomplete|end of data"),
        (-1024, "impossible size"),
        (-512, "a header asks for -512 bytes"),
    ):
        entry = tarfile.TarInfo("a.txt")
        entry.size = size
        path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + BODY + bytes(1024))
        with pytest.raises(DataError, match=why):
            next(read_members(path, text))
    for size in (-512, -1024):  # back to where it began, and round for ever
        entry = tarfile.TarInfo("a.bin")
        entry.size = size
        path.write_bytes(tarfile.TarInfo("a.txt").tobuf() + entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        with pytest.raises(DataError, match="'a.bin' has an impossible size"):
            list(read_members(path, text))
    # A long name of eight gigabytes, which the module would read at once.
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 2**33
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + BODY)
    with pytest.raises(DataError, match="cannot be read as a tar archive: a header asks for 8589934592 bytes"):
        list(read_members(path, text))


@kinds
def test_archives_that_break_off(tmp_path, kind):
    path = KINDS[kind](tmp_path / kind, {f"{number}.txt": os.urandom(3000) for number in range(20)})
    content = path.read_bytes()
    # The last kilobytes of a plain tar are mere padding.
    for length in (0, 1, 5, 100, 512, 1000, 1536, 4608, len(content) // 2, -9 if kind != "a.tar" else 60_000):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=f"{kind} (cannot be read as|breaks off)|: the member '.*' is incomplete"):
            list(read_members(path, text))
    with pytest.raises(DataError, match="absent.zip cannot be read as a tar or zip archive: .*No such file"):
        list(read_members(tmp_path / "absent.zip", text))


@kinds
def test_damaged_archives(tmp_path, kind):
    path = KINDS[kind](tmp_path / kind, {f"{number}.txt": os.urandom(3000) for number in range(20)})
    content = bytearray(path.read_bytes())
    places = [3584 + 100] if kind == "a.tar" else [len(content) // 2, len(content) // 3]  # tar has checksums of headers only
    for place in places:
        path.write_bytes(content[:place] + bytes(b ^ 0xFF for b in content[place : place + 8]) + content[place + 8 :])
        with pytest.raises(DataError, match=f"{kind} (cannot be read|breaks off or is damaged)"):
            list(read_members(path, text))
    path.write_bytes(b"no archive at all" * 100)
    with pytest.raises(DataError, match="cannot be read as a tar archive"):
        list(read_members(path, text))


def test_compressed_tars_are_checked_to_their_end(tmp_path):
    path = tarred(tmp_path / "a.tar.gz", CONTENT, "w:gz")
    content = path.read_bytes()
    path.write_bytes(content[:-8] + struct.pack("<I", zlib.crc32(b"else")) + content[-4:])
    with pytest.raises(DataError, match="CRC check failed"):
        list(read_members(path, text))
    path = tarred(tmp_path / "a.tar", CONTENT)
    path.write_bytes(lzma.compress(path.read_bytes())[:-8])
    with pytest.raises(DataError, match="end-of-stream marker"):
        list(read_members(path, text))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_rare_methods(tmp_path, method):
    with pytest.raises(DataError, match="is compressed by a method that is not supported"):
        list(read_members(zipped(tmp_path / "a.zip", CONTENT, method), text))


def test_encrypted_zips(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.txt": b"secret"})
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag is in both headers
        content[content.index(magic) + place] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="'a.txt' is encrypted"):
        list(read_members(path, text))


def test_what_is_passed_over_is_not_decompressed_beyond_the_limit():
    source = archives._BoundedStream(io.BytesIO(BODY), 100, 1000)
    assert source.seek(900) == 900 and source.read(100) == BODY[900:1000] == source.block
    for size in (-1, None, 101, 1):
        with pytest.raises(ValueError, match="a header asks for|exceeds the limit of 1,000 decompressed"):
            source.read(size)
    with pytest.raises(ValueError, match="exceeds the limit of 1,000 decompressed"):
        source.seek(1001)


def test_many_members_do_not_pile_up(tmp_path):
    path = tmp_path / "a.tar.gz"
    header = tarfile.TarInfo("x").tobuf()
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header * 5_000 + bytes(1024))
    tracemalloc.start()
    try:
        assert list(read_members(path, text)) == []
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
