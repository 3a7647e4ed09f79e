"""Layers that enter one after the other: schedule values, gates, who is trained when, and what stays equal."""

import os
import signal

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import Progressive, recipes
from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError, Interrupted
from pyro_hvae.guides import Heads
from pyro_hvae.networks.layer_gates import Gate, program_gates, set_gates
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.schedules import Constant
from pyro_hvae.training.session import Session, start_schedule

LAYERS = ["z3", "z2", "z1"]


def started(steps=18_000, layers=LAYERS, **options):
    schedule = Progressive(**options)
    schedule.start(steps, layers)
    return schedule


def forward(schedule, iterations):
    for _ in range(iterations):
        schedule.update()
    return schedule


def data(n=40):
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(2))


def ladder(seed=0, network="dense", x=None, **options):
    torch.manual_seed(seed)
    options = {"dims": (2, 2, 2), "width": 8, "network": network, "sigma": 1.0} | options
    return recipes.build("pro-vlae", data() if x is None else x, options)[0].objective


def test_alpha_of_the_entering_layer_over_its_step():
    values = {}
    schedule = started(fade=5000)
    for iteration in range(18_000):
        values[iteration] = schedule.gate_alphas()
        schedule.update()
    # Nothing fades in during the first step.
    assert values[0].model == {"z3": 1.0, "z2": 0.0, "z1": 0.0} == values[5999].model
    for start, entering in ((6000, "z2"), (12_000, "z1")):
        for iteration, alpha in ((0, 0.0), (2500, 0.5), (5000, 1.0), (5999, 1.0)):
            both = values[start + iteration]
            assert both.model[entering] == both.guide[entering] == alpha
            assert all(value in (0.0, 1.0) for site, value in both.model.items() if site != entering)
    # A layer that waits has its head open and its branch closed.
    assert values[6001].model["z1"] == 0.0 and values[6001].guide["z1"] == 1.0
    assert values[17_999].model == values[17_999].guide == dict.fromkeys(LAYERS, 1.0)


def test_the_fade_in_starts_again_with_every_step_and_lengths_need_not_divide():
    schedule = started(steps=10, fade=2)
    seen = []
    for _ in range(10):
        seen.append(tuple(schedule.gate_alphas().model.values()))
        schedule.update()
    one, two, three = (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0)
    half2, half3, begun2, begun3 = (1.0, 0.5, 0.0), (1.0, 1.0, 0.5), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0)
    assert seen == [one] * 4 + [begun2, half2, two] + [begun3, half3, three]


def test_a_fade_of_one_is_an_iteration_and_below_one_a_fraction_of_a_step():
    for fade, alphas in ((1, [0.0, 1.0, 1.0, 1.0]), (0.5, [0.0, 0.5, 1.0, 1.0]), (0, [1.0] * 4)):
        schedule = forward(started(steps=12, fade=fade), 4)
        seen = []
        for _ in range(4):
            seen.append(schedule.gate_alphas().model["z2"])
            schedule.update()
        assert seen == alphas


def test_weights_are_those_of_the_pass_that_was_seen():
    schedule = started(steps=9, beta=8.0, gamma=0.25, fade=0.0)
    for iteration in range(9):
        gates = schedule.gate_alphas().model
        schedule.update()
        weights = {site: w.item() for site, w in schedule.weights().items()}
        assert weights == {site: 8.0 if gates[site] else 0.25 for site in LAYERS}
        assert schedule.final == (iteration >= 6) == bool(gates["z1"])
        assert schedule.log()["layers"] == sum(gates.values())


def test_the_loss_is_equation_11():
    objective, x = ladder(), data()
    schedule = started(steps=30, beta=3.0, gamma=0.5, fade=0.0)
    forward(schedule, 11)  # the pass of iteration 10 was the first of step 1
    set_gates(objective.model, {"z3": 1.0, "z2": 1.0, "z1": 0.0})
    estimate = objective.estimate(x)
    kl = {site: rate for site, rate in estimate.rates().items()}
    expected = estimate.distortion() + 3.0 * (kl["z3"] + kl["z2"]) + 0.5 * kl["z1"]
    assert_close(estimate.loss(schedule.weights()), expected)
    # Closed forms: no noise in the KLs.
    for site, rate in objective.estimate(x).rates().items():
        assert_close(rate, kl[site], rtol=0, atol=0)


