"""Distributions of 8-bit grey levels: probabilities, gradients, draws, and the conditionals that give them."""

import math

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.conditionals import grey_levels
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.inference.sampling import likelihood_name

LEVELS = torch.arange(256, dtype=torch.float64) / 255
MU = torch.tensor([-1e4, -3.0, -1e-3, 0.0, 0.1, 0.5 / 255, 0.5, 0.77, 1.0, 1.2, 1e4], dtype=torch.float64)
S = torch.tensor([1e-6, 3e-4, 0.01, 0.3, 7.0, 1e3], dtype=torch.float64)


def logistic(mu=MU, s=S):
    """One for every pair of mu and s, shape (mu, s)."""
    return grey_levels.DiscretisedLogistic(mu[:, None], s)


def mixture(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    loc = torch.rand(3, 4, generator=g, dtype=dtype)
    scale = torch.rand(3, 4, generator=g, dtype=dtype).mul(5).sub(7).exp()
    return grey_levels.LogisticMixture(torch.randn(3, 4, generator=g, dtype=dtype), loc, scale)


def naive(x, mu, s):
    """The difference of distribution functions, as it is written down."""
    upper, lower = (((x + half / 255 - mu) / s).sigmoid() for half in (0.5, -0.5))
    return (upper.where(x < 1, 1.0) - lower.where(x > 0, 0.0)).log()


def test_probabilities_sum_to_one_whatever_mu_and_s():
    for p in (logistic(), mixture()):
        total = p.log_prob(LEVELS.reshape(-1, *[1] * len(p.batch_shape))).exp().sum(0)
        assert_close(total, torch.ones(p.batch_shape, dtype=torch.float64), atol=1e-10, rtol=0)


def test_a_discretised_logistic_is_the_difference_of_scipys_distribution_functions():
    mu, s = torch.tensor([-0.2, 0.0, 0.4, 0.9, 1.3], dtype=torch.float64), torch.tensor([0.01, 0.2, 3.0], dtype=torch.float64)
    law = stats.logistic(loc=mu[:, None].numpy(), scale=s.numpy())
    x = LEVELS[:, None, None]
    below = torch.from_numpy(law.cdf((x - 0.5 / 255).numpy())).where(x > 0, 0.0)
    above = torch.from_numpy(law.sf((x + 0.5 / 255).numpy())).where(x < 1, 0.0)
    # 1 - below - above cancels in the upper half of the logistic, and a difference of survival functions in the lower one.
    assert_close(logistic(mu, s).log_prob(x).exp(), 1 - below - above, atol=1e-14, rtol=0)


def test_a_mixture_is_the_weighted_sum_of_its_components():
    p, x = mixture(), LEVELS[:, None]
    parts = grey_levels.DiscretisedLogistic(p.loc, p.scale).log_prob(x[..., None]).exp()
    assert_close(p.log_prob(x), (p.logits.softmax(-1) * parts).sum(-1).log())
    shared = grey_levels.LogisticMixture(torch.randn(3, 4), p.loc[:, :1].expand(-1, 4), p.scale[:, :1].expand(-1, 4))
    assert_close(shared.log_prob(x), grey_levels.DiscretisedLogistic(p.loc[:, 0], p.scale[:, 0]).log_prob(x))


def test_gradients_are_those_of_the_naive_form_where_it_is_stable():
    g = torch.Generator().manual_seed(1)
    x = LEVELS[torch.randint(256, (500,), generator=g)]
    x[:50], x[50:100] = 0.0, 1.0
    start = (x + torch.randn(500, generator=g, dtype=x.dtype) * 0.1, torch.rand(500, generator=g, dtype=x.dtype) * 0.3 + 0.05)
    values, gradients = [], []
    for function in (naive, lambda x, mu, s: grey_levels.DiscretisedLogistic(mu, s).log_prob(x)):
        mu, s = (t.clone().requires_grad_() for t in start)
        values.append(function(x, mu, s))
        gradients.append(torch.autograd.grad(values[-1].sum(), [mu, s]))
    assert_close(values[0], values[1], atol=1e-11, rtol=1e-11)
    for one, two in zip(*gradients, strict=True):
        assert_close(one, two, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("s", [3e-4, 0.1, 7.0])
def test_single_precision_is_finite_and_right_in_both_tails(s):
    """Where the naive form is log 0: far from x, log P falls by 1 / s for each unit of mu."""
    mu = torch.tensor([-1e6, -30.0, 0.5, 30.0, 1e6], requires_grad=True)
    scale = torch.full((5,), s, requires_grad=True)
    x = (torch.arange(256) / 255)[:, None]
    values = grey_levels.DiscretisedLogistic(mu, scale).log_prob(x)
    exact = grey_levels.DiscretisedLogistic(mu.detach().double(), torch.tensor(s, dtype=torch.float64)).log_prob(x.double())
    assert_close(values, exact.float(), rtol=2e-5, atol=2e-3)
    values.sum().backward()
    assert mu.grad is not None and scale.grad is not None
    assert mu.grad.isfinite().all() and scale.grad.isfinite().all()
    # Between both tails each of both sigmoids pulls mu, far away only one of them does.
    grey = grey_levels.DiscretisedLogistic(mu, scale.detach()).log_prob(torch.tensor(100 / 255))
    slope = torch.autograd.grad(grey.sum(), mu)[0]
    assert_close(slope[[0, -1]], torch.tensor([1.0, -1.0]) / s)


@pytest.mark.parametrize("p", [logistic(MU[4:9], S[1:4]), mixture()])
def test_draws_have_the_probabilities(p):
    torch.manual_seed(0)
    draws, n = p.sample((20_000,)), 20_000
    assert draws.shape == (n, *p.batch_shape) and grey_levels.GREY_LEVELS.check(draws).all()
    expected = n * p.log_prob(LEVELS.reshape(-1, *[1] * len(p.batch_shape))).exp().flatten(1)
    levels = (draws * 255).round().long().flatten(1)
    for column in range(levels.shape[1]):
        counts, often = levels[:, column].bincount(minlength=256).double(), expected[:, column] >= 5
        found = torch.cat([counts[often], counts[~often].sum(0, keepdim=True)])
        wanted = torch.cat([expected[often, column], expected[~often, column].sum(0, keepdim=True)])
        if wanted[-1] < 5:  # a class that the approximation does not hold for joins the largest
            largest = wanted[:-1].argmax()
            found[largest] += found[-1]
            wanted[largest] += wanted[-1]
            found, wanted = found[:-1], wanted[:-1]
        if len(wanted) > 1:
            assert stats.chisquare(found.numpy(), wanted.numpy(), sum_check=False).pvalue > 1e-4


@pytest.mark.parametrize("p", [logistic(), mixture()])
def test_means_and_modes_are_those_of_the_probabilities(p):
    probabilities = p.log_prob(LEVELS.reshape(-1, *[1] * len(p.batch_shape))).exp()
    assert_close(p.mean, torch.tensordot(LEVELS, probabilities, 1), atol=1e-10, rtol=0)
    if isinstance(p, grey_levels.DiscretisedLogistic):
        reached = p.log_prob(p.mode).exp()
        assert_close(reached, probabilities.amax(0), atol=1e-12, rtol=1e-12)


def test_plates_and_arguments_are_checked():
    p = mixture().expand((5, 3))
    assert p.batch_shape == (5, 3) and p.sample((2,)).shape == (2, 5, 3) and p.mean.shape == (5, 3)
    assert logistic().expand((2, 11, 6)).log_prob(torch.tensor(1.0)).shape == (2, 11, 6)
    with pytest.raises(ValueError, match="scale"):
        grey_levels.DiscretisedLogistic(torch.tensor(0.0), torch.tensor(-1.0), validate_args=True)
    with pytest.raises(ValueError, match="grey levels v / 255"):
        grey_levels.DiscretisedLogistic(torch.tensor(0.0), torch.tensor(1.0), validate_args=True).log_prob(torch.tensor(0.3))


def test_support_is_bytes_over_255_in_any_precision():
    bytes_ = torch.arange(256, dtype=torch.uint8)
    for levels in (bytes_.float() / 255, bytes_.double() / 255, bytes_.float().mul(1 / 255)):
        assert grey_levels.GREY_LEVELS.check(levels).all()
    wrong = torch.tensor([0.5, -1 / 255, 256 / 255, math.nan, math.inf, 100.0, 0.3333])
    assert not grey_levels.GREY_LEVELS.check(wrong).any()


@pytest.mark.parametrize(("per", "shape"), [("value", (7, 2, 3, 3)), ("entry", (2, 3, 3)), ("channel", (2, 1, 1))])
def test_scales_are_learned_from_where_they_start(per, shape):
    torch.manual_seed(0)
    p, parents = hv.DiscretisedLogistic(4, (2, 3, 3), (8,), scale=0.2, per=per, gain=1e-12), torch.randn(7, 4)
    scale = p(parents).base_dist.scale
    assert_close(scale, torch.full((7, 2, 3, 3), 0.2))
    p(parents).log_prob(torch.ones(7, 2, 3, 3)).sum().backward()
    raw = p.raw_scale
    if per == "value":
        assert raw is None and p.net[-1].out_features == 36 and p.net[-1].bias.grad[18:].ne(0).all()
    else:
        assert raw.shape == shape and raw.grad.ne(0).all()


def test_the_numbers_of_a_mixture_go_to_their_entries():
    """Only one entry changes when its numbers do."""
    torch.manual_seed(0)
    p = hv.LogisticMixture(2, (1, 2, 3), (), components=3, output_mean=torch.full((1, 2, 3), 0.4))
    assert p.net[-1].out_features == 9 * 6
    parent = torch.zeros(1, 2)
    before = p(parent).base_dist
    assert_close(before.loc[0, 0, 0, 0], torch.tensor([-0.1, 0.4, 0.9]))
    assert_close(before.logits, torch.zeros_like(before.logits))
    for number in range(9):
        with torch.no_grad():
            p.net[-1].bias[6 * number + 4] += 1
        after = p(parent).base_dist
        changed = torch.stack([(getattr(after, n) != getattr(before, n)).any(-1) for n in ("logits", "loc", "scale")]).any(0)
        assert changed.nonzero().tolist() == [[0, 0, 1, 1]]
        before = after


@pytest.mark.parametrize("make", [hv.DiscretisedLogistic, hv.LogisticMixture])
def test_one_network_for_any_plates_and_every_tool(make):
    torch.manual_seed(0)
    model = hv.Chain(hv.StandardNormal(1), [], make(1, (1, 3, 3), (8,), scale=0.5))
    guide = hv.BottomUp([hv.Gaussian((1, 3, 3), 1, (8,))])
    x = torch.randint(256, (6, 1, 3, 3)).float() / 255
    z = torch.randn(4, 6, 1)
    p = model.likelihood(z)
    assert p.batch_shape == (4, 6) and p.event_shape == (1, 3, 3)
    assert_close(p.log_prob(x)[2], model.likelihood(z[2]).log_prob(x))
    drawn = hv.generate(model, 5, mean=False)["x"]
    assert grey_levels.GREY_LEVELS.check(drawn).all() and hv.reconstruct(model, guide, x).shape == x.shape
    assert likelihood_name(model) == make.__name__
    grid = torch.linspace(-8, 8, 4001)[:, None, None]
    joint = model.likelihood(grid).log_prob(x) - 0.5 * (grid[..., 0] ** 2 + math.log(2 * math.pi))
    exact = joint.logsumexp(0) + math.log(16 / 4000)
    assert_close(hv.log_likelihood(model, guide, x[:2], particles=100_000).float(), exact.detach()[:2], atol=0.02, rtol=0)
    estimate = hv.ELBO().estimate(model, guide, x)
    assert estimate.constraint("nats").item() == pytest.approx(estimate.distortion().item(), rel=1e-6)
    fn = estimate.x["fn"]
    assert estimate.constraint("rmse").item() == pytest.approx((x - fn.mean).square().mean().item(), rel=1e-5)
    x[1, 0, 2, 0] = 0.3
    with pytest.raises(DataError, match=r"the value 0.3 at index \(1, 0, 2, 0\).* at the grey levels v / 255 of bytes v only"):
        hv.ELBO()(model, guide)(x)


@pytest.mark.parametrize("make", [hv.DiscretisedLogistic, hv.LogisticMixture])
def test_a_missing_entry_leaves_out_its_probability(make):
    torch.manual_seed(0)
    model = hv.Chain(hv.StandardNormal(2), [], make(2, 5, (8,)))
    guide = hv.BottomUp([hv.Gaussian(5, 2, (8,), scale=0.5)])
    x, known = torch.randint(256, (6, 5)).float() / 255, torch.rand(6, 5) > 0.4
    estimate = hv.ELBO().estimate(model, guide, hv.Batch.of(x.where(known, 0.0), {}, known))
    entries = model.likelihood(estimate.latents["z1"]).base_dist.log_prob(x)
    assert_close(estimate.terms["x"], entries.where(known, 0.0).sum(-1))


@pytest.mark.parametrize("make", [hv.DiscretisedLogistic, hv.LogisticMixture])
def test_a_captured_pass_has_the_same_gradients(make):
    def passed(captured):
        torch.manual_seed(0)
        model = hv.Chain(hv.StandardNormal(2), [], make(2, 5, (8,)))
        loss = hv.ELBO(particles=3)(model, hv.BottomUp([hv.Gaussian(5, 2, (8,))])).double()
        run = hv.capture(loss, compile=False) if captured else loss
        torch.manual_seed(1)
        for seed in range(3):
            loss.zero_grad()
            x = torch.randint(256, (6, 5), generator=torch.Generator().manual_seed(seed)).double() / 255
            value = run(x)
            if not captured:  # a captured pass sets the gradients itself
                value.backward()
        return value, [p.grad for p in loss.parameters()]

    eager, captured = passed(False), passed(True)
    assert_close(captured[0], eager[0], rtol=1e-10, atol=1e-10)
    for one, two in zip(captured[1], eager[1], strict=True):
        assert_close(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hv.DiscretisedLogistic(2, 3, scale=0.0), "discretised logistic's scale must be positive and finite, got 0.0"),
        (lambda: hv.DiscretisedLogistic(2, 3, scale=math.nan), "must be positive and finite, got nan"),
        (lambda: hv.DiscretisedLogistic(2, 3, per="pixel"), "per"),
        (lambda: hv.LogisticMixture(2, 3, scale=math.inf), "logistic mixture's scale must be positive and finite, got inf"),
        (lambda: hv.LogisticMixture(2, 3, components=0), "at least one component, got components=0"),
    ],
)
def test_requests_that_make_no_sense(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
