"""`compare`: values kept and measured, methods that are equal and that are not, tables, CSV, pictures, and what goes wrong."""

import csv
import json
import math
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.evaluation import METRICS
from pyro_hvae.evaluation.metric_registry import Metric
from pyro_hvae.plots.comparison_figures import plot_comparison
from pyro_hvae.reports import compare, comparison_text, write_csv
from pyro_hvae.reports.comparison_table import DECISIVE, UNSAID
from pyro_hvae.reports.comparison_values import parse_columns
from pyro_hvae.runs.checkpoints import save_checkpoint
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.training.experiment_plan import plan

SMALL = {"hidden": "4", "size": "60"}


def a_run(name, recipe="vae", dataset="pendulum", schedule=None, seed=0, steps=10, step=None, kept=None, **options):
    """A run as training leaves it, but untrained: configuration, checkpoint, and values as if measured before."""
    options = (SMALL if recipe == "vae" and dataset == "pendulum" else {}) | options
    program = options.pop("program", None)
    own = [field.name for field in fields(TrainConfig) if field.name in options]
    settings = {"seed": seed, "steps": steps} | {name: options.pop(name) for name in own}
    experiment = resolve(recipe, dataset, schedule, options, settings, program=program)
    directory = RunDirectory(name)
    directory.create(experiment)
    parts = plan(experiment).stages if options.get("size") == "60" else []
    programs = [{k: getattr(s.objective, k).state_dict() for k in ("model", "guide")} for s in parts]
    done, programs = step or steps, programs or [{"model": {}, "guide": {}}]
    session = {"t": done, "optimizer": {"state": {}, "param_groups": [{"params": []}]}, "schedule": {}}
    session["batches"] = {"generator": torch.zeros(1), "position": 0}
    rng = {"torch": torch.zeros(1), "cuda": [], "numpy": [], "python": []}
    content = {"stage": len(programs) - 1, "step": done, "steps": steps, "programs": programs, "session": session, "rng": rng}
    save_checkpoint(directory.checkpoint(), {**content, "best": 0.0})
    for metric, values in (kept or {}).items():
        directory.write_json(f"eval/{metric}.json", {"metric": metric, "step": step or steps, "options": {}, **values})
    return directory


@pytest.fixture
def score(monkeypatch):
    """A metric of fractions that says which runs it was asked of; it does not apply to seed 7 and cannot be read of seed 8."""
    calls = []

    def measured(run, scale: float = 1.0):
        calls.append(run.directory.path.name)
        if run.experiment.train.seed == 7:
            raise ConfigError("seed 7 has no score.")
        if run.experiment.train.seed == 8:
            raise DataError("the disk is full.")
        value = scale / (1 + run.experiment.train.seed)
        return {"points": value, "layers": {"z1": 2 * value}, "text": "no number", "yes": True}

    monkeypatch.setitem(METRICS, "score", Metric(measured, "points", "higher", "pt", lambda experiment: "0.9"))
    monkeypatch.setitem(METRICS, "cost", Metric(measured, "points", "lower"))
    return calls


def runs_of(values, column):
    return {row["run"]: row["values"][column] for row in values["runs"]}


def test_what_is_asked_for():
    asked = parse_columns(["likelihood.rate.z1", "angle", "angle.mae_rad", "likelihood"])
    assert [(c.name, c.key) for c in asked] == [
        ("likelihood.rate.z1", "rate.z1"),
        ("angle", "mae_rad"),
        ("likelihood", "log_likelihood"),
    ]
    assert asked[1].describe() == {"metric": "angle", "key": "mae_rad", "better": "lower", "unit": "rad"}
    assert asked[0].describe() == {"metric": "likelihood", "key": "rate.z1", "better": "", "unit": ""}
    with pytest.raises(ConfigError, match="no metric called 'likelyhood'. Did you mean 'likelihood'?"):
        parse_columns(["angle", "likelyhood.elbo"])