@pytest.mark.parametrize("network", ["dense", "pro-shapes"])
@pytest.mark.parametrize("join", ["concat", "gated", "sum"])
def test_output_does_not_depend_on_a_layer_whose_gate_is_closed(network, join):
    objective = ladder(network=network, join=join, x=torch.rand(4, 1, 8, 8))
    z = {site: torch.randn(5, 2) for site in LAYERS}
    other = {**z, "z1": torch.randn(5, 2)}

    def means(fixed):
        return hv.generate(objective.model, 5, fixed)["x"]

    assert not torch.equal(means(z), means(other))
    closed = {"z3": 1.0, "z2": 1.0, "z1": 0.0}
    set_gates(objective.model, closed)
    assert torch.equal(means(z), means(other))
    # Closed is what an open gate tends to.
    limit = means(z)
    set_gates(objective.model, {**closed, "z1": 1e-6})
    assert_close(means(z), limit, rtol=0, atol=1e-5)


def test_gradients_of_waiting_layers():
    objective, x = ladder(), data()
    session = Session(objective, Rows.of(x), TrainConfig(steps=30, batch_size=40), Progressive(gamma=0.5), 30)
    session.step()
    grads = {name: p.grad for name, p in objective.named_parameters()}
    for site, waits in (("z3", False), ("z2", True), ("z1", True)):
        for name, grad in grads.items():
            if f"rungs.{site}.branch" in name:
                assert (grad is None) == waits, name  # absent branches have no gradient, and no memory in Adam
            if f"heads.{site}." in name:
                assert grad is not None and grad.any(), name  # gamma's term reaches the weights of waiting heads
    # Without gamma nothing does: the term was the only way.
    objective = ladder()
    Session(objective, Rows.of(x), TrainConfig(steps=30, batch_size=40), Progressive(gamma=0.0), 30).step()
    waiting = [p.grad for name, p in objective.named_parameters() if "heads.z1." in name or "heads.z2." in name]
    assert waiting and not any(grad.any() for grad in waiting)


def test_adam_carries_its_state_over_and_new_branches_begin_without():
    objective = ladder()
    session = Session(objective, Rows.of(data()), TrainConfig(steps=30, batch_size=20), Progressive(), 30)
    names = {p: name for name, p in objective.named_parameters()}

    def steps():
        return {names[p]: int(state["step"]) for p, state in session.optimizer.state.items()}

    for _ in range(10):
        session.step()
    assert {n for n in names.values() if "branch" in n and n not in steps()} == {
        n for n in names.values() if "z2.branch" in n or "z1.branch" in n
    }
    for _ in range(10):
        session.step()
    # Iteration 10 still has alpha = 0: the branch is first trained in iteration 11.
    now = steps()
    assert all(count == 20 for name, count in now.items() if "z2.branch" not in name)
    assert {count for name, count in now.items() if "z2.branch" in name} == {9}
    assert not any("z1.branch" in name for name in now)


def test_one_layer_is_a_vae_and_the_last_step_is_vlae():
    x = data()
    losses = []
    for schedule in (Progressive(), Constant()):
        objective = ladder(dims=(3,))
        rows = hv.fit(objective, x, TrainConfig(steps=12, batch_size=10, log_every=1), schedule)
        losses.append([row["loss"] for row in rows])
    assert losses[0] == losses[1]
    objective = ladder()
    start_schedule(schedule := Progressive(fade=0.0), objective, 9)
    forward(schedule, 8)
    set_gates(objective.model, schedule.gate_alphas().model)
    set_gates(objective.guide, schedule.gate_alphas().guide)
    schedule.update()
    estimate = objective.estimate(x)
    assert_close(estimate.loss(schedule.weights()), -estimate.bound().mean())


CONFIG = TrainConfig(steps=30, batch_size=10, lr=1e-2, log_every=1, eval_every=5, save_every=7, information_every=5, seed=3)


@pytest.mark.parametrize("stop", [1, 9, 10, 11, 14, 29])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, stop):
    from small_runs import At, equal

    from pyro_hvae.runs.checkpoints import load_checkpoint

    def train(out, objective, trackers=(), **more):
        hv.fit(objective, data(), CONFIG, Progressive(fade=0.5), out, validation=data(8), trackers=trackers, **more)

    train(tmp_path / "whole", ladder(norm="batch"))
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", ladder(norm="batch"), [At(stop, lambda: os.kill(os.getpid(), signal.SIGINT))])
    train(tmp_path / "cut", ladder(seed=9, norm="batch"), resume=True)
    for name in ("last", "best"):
        whole, cut = (load_checkpoint(tmp_path / run / f"checkpoints/{name}.pt") for run in ("whole", "cut"))
        assert equal(whole, cut)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "cut/metrics.jsonl").read_bytes()


