"""A step of an optimiser called directly leaves what the optimiser's own step leaves."""

import copy

import pytest
import torch
from torch import nn

import pyro_hvae as hv
from pyro_hvae.compilation.optimizer_step import SUBNORMAL, OptimizerStep
from pyro_hvae.errors import ConfigError

ADAM = {"lr": 0.02, "fused": True}


def networks():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return net, copy.deepcopy(net)


def backward(net, step, skip=()):
    torch.manual_seed(step)
    net.zero_grad(set_to_none=True)
    net(torch.randn(5, 3)).square().sum().backward()
    for i in skip:
        list(net.parameters())[i].grad = None


def assert_equal_steps(make, direct, steps=6, change=lambda optimizer, step: None, skip=lambda step: ()):
    """Some steps of one network by the optimiser, and of its copy by `OptimizerStep`; which went directly is counted."""
    one, two = networks()
    plain, other = make(one), make(two)
    step, called = OptimizerStep(other), []
    operation = step._operation
    step._operation = operation and (lambda *given, **named: called.append(1) or operation(*given, **named))
    for t in range(steps):
        for net, optimizer, go in ((one, plain, lambda: plain.step()), (two, other, step)):
            backward(net, t, skip(t))
            change(optimizer, t)
            go()
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True)), t
    first, second = plain.state_dict(), other.state_dict()
    assert first["param_groups"] == second["param_groups"]
    for key, state in first["state"].items():
        assert all(torch.equal(value, second["state"][key][name]) for name, value in state.items())
    assert len(called) == direct


OPTIMIZERS = {
    "adam": (lambda p: torch.optim.Adam(p, **ADAM), 5),
    "adam with decay": (lambda p: torch.optim.Adam(p, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, **ADAM), 5),
    "adamw": (lambda p: torch.optim.AdamW(p, weight_decay=0.1, **ADAM), 5),
    "a loop": (lambda p: torch.optim.Adam(p, lr=0.02), 0),
    "amsgrad": (lambda p: torch.optim.Adam(p, amsgrad=True, **ADAM), 0),
    "maximize": (lambda p: torch.optim.AdamW(p, maximize=True, **ADAM), 0),
    "a rate in a tensor": (lambda p: torch.optim.Adam(p, lr=torch.tensor(0.02), fused=True), 0),
    "sgd": (lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, fused=True), 0),
    "radam": (lambda p: torch.optim.RAdam(p, 0.01), 0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_equal(name):
    make, direct = OPTIMIZERS[name]
    assert_equal_steps(lambda net: make(net.parameters()), direct)


def test_groups_of_parameters_each_have_their_settings():
    def make(net):
        return torch.optim.Adam([{"params": net[0].parameters(), "lr": 0.1}, {"params": net[2].parameters()}], **ADAM)

    assert_equal_steps(make, 2 * 5)


def test_parameters_without_a_gradient_stay_and_come_back():
    """The first step of a parameter is the optimiser's own, which makes its state."""
    assert_equal_steps(
        lambda net: torch.optim.Adam(net.parameters(), **ADAM), 5, 7, skip=lambda t: (0, 3) if t in (0, 1, 4) else ()
    )


def test_a_rate_that_changes_and_a_state_that_is_loaded():
    def change(optimizer, t):
        optimizer.param_groups[0]["lr"] = 0.02 / (1 + t)
        if t == 3:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    assert_equal_steps(lambda net: torch.optim.Adam(net.parameters(), **ADAM), 5, change=change)


def test_hooks_and_schedulers_are_heeded():
    calls = []

    def hooked(net):
        optimizer = torch.optim.Adam(net.parameters(), **ADAM)
        optimizer.register_step_post_hook(lambda *given: calls.append(1))
        return optimizer

    assert_equal_steps(hooked, 0)
    assert len(calls) == 12

    def scheduled(net):
        optimizer = torch.optim.Adam(net.parameters(), **ADAM)
        optimizer.scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return optimizer

    assert_equal_steps(scheduled, 0, change=lambda optimizer, t: optimizer.scheduler.step() if t else None)


@pytest.mark.parametrize("make", [lambda p: torch.optim.Adam(p, **ADAM), lambda p: torch.optim.Adam(p, lr=0.02)])
def test_subnormal_moments_become_zero_and_the_processor_is_left_as_it_was(make):
    w = nn.Parameter(torch.ones(3))
    optimizer = make([w])
    step = OptimizerStep(optimizer)
    for _ in range(2):
        w.grad = torch.zeros(3)
        step()
    optimizer.state[w]["exp_avg"].fill_(1e-40)
    w.grad = torch.zeros(3)
    step()
    assert (optimizer.state[w]["exp_avg"] == 0).all() and torch.equal(w, torch.ones(3)) and SUBNORMAL != 0


def test_a_captured_loss_with_an_optimiser_makes_its_steps():
    values, weights = [], []
    for handed in (True, False):
        torch.manual_seed(0)
        loss = hv.ELBO()(hv.Chain(hv.StandardNormal(1), [], hv.Gaussian(1, 2)), hv.BottomUp([hv.Gaussian(2, 1)]))
        optimizer = torch.optim.Adam(loss.parameters(), **ADAM)
        step = hv.capture(loss, compile=False, optimizer=optimizer if handed else None)
        for _ in range(4):
            values.append(step(torch.ones(4, 2)).item())
            assert all(p.grad is not None for p in loss.parameters())
            if not handed:
                optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in loss.parameters()]))
    assert values[:4] == values[4:] and torch.equal(*weights)


def test_an_optimiser_needs_gradients():
    with pytest.raises(ConfigError, match=r"optimiser needs the gradients that gradient=False leaves out\. Leave out one"):
        hv.capture(nn.Linear(1, 1), optimizer=torch.optim.SGD([nn.Parameter(torch.ones(1))]), gradient=False)
