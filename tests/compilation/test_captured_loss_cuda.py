"""Captured passes on a GPU, where there is one: the eager pass's numbers, replayed with fresh noise."""

import math

import pytest
import torch
from small_runs import data, rewo, vhp

import pyro_hvae as hv

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
X = torch.rand(20, 1, 16, 16)


@pytest.mark.parametrize("compile", [False, True])
def test_replays_have_the_numbers_of_the_eager_pass(compile):
    loss, x = vhp().cuda(), X.cuda()
    step = hv.capture(loss, compile=compile)
    for seed in range(4):  # the first call is compared, the second recorded, later ones replayed
        torch.manual_seed(seed)
        value = step(x).clone()
        found = {name: p.grad.clone() for name, p in loss.named_parameters()}
        torch.manual_seed(seed)
        expected = loss(x)
        for p in loss.parameters():
            p.grad = None
        expected.backward()
        assert step.eager is None
        torch.testing.assert_close(value, expected.detach(), rtol=1e-4, atol=1e-3)
        for name, p in loss.named_parameters():
            assert (found[name] - p.grad).norm() <= 1e-2 * p.grad.norm() + 1e-4, name


def test_every_replay_draws_fresh_noise():
    step = hv.capture(vhp().cuda())
    values = [step(X.cuda()).item() for _ in range(6)]
    assert len(set(values)) == 6


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_compiled_is_training(precision):
    config = hv.TrainConfig(steps=60, batch_size=20, lr=1e-2, log_every=10, seed=3, device="cuda", precision=precision)
    runs = {}
    for compile in (False, True):
        settings = {**config.__dict__, "compile": compile}
        runs[compile] = hv.fit(vhp(), data(), hv.TrainConfig(**settings), rewo())
    eager, compiled = (rows[0]["loss"] for rows in (runs[False], runs[True]))
    assert math.isclose(eager, compiled, rel_tol=0.05) and runs[True][-1]["loss"] < runs[True][0]["loss"]