def test_statistics_of_a_method_are_those_of_all_its_seeds(score):
    for seed, value in enumerate([1.0, 2.0, 6.0]):
        a_run(f"s{seed}", seed=seed, kept={"score": {"points": value}, "cost": {"points": value}})
    values = compare(["s0", "s1", "s2"], ["score", "cost", "score.step"])
    high, low, step = values["methods"]
    assert high == {
        "metric": "score",
        "data": "pendulum",
        "method": "vae + constant (beta = 1)",
        "protocol": "",
        "seeds": 3,
        "mean": 3.0,
        "std": pytest.approx(math.sqrt((4 + 1 + 9) / 2)),
        "median": 2.0,
        "min": 1.0,
        "max": 6.0,
        "best": 6.0,
        "paper": "0.9",
    }
    assert (low["best"], low["paper"], step["best"], step["paper"]) == (1.0, None, None, None)
    assert not score and not values["warnings"] and not values["failed"]
    one = compare(["s1"], ["score"])["methods"]
    assert (one[0]["seeds"], one[0]["std"], one[0]["mean"]) == (1, None, 2.0)
    text = comparison_text(values)
    assert "score (points, pt, higher is better)" in text and "cost (points, lower is better)" in text
    assert all(f"s{seed}" in text for seed in range(3))  # the best never stands without all seeds


def test_what_is_kept_is_read_and_the_rest_measured_and_kept(score):
    a_run("kept", kept={"score": {"points": 5.0, "layers": {"z2": 1.0}}})
    a_run("new", seed=1)
    a_run("stale", seed=3, steps=20, kept={"score": {"points": 5.0, "step": 10}})
    a_run("old", seed=4, kept={"score": {"other": 5.0}})  # of a version that had no such number
    for name, content in {"damaged": "{", "foreign": "[1]"}.items():
        a_run(name, seed=5 + (name == "foreign"))
        Path(name, "eval/score.json").write_text(content)
    names, told = ["kept", "new", "stale", "old", "damaged", "foreign"], []
    values = compare(names, ["score", "score.layers.z1"], tell=told.append)
    assert score == names[1:]
    found = {"kept": 5, "new": 1 / 2, "stale": 1 / 4, "old": 1 / 5, "damaged": 1 / 6, "foreign": 1 / 7}
    assert runs_of(values, "score") == found
    assert runs_of(values, "score.layers.z1") == {name: 2 * v for name, v in found.items()} | {"kept": None}
    assert values["runs"][0]["reasons"] == {"score.layers.z1": "its result of score has no layers.z1."}
    assert told[0] == "Measuring score of new (1 of 5)." and "kept has no score.layers.z1: its result" in told[5]
    assert compare(names, ["score"])["runs"][1]["values"] == {"score": 1 / 2} and len(score) == 5


def test_the_best_checkpoint_has_values_of_its_own(score):
    run = a_run("a", steps=20, kept={"score": {"points": 5.0}})
    a_run("b", steps=20, step=15)
    shutil.copy("b/checkpoints/last.pt", run.checkpoint("best"))
    other = a_run("c", seed=1, steps=20)
    shutil.copy(other.checkpoint(), other.checkpoint("best"))
    values = compare(["a", "c"], ["score"], checkpoint="best")
    assert values["runs"][0]["step"] == run.read_json("eval/score.json")["step"] == 15
    (method,) = values["methods"]  # none of them stopped early
    assert method["mean"] == 0.75 and method["method"] == "vae + constant (beta = 1)"
    with pytest.raises(ConfigError, match="no checkpoint called 'worst'"):
        compare(["a"], ["score"], checkpoint="worst")


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"hidden": "8"}, ["hidden=4", "hidden=8"]),
        ({"beta": "1.000001"}, ["beta=1.0", "beta=1.000001"]),
        ({"steps": 12}, ["steps=10", "steps=12"]),
        ({"lr": 1e-2}, ["lr=0.001", "lr=0.01"]),
        ({"gradient": "stl"}, ["(beta = 1)", "(beta = 1), gradient=stl"]),
        ({"free_bits": 0.5}, ["(beta = 1)", "(beta = 1), free_bits=0.5"]),
        ({"precision": "bf16"}, ["(beta = 1)", "(beta = 1), precision=bf16"]),
        ({"steps": 10, "step": 4}, ["(beta = 1)", "stopped_at=4"]),
    ],
)
def test_unequal_runs_are_never_averaged(score, changed, told):
    a_run("a")
    a_run("b", seed=1, **changed)
    methods = compare(["a", "b"], ["score"])["methods"]
    assert [m["seeds"] for m in methods] == [1, 1]
    assert [m["method"].endswith(end) for m, end in zip(methods, told, strict=True)] == [True, True], methods


