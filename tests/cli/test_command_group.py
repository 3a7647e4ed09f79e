"""The command group: lists, help, errors of every kind, and output on stdout alone."""

import json
import os
import subprocess
import sys
import time
import warnings

import pytest
from command_line import QUICK, real

from pyro_hvae.cli import command_group
from pyro_hvae.cli.command_group import COMMANDS
from pyro_hvae.errors import FewEffectiveSamplesWarning, NoMeanWarning


@pytest.mark.parametrize(
    "what, name", [("recipes", "vhp"), ("datasets", "pendulum"), ("schedules", "rewo"), ("metrics", "angle")]
)
def test_list(command, what, name):
    code, out, _ = command("list", what)
    assert code == 0 and f"{name}: " in out
    code, out, _ = command("list", what, "--json")
    assert code == 0 and name in json.loads(out)


def test_the_list_of_recipes_ends_with_what_their_options_can_be(command):
    from pyro_hvae.recipes import LIKELIHOODS, POSTERIORS, PRIORS

    lines = command("list", "recipes")[1].splitlines()
    for name, table in {"likelihood": LIKELIHOODS, "prior": PRIORS, "posterior": POSTERIORS}.items():
        assert f"{name}={'|'.join(table)}" in lines
    assert any(line.startswith("Options of the training") and " free_bits=0.0 balance=False " in line for line in lines)


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
        (
            ["train", "vhp", "--dataset", "pendulum", *"--steps 20 -o starts=1 --out /dev/null/run".split()],
            3,
            "cannot write to '/dev/null/run'",
        ),
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


def test_unknown_metric_and_bad_numbers(pendulum_run, command):
    run = pendulum_run
    for arguments, message in [
        (["metrics", run, "angel"], "Did you mean 'angle'?"),
        (["metrics", run, "angle", "angel"], "Did you mean 'angle'?"),
        (["evaluate", run, "--particles", "0"], "particles must be"),
        (["evaluate", run, "--limit", "0"], "--limit must be at least 1, got 0"),
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


def test_json_prints_one_object_and_nothing_else(tmp_path):
    done = real("train", "vae", *QUICK, "--steps", 5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) >= {"run", "step", "figures", "angle"}


def test_a_plain_unexpected_error_has_no_traceback_unless_asked(command, monkeypatch):
    def fail(what):
        raise RuntimeError("boom")

    monkeypatch.setattr("pyro_hvae.reports.catalogue", fail)
    code, _, err = command("list", "recipes")
    assert code == 1 and "unexpected RuntimeError: boom" in err and "Traceback" not in err
    code, _, err = command("--traceback", "list", "recipes")
    assert code == 1 and "Traceback" in err


def test_standard_streams_may_be_closed_or_full(tmp_path):
    line = f"{sys.executable} -m pyro_hvae"
    train = f"{line} train vae --dataset digits --out run --steps 2 --no-compile -o hidden=2 --batch-size 4"
    assert subprocess.run(f"{train} <&- >&- 2>&-", shell=True, cwd=tmp_path).returncode == 0
    assert (tmp_path / "run/figures/training.png").is_file()
    evaluate = f"{line} evaluate run --limit 2 --particles 2 --json"
    done = subprocess.run(f"{evaluate} 2>&-", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["n"] == 2
    if os.path.exists("/dev/full"):
        done = subprocess.run(f"{evaluate} >/dev/full", shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 3 and "cannot write the result to stdout: No space left on device." in done.stderr


@pytest.mark.parametrize("category", [NoMeanWarning, FewEffectiveSamplesWarning])
def test_a_warning_about_results_is_one_line_and_names_no_code(capsys, category):
    def warn_twice(*args, **kwargs):
        for _ in range(2):
            warnings.warn("the values are uncertain.", category, stacklevel=1)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(command_group.cli, "main", warn_twice)
        command_group.main([])
    assert stopped.value.code == 0 and capsys.readouterr().err == "Warning: the values are uncertain.\n"
