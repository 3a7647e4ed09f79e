"""Pairs with discrete latents: every question against sums over all their values (float64)."""

import itertools
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import inference
from pyro_hvae.errors import ConfigError, ContractError, NoMeanWarning

pytestmark = pytest.mark.usefixtures("float64")
SHARES = [0.2, 0.5, 0.3]


class Mixture(nn.Module):
    """z2, a class of three; z1, two bits given z2; x, four numbers given z1 and z2. `kind` is how z2 is drawn."""

    def __init__(self, kind):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.kind = kind
        self.shares = nn.Parameter(torch.tensor(SHARES))
        self.bits = nn.Parameter(torch.rand(3, 2, generator=g))
        self.means = nn.Parameter(1.5 * torch.randn(3, 4, generator=g))
        self.slopes = nn.Parameter(torch.randn(2, 4, generator=g))

    def of_class(self, table, z2):
        return table[z2] if self.kind == "class" else z2 @ table

    def top(self):
        return dist.Categorical(self.shares) if self.kind == "class" else dist.OneHotCategorical(self.shares)

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", self.top())
            z1 = pyro.sample("z1", dist.Bernoulli(self.of_class(self.bits, z2)).to_event(1))
            mean = self.of_class(self.means, z2) + z1 @ self.slopes
            return pyro.sample("x", dist.Normal(mean, 0.8).to_event(1), obs=x)

    def log_joint(self, x):
        """log p(x, z2, z1) for all values of both, (N, 3, 2, 2)."""
        rows = []
        for k, a, b in itertools.product(range(3), range(2), range(2)):
            z1 = torch.tensor([a, b], dtype=x.dtype)
            row = dist.Normal(self.means[k] + z1 @ self.slopes, 0.8).log_prob(x).sum(-1)
            rows.append(row + self.shares[k].log() + dist.Bernoulli(self.bits[k]).log_prob(z1).sum())
        return torch.stack(rows, -1).reshape(len(x), 3, 2, 2)


class Exact(nn.Module):
    """The posterior q(z2 | x), or with `off` another law, and bits that are independent given z2, of the exact shares."""

    def __init__(self, model, off=0.0):
        super().__init__()
        self.model, self.off = model, off

    def forward(self, x):
        joint = self.model.log_joint(x)
        logits = joint.logsumexp((2, 3)) + self.off * torch.arange(3)
        with pyro.plate("data", len(x), dim=-1):
            kind = dist.Categorical if self.model.kind == "class" else dist.OneHotCategorical
            z2 = pyro.sample("z2", kind(logits=logits))
            index = z2 if self.model.kind == "class" else z2.argmax(-1)
            rows = joint[torch.arange(len(x)), index]  # (..., N, 2, 2)
            probs = rows.flatten(-2).softmax(-1).reshape(rows.shape)
            bits = torch.stack([probs[..., 1, :].sum(-1), probs[..., :, 1].sum(-1)], -1)
            return pyro.sample("z1", dist.Bernoulli(bits).to_event(1))


class Single(Mixture):
    """The same without z1: the posterior is one table."""

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", self.top())
            return pyro.sample("x", dist.Normal(self.of_class(self.means, z2), 0.8).to_event(1), obs=x)

    def log_joint(self, x):
        return dist.Normal(self.means, 0.8).log_prob(x[:, None]).sum(-1) + self.shares.log()


class SingleExact(Exact):
    def forward(self, x):
        kind = dist.Categorical if self.model.kind == "class" else dist.OneHotCategorical
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z2", kind(logits=self.model.log_joint(x) + self.off * torch.arange(3)))


def exact(model, x):
    return model.log_joint(x).flatten(1).logsumexp(1).detach()


def data(model, n=6):
    torch.manual_seed(1)
    return model(size=n).detach()


KINDS = pytest.mark.parametrize("kind", ["class", "one hot"])


@KINDS
@pytest.mark.parametrize("compile", [False, True])
def test_with_the_exact_posterior_the_likelihood_is_exact_for_any_number_of_particles(kind, compile):
    model = Single(kind)
    guide, x = SingleExact(model), data(model)
    for particles in (1, 2, 50):
        found = hv.log_likelihood(model, guide, x, particles=particles, compile=compile and particles == 50)
        assert_close(found, exact(model, x), atol=1e-6, rtol=0)
    with torch.no_grad():
        for particles in (1, 5):
            bound = hv.ELBO(particles, analytic_kl=False)(model, guide).estimate(x).bound()
            assert_close(bound, exact(model, x), atol=1e-6, rtol=0)