def test_layers_that_are_balanced_make_another_method():
    for name, balance in (("a", False), ("b", True)):
        a_run(name, "hvae", schedule="warmup", balance=balance, kept={"likelihood": {"log_likelihood": -1.0}})
    plain, balanced = (method["method"] for method in compare(["a", "b"], ["likelihood"])["methods"])
    assert balanced == f"{plain}, balance=True" and "balance" not in plain


def test_every_training_setting_is_known_to_change_what_is_learned_or_not_to():
    without_effect = {"seed", "device", "threads", "compile", "log_every", "eval_every", "save_every"}
    without_effect |= {"information_every", "information_points"}
    decisive = {"steps", "batch_size", "lr", "lr_decay", "grad_clip", "starts", "engine"}
    decisive |= {"gradient", "free_bits", "balance", "precision", "optimizer", "patience"}
    assert set(DECISIVE) == decisive
    assert decisive | without_effect == {field.name for field in fields(TrainConfig)} and not decisive & without_effect
    assert all(getattr(TrainConfig(), name) == usual for name, usual in UNSAID.items())


def test_a_stage_that_ended_early_is_no_run_that_stopped(score):
    for number, step in enumerate((10, 4)):
        a_run(f"run{number}", seed=number, step=step).update(status="finished", step=step)
    (method,) = compare(["run0", "run1"], ["score"])["methods"]
    assert method["seeds"] == 2
    RunDirectory("run1").update(step=5)  # it was, and went on until it was stopped
    assert len(compare(["run0", "run1"], ["score"])["methods"]) == 2
    (Path("run1") / "run.json").write_text("{")
    assert len(compare(["run0", "run1"], ["score"])["methods"]) == 2


def test_what_changes_no_number_makes_no_other_method(score):
    a_run("a", seed=0, threads=1)
    a_run("b", seed=1, threads=2, eval_every=7)
    (method,) = compare(["a", "b"], ["score"])["methods"]
    assert method["seeds"] == 2 and method["method"] == "vae + constant (beta = 1)"


def test_data_sets_are_apart_and_told_by_their_options(score):
    kept = {"score": {"points": 1.0}}
    a_run("a", kept=kept)
    a_run("b", data_seed="1", kept={"score": {"points": 1.0, "options": {"scale": 2.0}}})
    a_run("c", dataset="digits", kept=kept)
    a_run("d", dataset="digits", schedule="warmup", warmup="0.5", kept=kept)
    values = compare(["a", "b", "c", "d"], ["score"])
    assert [m["seeds"] for m in values["methods"]] == [1, 1, 1, 1]
    assert [(m["data"], m["method"]) for m in values["methods"]] == [
        ("pendulum, data_seed=0", "vae + constant (beta = 1)"),
        ("pendulum, data_seed=1", "vae + constant (beta = 1)"),
        ("digits", values["runs"][2]["method"]),
        ("digits", "vae + warmup (50% of the run)"),
    ]
    sets = "pendulum, data_seed=0; pendulum, data_seed=1; digits"
    assert values["warnings"] == [f"the runs are on different data ({sets}), whose values cannot be compared."]


def test_the_default_is_the_angle_on_the_pendulum_only(command):
    a_run("a", kept={"angle": {"mae_rad": 0.5}, "likelihood": {"log_likelihood": -3.0}})
    a_run("b", dataset="digits", kept={"likelihood": {"log_likelihood": -4.0}})
    code, out, err = command("compare", "a")
    assert code == 0 and "angle (mae_rad, rad, lower is better)" in out and not err
    code, out, _ = command("compare", "a", "b", "--json")
    assert code == 0 and runs_of(json.loads(out), "likelihood") == {"a": -3.0, "b": -4.0}


