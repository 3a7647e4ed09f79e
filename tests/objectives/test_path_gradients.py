"""Sticking the landing and DReG: where they vanish, what they average to, and captured passes."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import LinearGaussianChain
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.conditionals import zuko_flows
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives import ELBO

DRAWS, COPIES = 400, 50  # gradients, each a mean over copies of one datum: 2 * 10^4 draws


class Guide(nn.Module):
    """A Gaussian chain q(z1 | x) q(z2 | z1) with free parameters, float64."""

    def __init__(self, data=3, dims=(2, 2)):
        super().__init__()
        g = torch.Generator().manual_seed(3)
        sizes = [data, *dims]
        self.weights = nn.ParameterList(
            nn.Parameter(0.4 * torch.randn(b, a, generator=g).double()) for a, b in zip(sizes, sizes[1:], strict=False)
        )
        self.log_scales = nn.ParameterList(nn.Parameter(torch.full((b,), -0.3).double()) for b in dims)

    def forward(self, x, size=1):
        h = x
        with pyro.plate("data", len(x)):
            for i, (w, s) in enumerate(zip(self.weights, self.log_scales, strict=True)):
                h = pyro.sample(f"z{i + 1}", dist.Normal(h @ w.T, s.exp()).to_event(1))
        return h


@pytest.fixture
def chain():
    torch.manual_seed(0)
    return LinearGaussianChain(dims=(2, 2), data=3)


def gradients(elbo, model, guide, x, parameters):
    """Independent gradients of the loss, (DRAWS, features)."""
    found = []
    for _ in range(DRAWS):
        grads = torch.autograd.grad(elbo(model, guide)(x), parameters)
        found.append(torch.cat([grad.flatten() for grad in grads]))
    return torch.stack(found)


@pytest.mark.parametrize("particles", [1, 8])
@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_the_gradient_of_the_guide_vanishes_where_it_is_the_posterior(chain, particles, gradient):
    model, guide = chain.model(), chain.guide()
    x = chain.evidence.sample((5,))
    loss = ELBO(particles=particles, gradient=gradient)(model, guide)
    for parameter, grad in zip(guide.parameters(), torch.autograd.grad(loss(x), list(guide.parameters())), strict=True):
        assert grad.abs().max() < 1e-10, parameter.shape
    plain = torch.autograd.grad(ELBO(particles=particles, analytic_kl=False)(model, guide)(x), list(guide.parameters()))
    assert max(grad.abs().max() for grad in plain) > 1e-3  # noise, though its mean is zero
    assert loss(x).item() == pytest.approx(-chain.evidence.log_prob(x).mean().item(), abs=1e-10)


BOUNDS = {
    "one particle": {},
    "iwae": {"particles": 6},
    "renyi": {"particles": 6, "alpha": 0.4},
    "vhp": {"particles": 6, "shared": {"z1"}},
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_dreg_averages_to_the_gradient_of_the_bound(chain, bound):
    model, guide = chain.model(), Guide()
    x = chain.evidence.sample((1,)).expand(COPIES, -1)
    plain, dreg = (
        gradients(ELBO(**BOUNDS[bound], analytic_kl=False, gradient=kind), model, guide, x, list(guide.parameters()))
        for kind in ("reparameterised", "dreg")
    )
    error = ((plain.var(0) + dreg.var(0)) / DRAWS).sqrt()
    assert ((plain.mean(0) - dreg.mean(0)).abs() < 4.5 * error).all()
    assert (plain.mean(0).abs() > 4.5 * error).any()  # the guide is no optimum


def spread(module, deviation):
    """The module with noise on its parameters, in double precision."""
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter += deviation * torch.randn_like(parameter)
    return module


def test_dreg_of_the_vhp_is_unbiased_where_its_inner_guide_is_no_posterior():
    torch.manual_seed(1)
    sizes = {"latent": 2, "latent2": 1, "hidden": (4,), "upper": (4,), "particles": 4, "sigma": 0.7}
    objective = spread(hv.recipes.build("vhp", torch.randn(60, 2), sizes)[0].objective, 0.3)
    with torch.no_grad():
        objective.guide.levels[0].net[-1].bias[2:4] = -0.2  # draws of z1 that matter
    x = torch.randn(2, 2).double().repeat(1000, 1)
    parameters = list(objective.guide.levels[0].parameters())
    found = {}
    for kind in ("reparameterised", "dreg"):
        objective.elbo.set_gradient(kind)
        grads = [torch.autograd.grad(objective(x), parameters) for _ in range(60)]
        found[kind] = torch.stack([torch.cat([grad.flatten() for grad in each]) for each in grads])
    plain, dreg = found.values()
    error = ((plain.var(0) + dreg.var(0)) / 60).sqrt()
    z = (plain.mean(0) - dreg.mean(0))[error > 1e-9] / error[error > 1e-9]
    assert len(z) > 15 and z.square().mean().sqrt() < 2  # 17 where q(z2 | z1) has a gradient with respect to z1


FLOWS = {
    "full": lambda: hv.FullCovarianceGaussian(3, 2, (4,)),
    "gaussian flow": lambda: hv.GaussianFlow(3, 2, (4,)),
    "maf": lambda: hv.Flow(zuko_flows().MAF(2, context=3, transforms=2, hidden_features=(8,)), 3, 3, (8,)),
    "realnvp": lambda: hv.Flow(zuko_flows().RealNVP(2, context=3, transforms=2, hidden_features=(8,)), 3, 3, (8,)),
}


@pytest.mark.parametrize("gradient, particles", [("stl", 1), ("stl", 4), ("dreg", 4)])
@pytest.mark.parametrize("name", FLOWS)
def test_paths_through_guides_that_are_no_diagonal_gaussians(name, gradient, particles):
    torch.manual_seed(1)
    q, p, x = spread(FLOWS[name](), 0.1), spread(hv.Gaussian(2, 3, (4,), scale=0.7), 0.1), torch.randn(1, 3).double()
    pair = ELBO(particles, gradient=gradient)(hv.Chain(hv.StandardNormal(2).double(), [], p), hv.BottomUp([q]))
    torch.manual_seed(5)
    found = torch.autograd.grad(pair(x), list(q.parameters()), allow_unused=True)
    torch.manual_seed(5)
    draw = q(x).expand((particles, 1)).rsample()
    z = draw.detach().requires_grad_()
    log_w = (dist.Normal(0.0, 1.0).log_prob(z).sum(-1) + p(z).log_prob(x) - q(x).log_prob(z)).squeeze(-1)
    w = log_w.detach().softmax(0)
    (path,) = torch.autograd.grad(log_w, z, w**2 if gradient == "dreg" else w)
    expected = torch.autograd.grad(draw, list(q.parameters()), -path, allow_unused=True)
    assert any(grad is not None and grad.abs().max() > 1e-2 for grad in expected)
    for one, two, parameter in zip(found, expected, q.parameters(), strict=True):
        one, two = (torch.zeros_like(parameter) if grad is None else grad for grad in (one, two))
        assert_close(one, two, rtol=0, atol=1e-12)


def test_stl_is_unbiased_for_one_particle_and_biased_for_several(chain):
    model, guide = chain.model(), Guide()
    x = chain.evidence.sample((1,)).expand(COPIES, -1)
    for particles, biased in ((1, False), (6, True)):
        plain, stl = (
            gradients(ELBO(particles, analytic_kl=False, gradient=kind), model, guide, x, list(guide.parameters()))
            for kind in ("reparameterised", "stl")
        )
        error = ((plain.var(0) + stl.var(0)) / DRAWS).sqrt()
        assert ((plain.mean(0) - stl.mean(0)).abs() > 4.5 * error).any() == biased


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_the_bound_and_the_gradient_of_the_model_are_those_of_the_estimate(chain, bound, gradient):
    model, guide, x = chain.model(), Guide(), chain.evidence.sample((7,))
    found = []
    for kind in ("reparameterised", gradient):
        torch.manual_seed(4)
        loss = ELBO(**BOUNDS[bound], analytic_kl=False, gradient=kind)(model, guide)(x)
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)])
    for one, two in zip(*found, strict=True):
        assert_close(one, two, rtol=0, atol=1e-10)


@pytest.mark.parametrize("gradient", ["stl", "dreg"])
@pytest.mark.parametrize("recipe", ["iwae", "vhp", "lvae", "vampprior", "vlae"])
def test_captured_passes_and_recipes_whose_programs_share_networks(recipe, gradient):
    torch.manual_seed(0)
    x = torch.rand(12, 6)
    objective = hv.recipes.build(recipe, x, {"components": 5} if recipe == "vampprior" else {})[0].objective
    objective.elbo.gradient = gradient
    captured = hv.capture(objective, compile=False, warn=pytest.fail)
    buffers = {name: value.clone() for name, value in objective.named_buffers()}
    results = []
    for step in (objective, captured):
        for name, value in objective.named_buffers():
            value.copy_(buffers[name])
        torch.manual_seed(1)
        objective.zero_grad()
        loss = step(x)
        if step is objective:
            loss.backward()
        results.append(
            [loss.detach(), *(p.grad.clone() for p in objective.parameters()), *map(torch.clone, objective.buffers())]
        )
    for one, two in zip(*results, strict=True):
        assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert captured.eager is None
    with torch.no_grad():  # nothing is run twice where there is no gradient
        assert "paths" not in objective.elbo.sites(objective.model, objective.guide, x)[0]["x"]


def test_batch_normalisation_moves_once_in_a_pass():
    torch.manual_seed(0)
    x = torch.rand(12, 6)
    moved = []
    for gradient in ("reparameterised", "dreg"):
        torch.manual_seed(0)
        objective = hv.recipes.build("lvae", x, {})[0].objective
        objective.elbo.gradient = gradient
        torch.manual_seed(1)
        objective(x)
        moved.append([buffer.clone() for buffer in objective.buffers()])
    assert all(map(torch.equal, *moved)) and any(buffer.numel() > 1 for buffer in moved[0])


def test_unknown_gradients_and_infinite_orders():
    with pytest.raises(ConfigError, match="no gradient called 'drag'. Did you mean 'dreg'"):
        ELBO(gradient="drag")
    with pytest.raises(ConfigError, match="needs a finite Renyi order, got alpha=-inf"):
        ELBO(particles=2, alpha=-math.inf, gradient="dreg")
    assert ELBO(particles=2, alpha=-math.inf).gradient == "reparameterised"
