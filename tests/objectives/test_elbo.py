"""The ELBO family against closed forms, Pyro's own estimators and explicit loops (float64)."""

import math

import pyro
import pytest
import torch
from linear_gaussian import LinearGaussianChain
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch.testing import assert_close

from pyro_hvae import ELBO, Bernoulli, BottomUp, Chain, Gaussian, StandardNormal
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.handlers import ScaleSites

pytestmark = pytest.mark.usefixtures("float64")

EXACT = [
    dict(analytic_kl=False),
    dict(particles=5),
    dict(particles=7, shared={"z1"}),
    dict(particles=3, alpha=0.5),
    dict(particles=4, alpha=1.0),
    dict(particles=6, shared={"z1"}, alpha=0.3),
]


@pytest.mark.parametrize("options", EXACT)
@pytest.mark.parametrize("dims", [(2,), (3, 2), (2, 3, 2)])
def test_exact_guide_gives_the_evidence_for_every_draw(dims, options):
    chain = LinearGaussianChain(dims)
    x = chain.evidence.sample((9,))
    bound = ELBO(**options).estimate(chain.model(), chain.guide(), x).bound()
    assert_close(bound, chain.evidence.log_prob(x), rtol=1e-9, atol=1e-9)


def _repeat(x, times):
    return x.repeat_interleave(times, 0)


def _mean_and_error(values):
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


def test_wrong_guide_orders_the_bounds():
    chain = LinearGaussianChain((3, 2))
    x = _repeat(chain.evidence.sample((1,)), 20_000)
    log_p = chain.evidence.log_prob(x[0]).item()
    bounds = [
        _mean_and_error(ELBO(particles=k, analytic_kl=False).estimate(chain.model(), chain.guide(0.3), x).bound())
        for k in (1, 5, 50)
    ]
    values = [log_p - mean for mean, _ in bounds]
    assert values[0] > values[1] > values[2] > 0
    assert all(gap > 5 * error for gap, (_, error) in zip(values, bounds, strict=True))


def test_vhp_rate_is_above_the_exact_kl_and_tightens_with_particles():
    chain = LinearGaussianChain((3, 2))
    x = _repeat(chain.evidence.sample((1,)), 20_000)
    exact = chain.posterior_kl(x[:1], 0.3).item()
    rates = []
    for k in (1, 4, 64):
        estimate = ELBO(particles=k, shared={"z1"} if k > 1 else (), analytic_kl=False).estimate(
            chain.model(), chain.guide(0.3), x
        )
        rates.append(_mean_and_error(estimate.terms["x"] - estimate.bound()))
    (r1, _), (r4, _), (r64, error) = rates
    assert r1 > r4 > r64 > exact - 4 * error
    assert r64 - exact < 0.1 * (r1 - exact)


def test_vhp_with_exact_second_layer_has_the_exact_rate_for_any_first_layer():
    chain = LinearGaussianChain((3, 2))
    x = _repeat(chain.evidence.sample((1,)), 40_000)
    guide = BottomUp([chain.guide(0.3).levels[0], chain.guide(0.0).levels[1]])
    for k in (2, 9):
        estimate = ELBO(particles=k, shared={"z1"}).estimate(chain.model(), guide, x)
        mean, error = _mean_and_error(estimate.terms["x"] - estimate.bound())
        assert abs(mean - chain.posterior_kl(x[:1], 0.3).item()) < 4 * error


def _pair():
    model = Chain(StandardNormal(2), [Gaussian(2, 3, (8,))], Gaussian(3, (2, 3), (8,), scale=0.7))
    return model, BottomUp([Gaussian((2, 3), 3, (8,)), Gaussian(3, 2, (8,))])


