"""The command line: every command, its text, its JSON, its files and its errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import QUICK, TINY, real

from pyro_hvae.cli.command_group import COMMANDS
from pyro_hvae.runs.checkpoints import load_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny trained run, made once by the real command."""
    folder = tmp_path_factory.mktemp("trained")
    done = real("train", "vhp", "--dataset", "pendulum", *TINY, "--steps", "60", "-o", "kappa=4", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "vhp-pendulum-rewo-seed0", done


def test_train_says_what_it_did_and_writes_the_run(trained):
    run, done = trained
    assert "Run: runs/vhp-pendulum-rewo-seed0" in done.stdout
    assert "Angle error: " in done.stdout.splitlines()[-1] and "(paper: 0.054 rad)" in done.stdout.splitlines()[-1]
    pictures = {"training", "latent_space", "interpolation", "reconstructions", "samples"}
    for name in pictures:
        path = run / "figures" / f"{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG") and f"figures/{name}.png" in done.stdout
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "loss", "elbo", "distortion", "beta", "constraint", "rate.z1", "rate.z2", "rate_total", "main"} <= set(
        rows[0]
    )
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "finished" and info["seed"] == 0 and "torch" in info["versions"]
    assert json.loads((run / "eval/angle.json").read_text())["mae_rad"] > 0
    assert "Traceback" not in done.stderr