def test_values_measured_differently_are_told_apart_from_values_that_can_be_compared(command):
    def likelihood(particles, kind):
        return {"likelihood": {"log_likelihood": -3.0, "options": {"particles": particles, "seed": 0}, "likelihood": kind}}

    a_run("a", kept=likelihood(40, "Gaussian, sigma 0.3"))
    a_run("b", seed=1, kept=likelihood(5000, "Gaussian, sigma 0.2"))
    a_run("c", seed=2, kept=likelihood(5000, "Gaussian, sigma 0.2"))
    code, out, err = command("compare", "a", "b", "c", "--metric", "likelihood", "--json")
    (warning,) = json.loads(out)["warnings"]
    assert code == 0 and f"Careful: {warning}" in err
    assert warning == "likelihood was measured with different options on pendulum: particles=40 for a; particles=5000 for b, c."
    a_run("d", seed=3, kept=likelihood(5000, "Bernoulli"))
    (warning,) = compare(["b", "d"], ["likelihood"])["warnings"]
    assert warning.endswith("likelihood=Gaussian for b; likelihood=Bernoulli for d.")
    assert not compare(["b", "c"], ["likelihood"])["warnings"]


def kept_likelihood(value, data=None, result=None, **options):
    extra = {"data": data} if data else {}
    return {
        "likelihood": {"log_likelihood": value, "options": {"seed": 0, **options}, "likelihood": "Bernoulli"}
        | extra
        | (result or {})
    }


def test_likelihoods_under_other_inputs_are_no_competitors():
    for number, given in enumerate(([], ["total"], ["total"], ["depth", "kind"])):
        a_run(f"run{number}", seed=number, kept=kept_likelihood(-1.0, result={"given": given}))
    warned = {
        "01": "given=total for run1. log p(x | total) has less to predict than log p(x): such values are no competitors.",
        "12": None,
        "13": ". log p(x | total) and log p(x | depth, kind) predict x from different inputs: such values are no competitors.",
        "013": "(x | total) and log p(x | depth, kind) have less to predict than log p(x): such values are no competitors.",
    }
    for runs, said in warned.items():
        warnings = compare([f"run{number}" for number in runs], ["likelihood"])["warnings"]
        assert [warning.endswith(said or "") for warning in warnings] == [True] * bool(said), warnings
    for number in (0, 1):
        RunDirectory(f"run{number}").write_json(
            "eval/reconstruction.json",
            {"metric": "reconstruction", "step": 10, "options": {}, "mse": 1.0, "given": ["y"] * number},
        )
    (warning,) = compare(["run0", "run1"], ["reconstruction"])["warnings"]
    assert warning.endswith("given=y for run1.")


def test_clusters_of_a_mixture_and_of_k_means_are_never_averaged():
    for number, by in enumerate(("k-means", "components of p(z1)")):
        a_run(f"run{number}", seed=number, kept={"clustering": {"accuracy": 0.5, "clusters_by": by}})
    methods = compare(["run0", "run1"], ["clustering"])["methods"]
    assert [m["protocol"] for m in methods] == ["clusters_by=k-means", "clusters_by=components of p(z1)"]


