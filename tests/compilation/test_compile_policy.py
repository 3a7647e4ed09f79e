"""Whether a run is compiled: flags, what is recorded and kept, and how it is decided where it was left open."""

from dataclasses import replace

import pytest
import torch
from command_line import TINY
from small_runs import At, data, vhp
from test_captured_training import CONFIG, CPU, EAGER, ladder, rewo, two_stages
from test_captured_training import uncompiled as uncompiled

import pyro_hvae as hv
from pyro_hvae.compilation import inductor as compiling
from pyro_hvae.compilation import policy
from pyro_hvae.compilation.captured_loss import Captured
from pyro_hvae.compilation.compiled_code import CompiledCode
from pyro_hvae.compilation.compiled_programs import is_compiled, note_compiled
from pyro_hvae.compilation.policy import CACHED_STEPS_FOR_ONE_GRAPH as CACHED_FIRST
from pyro_hvae.compilation.policy import CACHED_STEPS_PER_GRAPH as CACHED_EACH
from pyro_hvae.compilation.policy import STEPS_FOR_ONE_GRAPH as FIRST
from pyro_hvae.compilation.policy import STEPS_PER_GRAPH as EACH
from pyro_hvae.compilation.policy import decide_training
from pyro_hvae.errors import ConfigError
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.runtime.folders import CACHE_VARIABLE
from pyro_hvae.training import loop as training
from pyro_hvae.training.session import Session


def test_the_flag_is_recorded_and_resuming_keeps_it_or_changes_it(tmp_path, command, uncompiled):
    run = tmp_path / "run"
    options = ["train", "vhp", "--dataset", "pendulum", *TINY, "--steps", "20", "--out", run]
    code, _, err = command(*options, "--compile")
    assert code == 0 and len(uncompiled) == 1, err
    assert "compile = true" in (run / "config.toml").read_text()
    assert load_checkpoint(run / "checkpoints/last.pt")["compile"] is True
    command("train", "--resume", run, "--steps", "30")
    assert len(uncompiled) == 2 and load_checkpoint(run / "checkpoints/last.pt")["compile"] is True
    code, _, err = command("train", "--resume", run, "--steps", "40", "--no-compile")
    assert code == 0 and len(uncompiled) == 2, err
    assert load_checkpoint(run / "checkpoints/last.pt")["compile"] is False
    assert "compile = false" in (run / "config.toml").read_text()


def test_a_short_run_says_in_one_line_that_it_is_eager(tmp_path, command, uncompiled):
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, "--steps", "20", "--out", tmp_path / "run")
    assert code == 0 and not uncompiled and "compile = false" in (tmp_path / "run/config.toml").read_text()
    assert [line for line in err.splitlines() if "ompil" in line] == [
        "Training eagerly: 20 steps are too few for compiling to pay (--compile does it)."
    ]


def test_the_command_refuses_what_does_not_go_together(command):
    small = ["--dataset", "pendulum", "--steps", "5"]
    code, _, err = command("train", "vhp", *small, "--engine", "svi", "--compile")
    assert code == 2 and "neither compiles" in err
    code, _, err = command("train", "vhp", *small, "--precision", "fp16")
    assert code == 2 and "fp16" in err and "bf16" in err
    assert command("train", "vhp", *small, "--engine", "svi", "--precision", "bf16")[0] == 2
    assert TrainConfig(engine="svi", compile=False).compile is False


def test_bf16_from_the_command_line_is_recorded_and_trains(tmp_path, command, uncompiled):
    run = tmp_path / "run"
    options = ["--steps", "20", "--out", run, "--precision", "bf16", "--compile"]
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, *options)
    assert code == 0 and 'precision = "bf16"' in (run / "config.toml").read_text(), err
    programs = load_checkpoint(run / "checkpoints/last.pt")["programs"][0]
    assert all(v.dtype != torch.bfloat16 for program in programs.values() for v in program.values())
    casts = [
        node
        for graph in uncompiled[0]._graphs.values()
        for node in graph.run.graph.graph.nodes
        if "bfloat16" in str((node.args, node.kwargs))
    ]
    assert casts and uncompiled[0].eager is None


def choose(*lengths, kinds=1, device=CPU, **settings):
    config = TrainConfig(**settings)
    return decide_training(config.compile, config.engine, lengths, kinds, device)


def test_whether_to_compile_is_decided_by_the_length_of_the_run(monkeypatch):
    monkeypatch.setattr(compiling, "compiler", lambda: "/usr/bin/g++")
    assert choose(FIRST) == (True, "Compiling the training step, which pays from 5,000 steps on (--no-compile).")
    assert choose(FIRST - 1)[0] is False and "4,999 steps are too few" in choose(FIRST - 1)[1]
    assert choose(FIRST + EACH - 1, kinds=2)[0] is False and choose(FIRST + EACH, kinds=2)[0] is True
    assert choose(FIRST, EACH - 1)[0] is False and choose(FIRST, EACH)[0] is True
    for asked in (True, False):
        assert choose(1 if asked else 10**6, compile=asked) == (asked, "")
    assert choose(10**6, engine="svi") == (False, "")
    for name, compiled in (("mps", False), ("cuda", True)):
        assert choose(10**6, device=torch.device(name))[0] is compiled
    assert "nothing is compiled on mps" in choose(10**6, device=torch.device("mps"))[1]
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    assert choose(10**6)[0] is False and "no C++ compiler" in choose(10**6)[1]
    assert choose(10**6, device=torch.device("cuda"))[0] is True and choose(1, compile=True)[0] is True