def test_rows_tell_layers_alpha_and_information_and_watching_changes_nothing(tmp_path):
    rows = hv.fit(ladder(), data(), CONFIG, Progressive(fade=0.5), tmp_path / "a", validation=data(8))
    assert [row["layers"] for row in rows] == [1] * 10 + [2] * 10 + [3] * 10
    assert [row["alpha"] for row in rows[10:17]] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    watched = [row["step"] for row in rows if "information.z3" in row]
    assert watched == [5, 10, 15, 20, 25, 30]
    without = TrainConfig(**{**CONFIG.__dict__, "information_every": 0})
    again = hv.fit(ladder(), data(), without, Progressive(fade=0.5), tmp_path / "b", validation=data(8))
    assert [r["loss"] for r in rows] == [r["loss"] for r in again]
    assert not any("information.z3" in row for row in again)
    assert hv.runs.RunDirectory(tmp_path / "a").rows()[4] == rows[4]
    # The best validation bound is chosen once all layers are in.
    from pyro_hvae.runs.checkpoints import load_checkpoint

    assert load_checkpoint(tmp_path / "a/checkpoints/best.pt")["step"] > 20


def test_a_checkpoint_of_a_run_on_its_way_remembers_its_gates():
    objective, other = ladder(), ladder(seed=5)
    set_gates(objective.model, {"z3": 1.0, "z2": 0.25, "z1": 0.0})
    other.load_state_dict(objective.state_dict())
    gates = program_gates(other.model)
    assert [gate.alpha.item() for gate in gates.values()] == [1.0, 0.25, 0.0]
    assert gates["z1"].closed and not gates["z2"].opened and gates["z3"].opened
    fixed = {site: torch.randn(4, 2) for site in LAYERS}
    assert_close(hv.generate(other.model, 4, fixed)["x"], hv.generate(objective.model, 4, fixed)["x"])


def test_gates_take_part_in_gradients():
    gate = Gate()
    gate.set(0.25)
    h = torch.ones(3, requires_grad=True)
    gate(h).sum().backward()
    assert h.grad.tolist() == [0.25] * 3


class Ungated(nn.Module):
    def forward(self, *parents):
        return dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)


def test_errors():
    with pytest.raises(ConfigError, match="gamma and fade must not be negative, got gamma=-1"):
        Progressive(gamma=-1.0)
    with pytest.raises(ConfigError, match="gamma and fade must not be negative.*fade=-2"):
        Progressive(fade=-2.0)
    with pytest.raises(ConfigError, match="beta must be positive"):
        Progressive(beta=0.0)
    with pytest.raises(ConfigError, match="2 steps are fewer than the 3 layers"):
        started(steps=2)
    with pytest.raises(ConfigError, match="fade=11 iterations are more than the 10 of a step"):
        started(steps=30, fade=11)
    with pytest.raises(ConfigError, match="opens the gates of a pair.*this pair has none.*vlae"):
        started(layers=[])
    with pytest.raises(ConfigError, match="between 0 .closed. and 1 .open., got 1.5"):
        Gate().set(1.5)
    objective = ladder()
    with pytest.raises(ConfigError, match=r"gates of Ladder are those of \['z1', 'z2', 'z3'\].*given for \['z1', 'z2'\]"):
        set_gates(objective.model, {"z1": 1.0, "z2": 1.0})
    with pytest.raises(ConfigError, match="given for none"):
        set_gates(objective.model, {})
    # A model and a guide whose gates differ cannot be trained progressively.
    guide = Heads({"z2": Ungated(), "z1": Ungated()})
    with pytest.raises(ConfigError, match="gates of Heads are those of"):
        start_schedule(Progressive(), hv.ELBO()(objective.model, guide), 30)


def test_a_schedule_used_again_starts_afresh():
    schedule = forward(started(steps=30), 25)
    assert schedule.final
    schedule.start(30, LAYERS)
    assert not schedule.final and schedule.gate_alphas().model == {"z3": 1.0, "z2": 0.0, "z1": 0.0}
    state = forward(started(steps=30), 25).state_dict()
    schedule.load_state_dict(state)
    assert schedule.final and schedule.gate_alphas() == forward(started(steps=30), 25).gate_alphas()