def test_a_runs_config_trains_the_same_run_again(trained, command, tmp_path):
    run, _ = trained
    code, _, err = command("train", "--config", run / "config.toml", "--out", tmp_path / "again")
    assert code == 0, err
    assert (tmp_path / "again/metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert (tmp_path / "again/config.toml").read_text() == (run / "config.toml").read_text()


def test_evaluate(trained, command):
    code, out, err = command("evaluate", trained[0], "--particles", 40, "--limit", 30, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["particles"] == 40 and values["n"] == 30
    assert set(values["rate"]) == set(values["active_units"]) == {"z1", "z2"}
    assert values["log_likelihood"] > values["elbo"] and values["stderr"] > 0
    assert json.loads((trained[0] / "eval/likelihood.json").read_text()) == values
    code, out, _ = command("evaluate", trained[0], "--particles", 40, "--limit", 30)
    assert f"log-likelihood  {values['log_likelihood']:.4f}" in out and "nats per datum" in out


def test_metrics(trained, command):
    code, out, _ = command("metrics", trained[0], "angle", "--json")
    values = json.loads(out)
    assert code == 0 and values["metric"] == "angle" and values["mae_rad"] > 0
    code, out, _ = command("metrics", trained[0], "angle", "interpolation", "--json")
    both = json.loads(out)
    assert code == 0 and both["angle"] == values and both["interpolation"]["draws"] == 4
    code, out, _ = command("metrics", trained[0], "angle", "interpolation")
    assert code == 0 and "mae_rad" in out and "max_jump_deg" in out


@pytest.mark.parametrize("name", ["sample", "reconstruct", "interpolate"])
def test_pictures(trained, command, name):
    code, out, err = command(name, trained[0])
    assert code == 0, err
    paths = [line.removeprefix("Picture: ") for line in out.splitlines() if line.startswith("Picture: ")]
    assert paths and all(os.path.getsize(path) > 1000 for path in paths)
    code, out, _ = command(name, trained[0], "--json")
    assert code == 0 and json.loads(out)["figures"] == paths


def test_compare(trained, command):
    code, out, _ = command("compare", trained[0], "--json")
    values = json.loads(out)
    assert code == 0 and values["methods"][0]["seeds"] == 1 and values["methods"][0]["paper"] == "0.054"
    code, out, _ = command("compare", trained[0])
    assert code == 0 and "vhp + rewo" in out and "0.054" in out


@pytest.mark.parametrize(
    "what, name", [("recipes", "vhp"), ("datasets", "pendulum"), ("schedules", "rewo"), ("metrics", "angle")]
)
def test_list(command, what, name):
    code, out, _ = command("list", what)
    assert code == 0 and f"{name}: " in out
    code, out, _ = command("list", what, "--json")
    assert code == 0 and name in json.loads(out)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(command, name):
    code, out, _ = command(name, "--help")
    assert code == 0 and f"pyro-hvae {name} " in out.split("Examples:")[1]


def test_help_starts_at_once_without_torch(tmp_path):
    code = "import sys; from pyro_hvae.cli.command_group import cli; cli.main(['train', '--help'], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 2  # half a second on a free machine


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


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["train", "vph", "--dataset", "pendulum"], 2, "Did you mean 'vhp'?"),
        (["train", "vhp", "--dataset", "pendulm"], 2, "no dataset called 'pendulm'. Did you mean 'pendulum'?"),
        (["train", "vhp", "--dataset", "pendulum", "--schedule", "reewo"], 2, "Did you mean 'rewo'?"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "latnet=2"], 2, "Did you mean 'latent'?"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "latent=abc"], 2, "latent=abc is not a whole number"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "latent=2.5"], 2, "latent=2.5 is not a whole number"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "latent"], 2, "key=value"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "latent=-2"], 2, "latent must be positive, got -2"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "size=-5"], 2, "size"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "hidden=0"], 2, "hidden must be positive"),
        (["train", "vhp", "--dataset", "pendulum", "--steps", "-1"], 2, "steps must be at least 1"),
        (["train", "vhp", "--dataset", "pendulum", "--batch-size", "0"], 2, "batch-size must be at least 1"),
        (["train", "vhp", "--dataset", "pendulum", "--epochs", "0"], 2, "--epochs must be at least 1"),
        (["train", "vhp", "--dataset", "pendulum", "--lr", "-1"], 2, "lr must be positive"),
        (["train", "vhp", "--dataset", "pendulum", "--lr", "nan"], 2, "lr=nan is not a number"),
        (["train", "vhp", "--dataset", "pendulum", "--lr", "inf"], 2, "lr=inf is not a number"),
        (["train", "vhp", "--dataset", "pendulum", "--seed", "9" * 23], 2, "is not in the range"),
        (["train", "vhp", "--dataset", "pendulum", "--dry-run", "--device", "cuda:77"], 5, "not available"),
        (["train", "--resume", ""], 3, "no run ''"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "kappa=-1"], 2, "kappa"),
        (["train", "vhp", "--dataset", "pendulum", "-o", "likelihood=gausian"], 2, "Did you mean 'gaussian'?"),
        (["train", "vhp", "--dataset", "pendulum", "--device", "tpu"], 2, "no device called 'tpu'"),
        (["train", "vhp", "--dataset", "pendulum", "--device", "cuda:77"], 5, "not available"),
        (["train", "vhp", "--dataset", "pendulum", "--engine", "svii"], 2, "Did you mean 'svi'?"),
        (["train", "vhp", "--dataset", "pendulum", "--track", "wandb"], 2, "no tracker called 'wandb'"),
        (["train", "vhp"], 2, "--dataset"),
        (["train"], 2, "no recipe given"),
        (["train", "vhp", "--dataset", "pendulum", "--config", "none.toml"], 2, "cannot read the config file 'none.toml'"),
        (["train", "vhp", "--dataset", "pendulum", "--out", "/dev/null/run"], 3, "cannot write to '/dev/null/run'"),
        (["train", "--resume", "nowhere"], 3, "no run 'nowhere'"),
        (["train", "--program", "none.py:build", "--dataset", "pendulum"], 2, "is not FILE.py:FUNCTION"),
        (["train", "--stepz", "3"], 2, "No such option"),
        (["trian"], 2, "Did you mean 'train'?"),
        (["list", "recipe"], 2, "Did you mean 'recipes'?"),
        (["evaluate", "last"], 3, "no run below"),
        (["metrics", "last", "angle"], 3, "no run below"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_message(command, arguments, code, message):
    found, out, err = command(*arguments)
    assert found == code and message in err, err
    assert "Traceback" not in err and not out
    assert not os.path.exists("runs")


def test_config_file_with_an_unknown_key_or_bad_toml(command, tmp_path):
    (tmp_path / "a.toml").write_text('recipe = "vhp"\ndataset = "pendulum"\nlatnet = 3\n')
    code, _, err = command("train", "--config", "a.toml")
    assert code == 2 and "Did you mean 'latent'?" in err
    (tmp_path / "b.toml").write_text("recipe = \n")
    code, _, err = command("train", "--config", "b.toml")
    assert code == 2 and "not valid TOML" in err


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
    assert code == 2 and "not empty" in err and "--resume mine" in err
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


def test_damaged_runs_are_named_and_nothing_is_executed(command, tmp_path):
    small_train(command, "--out", "a")
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


def test_resume_takes_everything_from_the_run(command):
    small_train(command, "--out", "a")
    code, _, err = command("train", "--resume", "a", "--lr", "0.5")
    assert code == 2 and "started with lr = 0.001" in err
    code, _, err = command("train", "vae", "--resume", "a", "-o", "latent=3")
    assert code == 2 and "a recipe and -o cannot be given" in err
    code, out, err = command("train", "--resume", "a", "--steps", 9, "--json")
    assert code == 0 and json.loads(out)["step"] == 9 and "steps = 9" in Path("a/config.toml").read_text()
    code, _, err = command("train", "--resume", "a", "--steps", 5)
    assert code == 2 and "at step 9 already" in err


def test_a_run_of_another_version_is_refused_with_a_reason(command):
    small_train(command, "--out", "a")
    config = Path("a/config.toml")
    config.write_text(config.read_text().replace("[train]\n", "[train]\nmomentum = 0.9\n"))
    for arguments in (["metrics", "a", "angle"], ["train", "--resume", "a"]):
        code, _, err = command(*arguments)
        assert code == 2 and "unknown training settings ['momentum']" in err


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


def test_unknown_metric_and_bad_numbers(trained, command):
    run = trained[0]
    for arguments, message in [
        (["metrics", run, "angel"], "Did you mean 'angle'?"),
        (["metrics", run, "angle", "angel"], "Did you mean 'angle'?"),
        (["evaluate", run, "--particles", "0"], "particles must be"),
        (["evaluate", run, "--limit", "0"], "0 is not in the range"),
        (["sample", run, "--n", "0"], "--n must be at least 1"),
        (["reconstruct", run, "--n", "-3"], "--n must be at least 1"),
        (["interpolate", run, "--nodes", "1"], "--nodes must be at least 2"),
        (["interpolate", run, "--k", "0"], "k must be at least 1"),
        (["interpolate", run, "--from", "3"], "go together"),
        (["interpolate", run, "--from", "3", "--to", "99999"], "indices of the 3000 test data"),
        (["compare", run, "--metric", "angel"], "Did you mean 'angle'?"),
    ]:
        code, out, err = command(*arguments)
        assert code == 2 and message in err and not out and "Traceback" not in err, err


def test_a_loss_that_explodes_exits_4_and_keeps_the_checkpoint(command, tmp_path):
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, "--lr", "1e6", "--out", "a")
    assert code == 4 and "the loss became" in err and "worst site '" in err and "--lr 1e+05" in err
    assert load_checkpoint(tmp_path / "a/checkpoints/last.pt")["step"] == 0
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, "-o", "starts=2", "--lr", "1e6", "--out", "b")
    assert code == 4 and "Tried 2 starts" in err


