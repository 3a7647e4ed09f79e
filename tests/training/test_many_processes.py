"""Training in two real processes (gloo): one process is equalled, all decide alike, and an end in one ends all."""

import json
import math
import shutil

import process_pairs as pairs
import pytest
import torch
from small_runs import assert_same_run, checkpoint

from pyro_hvae.runs import read_checkpoint

NAMES = [name for name in pairs.CASES if name not in ("geco", "norms")] + ["early"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    pairs.train("rewo", folder / "single", steps=20)
    return folder


@pytest.fixture(scope="module")
def pair(folder):
    """What two processes made of everything."""
    results, codes = pairs.start("all_at_once", folder)
    assert codes == [0, 0]
    return results


@pytest.fixture(scope="module")
def alone():
    """The same cases of this process, whose batches are whole."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return json.loads(json.dumps(pairs.all_cases()))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_of_half_a_batch_are_one_of_a_whole(pair, alone, name):
    first, second = (each["cases"][name] for each in pair)
    assert first == second  # rows and a digest of all weights, bit for bit
    one = alone[name]["rows"]
    assert len(first["rows"]) == len(one) >= 3
    for row, expected in zip(first["rows"], one, strict=True):
        assert row.keys() == expected.keys()
        for key, value in expected.items():
            assert row[key] == pytest.approx(value, rel=2e-4, abs=2e-4), (row["step"], key)


@pytest.mark.parametrize("name", ["rewo", "rewo captured", "rewo svi", "holes"])
def test_the_initial_phase_ends_at_the_same_step(pair, alone, name):
    ends = [[row["step"] for row in rows if row["main"]][0] for rows in (pair[0]["cases"][name]["rows"], alone[name]["rows"])]
    assert ends[0] == ends[1] and 1 < ends[0] < 40


def test_captured_and_stock_steps_are_those_of_the_eager_pass(pair):
    cases = pair[0]["cases"]
    for name, other in (("rewo", "rewo captured"), ("rewo", "rewo svi"), ("gates", "gates captured")):
        for row, same in zip(cases[name]["rows"], cases[other]["rows"], strict=True):
            assert row["loss"] == pytest.approx(same["loss"], rel=1e-4)


def test_a_divergence_is_found_in_both(pair, alone):
    found = [each["cases"]["huge"] for each in pair]
    assert found[0] == found[1] and found[0][0] == "DivergenceError"
    assert "at step" in found[0][1] and found[0][1].split(".")[-2:] == alone["huge"][1].split(".")[-2:]


def test_batch_normalisation_keeps_one_set_of_running_statistics(pair):
    first, second = (each["norms"] for each in pair)
    assert first == second and math.isfinite(first["rows"][-1]["validation_elbo"])


def test_no_thread_outlives_the_processes_that_left_each_other(pair):
    """A thread of gloo that works while its process ends can end it by SIGABRT."""
    assert not [name for each in pair for name in each["threads"] if "gloo" in name]


def test_every_process_has_noise_of_its_own(pair):
    drawn = [tuple(values) for each in pair for values in each["noise"]]
    assert len(set(drawn)) == 4  # two seeds in two processes
    with pairs.fixed_seed(1):
        assert torch.rand(3).tolist() == list(drawn[1])  # the first process draws what it would alone


@pytest.mark.parametrize(
    "what, error, message",
    [
        ("data", "DataError", "process 1 of 2 has other training data than process 0"),
        ("validation", "DataError", "process 1 of 2 has other validation data than process 0"),
        ("settings", "ConfigError", "process 1 of 2 has other settings than process 0 (train.lr: 0.01, not 0.001)"),
        ("weights", "ConfigError", "process 1 of 2 has other weights than process 0"),
        ("batch", "ConfigError", "2 processes cannot share a batch of 1"),
        ("taken", "ConfigError", "is not empty"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_both_and_writes_nothing(pair, folder, what, error, message):
    found = [each["refused"][what] for each in pair]
    assert found[0] == found[1]
    assert found[0][0] == error and message in found[0][1]
    assert not (folder / "none").exists()
    assert [path.name for path in (folder / "taken").iterdir()] == ["file"]


def test_a_signal_to_one_stops_both_at_one_step_and_the_run_goes_on_bit_for_bit(pair, folder):
    found = [each["stopped"] for each in pair]
    assert found[0] == found[1] and found[0][0] == "Interrupted"
    assert "stopped by SIGTERM at step" in found[0][1]
    assert "go on with: torchrun --nproc-per-node 2 -m pyro_hvae train --resume" in found[0][1]
    assert [each["gone on"]["weights"] for each in pair] == [each["whole"]["weights"] for each in pair]
    assert_same_run(folder / "stopped", folder / "whole")


def test_one_process_writes(pair, folder):
    record = json.loads((folder / "whole/run.json").read_text())
    assert record["status"] == "finished" and record["processes"] == 2
    assert len(checkpoint(folder / "whole")["rng_of_others"]) == 1
    assert not list(folder.glob("*/train.lock"))
    steps = [json.loads(line)["step"] for line in (folder / "whole/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_killed_process_ends_the_other_and_the_run_goes_on_bit_for_bit(pair, folder):
    results, codes = pairs.start("killed", folder)
    assert codes == [0, -9] and results[1] is None  # the first process has caught the error
    name, message = results[0]
    assert name == "LostProcessError" and "one of the 2 processes has ended without a word" in message
    assert "step 15" in message and "-m pyro_hvae train --resume" in message
    assert json.loads((folder / "killed/run.json").read_text())["status"] == "failed"
    saved = read_checkpoint(folder / "killed/checkpoints/last.pt")
    assert saved["step"] == 15
    shutil.copytree(folder / "killed", folder / "copy")
    assert pairs.train("rewo", folder / "copy", resume=True)["rows"][-1]["step"] == 40  # one process goes on with it
    results, codes = pairs.start("resumed", folder)
    assert codes == [0, 0]
    assert results[0]["weights"] == results[1]["weights"] == pair[0]["whole"]["weights"]
    assert_same_run(folder / "killed", folder / "whole")


def test_two_processes_go_on_with_the_run_of_one(pair, folder):
    first, second = (each["joined"] for each in pair)
    assert first == second and first["rows"][-1]["step"] == 40
    assert len(checkpoint(folder / "single")["rng_of_others"]) == 1


@pytest.mark.slow
def test_a_compiled_step_sums_the_constraint_over_processes(folder):
    results, codes = pairs.start("compiled", folder, timeout=600)
    assert codes == [0, 0] and results[0] == results[1]
    with pairs.same_noise():
        expected = pairs.train("geco")["rows"]
    for row, same in zip(results[0]["rows"], expected, strict=True):
        assert row["beta"] == pytest.approx(same["beta"], rel=1e-4) and row["loss"] == pytest.approx(same["loss"], rel=1e-3)