def test_values_of_different_protocols_are_never_averaged(command, tmp_path):
    a_run("a", kept=kept_likelihood(-1.0, particles=1))
    a_run("b", seed=1, kept=kept_likelihood(-2.0, particles=5000))
    a_run("c", seed=2, kept=kept_likelihood(-4.0, particles=5000, limit=0))
    a_run("d", seed=3, kept=kept_likelihood(-8.0, particles=5000, limit=7))
    runs = ["a", "b", "c", "d", "--metric", "likelihood"]
    code, out, err = command("compare", *runs, "--json", "--csv", "t.csv", "--picture", "t.png")
    assert code == 0, err
    values = json.loads(out)
    found = {row["protocol"]: (row["seeds"], row["mean"]) for row in values["methods"]}
    assert found == {
        "particles=1, limit=0": (1, -1.0),
        "particles=5000, limit=0": (2, -3.0),
        "particles=5000, limit=7": (1, -8.0),
    }
    assert [row["protocol"]["likelihood"] for row in values["runs"]][3] == "particles=5000, limit=7"
    assert Path("t.csv").read_text().splitlines()[0].endswith(",likelihood,protocol")
    assert '"particles=1, limit=0"' in Path("t.csv").read_text()
    text = command("compare", *runs)[1]
    assert text.count("particles=5000, limit=7") == 2  # in the row of the run and in that of its protocol


def test_what_is_no_protocol_keeps_values_together(command):
    """The seed of an evaluation, an option that an older version lacked, and a limit above the number of data."""
    a_run("a", kept=kept_likelihood(-1.0))
    a_run("b", seed=1, kept=kept_likelihood(-2.0, particles=5000, limit=0, inner=1))
    a_run("c", seed=2, kept={"likelihood": kept_likelihood(-3.0)["likelihood"] | {"options": {"seed": 5}}})
    a_run("d", seed=3, kept=kept_likelihood(-6.0, limit=500, result={"n": 300, "n_bound": 300}))
    values = json.loads(command("compare", "a", "b", "c", "d", "--metric", "likelihood", "--json")[1])
    (row,) = values["methods"]
    assert (row["protocol"], row["seeds"], row["mean"]) == ("", 4, -3.0) and not values["warnings"]
    assert "protocol" not in command("compare", "a", "b", "--metric", "likelihood")[1]


def test_data_that_were_handed_over_are_a_protocol(command):
    a_run("a", kept=kept_likelihood(-1.0, data={"name": "pendulum", "size": 60}))
    a_run("b", seed=1, kept=kept_likelihood(-2.0, data={"name": "digits"}))
    a_run("c", seed=2, kept=kept_likelihood(-4.0, data={"name": "pendulum", "size": 61}))
    values = json.loads(command("compare", "a", "b", "c", "--metric", "likelihood", "--json")[1])
    assert {row["protocol"]: row["mean"] for row in values["methods"]} == {
        "data=its own": -1.0,
        "data=digits": -2.0,
        "data=size=61": -4.0,
    }


def test_a_run_counts_once_and_equal_runs_are_told(score, monkeypatch):
    monkeypatch.setenv("PYRO_HVAE_RUNS", ".")
    a_run("a")
    a_run("x/a")
    values = compare(["a", "./a", Path("a").resolve()], ["score"])
    assert len(values["runs"]) == 1 and values["methods"][0]["seeds"] == 1 and not values["warnings"]
    values = compare(["a", "x/a"], ["score"])
    assert [row["run"] for row in values["runs"]] == ["a", "x/a"] and values["methods"][0]["seeds"] == 2
    assert values["warnings"] == ["a, x/a are vae + constant (beta = 1) with the same seed 0, counted 2 times."]


def test_a_key_mistyped_is_told_before_more_is_measured(score, command):
    a_run("a", kept={"score": {"points": 1.0, "layers": {"z1": 1.0}}})
    a_run("b", seed=1)
    code, out, err = command("compare", "a", "b", "--metric", "score.point")
    assert code == 2 and "no number in the result of score called 'point'. Did you mean 'points'?" in err and not out
    assert not score
    code, _, err = command("compare", "b", "a", "--metric", "cost.pionts")
    assert code == 2 and "Did you mean 'points'?" in err and score == ["b"]
    # What is nested may be there for the next run: only all of them say that it is not.
    code, _, err = command("compare", "a", "b", "--metric", "score.layers.z3")
    assert code == 2 and "Did you mean 'layers.z1'?" in err and score == ["b", "b"]
    for key in ("text", "yes", "layers"):
        code, _, err = command("compare", "a", "b", "--metric", f"score.{key}")
        assert code == 2 and f"called '{key}'" in err
    code, _, err = command("compare", "a", "--metric", "scor,angle")
    assert code == 2 and "no metric called 'scor'. Did you mean 'score'?" in err


