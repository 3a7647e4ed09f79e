"""`evaluate` and `metrics` on the command line: protocol, options, text, and what does not fit."""

import json
import math
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from command_line import train_once

from pyro_hvae.evaluation import METRICS, likelihood
from pyro_hvae.evaluation.likelihood import published_likelihood
from pyro_hvae.reports import metrics_text
from pyro_hvae.runs import RunDirectory
from pyro_hvae.runs.experiment import Experiment

SMALL = "-o hidden=8 --batch-size 20 -o starts=1 --steps 10 --out run --json".split()


def trained(folder, *arguments):
    train_once(folder, *arguments, *SMALL)
    return folder / "run"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("digits"), "iwae", "--dataset", "digits", "-o", "levels=2", "-o", "upper=8")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    few = "-o floor_hues=2 -o wall_hues=2 -o object_hues=2 -o scales=2 -o shapes=cube,sphere -o orientations=2".split()
    return trained(tmp_path_factory.mktemp("rooms"), "vae", "--dataset", "rooms", *few, "-o", "network=mlp")


def test_evaluate(pendulum_run, command):
    code, out, err = command("evaluate", pendulum_run, "--particles", 40, "--limit", 30, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["particles"] == 40 and values["n"] == 30
    assert set(values["rate"]) == set(values["active_units"]) == {"z1", "z2"}
    assert values["log_likelihood"] > values["elbo"] and values["stderr"] > 0
    counts = {site: sum(kl > 0.05 for kl in kls) for site, kls in values["kl_per_dimension"].items()}
    assert counts and values["informative_units"] == counts
    assert RunDirectory(pendulum_run).read_json("eval/likelihood.json") == values
    assert f"likelihood is of 30 test data; bounds, rates and active units are of all {values['n_bound']:,}." in err
    code, out, _ = command("evaluate", pendulum_run, "--particles", 40, "--limit", 30)
    assert f"log-likelihood  {values['log_likelihood']:.4f} +- " in out and "nats per datum" in out
    assert f"; 20 samples give {values['half']:.4f}" in out and "bits per dim" not in out
    assert "with KL > 0.05 nats  " + "  ".join(f"{site} {count}" for site, count in counts.items()) in out


def test_metrics(pendulum_run, command):
    code, out, _ = command("metrics", pendulum_run, "angle", "--json")
    values = json.loads(out)
    assert code == 0 and values["metric"] == "angle" and values["mae_rad"] > 0
    code, out, _ = command("metrics", pendulum_run, "angle", "interpolation", "--json")
    both = json.loads(out)
    assert code == 0 and both["angle"] == values and both["interpolation"]["draws"] == 4
    code, out, _ = command("metrics", pendulum_run, "angle", "interpolation")
    assert code == 0 and "mae_rad" in out and "max_jump_deg" in out


def test_every_result_says_how_it_was_measured(rooms, command):
    code, out, err = command("metrics", rooms, "mig", "-o", "points=50", "-o", "samples=40", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values == RunDirectory(rooms).read_json("eval/mig.json")
    assert values["metric"] == "mig" and values["step"] == 10 and values["run_seed"] == 0
    assert values["options"] == {"points": 50, "samples": 40, "draws": 16, "seed": 0, "factors": []}
    assert values["data"]["name"] == "rooms" and values["data"]["scales"] == 2
    assert {"python", "torch", "pyro-hvae", "scikit-learn"} <= set(values["versions"])
    assert values["points"] == 50 and values["of"] == "the 64 data of the grid"


def test_an_option_goes_to_every_metric_that_has_it(rooms, command):
    flags = ["-o", "points=60", "-o", "votes=30", "-o", "test_votes=20"]
    code, out, err = command("metrics", rooms, "mig", "factor", "mutual-information", "reconstruction", *flags, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert list(values) == ["mig", "factor", "mutual-information", "reconstruction"]
    assert all(values[name]["options"]["points"] == 60 for name in ("mig", "factor", "mutual-information"))
    assert values["factor"]["options"]["votes"] == 30 and "points" not in values["reconstruction"]["options"]
    code, out, _ = command("metrics", rooms, "factor", "reconstruction", *flags)
    lines = out.splitlines()
    assert lines[0].startswith("factor: 0.") and lines[0].endswith("(higher is better)")
    protocol = "measured with data=rooms step=10 points=60 votes=30 test_votes=20 per_vote=64 prune=0.05 draws=16 seed=0"
    assert protocol in " ".join(out.split()) and max(map(len, lines)) <= 100
    assert any(line.startswith("reconstruction: ") and "(per pixel, lower is better)" in line for line in lines)


def test_the_same_twice_is_the_same(rooms, command):
    for name in ("mig", "mig-histogram", "factor", "mutual-information", "reconstruction", "likelihood"):
        flags = ["-o", "particles=20"] if name == "likelihood" else []
        one, two = (json.loads(command("metrics", rooms, name, *flags, "--json")[1]) for _ in range(2))
        assert one == two, name


def test_layers_above_the_first_are_mixtures(digits, command):
    code, out, err = command("metrics", digits, "mutual-information", "-o", "points=100", "-o", "draws=4", "--json")
    values = json.loads(out)
    assert code == 0 and values["mixtures"] == {"z2": 4} and values["total"] == values["z1"] <= math.log(100)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["mig"], "metrics of disentanglement need two or more factors of variation with few values; 'digits' has class"),
        (["mig", "-o", "point=50"], "no option of mig called 'point'. Did you mean 'points'?"),
        (["mig", "-o", "points=many"], "option points=many is not a whole number"),
        (["mutual-information", "-o", "points=1"], "points=1: a metric of codes needs at least two data"),
        (["mutual-information", "-o", "draws=1"], "draws=1: layers above the first are mixtures over two draws or more"),
        (["regression"], "needs factors of position or size"),
        (["classes", "-o", "factor=clas"], "no classes called 'clas'; its factors of few values: class"),
        (["smoothness", "-o", "graphs=0"], "graphs must be at least 1, got 0"),
        (["likelihood", "-o", "particles=0"], "particles must be a whole number of at least 1, got 0"),
        (["likelihood", "-o", "inner=4"], "need a site that they share"),
        (["likelihood", "-o", "limit=-1"], "limit=-1"),
        (["likelyhood"], "Did you mean 'likelihood'?"),
        (["angle"], "needs a data set with that factor, such as pendulum; 'digits' has none"),
    ],
)
def test_what_does_not_fit_says_why(digits, command, arguments, message):
    code, out, err = command("metrics", digits, *arguments)
    assert code == 2 and message in err and not out and "Traceback" not in err, err


