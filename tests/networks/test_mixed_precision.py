"""Networks in 16 bits: the error of their products, and that nothing else changes."""

import pyro.distributions as dist
import pytest
import torch
from both_ways import assert_same
from torch import nn
from torch.nn import functional as F

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError
from pyro_hvae.networks.mixed_precision import network_precision
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.training.session import Session
from pyro_hvae.training.training_step import TrainingPass

EPS = 2.0**-8  # the largest relative error of rounding to bf16, with its 8 significant bits


def low(x):
    return x.to(torch.bfloat16)


# Every layer that is one product: name -> layer and the shape of its input.
LAYERS = {
    "linear": lambda: (nn.Linear(6, 5), (3, 6)),
    "without bias": lambda: (nn.Linear(6, 5, bias=False), (3, 6)),
    "conv1d": lambda: (nn.Conv1d(2, 3, 3), (4, 2, 9)),
    "conv2d": lambda: (nn.Conv2d(2, 3, 3, padding=1), (4, 2, 6, 6)),
    "conv3d": lambda: (nn.Conv3d(1, 2, 2), (2, 1, 4, 4, 4)),
    "transposed 1d": lambda: (nn.ConvTranspose1d(2, 3, 3), (4, 2, 5)),
    "transposed 2d": lambda: (nn.ConvTranspose2d(2, 3, 4, stride=2), (4, 2, 5, 5)),
    "transposed 3d": lambda: (nn.ConvTranspose3d(1, 2, 2), (2, 1, 3, 3, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_products_are_taken_of_rounded_numbers(name):
    layer, shape = LAYERS[name]()
    x = torch.rand(shape) + 0.5
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_(0.5, 1.5)  # nothing cancels, so that relative errors of terms bound that of their sum
    with network_precision("bf16"):
        found = layer(x)
    expected = layer(x)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    off = ((found - expected) / expected).abs().max().item()
    assert 0 < off < 4 * EPS  # of two factors, of a bias and of the sum
    assert torch.equal(found, low(found).float())  # as a product in 16 bits leaves it
    assert torch.equal(layer(x), expected)


def test_a_product_by_hand():
    """1 + 2^-8 lies half-way between two numbers of 8 bits and goes to the even one, which is 1."""
    one = 1 + 2.0**-8
    x, w = torch.tensor([[one, 3.0]]), torch.tensor([[2.0, one]])
    assert F.linear(x, w).item() == 2 * one + 3 * one
    with network_precision("bf16"):
        assert F.linear(x, w).item() == 5.0 and F.linear(x, weight=w, bias=torch.tensor([0.5])).item() == 5.5


def test_gradients_and_weights_stay_in_single_precision():
    layer, x = nn.Linear(4, 3), torch.randn(6, 4, requires_grad=True)
    seed = torch.randn(6, 3)
    with network_precision("bf16"):
        (layer(x) * seed).sum().backward()
    for value in (layer.weight, layer.bias, x):
        assert value.dtype == value.grad.dtype == torch.float32
    exact = low(seed).double().T @ low(x).double()
    assert (layer.weight.grad - exact).norm() <= 2 * EPS * exact.norm() and (layer.weight.grad - seed.T @ x).norm() > 0
    assert (x.grad - seed @ layer.weight).norm() <= 4 * EPS * (seed @ layer.weight).norm()


def densities(loc, scale, logits, value):
    yield dist.Normal(loc, scale).log_prob(value)
    yield dist.Laplace(loc, scale).log_prob(value)
    yield dist.Bernoulli(logits=logits).log_prob(value.round())
    yield dist.Gamma(scale, scale).log_prob(value + 1)
    yield torch.distributions.kl_divergence(dist.Normal(loc, scale), dist.Normal(0.0, 1.0))
    yield dist.MultivariateNormal(loc[0], torch.diag(scale[0])).log_prob(value)


def test_densities_draws_and_activations_are_unchanged_bit_for_bit():
    loc, value = torch.randn(7, 4), torch.rand(7, 4)
    scale, logits = torch.rand(7, 4) + 0.01, torch.randn(7, 4)
    expected = list(densities(loc, scale, logits, value))
    norm = nn.BatchNorm1d(4)
    before = norm(loc), loc.softmax(-1), loc.exp(), loc @ loc.T
    torch.manual_seed(1)
    draw = dist.Normal(loc, scale).rsample()
    norm = nn.BatchNorm1d(4)
    with network_precision("bf16"):
        assert all(torch.equal(a, b) for a, b in zip(expected, densities(loc, scale, logits, value), strict=True))
        torch.manual_seed(1)
        assert torch.equal(draw, dist.Normal(loc, scale).rsample())
        assert all(torch.equal(a, b) for a, b in zip(before, (norm(loc), loc.softmax(-1), loc.exp(), loc @ loc.T), strict=True))


def test_double_precision_is_left_alone():
    layer, x = nn.Linear(4, 3).double(), torch.randn(6, 4).double()
    with network_precision("bf16"):
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias)) and layer(x).dtype == torch.float64


def test_float32_changes_nothing_and_the_context_ends():
    layer, x = nn.Linear(4, 3), torch.randn(6, 4)
    expected = layer(x)
    with network_precision("float32"):
        assert torch.equal(layer(x), expected)
    with pytest.raises(ZeroDivisionError), network_precision("bf16"):
        raise ZeroDivisionError
    assert torch.equal(layer(x), expected)
    with network_precision("bf16"):
        assert not torch.equal(layer(x), expected)


@pytest.mark.parametrize("name", ["bf-16", "float16", ""])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match="precision"), network_precision(name):
        pass


