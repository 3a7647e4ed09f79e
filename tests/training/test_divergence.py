"""Runs that diverge: what is said, and what is kept."""

import json

import pytest
from small_runs import CONFIG, At, data, rewo, vhp
from torch import nn

import pyro_hvae as hv
from pyro_hvae.errors import DivergenceError
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.train_config import TrainConfig


def test_divergence_names_the_site_and_keeps_the_checkpoint(tmp_path):
    class Exploding(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.calls = model, 0

        def forward(self, x=None, size=1):
            self.calls += 1
            scale = float("nan") if self.calls > 40 else 1.0
            self.model.likelihood.net[-1].bias.data.mul_(scale)
            return self.model(x, size)

    objective = vhp()
    objective = objective.elbo(Exploding(objective.model), objective.guide)
    with pytest.raises(DivergenceError, match=r"became nan at step \d+; worst site 'x'.*Try lr=") as caught:
        hv.fit(objective, data(), CONFIG, rewo(), tmp_path / "run")
    assert caught.value.exit_code == 4 and "last.pt" in str(caught.value)
    kept = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert kept["step"] == 25
    assert all(v.isfinite().all() for v in kept["programs"][0]["model"].values())
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "diverged"


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    objective = vhp()

    def poison():
        objective.model.levels[0].net[0].weight.data[0, 0] = float("nan")

    # Poisoned by the tracker of step 50, just before the checkpoint of step 50 would be written.
    with pytest.raises(DivergenceError, match="last good checkpoint is kept"):
        hv.fit(objective, data(), CONFIG, rewo(), tmp_path / "run", validation=data(50), trackers=[At(50, poison)])
    kept = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert kept["step"] == 25 and all(v.isfinite().all() for v in kept["programs"][0]["model"].values())


def test_a_finite_but_exploding_loss_stops_the_run():
    with pytest.raises(DivergenceError, match="the loss became"):
        hv.fit(vhp(), data(), TrainConfig(steps=50, batch_size=20, lr=1e6), hv.Constant())
