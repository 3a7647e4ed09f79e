"""Runs that diverge: what is said, and what is kept."""

import json
import math
import re

import pytest
import torch
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


@pytest.mark.filterwarnings("ignore:the training data have a standard deviation", "ignore:The run ends collapsed")
@pytest.mark.parametrize(
    ("unit", "optimizer", "lr"), [(1, "adam", 1e4), (1e2, "sgd", 0.1), (1e4, "sgd", 1e-3), (1e5, "sgd", 0.1)]
)
def test_the_advice_helps_whatever_the_scale_of_the_data(unit, optimizer, lr):
    """Each advice alone, and all together."""
    x = unit * torch.randn(500, 3, generator=torch.Generator().manual_seed(0))

    def train(scale=1.0, **more):
        torch.manual_seed(0)
        likelihood = hv.Gaussian(2, 3, (4,), scale=scale)
        objective = hv.ELBO()(hv.Chain(hv.StandardNormal(2), [], likelihood), hv.BottomUp([hv.Gaussian(3, 2, (4,))]))
        config = TrainConfig(**{"steps": 200, "optimizer": optimizer, "lr": lr, "compile": False} | more)
        return hv.fit(objective, x, config, progress=False)[-1]["loss"]

    with pytest.raises(DivergenceError) as caught:
        train()
    text = str(caught.value)
    found = re.search(r"ry lr=(\S+) and grad_clip=(\d+)\.$", text)
    assert found
    lr, clip = float(found[1]), int(found[2])
    assert lr <= 1e-3 and math.isfinite(train(lr=lr, grad_clip=clip))
    scale = re.search(r"sigma=(\S+), and", text)
    assert bool(scale) is (unit > 1) is ("Data and likelihood are far apart" in text)
    if scale:
        assert train(float(scale[1]), lr=lr, grad_clip=clip) < 60


def test_an_optimiser_of_ones_own_is_told_to_be_slower():
    with pytest.raises(DivergenceError, match="Try a smaller learning rate and grad_clip=10"):
        hv.fit(vhp(), data(), CONFIG, hv.Constant(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e6))