def test_one_metric_that_does_not_apply_does_not_stop_the_others(digits, command):
    few = ["-o", "points=50"]
    code, out, err = command("metrics", digits, "mig", "mutual-information", "angle", "reconstruction", *few, "--json")
    values = json.loads(out)
    assert code == 2 and "Error: no mig: metrics of disentanglement need two" in err and "\nno angle: " in err
    assert list(values) == ["mig", "mutual-information", "angle", "reconstruction"]
    assert values["mig"].keys() == {"metric", "error"} and "needs a data set with that factor" in values["angle"]["error"]
    assert values["mutual-information"]["total"] > 0
    assert values["reconstruction"] == RunDirectory(digits).read_json("eval/reconstruction.json")
    assert not (digits / "eval/mig.json").exists()
    code, out, err = command("metrics", digits, "mig", "mutual-information", *few)
    assert code == 2 and out.startswith("mutual-information: ") and "mig" not in out and err.startswith("Error: no mig: ")
    code, out, err = command("metrics", digits, "mig", "angle")  # none is left
    assert code == 2 and not out and "no mig: " in err and "no angle: " in err


def test_networks_that_return_nan_exit_4(digits, command, tmp_path):
    shutil.copytree(digits, "run")
    path = tmp_path / "run/checkpoints/last.pt"
    saved = torch.load(path, weights_only=True)
    for value in saved["programs"][0]["model"].values():
        value.fill_(math.nan)
    torch.save(saved, path)
    code, out, err = command("evaluate", "run", "--particles", "10", "--limit", "5")
    assert code == 4 and "are no numbers" in err and "Traceback" not in err and not out
    for name in ("reconstruction", "mutual-information", "smoothness", "classes"):
        code, out, err = command("metrics", "run", name)
        assert code == 4 and "are no numbers: its training diverged" in err and not out