def test_one_bad_run_does_not_lose_the_others_values(score, command):
    for name, seed in {"good": 0, "not-applicable": 7, "full": 8, "torn": 1, "gone": 2, "unopened": 3, "unknown": 4}.items():
        a_run(name, seed=seed)
    Path("torn/checkpoints/last.pt").write_bytes(b"PK")
    config = Path("gone/config.toml")
    config.write_text(config.read_text().replace('dataset = "pendulum"', 'dataset = "./no/such/data"'))
    config = Path("unknown/config.toml")
    config.write_text(config.read_text().replace('dataset = "pendulum"', 'dataset = "rings"'))
    Path("unopened/checkpoints/last.pt").unlink()
    names = ["good", "not-applicable", "full", "torn", "gone", "unopened", "unknown"]
    code, out, err = command("compare", *names, "--metric", "score", "--json", "--csv", "t.csv")
    values = json.loads(out)
    assert runs_of(values, "score") == {"good": 1.0} | dict.fromkeys(names[1:])
    assert code == 3 and values["failed"] == ["full", "torn", "gone", "unopened", "unknown"]
    failed = "full, torn, gone, unopened, unknown"
    assert err.splitlines()[-1] == f"Error: some values of {failed} are missing; the reasons are above."
    reasons = {row["run"]: row["reasons"].get("score", "") for row in values["runs"]}
    for name, why in {
        "not-applicable": "seed 7 has no score",
        "full": "the disk is full",
        "torn": "damaged or holds pickled",
        "gone": "the data of this run are no longer at './no/such/data'",
        "unopened": "has no checkpoint",
        "unknown": "no dataset called 'rings'",
    }.items():
        assert why in reasons[name] and f"{name} has no score: {reasons[name]}" in err
    assert len(Path("t.csv").read_text().splitlines()) == 8
    code, out, _ = command("compare", "good", "not-applicable", "--metric", "score")
    assert code == 0 and "vae + constant (beta = 1)  7     -" in out
    assert compare(names, ["score"])["methods"][0]["seeds"] == 1


def test_what_was_measured_outlives_the_data(score, command):
    a_run("a", kept={"score": {"points": 1.0}})
    config = Path("a/config.toml")
    config.write_text(config.read_text().replace('dataset = "pendulum"', 'dataset = "/no/such/photos.npy"'))
    code, out, _ = command("compare", "a", "--metric", "score")
    assert code == 0 and "photos.npy" in out and "/no/such" not in out
    code, _, err = command("compare", "a", "--metric", "score,cost")
    assert code == 3 and "a has no cost: the data of this run are no longer at '/no/such/photos.npy'" in err


def test_a_users_program_has_the_values_that_were_measured(score, command):
    a_run("a", recipe=None, schedule="constant", program="pair.py:build")
    a_run("b", recipe=None, schedule="constant", program="pair.py:build", seed=1, kept={"score": {"points": 1.0}})
    code, out, err = command("compare", "a", "b", "--metric", "score", "--json")
    assert code == 0 and runs_of(json.loads(out), "score") == {"a": None, "b": 1.0} and not score
    assert "pyro-hvae metrics a score --program FILE.py:FUNCTION" in err
    a_run("c", recipe=None, schedule="constant", program="other.py:build", kept={"score": {"points": 2.0}})
    assert [m["mean"] for m in compare(["b", "c"], ["score"])["methods"]] == [1.0, 2.0]


def test_what_is_no_run_is_told_at_once(score, command):
    a_run("a")
    Path("empty").mkdir()
    for name, why in {"b": "there is no run 'b'", "empty": "'empty' is not a run directory: it has no config.toml"}.items():
        code, out, err = command("compare", "a", name, "--metric", "score")
        assert code == 3 and why in err and ("pendulum" in out) == (name == "empty")  # what is broken is left out
    Path("a/config.toml").write_text("recipe = ")
    code, _, err = command("compare", "a", "--metric", "score")
    assert code == 3 and "not valid TOML" in err
    code, _, err = command("compare", "a", "--metric", "score", "--device", "tpu")
    assert code == 2 and "tpu" in err


