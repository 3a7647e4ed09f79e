"""Scores of single data against closed forms of linear-Gaussian models, and against the means of other questions (float64)."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import LinearGaussianChain, skip_pair
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import inference
from pyro_hvae.data.rows import Rows, bernoulli
from pyro_hvae.errors import ConfigError, DivergenceError, FewEffectiveSamplesWarning
from pyro_hvae.inference import importance_sampling
from pyro_hvae.inference import scores as scores_module
from pyro_hvae.runtime import fixed_seed
from tests.factor_model import ExactGuide, FactorModel, incomplete_data

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("dims", [(2,), (3, 2)])
def test_the_exact_guide_gives_the_evidence_and_its_closed_parts(dims):
    chain = LinearGaussianChain(dims)
    x, draws = chain.evidence.sample((40,)), 2000
    scores = hv.score(chain.model(), chain.guide(), x, particles=3, draws=draws)
    evidence = chain.evidence.log_prob(x).numpy()
    assert_close(scores.log_likelihood, evidence, rtol=1e-9, atol=1e-9)
    assert_close(scores.effective, np.full(40, 3.0))
    # The exact distortion: E (x - W z1 - b)^2 under q(z1 | x) = p(z1 | x).
    q, w, noise = chain.guide().levels[0](x), chain.weights[-1], chain.noises[-1].diagonal()
    square = ((x - q.mean @ w.T - chain.biases[-1]) ** 2 + ((w @ q.covariance_matrix) * w).sum(-1)).detach()
    exact = (0.5 * square / noise + 0.5 * (2 * math.pi * noise).log()).sum(-1).numpy()
    spread = np.std(exact) / math.sqrt(draws)
    assert np.abs(scores.distortion - exact).max() < 6 * spread
    assert_close(scores.elbo, -scores.distortion - sum(scores.rates.values()), rtol=1e-12, atol=1e-12)
    assert np.abs(scores.elbo - evidence).max() < 6 * spread
    if len(dims) == 1:  # a KL in closed form
        assert_close(scores.rates["z1"], chain.posterior_kl(x, 0.0).detach().numpy(), rtol=1e-9, atol=1e-9)
    # A chain's rates sum to KL(q(z1 | x) || p(z1)) where q(z2 | z1) is exact.
    assert np.abs(sum(scores.rates.values()) - chain.posterior_kl(x, 0.0).detach().numpy()).max() < 6 * spread


def test_means_are_those_of_bound_and_log_likelihood():
    chain = LinearGaussianChain((3, 2))
    pair, x = (chain.model(), chain.guide(0.2)), chain.evidence.sample((5000,))
    scores = hv.score(*pair, x, particles=7, draws=1, seed=3)
    with fixed_seed(3):
        expected = inference.bound(hv.ELBO(), *pair, x)
    found = {"elbo": scores.elbo.mean(), "distortion": scores.distortion.mean()}
    found |= {"rate": {name: values.mean() for name, values in scores.rates.items()}}
    assert_close(found | {"rate_total": sum(found["rate"].values())}, expected)
    weights = torch.cat([w.log_likelihood for w in inference.importance_weights(*pair, x, 7, seed=3)])
    assert np.array_equal(scores.log_likelihood, weights.numpy())
    assert (scores.values == scores.log_likelihood).all() and list(scores.rates) == ["z2", "z1"]


def test_one_particle_with_inner_ones_is_the_bound_of_a_vhp():
    chain = LinearGaussianChain((3, 2))
    pair, x = (chain.model(), chain.guide(0.3)), chain.evidence.sample((1,)).expand(6000, -1)
    inner = hv.score(*pair, x, particles=1, inner=8, shared={"z1"}).log_likelihood
    vhp = inference.bound_per_datum(hv.ELBO(particles=8, shared={"z1"}, analytic_kl=False), *pair, x).numpy()
    error = math.sqrt((inner.var() + vhp.var()) / 6000)
    assert abs(inner.mean() - vhp.mean()) < 4 * error
    joint = hv.score(*pair, x, particles=8).log_likelihood
    iwae = inference.bound_per_datum(hv.ELBO(particles=8), *pair, x).numpy()
    assert abs(joint.mean() - iwae.mean()) < 4 * math.sqrt((joint.var() + iwae.var()) / 6000)


def test_all_scores_are_of_the_same_binary_image():
    grey = torch.randint(0, 256, (5000, 1, 3, 3), dtype=torch.uint8)
    rows = Rows(grey, bernoulli)
    model = hv.Chain(hv.StandardNormal(2), [], hv.Bernoulli(2, (1, 3, 3))).float()
    guide = hv.BottomUp([hv.Gaussian([(1, 3, 3)], 2)]).float()
    scores, held = hv.score(model, guide, rows, particles=50), hv.score(model, guide, rows.draw_once()[:], particles=50)
    assert np.array_equal(scores.log_likelihood, held.log_likelihood) and np.array_equal(scores.elbo, held.elbo)


def test_missing_entries_are_left_out():
    model = FactorModel()
    x, known, y = incomplete_data(model)
    scores = hv.score(model, ExactGuide(model), x, particles=5, given={"y": y})
    assert_close(scores.log_likelihood, model.log_observed(x, known, y).detach().numpy(), rtol=1e-9, atol=1e-9)
    assert scores.distortion[1] == 0 and abs(scores.rates["z1"][1]) < 1e-12  # nothing is known of this one
    assert (hv.score(model, ExactGuide(model), x, particles=0, given={"y": y}).elbo == scores.elbo).all()


def test_outliers_have_the_lowest_values_and_the_bound_stands_in():
    model, guide, _ = skip_pair()
    x = torch.cat([torch.randn(50, 1), torch.tensor([[30.0]])])
    for particles in (0, 20):
        scores = hv.score(model.double(), guide.double(), x, particles=particles)
        assert scores.values.argmin() == 50 and scores[:3].values.shape == (3,) and len(scores[50]) == 1
        assert ("log_likelihood" in scores.columns()) == bool(particles)
    assert repr(scores[:0]) == "Scores of 0 data, means: " and "elbo -" in repr(scores)


def test_few_effective_samples_are_told_where_the_caller_is():
    chain = LinearGaussianChain((3, 2))
    with pytest.warns(FewEffectiveSamplesWarning) as told:
        hv.score(chain.model(), chain.guide(3.0), chain.evidence.sample((5,)), particles=100)
    assert told[0].filename == __file__


def test_a_datum_without_a_number_does_not_cost_the_others_theirs():
    chain = LinearGaussianChain((2,))
    x = chain.evidence.sample((4,))
    model, exact = chain.model(), chain.guide()

    def guide(x):
        exact(x.where(x.abs() < 1e6, torch.nan))

    wild = torch.cat([x[:2], torch.full((1, 4), 1e9), x[2:]])
    with pyro.validation_enabled(False):
        scores, others = hv.score(model, guide, wild, particles=100), hv.score(model, guide, x, particles=100)
        kept = np.array([0, 1, 3, 4])
        for values in (scores.log_likelihood, scores.elbo, scores.effective, scores.half):
            assert np.isnan(values).nonzero()[0].tolist() == [2]
        assert_close(scores.log_likelihood[kept], others.log_likelihood)  # the guide is exact
        with pytest.raises(DivergenceError, match="of 1 of 1 data are no numbers"):
            hv.score(model, guide, wild[2:3], particles=100)
        with pytest.raises(DivergenceError, match="of 1 of 5 data are no numbers"):
            hv.log_likelihood(model, guide, wild, particles=100)


def test_too_many_draws_are_refused_before_the_work(monkeypatch):
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((4,))
    monkeypatch.setattr(scores_module, "_bound_terms", None)
    monkeypatch.setattr(importance_sampling, "_batch_weights", None)
    for options, why in (
        ({"draws": 10_000_001}, "draws=10000001: the bound is a mean over one draw or more, up to 10000000"),
        ({"particles": 10_000_001}, "particles=10000001 would take too long"),
        ({"inner": 8}, "inner=8 particles need a site that they share"),
        ({"inner": 60_000_000, "shared": {"z1"}}, r"60,000,000 draws of 5 latents for 1 data.*at most 53,687,091 draws"),
    ):
        with pytest.raises(ConfigError, match=why):
            hv.score(chain.model(), chain.guide(), x, **options)


def test_what_has_no_score():
    chain = LinearGaussianChain((2,))
    x = chain.evidence.sample((4,))

    def point(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z1", dist.Delta(x[:, :2], event_dim=1))

    with pytest.raises(ConfigError, match="all mass on a point"):
        hv.score(chain.model(), point, x, particles=0)
    with pytest.raises(ConfigError, match="draws=0: the bound is a mean"):
        hv.score(chain.model(), chain.guide(), x, draws=0)
    with pytest.raises(ConfigError, match="particles must be a whole number"):
        hv.score(chain.model(), chain.guide(), x, particles=-1)
