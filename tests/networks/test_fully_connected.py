"""Fully connected networks: initial weights, gated units, normalisation."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pyro_hvae.networks.fully_connected import FlattenPlates, mlp


@pytest.mark.parametrize("activation, variance", [("relu", 2.0), ("tanh", 1.0)])
def test_initial_weights_have_the_promised_spread(activation, variance):
    net = mlp(200, 50, (300,), activation, gain=0.1)
    assert net[0].weight.std().item() == pytest.approx((variance / 200) ** 0.5, rel=0.05)
    assert net[2].weight.std().item() == pytest.approx(0.1 * (1 / 300) ** 0.5, rel=0.05)
    assert not net[0].bias.any()


def test_a_gate_is_half_the_features_times_the_sigmoid_of_the_other():
    net = mlp(3, 2, (4,), "gated")
    linear, last = net[0], net[2]
    x = torch.randn(6, 3)
    h = linear(x)
    assert h.shape == (6, 8)
    assert_close(net(x), last(h[:, :4] * h[:, 4:].sigmoid()))


def test_features_end_with_an_activation_and_normalisation_sees_all_plates():
    net = mlp(3, 4, (5,), "relu", norm=True, end=False)
    assert isinstance(net[-1], nn.ReLU) and (net(torch.randn(9, 3)) >= 0).all()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    assert [n.num_features for n in norms] == [5, 4]
    fold = FlattenPlates(nn.BatchNorm1d(4, affine=False), [4])
    out = fold(3 + 2 * torch.randn(50, 40, 4))
    assert_close(out.mean((0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    assert_close(out.std((0, 1)), torch.ones(4), atol=1e-2, rtol=0)
