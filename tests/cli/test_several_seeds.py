"""`pyro-hvae train ... --seeds A:B`: a run for each seed, restarting, failures and what was typed."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import QUICK

from pyro_hvae.cli import seed_requests
from pyro_hvae.errors import DivergenceError, Interrupted
from pyro_hvae.runs import RunDirectory

ARGUMENTS = ["train", "vae", *QUICK, "--steps", "4", "-o", "latent=1", "-o", "eval_every=2", "-o", "starts=1"]
NAME = "vae-pendulum-constant-seed{}"


def rows(path):
    return (path / "metrics.jsonl").read_bytes()


def test_each_seed_is_the_run_that_it_is_alone_and_a_second_command_keeps_it(command, monkeypatch):
    code, out, err = command(*ARGUMENTS, "--seeds", "1:3")
    assert code == 0, err
    values = json.loads(out)
    assert [row["seed"] for row in values["runs"]] == [1, 2] and not values["failed"]
    bounds = [row["validation_elbo"] for row in values["runs"]]
    assert values["mean"]["validation_elbo"] == pytest.approx(sum(bounds) / 2)
    assert values["std"]["validation_elbo"] == pytest.approx(abs(bounds[0] - bounds[1]) / 2**0.5)
    first, second = (Path("runs") / NAME.format(seed) for seed in (1, 2))
    command(*ARGUMENTS, "--seed", 2, "--out", "alone")
    assert rows(Path("alone")) == rows(second) != rows(first)

    # The second is as a killed process leaves it: half a run. The third is new, and diverges.
    before = (first / "run.json").read_bytes()
    shutil.rmtree(second / "figures")
    train = seed_requests.TrainRequest.run

    def run(request, track):
        if request.experiment.train.seed == 0:
            raise DivergenceError("the loss became nan.")
        return train(request, track)

    monkeypatch.setattr(seed_requests.TrainRequest, "run", run)
    code, out, err = command(*ARGUMENTS, "--seeds", "0:3")
    assert code == 4 and "1 of 3 runs failed (runs/vae-pendulum-constant-seed0)" in err
    values = json.loads(out)
    assert [row["seed"] for row in values["runs"]] == [1, 2] and list(values["failed"].values()) == ["the loss became nan."]
    assert (first / "run.json").read_bytes() == before and (second / "figures/samples.png").is_file()
    assert rows(Path("alone")) == rows(second)

    code, _, err = command(*ARGUMENTS, "--seeds", "1:3", "--lr", 0.1)
    assert code == 2 and "holds another run: it has lr = 0.001, and lr = 0.1 was asked for" in err
    code, _, err = command(*ARGUMENTS, "--seeds", "1:3", "-o", "patience=1")
    assert code == 2 and "holds another run: it has patience = 0, and patience = 1 was asked for" in err
    code, out, _ = command(*ARGUMENTS, "--seeds", "1:3", "-o", "eval_every=3")  # which ends no run without a patience
    assert code == 0 and [row["step"] for row in json.loads(out)["runs"]] == [4, 4]
    code, out, _ = command(*ARGUMENTS, "--seeds", "1:3", "--steps", 6)  # longer than they are
    assert code == 0 and [row["step"] for row in json.loads(out)["runs"]] == [6, 6]


def test_the_interval_of_evaluations_counts_where_it_ends_the_run(command):
    ending = [*ARGUMENTS, "-o", "patience=1", "--seeds", "0:1"]
    code, _, err = command(*ending)
    assert code == 0 and "patience=1 cannot end a training of 4 steps" in err, err
    code, _, err = command(*ending, "-o", "eval_every=1")
    assert code == 2 and "it has eval_every = 2, and eval_every = 1 was asked for" in err
    assert command(*ending)[0] == 0


def test_where_all_fail_none_is_kept(command, monkeypatch):
    def run(request, track):
        raise DivergenceError("the loss became nan.")

    monkeypatch.setattr(seed_requests.TrainRequest, "run", run)
    code, _, err = command(*ARGUMENTS, "--seeds", "0:2")
    assert code == 4 and "2 of 2 runs failed" in err and err.rstrip().endswith("the reasons are above.")


def test_a_signal_ends_the_command_and_not_what_was_finished(command, monkeypatch):
    def run(request, track):
        if request.experiment.train.seed == 1:
            raise Interrupted("stopped by SIGINT at step 3 of 4.", 2)
        RunDirectory(request.out).path.mkdir(parents=True)
        (request.out / "metrics.jsonl").write_text('{"step": 4, "elbo": -1.0}\n')

    monkeypatch.setattr(seed_requests.TrainRequest, "run", run)
    code, _, err = command(*ARGUMENTS, "--seeds", "0:3", "--out", "sweep")
    assert code == 130 and "Run 2 of 3: sweep/vae-pendulum-constant-seed1" in err and "Run 3" not in err
    assert "The same command goes on with it, and keeps the runs that are finished." in err


@pytest.mark.parametrize(
    "more, message",
    [
        (["--seeds", "3"], "--seeds takes A:B with A below B"),
        (["--seeds", "2:2"], "got '2:2'. Example: --seeds 0:5"),
        (["--seeds", "0:9999999999"], "beyond the largest seed, 4294967295 (2^32 - 1): B is at most 4294967296."),
        (["--seeds", "0:2", "--seed", "1"], "--seed and --seeds both give the seed"),
        (["--seeds", "0:2", "-o", "latnet=2"], "Did you mean 'latent'"),
    ],
)
def test_what_was_typed_wrong_is_one_line(command, more, message):
    code, _, err = command(*ARGUMENTS, *more)
    assert code == 2 and message in err and not Path("runs").exists()


def test_a_dry_run_names_the_directories(command):
    code, out, _ = command(*ARGUMENTS, "--seeds", "0:2", "--dry-run")
    assert (
        code == 0 and json.loads(out)["out"] == [f"runs/{NAME.format(seed)}" for seed in (0, 1)] and not Path("runs").exists()
    )