def pair(seed=0):
    torch.manual_seed(seed)
    return hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 6, (8,), scale=1.0)), hv.BottomUp([hv.Gaussian(6, 2, (8,))])


def test_a_training_pass_rounds_its_networks_only():
    """The terms are exactly the densities of what the rounded networks say."""
    model, guide = pair()
    loss = hv.ELBO(analytic_kl=False)(model, guide)
    x = torch.randn(5, 6)
    torch.manual_seed(4)
    values = TrainingPass(loss, hv.Constant(), precision="bf16")(x)
    torch.manual_seed(4)
    with network_precision("bf16"):
        p, q = loss.elbo.sites(model, guide, x)
    assert torch.equal(values["term.x"], p["x"]["fn"].log_prob(x))
    z = q["z1"]["value"]
    assert torch.equal(values["term.z1"], p["z1"]["fn"].log_prob(z) - q["z1"]["fn"].log_prob(z))
    torch.manual_seed(4)
    whole = TrainingPass(loss, hv.Constant())(x)
    off = ((values["loss"] - whole["loss"]) / whole["loss"]).abs().item()
    assert 0 < off < 8 * EPS and values["loss"].dtype == torch.float32


def test_a_captured_pass_gives_the_same_numbers():
    loss = hv.ELBO()(*pair())
    calls = [(torch.randn(5, 6),) for _ in range(3)]
    captured = assert_same(TrainingPass(loss, hv.Constant(), precision="bf16"), calls)
    assert all(p.grad.dtype == torch.float32 for p in loss.parameters()) and captured.graphs == 1


def test_a_captured_module_notices_the_precision():
    layer, x = nn.Linear(6, 5), torch.randn(3, 6)
    captured = hv.capture(layer, gradient=False, compile=False, warn=lambda text: None)
    for precision in ("float32", "bf16", "float32", "bf16"):
        with network_precision(precision):
            assert torch.equal(captured(x), layer(x))


def test_a_session_trains_in_bf16():
    losses = {}
    for precision in ("float32", "bf16"):
        objective = hv.ELBO()(*pair())
        x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1)) * 3
        torch.manual_seed(2)
        session = Session(objective, x, TrainConfig(steps=60, batch_size=20, lr=1e-2, precision=precision), hv.Constant(), 60)
        losses[precision] = []
        for _ in range(60):
            session.step()
            losses[precision].append(session.result.loss.item())
        assert all(p.dtype == torch.float32 for p in objective.parameters())
    assert losses["float32"] != losses["bf16"] and losses["bf16"][-1] < losses["bf16"][0] - 5
    assert losses["bf16"][-1] == pytest.approx(losses["float32"][-1], rel=0.02)
