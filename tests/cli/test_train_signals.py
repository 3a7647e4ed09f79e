"""Training as a real process that is stopped by a signal or killed, and resumes bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from command_line import TINY, real, train_once

from pyro_hvae.runs.checkpoints import load_checkpoint

# One thread, so that processes and this one calculate alike.
ARGUMENTS = ["vhp", "--dataset", "pendulum", *TINY[:-1], "eval_every=200", "-o", "kappa=4", "-o", "threads=1"]
LONG = [*ARGUMENTS, "--steps", "400", "-o", "log_every=1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    train_once(folder, *LONG, "--out", "whole")
    return folder / "whole"


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run_which_then_resumes(whole, command, tmp_path, sent, code):
    process = subprocess.Popen(
        [sys.executable, "-m", "pyro_hvae", "train", *LONG, "--out", "cut"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "cut/metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) > 30):
        time.sleep(0.02)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"stopped by {sent.name} at step" in err and "--resume cut" in err and "Traceback" not in err
    step = load_checkpoint(tmp_path / "cut/checkpoints/last.pt")["step"]
    assert 30 <= step < 400
    code, _, err = command("train", "--resume", "cut")
    assert code == 0, err
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_closed_terminal_costs_no_step(whole, command, tmp_path):
    """Nothing can be printed any more, and SIGHUP arrives: the run is saved and goes on bit for bit."""
    terminal, end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pyro_hvae", "train", *LONG, "--out", "cut"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=end,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    metrics = tmp_path / "cut/metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) > 30):
        time.sleep(0.02)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 129
    assert 30 <= load_checkpoint(tmp_path / "cut/checkpoints/last.pt")["step"] < 400
    code, _, err = command("train", "--resume", "cut")
    assert code == 0, err
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_second_signal_ends_at_once_and_the_run_says_so(tmp_path):
    code = (
        "import os, signal, sys\nfrom pyro_hvae.cli import main\nfrom pyro_hvae.runs import RunDirectory\n"
        "append = RunDirectory.append_row\n"
        "def send_two(self, row):\n    append(self, row)\n"
        "    for _ in range(2 * (row['step'] == 40)):\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "RunDirectory.append_row = send_two\nmain(sys.argv[1:])"
    )
    process = [sys.executable, "-c", code, "train", *LONG, "--out", "cut"]
    done = subprocess.run(process, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 143 and "stopped by SIGTERM." in done.stderr, done.stderr
    assert json.loads((tmp_path / "cut/run.json").read_text())["status"] == "failed"


KILLER = """
import os, signal, sys
import pyro_hvae.runs.checkpoints as c
from pyro_hvae.cli import main
count, real = 0, os.fsync
def fsync(fd):  # dies half way through writing a checkpoint
    global count
    if os.readlink(f"/proc/self/fd/{fd}").endswith(".pt.part"):
        count += 1
        if count == 4:
            os.ftruncate(fd, 500)
            os.kill(os.getpid(), signal.SIGKILL)
    real(fd)
os.fsync = fsync
main(sys.argv[1:])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc to find the file being written")
def test_killed_in_the_middle_of_writing_a_checkpoint(tmp_path):
    arguments = [*ARGUMENTS, "--steps", "60", "--save-every", "10"]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, "train", *arguments, "--out", "cut"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    saved = load_checkpoint(tmp_path / "cut/checkpoints/last.pt")  # the one before, whole
    assert 0 < saved["step"] < 60
    assert real("train", "--resume", "cut", cwd=tmp_path).returncode == 0
    train_once(tmp_path, *arguments, "--out", "whole")
    a, b = (load_checkpoint(tmp_path / run / "checkpoints/last.pt") for run in ("cut", "whole"))
    for name, weight in b["programs"][0]["model"].items():
        assert torch.equal(weight, a["programs"][0]["model"][name])
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