@pytest.mark.parametrize("particles", [1, 4])
def test_equals_stock_estimators_on_the_same_noise(particles):
    model, guide = _pair()
    x = torch.randn(5, 2, 3)
    torch.manual_seed(3)
    ours = ELBO(particles=particles, analytic_kl=False)(model, guide)(x)
    torch.manual_seed(3)
    if particles == 1:
        stock = Trace_ELBO().loss(model, guide, x)
    else:
        stock = RenyiELBO(alpha=0, num_particles=particles, max_plate_nesting=1, vectorize_particles=True).loss(model, guide, x)
    assert_close(ours.item(), stock / len(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_renyi_bounds_equal_stock_ones_on_the_same_noise(alpha):
    model, guide = _pair()
    objective = ELBO(particles=4, alpha=alpha)(model, guide)
    x = torch.randn(5, 2, 3)
    torch.manual_seed(3)
    ours = objective(x)
    torch.manual_seed(3)
    stock = RenyiELBO(alpha=alpha, num_particles=4, max_plate_nesting=1, vectorize_particles=True)
    with pyro.get_param_store().scope():
        loss = stock.loss_and_grads(model, guide, x) / len(x)
    assert_close(ours.item(), loss, rtol=1e-9, atol=1e-9)


def test_renyi_of_order_one_is_the_average_of_the_particles():
    model, guide = _pair()
    estimate = ELBO(particles=4, alpha=1.0).estimate(model, guide, torch.randn(5, 2, 3))
    assert_close(estimate.bound(), estimate.log_weights().mean(0))


@pytest.mark.parametrize("particles", [1, 4])
def test_gradients_equal_finite_differences_on_the_same_noise(particles):
    """Nothing in the bound may be detached: the gradient is that of the value under fixed noise."""
    model, guide = _pair()
    objective = ELBO(particles=particles, analytic_kl=False)(model, guide)
    x = torch.randn(3, 2, 3)

    def value():
        torch.manual_seed(5)
        return objective(x)

    parameters = list(objective.parameters())
    gradients = torch.autograd.grad(value(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        i = int(gradient.abs().argmax())
        flat = parameter.data.view(-1)
        with torch.no_grad():
            flat[i] += 1e-5
            above = value()
            flat[i] -= 2e-5
            below = value()
            flat[i] += 1e-5
        assert_close(gradient.view(-1)[i], (above - below) / 2e-5, rtol=1e-4, atol=1e-7)


def test_analytic_kl_equals_mean_field_where_that_is_valid_and_stays_unbiased_where_it_is_not():
    model = Chain(StandardNormal(2), [], Bernoulli(2, 6, (8,)))
    guide = BottomUp([Gaussian(6, 2, (8,))])
    x = torch.rand(5, 6).round()
    torch.manual_seed(3)
    ours = ELBO()(model, guide)(x)
    torch.manual_seed(3)
    assert_close(ours.item(), TraceMeanField_ELBO().loss(model, guide, x) / len(x))

    chain = LinearGaussianChain((3, 2))
    x = _repeat(chain.evidence.sample((1,)), 40_000)
    mean, error = _mean_and_error(ELBO().estimate(chain.model(), chain.guide(), x).bound())
    assert error > 0  # the closed form of KL(q(z2|z1) || p(z2)) was taken
    assert abs(mean - chain.evidence.log_prob(x[0]).item()) < 4 * error


@torch.no_grad()
def test_vhp_bound_equals_an_explicit_loop():
    model, guide = _pair()
    x = torch.randn(4, 2, 3)
    elbo = ELBO(particles=3, shared={"z1"})
    torch.manual_seed(7)
    estimate = elbo.estimate(model, guide, x)
    torch.manual_seed(7)
    _, q = elbo.sites(model, guide, x)
    z1, z2 = q["z1"]["value"], q["z2"]["value"]
    assert z1.shape == (4, 3) and z2.shape == (3, 4, 2)
    assert estimate.terms["x"].shape == (4,)  # the likelihood is computed once, not once per particle
    for n in range(4):
        inner = []
        for k in range(3):
            prior = torch.distributions.Normal(0.0, 1.0).log_prob(z2[k, n]).sum()
            p1, q2 = model.levels[0](z2[k, n]), guide.levels[1](z1[n])
            inner.append(p1.log_prob(z1[n]) + prior - q2.log_prob(z2[k, n]))
        average = torch.logsumexp(torch.stack(inner), 0) - math.log(3)
        expected = model.likelihood(z1[n]).log_prob(x[n]) + average - guide.levels[0](x[n : n + 1]).log_prob(z1[n])[0]
        assert_close(estimate.bound()[n], expected)


@pytest.mark.parametrize("beta", [0.05, 1.0, 2.5])
@pytest.mark.parametrize("options", [dict(), dict(particles=4, shared={"z1"})])
def test_loss_is_the_weighted_lagrangian(options, beta):
    model, guide = _pair()
    estimate = ELBO(**options).estimate(model, guide, torch.randn(6, 2, 3))
    rate = (estimate.terms["x"] - estimate.bound()).mean()
    expected = (estimate.distortion() + beta * rate) / max(1.0, beta)
    assert_close(estimate.loss({"x": 1 / beta}), expected)
    assert_close(estimate.loss({"x": torch.tensor(1 / beta)}), expected)
    assert_close(estimate.loss(), estimate.distortion() + rate)


def test_weights_inside_the_log_mean_exp_are_refused():
    model, guide = _pair()
    estimate = ELBO(particles=4).estimate(model, guide, torch.randn(6, 2, 3))
    with pytest.raises(ConfigError, match="site 'x' varies over the 4 particles"):
        estimate.loss({"x": 2.0})
    shared = ELBO(particles=4, shared={"z1"}).estimate(model, guide, torch.randn(6, 2, 3))
    with pytest.raises(ConfigError, match="site 'z2'"):
        shared.loss({"z2": 2.0})


def test_scale_sites_weighs_our_bound_and_stock_bounds_alike_and_leaves_the_report_true():
    model, guide = _pair()
    x = torch.randn(5, 2, 3)
    weights = {"z1": 0.25, "z2": torch.tensor(0.0)}
    weighted = ScaleSites(weights)(model), ScaleSites(weights)(guide)
    torch.manual_seed(3)
    estimate = ELBO(analytic_kl=False).estimate(*weighted, x)
    torch.manual_seed(3)
    stock = Trace_ELBO().loss(*weighted, x)
    torch.manual_seed(3)
    plain = ELBO(analytic_kl=False).estimate(model, guide, x)
    assert_close(estimate.loss().item(), stock / len(x))
    assert_close(estimate.bound(), plain.terms["x"] + 0.25 * plain.terms["z1"])
    assert_close(estimate.bound_unweighted(), plain.bound())


def test_iwae_gradient_weighs_every_particle_by_its_normalised_weight():
    model, guide = _pair()
    objective = ELBO(particles=5)(model, guide)
    x = torch.randn(3, 2, 3)
    estimate = objective.estimate(x)
    log_w = estimate.log_weights()
    by_hand = -(torch.softmax(log_w, 0).detach() * log_w).sum(0).mean()
    parameters = list(objective.parameters())
    ours = torch.autograd.grad(estimate.loss(), parameters, retain_graph=True)
    expected = torch.autograd.grad(by_hand, parameters)
    for a, b in zip(ours, expected, strict=True):
        assert_close(a, b)


def test_constraint_measures():
    model, guide = _pair()
    x = torch.randn(5, 2, 3)
    estimate = ELBO().estimate(model, guide, x)
    mean = estimate.x["fn"].mean
    assert_close(estimate.constraint("rmse"), ((x - mean) ** 2).mean().detach())
    nats = 0.5 * ((x - mean) ** 2).sum((1, 2)).mean() / 0.7**2
    assert_close(estimate.constraint("nats"), nats.detach())
    # Without constants: at beta = 1 the constraint is the distortion less the Gaussian's normaliser.
    assert_close(
        estimate.distortion().detach() - nats.detach(), torch.tensor(6 * (0.5 * math.log(2 * math.pi) + math.log(0.7)))
    )
    bernoulli = Chain(StandardNormal(2), [], Bernoulli(2, 6, (8,)))
    estimate = ELBO().estimate(bernoulli, BottomUp([Gaussian(6, 2, (8,))]), torch.rand(5, 6).round())
    assert_close(estimate.constraint("nats"), estimate.distortion().detach())


def test_constraint_in_nats_needs_a_fixed_scale():
    model = Chain(StandardNormal(2), [], Gaussian(2, 6, (8,)))
    estimate = ELBO().estimate(model, BottomUp([Gaussian(6, 2, (8,))]), torch.rand(5, 6))
    with pytest.raises(ConfigError, match="measure=rmse"):
        estimate.constraint("nats")
    assert estimate.constraint("rmse") > 0


def test_reconstruction_parameters_are_those_of_the_first_layer():
    model, guide = _pair()
    objective = ELBO(particles=2, shared={"z1"})(model, guide)
    x = torch.randn(4, 2, 3)
    state = torch.get_rng_state()
    found = {id(p) for p in objective.reconstruction_parameters(x)}
    assert torch.equal(state, torch.get_rng_state())
    first = [*model.likelihood.parameters(), *guide.levels[0].parameters()]
    assert found == {id(p) for p in first}


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_particles_must_be_a_positive_whole_number(bad):
    with pytest.raises(ConfigError, match="particles"):
        ELBO(particles=bad)


def test_works_under_stock_svi():
    from pyro_hvae import for_svi

    model, guide = _pair()
    before = [p.clone() for p in [*model.parameters(), *guide.parameters()]]
    svi = pyro.infer.SVI(*for_svi(model, guide), pyro.optim.Adam({"lr": 1e-2}), ELBO(particles=3, shared={"z1"}))
    x = torch.randn(8, 2, 3)
    loss = svi.step(x)
    assert math.isfinite(loss) and math.isfinite(svi.evaluate_loss(x))
    after = [*model.parameters(), *guide.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
