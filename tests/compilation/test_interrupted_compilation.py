"""A signal ends a compilation at once, and the run goes on as if there had been none."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from command_line import TINY
from small_runs import CONFIG, assert_same_run, checkpoint, data, rewo, vhp

import pyro_hvae as hv
from pyro_hvae.compilation.captured_loss import Captured
from pyro_hvae.errors import Interrupted


def signal_in_first_call_from(number, monkeypatch):
    """Sends SIGINT in the first call of a captured pass from a call number on, which then goes on for long."""
    calls, call = [], Captured.__call__

    def slow(self, *arguments):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return call(self, *arguments)

    monkeypatch.setattr(Captured, "__call__", slow)


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr("pyro_hvae.training.session.capture", lambda module, **how: hv.capture(module, **how, compile=False))


@pytest.mark.parametrize("step, ends_at", [(1, 0), (26, 25), (30, 30)])
def test_a_step_is_given_up_where_its_beginning_is_saved(tmp_path, uncompiled, monkeypatch, step, ends_at):
    config = replace(CONFIG, compile=True)

    def train(name, **more):
        torch.manual_seed(0)
        shape = data().shape[1:]
        objective = hv.ELBO()(
            hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, shape, scale=0.2)), hv.BottomUp([hv.Gaussian(shape, 2)])
        )
        hv.fit(objective, data(), config, None, tmp_path / name, validation=data()[:50], progress=False, **more)

    train("whole")
    with monkeypatch.context() as patch:
        signal_in_first_call_from(step, patch)
        with pytest.raises(Interrupted, match=f"stopped by SIGINT at step {ends_at} of 60. Saved"):
            train("run")
    assert checkpoint(tmp_path / "run")["step"] == ends_at
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "interrupted"
    train("run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_signal_before_the_first_step_ends_it_before_anything_is_compiled(tmp_path, uncompiled, monkeypatch):
    def forbid(*arguments):
        raise AssertionError("a pass was made")

    def signal_in_update(*arguments, update=hv.runs.RunDirectory.update, **values):
        update(*arguments, **values)
        if values.get("status") == "running":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Captured, "__call__", forbid)
    monkeypatch.setattr(hv.runs.RunDirectory, "update", signal_in_update)
    with pytest.raises(Interrupted, match="at step 0 of 60"):
        hv.fit(vhp(), data(), replace(CONFIG, compile=True), rewo(), tmp_path / "run", progress=False)


def test_the_command_ends_while_it_compiles(tmp_path):
    arguments = ["vhp", "--dataset", "pendulum", *TINY, "--steps", "30", "--compile", "--out", tmp_path / "run"]
    cold = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    command = [sys.executable, "-m", "pyro_hvae", "train", *arguments]
    process = subprocess.Popen(command, env=cold, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any(line.startswith("Compiling ") for line in process.stderr)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)  # the compilation takes 10 s or more
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130 and "SIGINT received: stopping now" in err and "at step 0 of 30. Saved" in err, err
    assert "Compiled" not in err and "Traceback" not in err
    assert checkpoint(tmp_path / "run")["step"] == 0
