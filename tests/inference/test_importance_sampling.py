"""Importance-sampled likelihoods against closed forms (float64)."""

import math

import pytest
import torch
from linear_gaussian import LinearGaussianChain
from torch import nn
from torch.testing import assert_close

from pyro_hvae import BottomUp, Chain, Gaussian, StandardNormal, Vamp, log_likelihood
from pyro_hvae.errors import ConfigError, DivergenceError, FewEffectiveSamplesWarning
from pyro_hvae.inference import importance_sampling as importance
from pyro_hvae.inference.importance_sampling import data_per_batch

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("dims", [(2,), (3, 2)])
@pytest.mark.parametrize("particles, rows", [(1, 4096), (7, 4096), (50, 16), (33, 40)])
def test_log_likelihood_is_exact_with_the_exact_guide_for_every_chunking(dims, particles, rows):
    chain = LinearGaussianChain(dims)
    x = chain.evidence.sample((11,))
    estimate = log_likelihood(chain.model(), chain.guide(), x, particles, rows=rows)
    assert estimate.shape == (11,) and estimate.dtype == torch.float64
    assert_close(estimate, chain.evidence.log_prob(x), rtol=1e-9, atol=1e-9)


def test_importance_weights_are_unbiased_and_the_estimate_close_with_a_wrong_guide():
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((1,)).repeat(2000, 1)
    log_p = chain.evidence.log_prob(x[0])
    ratio = (log_likelihood(chain.model(), chain.guide(0.2), x, particles=50, rows=100) - log_p).exp()
    assert abs(ratio.mean() - 1) < 3 * ratio.std() / math.sqrt(len(x))
    errors = log_likelihood(chain.model(), chain.guide(0.2), x[:20], particles=5000) - log_p
    assert errors.abs().max() < 0.2


class Counting(nn.Module):
    """A guide that counts how many (datum, sample) pairs it draws z1 for (the contract check at first use sees two data)."""

    def __init__(self, guide):
        super().__init__()
        self.guide, self.drawn = guide, 0

    def forward(self, x, size=1):
        out = self.guide(x)
        self.drawn += out[..., 0].numel() if len(x) > 2 else 0
        return out


@pytest.mark.parametrize("particles, rows", [(5, 1000), (1000, 64), (513, 4096)])
def test_exactly_the_asked_number_of_samples(particles, rows):
    chain = LinearGaussianChain((2,))
    guide = Counting(chain.guide())
    log_likelihood(chain.model(), guide, chain.evidence.sample((7,)), particles, rows=rows)
    assert guide.drawn == 7 * particles


