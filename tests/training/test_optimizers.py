"""Optimisers by name and of a user's own: steps as torch makes them, resuming bit for bit, and what is refused."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from small_runs import CONFIG, At, assert_same_run, checkpoint, data, equal, interrupt, vhp

import pyro_hvae as hv
from pyro_hvae.errors import CheckpointError, ConfigError, Interrupted
from pyro_hvae.runs import OPTIMIZERS
from pyro_hvae.runs.checkpoint_content import restore_optimizer
from pyro_hvae.training.optimizers import CLASSES

SHORT = replace(CONFIG, steps=12, lr=1e-3, log_every=6, eval_every=6, save_every=4)


def train(out=None, config=SHORT, objective=None, **more):
    objective = objective or vhp()
    rows = hv.fit(objective, data(), config, hv.Rewo(beta0=0.05, kappa=4.5), out, validation=data(50), progress=False, **more)
    return objective, rows


def test_the_names_are_those_of_the_configuration():
    assert tuple(CLASSES) == OPTIMIZERS
    with pytest.raises(ConfigError, match="no optimizer called 'adamv'. Did you mean 'adam'"):
        hv.TrainConfig(optimizer="adamv")


def test_one_of_ones_own_equals_that_of_the_name():
    """Fused or not, the steps of AdamW are the same up to rounding; and the cosine lowers both learning rates."""
    (named, rows), (own, own_rows) = (
        train(config=replace(SHORT, optimizer="adamw")),
        train(optimizer=partial(torch.optim.AdamW, lr=1e-3)),
    )
    for a, b in zip(named.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert [row["lr"] for row in rows] == [row["lr"] for row in own_rows] and rows[-1]["lr"] == pytest.approx(0.02e-3)
    plain, _ = train()
    assert not all(torch.equal(a, b) for a, b in zip(plain.parameters(), named.parameters(), strict=True))


def test_groups_keep_their_own_learning_rates():
    def groups(parameters):
        return torch.optim.SGD([{"params": parameters[:2], "lr": 1e-4}, {"params": parameters[2:]}], lr=1e-5, momentum=0.9)

    made = []
    train(optimizer=lambda parameters: made.append(groups(parameters)) or made[0])
    assert [group["lr"] for group in made[0].param_groups] == pytest.approx([2e-6, 2e-7])


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adam"])
def test_a_resumed_run_equals_the_whole_one(tmp_path, name):
    config = replace(SHORT, optimizer=name)
    train(tmp_path / "whole", config)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", config, trackers=[At(7, interrupt)])
    train(tmp_path / "cut", config, objective=vhp(seed=9), resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_one_of_ones_own_is_handed_over_again_to_resume(tmp_path):
    own = partial(torch.optim.SGD, lr=1e-4, momentum=0.9)
    train(tmp_path / "whole", optimizer=own)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", optimizer=own, trackers=[At(7, interrupt)])
    with pytest.raises(CheckpointError, match="optimizer = 'own', and its configuration is of optimizer = 'adam'"):
        train(tmp_path / "cut", resume=True)
    with pytest.raises(ConfigError, match="Hand it over: hv.fit"):
        train(tmp_path / "cut", replace(SHORT, optimizer="own"), resume=True)
    with pytest.raises(
        CheckpointError, match=r"optimizer\[0\] holds \['momentum_buffer'\], not \['exp_avg', 'exp_avg_sq', 'step'\]"
    ):
        train(tmp_path / "cut", optimizer=partial(torch.optim.Adam, lr=1e-4), resume=True)
    train(tmp_path / "cut", optimizer=own, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_restoring_leaves_the_parameters_alone_and_refuses_what_is_no_state(tmp_path):
    train(tmp_path / "run", replace(SHORT, optimizer="adamw"))
    saved = checkpoint(tmp_path / "run")["session"]["optimizer"]
    objective = vhp()
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    optimizer = torch.optim.AdamW(objective.parameters(), weight_decay=0.5)
    restore_optimizer(optimizer, saved)
    assert equal(dict(objective.state_dict()), before) and all(p.grad is None for p in objective.parameters())
    assert equal(optimizer.state_dict()["state"], saved["state"])
    for change, message in (
        ({"exp_avg_sq": -saved["state"][0]["exp_avg_sq"] - 1}, "infinite, NaN or negative"),
        ({"exp_avg": saved["state"][0]["exp_avg"] * torch.nan}, "infinite, NaN or negative"),
        ({"exp_avg": torch.zeros(1)}, "has shape"),
        ({"exp_avg": 1.0}, "not a"),
        ({"more": torch.zeros(1)}, "holds"),
    ):
        with pytest.raises(ValueError, match=message):
            restore_optimizer(optimizer, {**saved, "state": {0: saved["state"][0] | change}})


@pytest.mark.parametrize(
    "make, message",
    [
        (torch.optim.LBFGS, "LBFGS calls the loss several times in a step"),
        (lambda parameters: torch.optim.SGD(parameters[:3]), "holds 3 of the .* parameters"),
        (lambda parameters: "adam", "returns a torch optimiser, but it returned str"),
        (5, "optimizer=5 is neither a name .*Example: optimizer=lambda parameters: torch.optim.AdamW"),
        (torch.optim.SGD([torch.zeros(1)]), "optimizer=SGD is neither"),
        ("adamv", "no optimizer called 'adamv'. Did you mean 'adam'"),
    ],
)
def test_what_cannot_train_the_pair_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        train(optimizer=make)


def test_a_name_is_that_of_the_configuration():
    (named, rows), (other, other_rows) = (
        train(config=replace(SHORT, optimizer="sgd", lr=1e-5)),
        train(config=replace(SHORT, lr=1e-5), optimizer="sgd"),
    )
    assert equal(dict(named.state_dict()), dict(other.state_dict())) and rows[-1]["loss"] == other_rows[-1]["loss"]