@KINDS
def test_scores_are_exact_and_codes_are_tables(kind):
    model = Single(kind)
    guide, x = SingleExact(model), data(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoMeanWarning)
        codes = hv.encode(guide, x, draws=3)
        assert_close(torch.from_numpy(hv.decode(model, codes)), hv.reconstruct(model, guide, x), rtol=0, atol=0)
    assert_close(
        torch.from_numpy(codes.probabilities["z2"]), model.log_joint(x).softmax(-1).flatten(1).detach(), rtol=0, atol=1e-6
    )
    assert not codes.deviations and codes.means["z2"].dtype == (np.int64 if kind == "class" else np.float64)
    scores = hv.score(model, guide, x, particles=2, draws=4000)
    assert_close(torch.from_numpy(scores.log_likelihood), exact(model, x), atol=1e-6, rtol=0)
    assert_close(torch.from_numpy(scores.elbo), exact(model, x), atol=0.02, rtol=0)


@KINDS
def test_with_another_guide_it_converges_to_the_sum_over_all_values(kind):
    model = Mixture(kind)
    x = data(model)
    torch.manual_seed(0)
    for guide in (Exact(model), Exact(model, off=0.5)):
        found = hv.log_likelihood(model, guide, x, particles=40_000)
        assert_close(found, exact(model, x), atol=0.02, rtol=0)
        assert not torch.allclose(found, hv.log_likelihood(model, guide, x, particles=1))


@KINDS
def test_ancestral_draws_have_the_shares_and_chains_keep_them(kind):
    model = Mixture(kind)
    torch.manual_seed(0)
    drawn = hv.generate(model, 20_000, mean=False)
    shares = drawn["z2"].double().mean(0) if kind == "one hot" else torch.bincount(drawn["z2"]) / 20_000
    assert_close(shares.double(), torch.tensor(SHARES), atol=0.02, rtol=0)
    single = Single(kind)
    start = data(single, 4_000)
    for particles in (1, 3):  # of the exact posterior both are draws of it
        chains = hv.gibbs(single, SingleExact(single), start, steps=5, sites="all", burn_in=4, particles=particles)
        z = chains.z["z2"][-1]
        assert z.shape == start.shape[:1] + ((3,) if kind == "one hot" else ())
        shares = z.double().mean(0) if kind == "one hot" else torch.bincount(z) / 4_000
        assert_close(shares.double(), torch.tensor(SHARES), atol=0.04, rtol=0)


@KINDS
def test_tables_are_the_posterior(kind):
    model = Mixture(kind)
    guide, x = Exact(model), data(model)
    posterior = model.log_joint(x).flatten(1).softmax(1).reshape(-1, 3, 2, 2).detach()
    tables = inference.class_posteriors(guide, x, draws=8_000)
    assert list(tables) == ["z2", "z1"] and tables["z2"].shape == (6, 3) and tables["z1"].shape == (6, 2, 2)
    assert_close(tables["z2"], posterior.sum((2, 3)), atol=1e-6, rtol=0)
    bits = torch.stack([posterior.sum((1, 3)), posterior.sum((1, 2))], 1)  # of the first bit, and of the second
    assert_close(tables["z1"], bits, atol=0.03, rtol=0)
    latents = hv.latents(guide, x)
    assert latents["z2"].shape == x.shape[:1] + ((3,) if kind == "one hot" else ()) and latents["z1"].shape == (6, 2)
    if kind == "class":
        with pytest.warns(NoMeanWarning, match="the mode is used"):
            assert torch.equal(hv.latents(guide, x, mean=True)["z2"], posterior.sum((2, 3)).argmax(1))


def test_tables_need_classes_and_posteriors_name_them():
    model = Single("class")
    guide, x = SingleExact(model), data(model)
    with pytest.raises(ConfigError, match="q.z2.*is a Categorical. hv.class_posteriors gives its probabilities"):
        inference.posteriors(guide, x)
    gaussian = hv.BottomUp([hv.Gaussian(4, 2)])
    with pytest.raises(ConfigError, match="no site of this guide has classes: z1 a Normal. Use hv.posteriors"):
        inference.class_posteriors(gaussian, x)
    assert len(inference.posteriors(gaussian, x)["z1"]) == len(x)
    with pytest.raises(ConfigError, match="draws=0"):
        inference.class_posteriors(guide, x, draws=0)


def test_training_is_refused():
    model = Single("class")
    with pytest.raises(ContractError, match="'z2' has no reparameterised sampler, so that no gradient reaches"):
        hv.ELBO()(model, SingleExact(model))(data(model))
