"""pyro-hvae gibbs, layers and interpolate on stacked hierarchies."""

import json

import numpy as np
import pytest
import torch

from pyro_hvae.reports import run_pictures
from pyro_hvae.reports.gibbs_report import gibbs_text
from pyro_hvae.runs.checkpoints import load_checkpoint


@pytest.fixture(params=["hvae_run", "ar_hvae_run"])
def run(request):
    return request.getfixturevalue(request.param)


SHORT = ["--steps", "12", "--burn-in", "4", "--thin", "2", "--chains", "6", "--samples", "20"]


def test_gibbs_draws_measures_and_tells(run, command):
    code, out, err = command("gibbs", run, *SHORT, "--sites", "all")
    assert code == 0, err
    assert (
        "Proposition 2" in out
        and "rank-normalised split R-hat" in out
        and "bulk and tail effective" in out
        and "Chains that ended nearest to another class" in out
    )
    for name in ("gibbs_z2-z1.png", "gibbs_chains_z2-z1.png"):
        assert (run / "figures" / name).read_bytes().startswith(b"\x89PNG") and name in out
    values = json.loads((run / "eval/gibbs.json").read_text())
    assert set(values["distance"]) == {"gibbs", "ancestral", "test"}
    assert set(values["diagnostics"]["z1"]) == {"rhat", "rhat_median", "ess", "ess_median", "draws", "ess_tail"}
    alternating = {"rhat": 1.0, "ess": 1e6, "ess_median": 1e6}  # more effective draws than draws
    text = gibbs_text(values | {"diagnostics": {"z1": values["diagnostics"]["z1"] | alternating}})
    draws = values["diagnostics"]["z1"]["draws"]
    assert f"size at least {draws} (median {draws}) and" in text and f"of {draws} draws" in text
    assert values["diverged"] == 0 and "diverged" not in out
    assert abs(values["distance"]["test"]["draws"]["value"]) < values["distance"]["ancestral"]["draws"]["value"]


DOUBLING = """
import pyro.distributions as dist, pyro_hvae as hv, torch
from torch import nn


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor, self.shift = factor, nn.Parameter(torch.zeros(()))

    def forward(self, parent):
        return dist.Normal(self.factor * parent + self.shift, 0.1).to_event(1)


def build(x):  # a step of the chain doubles x
    return hv.Chain(hv.StandardNormal(3), [], Times(2.0)), hv.BottomUp([Times(1.0)])
"""


@pytest.mark.parametrize("steps, where", [(7, "near"), (20, "far"), (200, "infinite")])
def test_chains_that_diverged_are_counted_and_have_no_distance(command, tmp_path, steps, where):
    np.save("x.npy", np.random.default_rng(0).normal(size=(80, 3)))
    (tmp_path / "doubling.py").write_text(DOUBLING)
    program = ["--program", "doubling.py:build"]
    code, _, err = command("train", *program, *"--dataset x.npy --steps 1 --out run".split())
    assert code == 0, err
    burn_in = ["--burn-in", steps - 5]
    more = ["--particles", 3] if where == "infinite" else []
    code, out, err = command("gibbs", "run", *program, "--steps", steps, *burn_in, "--chains", 6, *more)
    assert code == 0, err
    values = json.loads((tmp_path / "run/eval/gibbs.json").read_text())
    assert values["diverged"] == (0 if where == "near" else 6)
    gibbs = next(line for line in out.splitlines() if line.startswith("  Gibbs chain "))
    if where == "near":
        assert "none" not in gibbs and "R-hat at most" in out and values["distance"]["gibbs"]["draws"]["value"] > 10
    else:
        assert gibbs.split() == ["Gibbs", "chain", "none", "none"] and "6 of 6 chains diverged" in out and "R-hat" not in out
        assert values["distance"]["gibbs"]["means"] == {"value": None, "stderr": None}
    assert values["distance"]["ancestral"]["draws"]["value"] < 10


@pytest.mark.parametrize("init", ["noise", "prior"])
def test_gibbs_from_elsewhere_as_json(run, command, init):
    code, out, _ = command("gibbs", run, *SHORT, "--sites", "all", "--init", init, "--no-noise", "--json")
    values = json.loads(out)
    assert code == 0 and values["init"] == init and values["noise"] is False and "class_changed" not in values
    code, again, _ = command("gibbs", run, *SHORT, "--sites", "all", "--init", init, "--no-noise", "--json")
    assert json.loads(again)["distance"] == values["distance"]


def test_the_default_keeps_what_x_depends_on(run, command):
    code, out, err = command("gibbs", run, *SHORT)
    assert code == 0 and ("Proposition 2" if "ar-hvae" in str(run) else "Proposition 1") in out, err


def test_bottom_layer_is_for_markov_chains_only(run, command):
    code, out, err = command("gibbs", run, *SHORT, "--sites", "z1")
    if "ar-hvae" in str(run):
        assert code == 2 and "also depends on z2" in err and "sites z1,z2" in err and not out
    else:
        assert code == 0 and "Proposition 1" in out


