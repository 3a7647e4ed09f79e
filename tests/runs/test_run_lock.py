"""One process at a time trains a run; the lock of a dead one holds nobody up."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from command_line import TINY
from small_runs import CONFIG, At, data, rewo, vhp

import pyro_hvae as hv
from pyro_hvae.errors import DataError
from pyro_hvae.runs import run_lock
from pyro_hvae.runs.run_lock import LOCK, lock_run

HOLD = "import sys, time\nfrom pathlib import Path\nfrom pyro_hvae.runs.run_lock import lock_run\n"
HOLD += "with lock_run(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"


@pytest.fixture
def owner(tmp_path):
    """A process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_the_lock_of_a_killed_one_is_not_kept(tmp_path, owner):
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(DataError, match=f"another process trains the run .*process {owner.pid} on {socket.gethostname()}"):
            lock_run(tmp_path).__enter__()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert (tmp_path / LOCK).exists()
    with lock_run(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("flock", [True, False])
def test_owners_by_their_file(tmp_path, monkeypatch, flock):
    if not flock:  # a file system without locks
        monkeypatch.setattr(run_lock, "fcntl", None)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = socket.gethostname()
    owners = {"dead": (dead.pid, here), "alive": (os.getpid(), here), "elsewhere": (1, "elsewhere")}
    refused = {"elsewhere"} if flock else {"elsewhere", "alive"}
    for name, (pid, host) in owners.items():
        (tmp_path / LOCK).write_text(json.dumps({"pid": pid, "host": host}))
        if name in refused:
            with pytest.raises(DataError, match=f"process {pid} on {host}.*delete that file"):
                lock_run(tmp_path).__enter__()
        else:
            with lock_run(tmp_path):
                pass
    damaged = ("", "{", "[]", '{"pid": "x"}', '{"pid": Infinity, "host": "x"}', "[" * 100_000, '{"version": 9, "owner": {}}')
    for text in damaged:
        (tmp_path / LOCK).write_text(text)
        with lock_run(tmp_path):
            pass


def test_a_run_is_locked_while_it_is_trained(tmp_path):
    errors = []

    def again(resume):
        with pytest.raises(DataError, match=f"another process trains the run .*process {os.getpid()} on") as caught:
            hv.fit(vhp(), data(), CONFIG, rewo(), tmp_path / "run", resume=resume)
        errors.append(caught.value)

    def both():
        again(True)
        again(False)

    hv.fit(vhp(), data(), CONFIG, rewo(), tmp_path / "run", trackers=[At(30, both)])
    assert len(errors) == 2 and not (tmp_path / "run" / LOCK).exists()


def test_a_second_command_is_refused(tmp_path, command):
    arguments = ["vhp", "--dataset", "pendulum", *TINY, "--steps", "100000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([sys.executable, "-m", "pyro_hvae", "train", *arguments], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not (tmp_path / "run/metrics.jsonl").is_file():
            time.sleep(0.05)
        rows = (tmp_path / "run/metrics.jsonl").read_bytes()
        for again in (["--resume", tmp_path / "run"], arguments):
            code, _, err = command("train", *again)
            assert code == 3 and f"process {process.pid} on" in err, err
        assert process.poll() is None and (tmp_path / "run/metrics.jsonl").read_bytes().startswith(rows)
    finally:
        process.kill()
        process.wait()