def test_a_value_that_is_no_number_is_null(monkeypatch, command):
    monkeypatch.setitem(METRICS, "broken", Metric(lambda run: {"a": math.nan, "b": 1}, "a"))
    a_run("a")
    code, out, err = command("compare", "a", "--metric", "broken,broken.b", "--json", "--picture", "p.png", "--csv", "t.csv")
    values = json.loads(out)
    assert code == 0 and values["runs"][0]["values"] == {"broken": None, "broken.b": 1}
    assert "a has no broken: it is not a finite number." in err
    assert [m["metric"] for m in values["methods"]] == ["broken.b"] and "NaN" not in out
    assert Path("t.csv").read_text().endswith(",,1\n")


def test_csv_has_every_digit_and_any_name(score):
    names = ['a, "b"\nc', "d"]
    for seed, name in enumerate(names):
        a_run(name, seed=seed, kept={"score": {"points": 0.1 + 0.2, "layers": {"z1": 1e-300 / 3}}} if seed == 0 else None)
    values = compare(names, ["score", "score.layers.z1"])
    with open(write_csv(values, Path("t.csv")), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["run", "path", "data", "method", "seed", "step", "score", "score.layers.z1"]
    assert [row["run"] for row in rows] == names and rows[1]["seed"] == "1"
    assert float(rows[0]["score"]) == 0.1 + 0.2 and float(rows[0]["score.layers.z1"]) == 1e-300 / 3
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["t.csv"]


def test_places_that_cannot_be_written_are_told_before_anything_is_measured(score, command):
    a_run("a")
    Path("file").write_text("")
    Path("folder.png").mkdir()
    for option, place, code, why in [
        ("--csv", "file/t.csv", 3, "cannot write 'file/t.csv'"),
        ("--csv", "a", 3, "cannot write 'a': it is no file"),
        ("--csv", "n" * 300, 3, "File name too long"),
        ("--picture", "folder.png", 3, "cannot write 'folder.png'"),
        ("--picture", "file/p.svg", 3, "cannot write 'file/p.svg'"),
        ("--picture", "p.jpg", 2, "a .png, .pdf, .svg file, got 'p.jpg'"),
        ("--picture", "p", 2, "Example: --picture figure.png"),
    ]:
        done, out, err = command("compare", "a", "--metric", "score", option, place)
        assert done == code and why in err and not out and not score, err


def test_files_are_named_in_what_is_printed(score, command):
    a_run("a")
    for suffix, start in {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}.items():
        code, out, err = command(
            "compare", "a", "--metric", "score,cost", "--picture", f"new/{suffix}/p.{suffix}", "--csv", "t.csv"
        )
        assert code == 0, err
        assert f"Table: t.csv\n\nPicture: new/{suffix}/p.{suffix}" in out
        assert Path(f"new/{suffix}/p.{suffix}").read_bytes().startswith(start)
    code, out, _ = command("compare", "a", "--metric", "score", "--picture", "p.png", "--csv", "t.csv", "--json")
    assert {"picture": "p.png", "csv": "t.csv"}.items() <= json.loads(out).items()


def values_of(*rows, columns=("x", "y")):
    """What `compare` returns, of (data, method, value, ...) rows."""
    about = {name: {"metric": name, "key": name, "better": "higher", "unit": "nats"} for name in columns}
    runs = [{"data": data, "method": method, "values": dict(zip(columns, v, strict=True))} for data, method, *v in rows]
    return {"metrics": about, "runs": runs}


def plain(text):
    return text.replace("\xa0", " ").replace("\n", " ")


def points(axis):
    """Where markers are, and error bars: their middles (x, y) and half their lengths (x, y)."""
    drawn = [line.get_xydata().tolist() for line in axis.lines if len(line.get_xydata()) and line.get_markersize() == 5]
    bars = [np.array([lines.get_segments()[0] for lines in bar[2]]) for bar in axis.containers]
    return drawn, [(*bar[0].mean(0), *np.ptp(bar, 1).max(0) / 2) for bar in bars]


def test_two_metrics_are_drawn_against_each_other():
    rows = [("a", 1.0, 5.0), ("a", 3.0, 9.0), ("b", 2.0, 2.0), ("b", None, 9.0), ("c", 1.0, None)]
    figure = plot_comparison(values_of(*[("d", *row) for row in rows]))
    (axis,) = figure.axes
    drawn, bars = points(axis)
    assert drawn == [[[1, 5], [3, 9]], [[2, 2]]] and bars == [pytest.approx((2, 7, math.sqrt(2), math.sqrt(8)))]
    assert plain(axis.get_xlabel()) == "x (nats), higher is better →" and plain(axis.get_ylabel())[0] == "y"
    assert plain(axis.get_title()) == "y against x, 3 runs on d"
    (legend,) = figure.legends
    assert [plain(text.get_text()) for text in legend.texts] == ["a (2)", "b (1)", "mean and standard deviation"]
    figure.draw_without_rendering()
    assert legend.get_window_extent().x0 > axis.get_window_extent().x1  # it covers nothing
    assert legend.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("count", [1, 3, 4])
def test_other_numbers_of_metrics_have_a_panel_each(count):
    rows = [("d", "a", *[1.0] * count), ("d", "a", *[3.0] * count), ("e", "a", *[None] * count)]
    figure = plot_comparison(values_of(*rows, columns="xyzw"[:count]))
    panels = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_xlabel()[0] for axis in panels] == list("xyzw"[:count]) and len(figure.axes) in (1, 3, 6)
    for axis in panels:
        drawn, bars = points(axis)
        assert [x for x, _ in drawn[0]] == [1, 3] and drawn[0][0][1] != drawn[0][1][1]  # no point hides another
        assert bars == [pytest.approx((2, 0, math.sqrt(2), 0))]
    assert [plain(label.get_text()) for label in panels[0].get_yticklabels()] == ["d: a", "e: a"]
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert all(legend.get_window_extent().y1 < axis.get_tightbbox().y0 for axis in panels)