def test_an_estimate_depends_on_the_seed_alone_and_not_on_the_chunks():
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((40,))
    pair = chain.model(), chain.guide(0.2)

    def run(**options):
        return torch.cat([w.log_likelihood for w in importance.importance_weights(*pair, x, 1500, **options)])

    values = run(seed=3)
    assert_close(run(seed=3, rows=7), values, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(run(seed=4), values)
    size = data_per_batch(1500)
    assert 1 < size < 40
    assert_close(run(seed=3, start=size), values[size:], rtol=0, atol=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = torch.rand(1)
        torch.manual_seed(0)
        next(importance.importance_weights(*pair, x, 1500, seed=3))
        assert torch.equal(torch.rand(1), before)  # a seeded run leaves the caller's stream alone, also between batches


class CountingRows(nn.Module):
    """A conditional that counts the data that pass through it."""

    def __init__(self, conditional):
        super().__init__()
        self.conditional, self.rows = conditional, 0

    def forward(self, *parents):
        self.rows += parents[0][..., 0].numel() if len(parents[0]) > 2 else 0
        return self.conditional(*parents)


def test_the_encoder_sees_every_datum_once_however_many_chunks_the_model_sees():
    chain = LinearGaussianChain((3, 2))
    guide = chain.guide()
    encoder = CountingRows(guide.levels[0])
    x = chain.evidence.sample((5,))
    log_likelihood(chain.model(), BottomUp([encoder, guide.levels[1]]), x, particles=5000, rows=100)
    assert encoder.rows == 5


@pytest.mark.parametrize("inner", [1, 2, 7])
def test_inner_samples_are_unbiased_and_reduce_the_variance(inner):
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((1,)).repeat(4000, 1)
    log_p = chain.evidence.log_prob(x[0])
    options = {"inner": inner, "shared": {"z1"}} if inner > 1 else {}
    ratio = (log_likelihood(chain.model(), chain.guide(0.15), x, particles=40, rows=500, **options) - log_p).exp()
    assert abs(ratio.mean() - 1) < 3 * ratio.std() / math.sqrt(
        len(x)
    )  # a sum instead of a mean would be `inner` times too much
    joint = (log_likelihood(chain.model(), chain.guide(0.15), x, particles=40) - log_p).exp()
    if inner > 1:
        assert ratio.std() < 0.95 * joint.std()


def test_inner_samples_are_exact_with_the_exact_guide():
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((6,))
    estimate = log_likelihood(chain.model(), chain.guide(), x, 30, inner=4, shared={"z1"}, rows=100)
    assert_close(estimate, chain.evidence.log_prob(x), rtol=1e-9, atol=1e-9)


def test_a_vamp_prior_enters_exactly():
    """Linear encoder and decoder, pseudo-inputs = data: the evidence is a mixture of Gaussians in closed form."""
    g = torch.Generator().manual_seed(0)
    data, noise = torch.rand(12, 3, generator=g), 0.7
    encoder = Gaussian(3, 2, (), scale=0.4)
    model = Chain(Vamp(encoder, data, None), [], Gaussian(2, 3, (), scale=noise))
    with torch.no_grad():
        for layer in (encoder.net, model.likelihood.net):
            layer[0].weight.copy_(torch.randn(layer[0].weight.shape, generator=g))
        model.prior.pseudo_inputs.copy_(data)
    x = torch.rand(200, 3, generator=g)
    decoder = model.likelihood.net[0]
    with torch.no_grad():
        means = encoder(data).mean @ decoder.weight.T + decoder.bias
        covariance = 0.4**2 * decoder.weight @ decoder.weight.T + noise**2 * torch.eye(3)
        components = torch.distributions.MultivariateNormal(means, covariance)
        exact = torch.logsumexp(components.log_prob(x[:, None]), 1) - math.log(len(data))
    wide = BottomUp([Gaussian(3, 2, (), scale=1.5)])  # a proposal wide enough for finite variance
    with torch.no_grad():
        wide.levels[0].net[0].weight.copy_(encoder.net[0].weight)
        wide.levels[0].net[0].bias.copy_(encoder.net[0].bias)
    ratio = (log_likelihood(model, wide, x, particles=2000) - exact).exp()
    assert (ratio - 1).abs().max() < 0.5
    assert abs(ratio.mean() - 1) < 3 * ratio.std() / math.sqrt(len(x))


@pytest.mark.parametrize("particles", [1, 2, 7, 300, 3000])
def test_half_is_what_each_half_of_the_samples_gives(particles, monkeypatch):
    """Whatever the chunks are; every second sample belongs to one half."""
    seen, chain = [], LinearGaussianChain((2,))
    genuine = importance.ImportanceTerms.forward

    def spied(self, *inputs):
        terms = genuine(self, *inputs)
        seen.append(sum(term.double() for term in terms.values()))
        return terms

    monkeypatch.setattr(importance.ImportanceTerms, "forward", spied)
    (found,) = importance.importance_weights(chain.model(), chain.guide(0.3), chain.evidence.sample((3,)), particles, rows=15)
    log_w = torch.cat(seen)
    halves = [half.logsumexp(0) - math.log(max(1, len(half))) for half in (log_w[::2], log_w[1::2])]
    assert len(log_w) == particles and (particles < 300 or len(seen) > 50)
    assert_close(found.half, sum(halves) / 2)
    assert_close(found.log_likelihood, log_w.logsumexp(0) - math.log(particles))


def test_the_gap_to_half_of_the_samples_is_the_bias_where_many_count():
    """E log p^ - log p is about -Var(w) / (2 S p^2): at S / 2 it is twice that, so the gap equals the bias."""
    chain = LinearGaussianChain((2,))
    x = chain.evidence.sample((1,)).expand(4000, 4)
    log_p = chain.evidence.log_prob(x[:1])
    found = importance.importance_weights(chain.model(), chain.guide(0.3), x, 60)
    value, _, effective, half = map(torch.cat, zip(*found, strict=True))
    bias, gap = (log_p - value).mean(), (value - half).mean()
    assert effective.median() > importance.FEW_EFFECTIVE and bias > 5 * (log_p - value).std() / 4000**0.5
    assert 0.5 * bias < gap < 1.5 * bias


def test_few_effective_samples_are_said():
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((40,))
    with pytest.warns(
        FewEffectiveSamplesWarning, match=r"median effective sample size is \d\.\d of 100, below 10 \(half of"
    ) as caught:
        log_likelihood(chain.model(), chain.guide(1.5), x, 100)
    assert caught[0].filename == __file__  # the line of the caller
    log_likelihood(chain.model(), chain.guide(), x, 100)  # all are effective
    log_likelihood(chain.model(), chain.guide(1.5), x, 99)  # whoever takes so few asks for a bound


def test_the_median_lies_between_the_two_in_the_middle():
    """As in `evaluate`, which prints it below the warning."""
    x = torch.zeros(4)
    assert "size is 3.0 of 100" in importance.describe_few_effective_samples(x, x, torch.tensor([1.0, 2.0, 4.0, 5.0]), 100)


def test_effective_samples_and_the_bound_follow_from_the_weights():
    chain = LinearGaussianChain((2,))
    x = chain.evidence.sample((50,))
    exact = next(importance.importance_weights(chain.model(), chain.guide(), x, 300))
    assert_close(exact.effective, torch.full((50,), 300.0))
    assert_close(exact.bound, chain.evidence.log_prob(x))
    one = next(importance.importance_weights(chain.model(), chain.guide(0.3), x, 1))
    assert_close(one.effective, torch.ones(50))
    assert_close(one.bound, one.log_likelihood)
    some = next(importance.importance_weights(chain.model(), chain.guide(0.3), x, 300))
    assert (some.effective < 300).all() and (some.effective > 1).all()
    # The mean log weight is the ELBO: the evidence minus KL(q || posterior), here between Gaussians of known error.
    q, p = chain.guide(0.3).levels[0](x), chain.guide().levels[0](x)
    gap = torch.distributions.kl_divergence(q, p)
    error = chain.evidence.log_prob(x) - gap - some.bound
    assert abs(error.mean()) < 3 * error.std() / math.sqrt(50)


def test_memory_is_bounded_by_the_chunks():
    seen = []

    class Spy(nn.Module):
        def __init__(self, conditional):
            super().__init__()
            self.conditional = conditional

        def forward(self, *parents):
            seen.append(parents[0][..., 0].numel())
            return self.conditional(*parents)

    model = Chain(StandardNormal(2), [], Spy(Gaussian(2, 4)))
    for particles in (1, 10, 5000):
        log_likelihood(model, BottomUp([Spy(Gaussian(4, 2))]), torch.zeros(5000 // particles * 2, 4), particles, rows=2048)
    assert max(seen) <= 2048
    seen.clear()
    model = Chain(StandardNormal(2), [Spy(Gaussian(2, 2))], Spy(Gaussian(2, 4)))
    guide = BottomUp([Gaussian(4, 2), Spy(Gaussian(2, 2))])
    log_likelihood(model, guide, torch.zeros(3, 4), 2500, inner=16, shared={"z1"}, rows=2048)
    # The guide draws up to 32,768 at once: 2048 of the 2500 z1 of a datum, then the rest.
    assert max(seen) <= 2048


def test_bad_numbers_and_networks_that_return_nan():
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((3,))
    for options, message in [
        ({"particles": 0}, "particles must be"),
        ({"particles": 2.5}, "particles must be"),
        ({"particles": 5, "inner": 0}, "inner must be"),
        ({"particles": 5, "inner": 2}, "need a site that they share"),
    ]:
        with pytest.raises(ConfigError, match=message):
            log_likelihood(chain.model(), chain.guide(), x, **options)
    model = chain.model()
    with torch.no_grad():
        model.likelihood.bias.fill_(math.nan)
    with pytest.raises(DivergenceError, match="3 of 3 data are no numbers"):
        log_likelihood(model, chain.guide(), x, particles=10)
