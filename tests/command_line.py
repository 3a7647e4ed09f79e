"""Runs of the command line: in this process, which is quick, or as a real process."""

import contextlib
import io
import os
import subprocess
import sys

import pytest

from pyro_hvae.cli import main
from pyro_hvae.runtime.folders import CACHE_VARIABLE

TINY = "-o hidden=8 -o upper=8 -o particles=2 -o size=200 -o starts=1 --batch-size 20 -o eval_every=20".split()

QUICK = "--dataset pendulum -o hidden=8 -o size=100 --batch-size 10 --json".split()


def real(*arguments, cwd, env=None, timeout=120, **more):
    """The installed command as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    command = [sys.executable, "-m", "pyro_hvae", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout, **more)


def train_once(folder, *arguments):
    """Trains in this process, from a folder, for fixtures that several tests share; returns (stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.delenv("PYRO_HVAE_RUNS", raising=False)
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        patch.chdir(folder)
        with pytest.raises(SystemExit) as caught:
            main(["train", *map(str, arguments)])
    assert not caught.value.code, err.getvalue()
    return out.getvalue(), err.getvalue()