def test_results_that_cannot_be_kept_are_not_computed_first(digits, command, tmp_path):
    shutil.copytree(digits, "run")
    shutil.rmtree("run/eval")
    assert command("metrics", "run", "reconstruction")[0] == 0  # made anew
    shutil.rmtree("run/eval")
    (tmp_path / "run/eval").write_text("a file")
    code, out, err = command("metrics", "run", "reconstruction")
    assert code == 3 and "cannot write to 'run/eval', where the run keeps its results: File exists" in err and not out


def test_sigterm_keeps_what_an_evaluation_has(digits, command, tmp_path, monkeypatch):
    shutil.copytree(digits, "run")
    genuine = likelihood.importance_weights

    def cut(*arguments, start=0, **more):
        for number, weights in enumerate(genuine(*arguments, start=start, **more)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield weights

    flags = ["evaluate", "run", "--particles", "2000", "--limit", "100", "--json"]
    monkeypatch.setattr(likelihood, "importance_weights", cut)
    code, out, err = command(*flags)
    assert code == 143 and "stopped by SIGTERM" in err and "Traceback" not in err and not out
    monkeypatch.setattr(likelihood, "importance_weights", genuine)
    (kept,) = (tmp_path / "run/eval").glob("log_likelihoods-*.npz")
    with np.load(kept) as file:
        assert len(file["log_likelihood"]) == 3 * likelihood.data_per_batch(2000)
    resumed = json.loads(command(*flags)[1])
    kept.unlink()
    assert json.loads(command(*flags)[1]) == resumed


def test_published_likelihoods_are_of_the_right_runs():
    def published(recipe, dataset, schedule="constant", options=None, data=None):
        return published_likelihood(
            Experiment(recipe, dataset, schedule, recipe_options=options or {}, data_options=data or {})
        )

    assert published("vhp", "mnist-static", "rewo") == "-82.74"
    assert published("vhp", "mnist-static", "geco") == "-96.32" and published("vhp", "mnist-static", "warmup") is None
    assert published("iwae", "mnist", options={"levels": 2}, data={"binarize": "dynamic"}) == "-80.66"
    assert published("iwae", "mnist", options={"levels": 1}, data={"binarize": "none"}) is None
    assert published("vae", "mnist-static") is None and published("vhp", "digits", "rewo") is None


def test_text_of_nested_results():
    values = {
        "metric": "regression",
        "rmse": {"position": 0.25, "x": 0.5},
        "controls": {"one": {"a": 1, "b": None}, "two": {"a": 2.5, "b": True}},
        "many": list(range(20)),
        "nothing": [],
        "options": {"train": 5},
        "step": 7,
        "data": {"name": "mine"},
    }
    assert metrics_text(values).splitlines() == [
        "regression: 0.25 (label units, lower is better)",
        "  rmse     position 0.25  x 0.5",
        "  many     0 1 2 3 4 5 6 7 ... (20 values)",
        "  nothing  none",
        "",
        "controls  a    b",
        "one       1    -",
        "two       2.5  True",
        "  measured with data=mine step=7 train=5",
    ]
    assert set(METRICS) >= {"likelihood", "mig", "mig-sup", "factor"}