def test_methods_are_told_apart_and_long_names_are_broken():
    long = "vhp + rewo, particles=16, hidden=16,32,32,64, kappa=0.18, nu=1.0, program=$a$b.py"
    values = values_of(*[("d", f"{long}, n={n}", n / 1, 1.0) for n in range(30)])
    figure = plot_comparison(values)
    lines = [line for line in figure.axes[0].lines if line.get_markersize() == 5]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 30
    name = figure.legends[0].texts[0].get_text()
    assert "hidden=16,32,32,64," in name and all(len(line) < 55 for line in name.split("\n")) and r"\$a\$b" in name
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= 0 and legend.y1 <= figure.bbox.y1 and figure.axes[0].get_window_extent().width > 300


@pytest.mark.parametrize("columns", ["x", "xy"])
def test_a_picture_of_no_values_says_so(columns):
    figure = plot_comparison(values_of(("d", "a", *[None] * len(columns)), columns=columns))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no values"]
    figure.draw_without_rendering()


def test_likelihoods_that_few_samples_carry_are_named():
    def likelihood(**found):
        return {"likelihood": {"log_likelihood": -3.0, "stderr": 0.2, **found}}

    a_run("biased", kept=likelihood(importance_bias=0.3, effective_samples={"median": 40.0}))
    a_run("few", seed=1, kept=likelihood(importance_bias=0.1, effective_samples={"median": 9.9}))
    a_run("good", seed=2, kept=likelihood(importance_bias=0.1, effective_samples={"median": 10.0}))
    a_run("old", seed=3, kept=likelihood())
    a_run("unknown", seed=4, kept=likelihood(importance_bias=None, stderr=None))
    (warning,) = compare(["biased", "few", "good", "old", "unknown"], ["likelihood"])["warnings"]
    assert warning.startswith(
        "the likelihoods of biased, few are probably too low: half of the samples give less, or the median"
    )