def test_kappa_out_of_reach_warns_and_says_what_to_change(command):
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, "--steps", 40, "-o", "kappa=1e-3")
    assert code == 0 and "initial phase has not ended after 10 steps" in err and "-o kappa=" in err


def test_tensorboard(command):
    event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    small_train(command, "--out", "a", "--track", "tensorboard", "-o", "log_every=2")
    events = event_file.EventAccumulator("a/tensorboard")
    events.Reload()
    assert {"loss", "beta", "rate.z1"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6]


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_resume_as_real_processes(tmp_path, sent, code):
    arguments = [
        "train",
        "vhp",
        "--dataset",
        "pendulum",
        *TINY[:-1],
        "eval_every=200",
        "--steps",
        "800",
        "-o",
        "kappa=4",
        "-o",
        "log_every=1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pyro_hvae", *arguments, "--out", "cut"],
        cwd=tmp_path,
        env=environment,
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
    assert 30 <= step < 800
    for folder in ("cut", "whole"):
        if folder == "whole":
            done = real(*arguments[:-4], "-o", "kappa=4", "-o", "log_every=1", "--out", folder, cwd=tmp_path)
        else:
            done = real("train", "--resume", folder, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


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
    arguments = ["train", "vhp", "--dataset", "pendulum", *TINY, "--steps", "60", "--save-every", "10", "-o", "kappa=4"]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments, "--out", "cut"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    saved = load_checkpoint(tmp_path / "cut/checkpoints/last.pt")  # the one before, whole
    assert 0 < saved["step"] < 60
    assert real("train", "--resume", "cut", cwd=tmp_path).returncode == 0
    assert real(*arguments, "--out", "whole", cwd=tmp_path).returncode == 0
    a, b = (load_checkpoint(tmp_path / run / "checkpoints/last.pt") for run in ("cut", "whole"))
    for name, weight in b["programs"][0]["model"].items():
        assert torch.equal(weight, a["programs"][0]["model"][name])
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_json_prints_one_object_and_nothing_else(tmp_path):
    done = real("train", "vae", *QUICK, "--steps", 5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) >= {"run", "step", "figures", "angle"}


def test_a_plain_unexpected_error_has_no_traceback_unless_asked(command, monkeypatch):
    import pyro_hvae.reports.option_catalogue

    def fail(what):
        raise RuntimeError("boom")

    monkeypatch.setattr(pyro_hvae.reports.option_catalogue, "catalogue", fail)
    code, _, err = command("list", "recipes")
    assert code == 1 and "unexpected RuntimeError: boom" in err and "Traceback" not in err
    code, _, err = command("--traceback", "list", "recipes")
    assert code == 1 and "Traceback" in err
