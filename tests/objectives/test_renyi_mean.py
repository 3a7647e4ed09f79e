"""The Renyi mean of importance weights against double precision, for orders where the plain formula cancels."""

import math

import pytest
import torch

from pyro_hvae import ELBO
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.estimate import renyi_mean

ORDERS = [0.0, 0.5, 0.9, 0.99, 0.9999, 0.999999, 1.000001, 1.001, 1.5, 3.0, -2.0]


def plain(log_w, alpha):
    """The definition in double precision, exact to 1e-9 for these orders."""
    power, log_w = 1 - alpha, log_w.double()
    mean = log_w.mean(0)
    return mean + torch.log1p(torch.expm1(power * (log_w - mean)).mean(0)) / power


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_single_precision_is_right_to_its_rounding(alpha, spread):
    log_w = -100 + spread * torch.randn(8, 50, generator=torch.Generator().manual_seed(0))
    found = renyi_mean(log_w, alpha)
    torch.testing.assert_close(found.double(), plain(log_w, alpha), rtol=0, atol=1e-6 * (100 + 5 * spread))


@pytest.mark.parametrize("alpha", ORDERS)
def test_gradients_are_the_normalised_powers_of_the_weights(alpha):
    log_w = (3 * torch.randn(8, 50, generator=torch.Generator().manual_seed(0))).requires_grad_()
    renyi_mean(log_w, alpha).sum().backward()
    expected = torch.softmax((1 - alpha) * log_w.detach().double(), 0)
    torch.testing.assert_close(log_w.grad.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_limits():
    log_w = torch.tensor([[-3.0, 1.0], [5.0, 0.0]])
    assert renyi_mean(log_w, -math.inf).tolist() == [5.0, 1.0]
    assert renyi_mean(log_w, math.inf).tolist() == [-3.0, 0.0]
    assert renyi_mean(log_w, 1.0).tolist() == [1.0, 0.5]
    with pytest.raises(ConfigError, match="Renyi order"):
        ELBO(particles=2, alpha=math.nan)


def test_weights_far_apart_neither_overflow_nor_lose_their_gradient():
    log_w = torch.tensor([[-1e4], [0.0], [1e4]], requires_grad=True)
    for alpha in ORDERS:
        value = renyi_mean(log_w, alpha)
        (gradient,) = torch.autograd.grad(value.sum(), [log_w])
        assert value.isfinite().all() and gradient.isfinite().all()
        assert gradient.sum().item() == pytest.approx(1, rel=1e-4)
