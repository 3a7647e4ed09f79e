"""Damaged files among the compiled code are removed before they are used, and compiled again."""

import json
import os
import subprocess
import sys

import pytest

from pyro_hvae.compilation.compiled_code import CHECKSUMS, CompiledCode
from pyro_hvae.runtime.folders import CACHE_VARIABLE

MARKS = {"a.lock", "library.so.load_ok"}  # empty in a folder without damage


@pytest.fixture
def folder(tmp_path):
    code = CompiledCode(tmp_path / "compiled")
    with code.compiling():
        for name in ("a/graph", "a/library.so", "a/library.so.load_ok", "locks/a.lock"):
            path = code.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"" if name.endswith((".lock", ".load_ok")) else name.encode())
    code.mark.close()  # as a process does that ends
    return code.folder


def left(folder):
    """The files after another process has looked the folder through."""
    code = CompiledCode(folder)
    code.mark.close()
    return {path.name for path in folder.rglob("*") if path.is_file()} - {CHECKSUMS, "in_use.lock"}


def test_whole_files_stay(folder):
    for _ in range(2):
        assert left(folder) == {"graph", "library.so", *MARKS}


@pytest.mark.parametrize("content", [b"", b"a/gra", b"a/grapi"])
def test_a_damaged_file_is_removed(folder, content):
    (folder / "a/graph").write_bytes(content)
    assert left(folder) == {"library.so", *MARKS}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_without_checksums_all_is_compiled_again(folder, text):
    (folder / CHECKSUMS).write_text(text)
    assert left(folder) == MARKS


def test_remains_of_a_killed_process_are_removed_unless_another_one_may_be_compiling(folder):
    (folder / "a/half").write_bytes(b"half")
    other = CompiledCode.__new__(CompiledCode)
    other.folder = folder
    assert other._is_alone()
    assert "half" in left(folder)
    other.mark.close()
    assert left(folder) == {"graph", "library.so", *MARKS}


def test_an_empty_library_of_a_killed_process_is_removed(folder):
    (folder / "a/other.so").touch()
    assert left(folder) == {"graph", "library.so", *MARKS}


def test_an_empty_library_that_was_recorded_is_removed(folder):
    code = CompiledCode(folder)
    with code.compiling():
        (folder / "a/other.so").touch()
    code.mark.close()
    assert left(folder) == {"graph", "library.so", *MARKS}


def test_nothing_is_recorded_of_a_compilation_that_fails(folder):
    code = CompiledCode(folder)
    with pytest.raises(KeyboardInterrupt), code.compiling():
        (folder / "a/half").write_bytes(b"half")
        raise KeyboardInterrupt
    code.record()
    assert "a/half" not in json.loads((folder / CHECKSUMS).read_text())


def test_a_file_that_is_written_again_is_recorded_again(folder):
    code = CompiledCode(folder)
    with code.compiling():
        (folder / "a/graph").write_bytes(b"other")
        os.utime(folder / "a/graph", (1, 1))
    code.mark.close()
    assert left(folder) == {"graph", "library.so", *MARKS}


PROGRAM = """
import torch
import pyro_hvae as hv
torch.manual_seed(0)
loss = hv.ELBO()(hv.Chain(hv.StandardNormal(1), [], hv.Gaussian(1, 2)), hv.BottomUp([hv.Gaussian(2, 1)]))
step = hv.capture(loss, tell=print)
print([float(step(torch.ones(4, 2))) for _ in range(2)])
"""


@pytest.mark.slow  # it compiles from nothing, four times
def test_compiled_code_heals(tmp_path):
    environment = {**os.environ, CACHE_VARIABLE: str(tmp_path / "cache")}
    environment.pop("TORCHINDUCTOR_CACHE_DIR")

    def run():
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "Compiled" in done.stdout and not done.stderr, done.stderr
        return done.stdout.splitlines()[-1]

    expected, folder = run(), tmp_path / "cache/compiled"
    checksums = json.loads((folder / CHECKSUMS).read_text())
    for path in folder.rglob("*.main.so"):  # as a process leaves them that is killed while it links
        path.write_bytes(b"")
        del checksums[path.relative_to(folder).as_posix()]
    (folder / CHECKSUMS).write_text(json.dumps(checksums))
    assert run() == expected
    for keep in (0, 0.5):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".so" and path.name != CHECKSUMS:
                os.truncate(path, int(keep * path.stat().st_size))
        assert run() == expected
