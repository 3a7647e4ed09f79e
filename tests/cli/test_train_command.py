"""`pyro-hvae train`: what it prints and writes, its settings, damaged runs, and errors."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from command_line import QUICK, TINY

from pyro_hvae.errors import DataError
from pyro_hvae.runs import find_run
from pyro_hvae.runs.checkpoints import load_checkpoint

OWN = """
from pyro_hvae import recipes

def one(x):
    objective = recipes.build("vae", x, {"hidden": (4,)})[0].objective
    return objective.model, objective.guide

two = one
"""


def test_train_prints_its_results_and_writes_the_run(pendulum_training):
    run, out, err = pendulum_training
    assert "Run: runs/vhp-pendulum-rewo-seed0" in out
    assert "Angle error: " in out.splitlines()[-1] and "(paper: 0.054 rad)" in out.splitlines()[-1]
    pictures = {"training", "latent_space", "interpolation", "reconstructions", "samples"}
    for name in pictures:
        path = run / "figures" / f"{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG") and f"figures/{name}.png" in out
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "loss", "elbo", "distortion", "beta", "constraint", "rate.z1", "rate.z2", "rate_total", "main"} <= set(
        rows[0]
    )
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "finished" and info["seed"] == 0 and "torch" in info["versions"]
    assert json.loads((run / "eval/angle.json").read_text())["mae_rad"] > 0
    assert "Traceback" not in err


def test_the_config_of_a_run_trains_the_same_run_again(pendulum_run, command, tmp_path):
    run = pendulum_run
    code, _, err = command("train", "--config", run / "config.toml", "--out", tmp_path / "again")
    assert code == 0, err
    assert (tmp_path / "again/metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert (tmp_path / "again/config.toml").read_text() == (run / "config.toml").read_text()


def test_dry_run_trains_nothing(command):
    code, out, _ = command("train", "iwae", "--dataset", "pendulum", "-o", "levels=2", "--epochs", 3, "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0 and plan["parameters"]["iwae"] > 1000 and plan["data_shape"] == [15000, 1, 16, 16]
    assert plan["train"]["steps"] == 3 * (15000 // 64)
    assert not os.path.exists("runs")
    code, out, _ = command("train", "vhp", "--dataset", "pendulum", "--dry-run")
    assert code == 0 and 'schedule = "rewo"' in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["vae"],
        ["vae", "--schedule", "rewo", "-o", "kappa=4"],
        ["vae", "--schedule", "geco"],
        ["vae", "--schedule", "warmup"],
        ["vae", "-o", "likelihood=bernoulli"],
        ["beta-vae", "-o", "beta=2"],
        ["iwae", "-o", "particles=3"],
        ["iwae", "-o", "particles=3", "-o", "levels=2", "-o", "latent=3"],
        ["iwae", "-o", "particles=1", "--schedule", "warmup"],
        ["vhp", "-o", "particles=2", "--schedule", "geco"],
        ["vhp", "-o", "particles=2", "--schedule", "warmup", "-o", "warmup=0.8"],
        ["vhp", "-o", "particles=2", "--schedule", "constant"],
        ["vhp", "-o", "particles=1", "-o", "kappa=4", "--engine", "svi"],
        ["vhp", "-o", "particles=2", "-o", "measure=rmse", "-o", "kappa=0.3"],
    ],
    ids=" ".join,
)
def test_every_recipe_with_every_sensible_schedule(command, arguments):
    code, out, err = command("train", *arguments, *QUICK, "--steps", 12)
    assert code == 0, err
    report = json.loads(out)
    assert report["step"] == 12 and ("angle" in report) == ("latent=3" not in arguments)  # the angle needs a plane


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["beta-vae", "--schedule", "rewo"], "Use 'train vae' with it"),
        (["iwae", "--schedule", "warmup"], "does not commute with the log-mean-exp"),
        (["iwae", "--schedule", "rewo"], "--schedule rewo does not go with this bound"),
    ],
)
def test_combinations_without_sense_say_why(command, arguments, message):
    code, _, err = command("train", *arguments, "--dataset", "pendulum")
    assert code == 2 and message in err and not os.path.exists("runs")


def test_config_file_with_an_unknown_key_or_bad_toml(command, tmp_path):
    (tmp_path / "a.toml").write_text('recipe = "vhp"\ndataset = "pendulum"\nlatnet = 3\n')
    code, _, err = command("train", "--config", "a.toml")
    assert code == 2 and "Did you mean 'latent'?" in err
    # Numbers of more digits than Python takes, and more brackets than it recurses into, are no bugs of ours.
    for text in ("recipe = \n", f"steps = {'9' * 5000}\n", f"steps = {'[' * 50_000}\n"):
        (tmp_path / "b.toml").write_text(text)
        code, _, err = command("train", "--config", "b.toml")
        assert code == 2 and "not valid TOML" in err


@pytest.mark.parametrize(
    "content, message",
    [
        ("recipe = 3", "the config file has recipe = 3, which is no name."),
        ('recipe = "vae"\nschedule = 1', "the config file has schedule = 1, which is no name."),
        ('recipe = "vae"\n[train]\nlr = true', "option lr=True is not a number."),
        ('recipe = "vae"\n[recipe_options]\nlatent = true', "option latent=True is not a whole number."),
    ],
)
def test_values_of_another_kind_in_a_config_file_are_named(command, tmp_path, content, message):
    (tmp_path / "c.toml").write_text(f'dataset = "digits"\n{content}')
    code, _, err = command("train", "--config", tmp_path / "c.toml", "--dry-run")
    assert code == 2 and message in err, err


def test_a_program_is_not_replaced_by_the_recipe_of_a_config_file(vae_run, command, tmp_path):
    config = ("--config", vae_run / "config.toml", "--out", tmp_path / "run")
    code, _, err = command("train", "--program", f"{__file__}:one", *config)
    assert code == 2 and "'vae' and --program both name what to train." in err
    assert not (tmp_path / "run").exists()


def test_precedence_flag_over_environment_over_file_over_preset(command, tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text('recipe = "vhp"\ndataset = "pendulum"\nlatent = 3\nseed = 5\nlr = 0.5\n')

    def plan(*more):
        code, out, err = command("train", "--config", "a.toml", "--dry-run", "--json", *more)
        assert code == 0, err
        return json.loads(out)

    base = plan()
    assert base["recipe_options"]["latent"] == 3 and base["train"]["seed"] == 5 and base["train"]["lr"] == 0.5
    assert base["recipe_options"]["posterior"] == "isotropic"  # the preset of (vhp, pendulum)
    monkeypatch.setenv("PYRO_HVAE_TRAIN_SEED", "6")
    assert plan()["train"]["seed"] == 6
    assert plan("--seed", 7)["train"]["seed"] == 7


def test_out_that_is_not_empty_is_kept(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("do not lose")
    code, _, err = command("train", "vae", "--dataset", "pendulum", "--out", "mine")
    assert code == 2 and "not empty" in err and "no run to go on with" in err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_failing_program_is_the_users_not_a_bug(command, tmp_path):
    (tmp_path / "bad.py").write_text("def build(x):\n    return 1 / 0\n")
    code, _, err = command("train", "--program", "bad.py:build", "--dataset", "pendulum")
    assert code == 2 and "raised ZeroDivisionError" in err and "This is a bug" not in err
    (tmp_path / "worse.py").write_text("def build(x)\n")
    assert command("train", "--program", "worse.py:build", "--dataset", "pendulum")[0] == 2


def small_train(command, *more):
    code, out, err = command(
        "train", "vae", "--dataset", "pendulum", *TINY[:2], "-o", "size=100", "--steps", 6, "--batch-size", 10, *more
    )
    assert code == 0, err


@pytest.fixture
def copied(vae_run):
    """A copy of a small run, called "a"."""
    shutil.copytree(vae_run, "a")


def test_damaged_runs_are_named_and_nothing_is_executed(copied, command, tmp_path):
    last = tmp_path / "a/checkpoints/last.pt"
    whole = last.read_bytes()

    last.write_bytes(whole[: len(whole) // 2])
    for arguments in (["metrics", "a", "angle"], ["train", "--resume", "a"], ["evaluate", "a"], ["sample", "a"]):
        code, _, err = command(*arguments)
        assert code == 3 and "truncated" in err and "Traceback" not in err

    class Evil:
        def __reduce__(self):
            return (os.system, ("touch executed",))

    torch.save({"format_version": 1, "programs": Evil()}, last)
    code, _, err = command("metrics", "a", "angle")
    assert code == 3 and "could run code" in err and not os.path.exists("executed")

    torch.save({"format_version": 99}, last)
    code, _, err = command("metrics", "a", "angle")
    assert code == 3 and "format version 99" in err

    last.unlink()
    for arguments in (["metrics", "a", "angle"], ["train", "--resume", "a"]):
        code, _, err = command(*arguments)
        assert code == 3 and "has no checkpoint" in err


def test_resume_takes_everything_from_the_run(copied, command):
    code, _, err = command("train", "--resume", "a", "--lr", "0.5")
    assert code == 2 and "started with lr = 0.001" in err
    code, _, err = command("train", "vae", "--resume", "a", "-o", "latent=3")
    assert code == 2 and "a recipe and -o cannot be given" in err
    code, _, err = command("train", "--resume", "a", "-o", "latent=3", "-o", "patience=9")
    assert code == 2 and "-o cannot be given with it. Edit patience in a/config.toml, which the resumed run follows." in err
    config = Path("a/config.toml")
    config.write_text(config.read_text().replace("patience = 0", "patience = 9"))
    with pytest.warns(UserWarning, match="is followed: patience = 9 instead of 0"):
        code, out, err = command("train", "--resume", "a", "--steps", 9, "--json")
    assert code == 0, err
    assert json.loads(out)["step"] == 9 and "steps = 9" in config.read_text() and "patience = 9" in config.read_text()
    code, _, err = command("train", "--resume", "a", "--steps", 5)
    assert code == 2 and "at step 9 already" in err


def test_a_run_of_another_version_is_refused_with_a_reason(copied, command):
    config = Path("a/config.toml")
    config.write_text(config.read_text().replace("[train]\n", "[train]\nmomentum = 0.9\n"))
    for arguments in (["metrics", "a", "angle"], ["train", "--resume", "a"]):
        code, _, err = command(*arguments)
        assert code == 3 and "unknown training settings ['momentum']" in err


def test_names_tell_programs_on_one_data_set_apart(command, tmp_path):
    for name, function in (("a/own.py", "one"), ("a/own.py", "two"), ("b/other.py", "one")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(OWN)
        code, _, err = command("train", "--program", f"{path}:{function}", *QUICK[:2], "-o", "size=100", "--steps", 2)
        assert code == 0, err
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == [f"{name}-pendulum-constant-seed0" for name in ("other-one", "own-one", "own-two")]


def test_an_empty_name_is_no_run(monkeypatch, tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only/run.json").write_text("{}")
    monkeypatch.setenv("PYRO_HVAE_RUNS", str(tmp_path))
    assert find_run("on").name == "only"
    with pytest.raises(DataError, match="there is no run ''"):
        find_run("")


def test_runs_are_found_by_prefix_and_last(command, monkeypatch, tmp_path):
    monkeypatch.setenv("PYRO_HVAE_RUNS", str(tmp_path / "elsewhere"))
    small_train(command)
    small_train(command, "--seed", 1)
    small_train(command)
    names = sorted(p.name for p in (tmp_path / "elsewhere").iterdir())
    assert names == ["vae-pendulum-constant-seed0", "vae-pendulum-constant-seed0-2", "vae-pendulum-constant-seed1"]
    assert command("metrics", "last", "angle")[0] == 0
    assert command("metrics", "vae-pendulum-constant-seed1", "angle")[0] == 0
    assert command("metrics", "vae-pendulum-constant-seed0", "angle")[0] == 0  # exact beats prefix
    code, _, err = command("metrics", "vae", "angle")
    assert code == 3 and "several runs" in err


def test_a_loss_that_explodes_exits_4_and_keeps_the_checkpoint(command, tmp_path):
    explode = ["train", "vhp", "--dataset", "pendulum", *TINY, "--steps", 100, "--lr", "1e6"]
    code, _, err = command(*explode, "--out", "a")
    assert code == 4 and "the loss became" in err and "worst site '" in err and "Try lr=0.001 and grad_clip=10" in err
    assert load_checkpoint(tmp_path / "a/checkpoints/last.pt")["step"] == 0
    code, _, err = command(
        "train", "vhp", "--dataset", "pendulum", *TINY, "--steps", 100, "-o", "starts=2", "--lr", "1e6", "--out", "b"
    )
    assert code == 4 and "Tried 2 starts" in err


def test_kappa_out_of_reach_warns_and_says_what_to_change(command):
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, "--steps", 40, "-o", "kappa=1e-3")
    assert code == 0 and "initial phase has not ended after 10 steps" in err and "Raise kappa to " in err


def test_tensorboard(command):
    event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    small_train(command, "--out", "a", "--track", "tensorboard", "-o", "log_every=2")
    events = event_file.EventAccumulator("a/tensorboard")
    events.Reload()
    assert {"loss", "beta", "rate.z1"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6]
