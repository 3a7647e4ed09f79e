"""The command line under torchrun: one message, restarts, and what takes one process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from command_line import QUICK, TINY

ADDRESS = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture
def launched(monkeypatch):
    """Sets the variables of the first of two processes."""
    for variable, value in {"WORLD_SIZE": "2", **ADDRESS}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("pyro_hvae.runtime.process_group.SPEECH_PATIENCE", timedelta(milliseconds=10))  # nobody answers
    return monkeypatch


@pytest.mark.parametrize(
    "typed, message",
    [
        (["evaluate", "last"], "only 'train' shares its work among them. Start 'evaluate' without torchrun"),
        (["train", "vae", *QUICK, "--seeds", "0:2"], "Use --seed, with a torchrun for each seed"),
        (["train", "vae", *QUICK, "--device", "cuda:1"], "Use --device cuda"),
    ],
)
def test_what_takes_one_process_is_refused(launched, command, typed, message):
    launched.setattr("pyro_hvae.runtime.join_processes", lambda: None)
    code, out, err = command(*typed)
    assert (code, out) == (2, "") and message in err and not os.path.exists("runs")


def test_restarts_need_a_directory_to_go_on_with(launched, command):
    launched.setattr("pyro_hvae.runtime.join_processes", lambda: None)
    launched.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    code, _, err = command("train", "vae", *QUICK)
    assert code == 2 and "Name its directory: --out DIR" in err


def test_several_processes_without_an_address_are_refused(monkeypatch, command):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = command("train", "vae", *QUICK, "--steps", 2)
    assert code == 2 and "RANK, MASTER_ADDR, MASTER_PORT is not set" in err
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert command("train", "vae", *QUICK, "--steps", 2)[0] == 0


def test_a_killed_process_is_started_again_and_the_run_goes_on(tmp_path):
    """One process is killed, torchrun starts both again, and the same command goes on with the run to its end."""
    settings = [*TINY, "-o", "kappa=4", "-o", "log_every=1", "--save-every", "20", "--steps", "300", "--no-compile"]
    job = ["-m", "pyro_hvae", "train", "vhp", "--dataset", "pendulum", *settings, "--out", "run"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(launcher + job, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        metrics = tmp_path / "run/metrics.jsonl"
        while process.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) > 50):
            time.sleep(0.05)
        os.kill(json.loads((tmp_path / "run/train.lock").read_text())["pid"], signal.SIGKILL)
        try:
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
    assert process.returncode == 0, err
    errors = re.findall("^Error: .*", err, re.MULTILINE)
    assert len(errors) == 1 and "one of the 2 processes has ended without a word" in errors[0]
    assert re.search(r"step [2-9]\d*\)\. Go on with: torchrun --nproc-per-node 2 -m pyro_hvae train --resume run", errors[0])
    assert out.count("Run: run (step 300)") == 1  # one process prints
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == list(range(1, 301))
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