def test_fewer_steps_pay_where_the_compiled_code_is_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(compiling, "compiler", lambda: "/usr/bin/g++")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.delenv(compiling.CACHE)

    def chosen(program, *lengths, kinds=1):
        return decide_training(None, "fit", lengths, kinds, CPU, program)

    assert chosen("a", CACHED_FIRST)[0] is False and not is_compiled("a")
    note_compiled("a")  # there is no folder of compiled code
    assert not list(tmp_path.iterdir()) and not is_compiled("a")
    (tmp_path / "compiled").mkdir()
    note_compiled("a")
    line = "Compiling the training step, which pays from 1,500 steps on with compiled code in the cache (--no-compile)."
    assert chosen("a", CACHED_FIRST) == (True, line)
    assert chosen("a", CACHED_FIRST - 1)[0] is False and "too few" in chosen("a", CACHED_FIRST - 1)[1]
    assert chosen("a", CACHED_FIRST + CACHED_EACH - 1, kinds=2)[0] is False
    assert chosen("a", CACHED_FIRST + CACHED_EACH, kinds=2)[0] is True
    assert chosen("a", CACHED_FIRST, CACHED_EACH - 1)[0] is False
    assert chosen("b", CACHED_FIRST)[0] is False and is_compiled("a")
    CompiledCode(tmp_path / "compiled").mark.close()  # a mark is no compiled code, which would need a checksum
    assert is_compiled("a")
    monkeypatch.setenv(compiling.CACHE, str(tmp_path / "own"))
    assert not is_compiled("a")


def test_a_compiled_training_is_known_again(uncompiled, monkeypatch, tmp_path):
    monkeypatch.setattr(policy, "CACHED_STEPS_FOR_ONE_GRAPH", 4)
    monkeypatch.setattr(policy, "CACHED_STEPS_PER_GRAPH", 1)
    known = set()
    monkeypatch.setattr(policy, "is_compiled", known.__contains__)
    monkeypatch.setattr(training, "note_compiled", known.add)

    def run(compile=None, **more):
        hv.fit(two_stages(), data(), replace(CONFIG, **{"compile": compile, "steps": 6} | more))
        return len(uncompiled)

    assert run() == 0 and not known
    assert run(True) == 2 and not known  # the fixture's graphs run as they were recorded
    monkeypatch.setattr(Captured, "compile", property(lambda self: True, lambda self, value: None), raising=False)
    assert run(True) == 4 and len(known) == 1
    assert run() == 6 and run(seed=8) == 8
    assert run(batch_size=10) == 8 and run(steps=2) == 8


def test_a_compiler_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiling.compiler() is None
    mine = tmp_path / "c++"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    assert compiling.compiler() == str(mine)


@pytest.mark.parametrize("first, each, compiled", [(4, 2, True), (5, 2, False), (3, 3, False)])
def test_all_stages_and_their_graphs_count(first, each, compiled, uncompiled, monkeypatch):
    """Stages of 4 and 2 steps, with a graph each."""
    monkeypatch.setattr(policy, "STEPS_FOR_ONE_GRAPH", first)
    monkeypatch.setattr(policy, "STEPS_PER_GRAPH", each)
    hv.fit(two_stages(), data(), replace(CONFIG, compile=None, steps=6))
    assert len(uncompiled) == 2 * compiled


@pytest.mark.parametrize("schedule, kinds", [(hv.Constant(), 1), (hv.Geco(), 1), (hv.Rewo(), 2), (hv.Progressive(), 3)])
def test_a_run_makes_no_more_graphs_than_its_schedule_has_kinds_of_passes(schedule, kinds, uncompiled, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "decide_training", lambda *given: (seen.append(given[3]), decide_training(*given))[1])
    schedule.nu = 0.01
    hv.fit(ladder(), data(), replace(CONFIG, log_every=100), schedule, trackers=[At(-1, None)])
    assert seen == [kinds] and uncompiled[0].graphs <= kinds


def test_settings_are_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="precision 'half'.*float32, bf16|half"):
        TrainConfig(precision="half")
    with pytest.raises(ConfigError, match="neither compiles nor changes precision"):
        TrainConfig(engine="svi", compile=True)
    assert TrainConfig().compile is None and isinstance(Session(vhp(), data(), CONFIG, rewo(), 9).captured, Captured)
    assert Session(vhp(), data(), EAGER, rewo(), 9).captured is None