def test_layers(run, command):
    code, out, err = command("layers", run, "--outer", "10", "--inner", "4", "--n", "5")
    assert code == 0, err
    assert "  z1  " in out and "  z2  " in out and "layers.png" in out
    code, out, _ = command("layers", run, "--outer", "10", "--inner", "4", "--n", "5", "--image", "3", "--site", "z1", "--json")
    values = json.loads(out)
    assert code == 0 and set(values["share"]) == {"z1", "z2"} and values["figures"][0].endswith("layers_z1_image3.png")


def test_interpolate_in_all_latents_that_x_depends_on(run, command):
    code, out, err = command("interpolate", run, "--nodes", "60", "--from", "1", "--to", "2")
    assert code == 0, err
    assert "interpolation.png" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["gibbs", "--sites", "z9"], "no latent site called 'z9'"),
        (["gibbs", "--sites", "Z1"], "no latent site called 'Z1'. Did you mean 'z1'?"),
        (["gibbs", "--sites", ","], "no site to keep"),
        (["gibbs", "--checkpoint", "worst"], "no checkpoint called 'worst'"),
        (["gibbs", "--init", "dota"], "no init called 'dota'. Did you mean 'data'?"),
        (["gibbs", "--sites", "all", "--steps", "5", "--burn-in", "5"], "burn-in < steps"),
        (["gibbs", "--sites", "all", "--chains", "1"], "--chains must be at least 2, got 1"),
        (["layers", "--site", "z9"], "no latent site called 'z9'"),
        (["layers", "--image", "-1"], "--image must be at least 0, got -1"),
        (["layers", "--image", "100000"], "--image is the index"),
        (["layers", "--outer", "1"], "--outer must be at least 2, got 1"),
        (["layers", "--n", "0"], "--n must be at least 1"),
    ],
)
def test_bad_input(run, command, arguments, message):
    code, out, err = command(arguments[0], run, *arguments[1:])
    assert code == 2 and message in err and not out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["hvae", "-o", "dims=0,3"], "positive"),
        (["hvae", "-o", "dims="], "at least 1"),
        (["hvae", "-o", "network=gated-conv", "-o", "hidden=4"], "two channel widths"),
        (["hvae", "-o", "network=convs"], "Did you mean 'conv'?"),
        (["lvae", "-o", "dims=3,2"], "one width a layer"),
        (["vampprior", "-o", "components=100000"], "of which there are"),
        (["hvae", "-o", "preset=paper"], "no preset of hvae on digits called 'paper'"),
        (["hvae", "--schedule", "rewo", "-o", "measure=nats", "-o", "learn_sigma=true"], "fixed scale"),
    ],
)
def test_bad_options_of_the_stacks(command, arguments, message):
    code, out, err = command("train", *arguments, "--dataset", "digits", "--dry-run")
    assert code == 2 and message in err and not out, err


RAMP = ["-o", "warmup=10"]
ROWS = {
    "vampprior-2": ["vampprior", "-o", "levels=2", "-o", "components=20", "-o", "hidden=8", "-o", "upper=8", *RAMP],
    "iwae-2": ["iwae", "-o", "levels=2", "-o", "particles=3", "-o", "hidden=8", "-o", "upper=8"],
    "hvae": ["hvae", "-o", "dims=3,2,2,1", "-o", "hidden=8", "-o", "upper=8", "-o", "learn_sigma=true", *RAMP],
    "hvae-conv": ["hvae", "-o", "network=conv", "-o", "hidden=4,6", "-o", "upper=8", *RAMP],
    "ar-hvae": ["ar-hvae", "-o", "hidden=8", "-o", "upper=8", "--schedule", "geco", "--engine", "svi"],
    "lvae": ["lvae", "-o", "widths=8,6,4", "--schedule", "rewo"],
}


@pytest.mark.parametrize("name", ROWS)
def test_stacks_train_stop_resume_and_are_drawn(command, name, tmp_path, monkeypatch):
    """Half a run and the other half are the whole, batch statistics and pseudo-inputs included; every picture is drawn."""
    arguments = ["train", *ROWS[name], "--dataset", "digits", "-o", "lr_decay=0"]
    for out, steps in (("whole", 12), ("half", 6)):
        code, _, err = command(*arguments, "--steps", steps, "--out", out)
        assert code == 0, err
        monkeypatch.setattr(
            run_pictures, "draw_standard_pictures", lambda run: ([], {})
        )  # only those of the whole run are looked at
    code, _, err = command("train", "--resume", "half", "--steps", 12)
    assert code == 0, err
    whole, half = (load_checkpoint(tmp_path / out / "checkpoints/last.pt")["programs"][0] for out in ("whole", "half"))
    for role in ("model", "guide"):
        for key, value in whole[role].items():
            assert torch.equal(value, half[role][key]), key
    for picture in ("latent_space", "interpolation", "reconstructions", "samples"):
        assert (tmp_path / "whole/figures" / f"{picture}.png").exists(), picture
    code, out, err = command("evaluate", "whole", "--limit", 10, "--particles", 20, "--json")
    values = json.loads(out)
    assert code == 0 and values["n"] == 10 and values["n_bound"] == 300 and values["corrected"] in (True, False)
