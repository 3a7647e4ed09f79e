"""Pairs of every kind of distribution: each tool answers, or says in one sentence why it cannot (float64)."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import inference
from pyro_hvae.errors import ConfigError, NoMeanWarning
from pyro_hvae.objectives import find_mean, site_mean

pytestmark = pytest.mark.usefixtures("float64")


def given(name, fn, value=None):
    return {"name": name, "fn": fn, "value": fn.sample() if value is None else value}


FLOW = [transforms.AffineTransform(1.0, 2.0), transforms.ExpTransform()]
STANDS_FOR = {
    "Categorical": (lambda: dist.Categorical(torch.tensor([[0.2, 0.5, 0.3]])), torch.tensor([1.0]), "mode"),
    "Categorical of pixels": (
        lambda: dist.Categorical(torch.tensor([[[0.2, 0.8], [0.9, 0.1]]])).to_event(1),
        torch.tensor([[1.0, 0.0]]),
        "mode",
    ),
    "OneHotCategorical": (lambda: dist.OneHotCategorical(torch.tensor([[0.2, 0.8]])), torch.tensor([[0.2, 0.8]]), "mean"),
    "Cauchy": (lambda: dist.Cauchy(torch.tensor([[3.0]]), 1.0).to_event(1), torch.tensor([[3.0]]), "mode"),
    "HalfCauchy": (lambda: dist.HalfCauchy(torch.ones(1, 1)).to_event(1), torch.tensor([[0.0]]), "mode"),
    "StudentT, df 1": (lambda: dist.StudentT(1.0, torch.tensor([[3.0]]), 1.0).to_event(1), torch.tensor([[3.0]]), "mode"),
    "StudentT, df 2": (lambda: dist.StudentT(2.0, torch.tensor([[3.0]]), 1.0).to_event(1), torch.tensor([[3.0]]), "mean"),
    "Pareto, alpha 1": (lambda: dist.Pareto(torch.tensor([[2.0]]), 1.0).to_event(1), torch.tensor([[2.0]]), "mode"),
    "LogNormal": (lambda: dist.LogNormal(torch.zeros(1, 1), 1.0).to_event(1), torch.tensor([[math.exp(0.5)]]), "mean"),
    "MultivariateNormal": (lambda: dist.MultivariateNormal(torch.ones(1, 2), torch.eye(2)), torch.ones(1, 2), "mean"),
    "LowRankMultivariateNormal": (
        lambda: dist.LowRankMultivariateNormal(torch.ones(1, 2), torch.ones(2, 1), torch.ones(2)),
        torch.ones(1, 2),
        "mean",
    ),
    "flow": (
        lambda: dist.TransformedDistribution(dist.Normal(torch.zeros(1, 2), 1.0).to_event(1), FLOW),
        torch.full((1, 2), math.e),
        "image of its base's mean",
    ),
    "flow of a scalar": (
        lambda: dist.TransformedDistribution(dist.Normal(torch.zeros(1), 1.0), FLOW),
        torch.full((1,), math.e),
        "image of its base's mean",
    ),
}


@pytest.mark.parametrize("kind", STANDS_FOR)
def test_what_stands_for_a_mean_and_is_said(kind):
    make, expected, what = STANDS_FOR[kind]
    message = given("x", make())
    assert find_mean(message["fn"])[1] == what
    if what == "mean":
        assert_close(site_mean(message), expected.double())
    else:
        family = "TransformedDistribution" if kind.startswith("flow") else kind.split()[0].strip(",")
        with pytest.warns(NoMeanWarning, match=f"'x' is a {family}, which has no mean .*, the {what} is used"):
            assert_close(site_mean(message), expected.double())


class Pair(nn.Module):
    """z -> x with a given prior, likelihood and posterior, each a function that returns a distribution of event dims."""

    def __init__(self, prior, likelihood, posterior):
        super().__init__()
        self.prior, self.likelihood, self.posterior = prior, likelihood, posterior
        self.net = nn.Linear(4, 4)

    def model(self, x=None, size=1):
        count = size if x is None else len(x)
        with pyro.plate("data", count):
            z = pyro.sample("z1", self.prior(count))
            return pyro.sample("x", self.likelihood(z), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z1", self.posterior(self.net(x)))


def normal(count):
    return dist.Normal(torch.zeros(count, 2), 1.0).to_event(1)


def gaussian(h):
    return dist.Normal(2 * h[..., :2].tanh(), 0.1 + h[..., 2:].sigmoid()).to_event(1)


WIDE = torch.tensor([[1.0, 0.3], [-0.5, 1.0], [0.2, 0.2], [1.0, -1.0]]).double()


def pixels(z):
    return dist.Normal(z @ WIDE.T, 0.5).to_event(1)


def flow_of(h):
    return dist.TransformedDistribution(gaussian(h), [transforms.TanhTransform(), transforms.AffineTransform(0.5, 3.0)])


def mixed(h):
    """A correlated Gaussian posterior."""
    return dist.MultivariateNormal(2 * h[..., :2].tanh(), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))


PAIRS = {
    "categorical pixels": lambda: Pair(
        normal,
        lambda z: dist.Categorical(logits=torch.stack([z @ WIDE.T, 0 * z @ WIDE.T, -z @ WIDE.T], -1)).to_event(1),
        gaussian,
    ),
    "Cauchy pixels": lambda: Pair(normal, lambda z: dist.Cauchy(z @ WIDE.T, 1.0).to_event(1), gaussian),
    "pixels of a flow": lambda: Pair(
        normal, lambda z: dist.TransformedDistribution(pixels(z), [transforms.AffineTransform(1.0, 2.0)]), gaussian
    ),
    "correlated pixels": lambda: Pair(normal, lambda z: dist.MultivariateNormal(z @ WIDE.T, torch.eye(4) + 0.5), gaussian),
    "a flow as guide": lambda: Pair(normal, pixels, flow_of),
    "correlated latents": lambda: Pair(lambda n: dist.MultivariateNormal(torch.zeros(n, 2), torch.eye(2) + 0.3), pixels, mixed),
    "latents of low rank": lambda: Pair(
        lambda n: dist.LowRankMultivariateNormal(torch.zeros(n, 2), torch.ones(2, 1), torch.ones(2)), pixels, mixed
    ),
    "Cauchy latents": lambda: Pair(
        lambda n: dist.Cauchy(torch.zeros(n, 2), 1.0).to_event(1), pixels, lambda h: dist.Cauchy(h[..., :2], 1.0).to_event(1)
    ),
    "Student's latents": lambda: Pair(
        lambda n: dist.StudentT(1.0, torch.zeros(n, 2), 1.0).to_event(1),
        pixels,
        lambda h: dist.StudentT(1.0, h[..., :2], 1.0).to_event(1),
    ),
    "a categorical latent": lambda: Pair(
        lambda n: dist.Categorical(torch.ones(n, 3)),
        lambda z: dist.Normal(functional.one_hot(z.long(), 3).double() @ WIDE[:3, :1] @ WIDE[:, :1].T, 0.5).to_event(1),
        lambda h: dist.Categorical(logits=h[..., :3]),
    ),
    "a one-hot latent": lambda: Pair(
        lambda n: dist.OneHotCategorical(torch.ones(n, 2)), pixels, lambda h: dist.OneHotCategorical(logits=h[..., :2])
    ),
}
TOOLS = {
    "log_likelihood": lambda p, x: hv.log_likelihood(p.model, p.guide, x, 20),
    "bound": lambda p, x: inference.bound(hv.ELBO(), p.model, p.guide, x)["elbo"],
    "kl_per_dimension": lambda p, x: inference.kl_per_dimension(p.model, p.guide, x),
    "active_units": lambda p, x: hv.active_units(p.guide, x),
    "generate": lambda p, x: hv.generate(p.model, 3),
    "draws": lambda p, x: hv.generate(p.model, 3, mean=False),
    "latents": lambda p, x: hv.latents(p.guide, x, mean=True),
    "reconstruct": lambda p, x: hv.reconstruct(p.model, p.guide, x),
    "gibbs": lambda p, x: vars(hv.gibbs(p.model, p.guide, x, steps=3)),
    "gibbs of means": lambda p, x: vars(hv.gibbs(p.model, p.guide, x, steps=3, noise=False)),
    "gibbs, resampled": lambda p, x: vars(hv.gibbs(p.model, p.guide, x, steps=3, particles=4)),
    "interpolate": lambda p, x: hv.interpolate(p.model, p.guide, x[0], x[1], nodes=30).images,
    "traverse": lambda p, x: hv.traverse(p.model, p.guide, x[:1], x).images,
    "layer_shares": lambda p, x: [s.share for s in hv.layer_shares(p.model).values()],
    "layer_samples": lambda p, x: hv.layer_samples(p.model, "z1", 4, p.guide, x[:1]),
    "layer_grid": lambda p, x: hv.layer_grid(p.model, "z1", 3),
    "posteriors": lambda p, x: hv.posteriors(p.guide, x)["z1"].means,
    "information": lambda p, x: inference.InformationFlow(x).row(p.guide),
    "direct_data_dependence": lambda p, x: inference.direct_data_dependence(p.guide, x),
    "likelihood_name": lambda p, x: len(inference.likelihood_name(p.model)),
}
# (pair, tool) -> what the refusal says; every other tool answers.
POSTERIORS = {"posteriors", "information", "direct_data_dependence"}
AGGREGATE = {*POSTERIORS, "traverse"}
CONTINUOUS = "need Gaussian posteriors of independent dimensions, but .* is a {}"
REFUSED = {
    **{
        (pair, "layer_shares"): "which has no mean in closed form"
        for pair in ("categorical pixels", "Cauchy pixels", "pixels of a flow")
    },
    **{("a flow as guide", tool): CONTINUOUS.format("TransformedDistribution") for tool in POSTERIORS},
    **{("correlated latents", tool): CONTINUOUS.format("MultivariateNormal") for tool in POSTERIORS},
    **{("latents of low rank", tool): CONTINUOUS.format("MultivariateNormal") for tool in POSTERIORS},
    **{("Cauchy latents", tool): CONTINUOUS.format("Cauchy") for tool in AGGREGATE},
    **{("Student's latents", tool): CONTINUOUS.format("StudentT") for tool in AGGREGATE},
    **{("a categorical latent", tool): CONTINUOUS.format("Categorical") for tool in AGGREGATE},
    **{("a one-hot latent", tool): CONTINUOUS.format("OneHotCategorical") for tool in AGGREGATE},
    **{(pair, "active_units"): "which has none" for pair in ("Cauchy latents", "Student's latents", "a categorical latent")},
    **{(pair, "interpolate"): "values in between" for pair in ("a categorical latent", "a one-hot latent")},
    ("a categorical latent", "layer_grid"): "layer of two dimensions",
    ("a one-hot latent", "layer_grid"): "values in between",
}


def numbers(answer):
    """All tensors and numbers of an answer."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return [number for item in answer for number in numbers(item)]
    return [torch.as_tensor(answer)] if isinstance(answer, torch.Tensor | float | int) else []


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.filterwarnings("ignore::pyro_hvae.errors.NoMeanWarning")
def test_every_tool_answers_or_says_why_not(pair, tool):
    torch.manual_seed(3)
    programs = PAIRS[pair]()
    x = hv.generate(programs.model, 40, mean=False)["x"].double()
    if (pair, tool) in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[pair, tool]) as caught:
            TOOLS[tool](programs, x)
        assert "\n" not in str(caught.value)
    else:
        assert all(value.isfinite().all() for value in numbers(TOOLS[tool](programs, x)))


@pytest.mark.parametrize("pair", ["a categorical latent", "a one-hot latent"])
def test_likelihoods_of_discrete_latents_are_the_sum_over_their_values(pair):
    torch.manual_seed(0)
    programs = PAIRS[pair]()
    x = 0.3 * torch.randn(5, 4)
    prior = programs.prior(1)
    exact = torch.stack([programs.likelihood(z).log_prob(x) + prior.log_prob(z) for z in prior.enumerate_support()]).logsumexp(
        0
    )
    assert_close(hv.log_likelihood(programs.model, programs.guide, x, 40_000), exact, atol=0.02, rtol=0)
    with pytest.raises(hv.errors.ContractError, match="no reparameterised sampler"):  # a gradient would be wrong
        hv.ELBO()(programs.model, programs.guide)(x)


def test_active_units_of_a_flow_average_its_draws():
    """The first unit follows x; the second is noise of unit variance whose mean is the same for all x."""

    def guide(x):
        with pyro.plate("data", len(x)):
            base = dist.Normal(torch.cat([x[:, :1], 0 * x[:, :1]], -1), 1.0).to_event(1)
            pyro.sample("z1", dist.TransformedDistribution(base, [transforms.AffineTransform(5.0, 1.0)]))

    x = torch.randn(4000, 2)
    assert hv.active_units(guide, x) == {"z1": 1}
    assert hv.active_units(guide, 0.05 * x) == {"z1": 0}  # a variance of 0.0025
    with pytest.raises(ConfigError, match="or of a flow, need at least two samples"):
        hv.active_units(guide, x, samples=1)


def test_a_flow_of_a_scalar_is_no_gaussian():
    """exp(Normal) without event dims: neither its noise nor its posterior is that of the Normal."""

    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(()), 1.0))
            z1 = pyro.sample("z1", dist.TransformedDistribution(dist.Normal(z2, 1.0), [transforms.ExpTransform()]))
            pyro.sample("x", dist.Normal(z1, 1.0), obs=x)

    with pytest.raises(ConfigError, match="'z1' is a TransformedDistribution with parents"):
        hv.layer_shares(model)
    with pytest.raises(ConfigError, match="independent dimensions, but .* TransformedDistribution"):
        hv.posteriors(lambda x: model(size=len(x)), torch.zeros(20))


def test_chains_through_discrete_pixels_keep_the_type_of_the_data():
    torch.manual_seed(0)
    programs = PAIRS["categorical pixels"]()
    x = hv.generate(programs.model, 8, mean=False)["x"].float()
    with pytest.warns(NoMeanWarning, match="'x' is a Categorical"):
        chains = hv.gibbs(programs.model, lambda x: programs.guide(x.double()), x, steps=4)
    assert chains.x.dtype == chains.mean.dtype == chains.trail.dtype == torch.float32
    assert set(chains.x.unique().tolist()) <= {0.0, 1.0, 2.0}


@pytest.mark.filterwarnings("ignore::pyro_hvae.errors.NoMeanWarning")
@pytest.mark.parametrize("kind", ["a correlated Gaussian", "a flow"])
def test_traversals_take_the_variances_of_means_or_of_averaged_draws(kind):
    """The code of x is 3 x in the first unit and noise of unit variance in the second, which has no row."""
    covariance = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    shift = torch.distributions.AffineTransform(0.0, torch.tensor([0.5, 1.0]), event_dim=1)

    def guide(x):
        with pyro.plate("data", len(x)):
            mean = torch.cat([3 * x[:, :1], 0 * x[:, :1]], -1)
            law = dist.MultivariateNormal(mean, covariance)
            pyro.sample("z1", law if kind == "a correlated Gaussian" else dist.TransformedDistribution(law, [shift]))

    torch.manual_seed(0)
    model, x = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4, scale=0.5)).double(), torch.randn(2000, 4)
    found = hv.traverse(model, guide, x[:1], x)
    expected = (3 if kind == "a correlated Gaussian" else 1.5) ** 2 * x[:, 0].var(correction=0)
    assert [unit.name for unit in found.units] == ["z1[0]"] and found.dead == {"z1": 1}
    assert_close(
        torch.tensor(found.units[0].variance), expected, atol=0, rtol=1e-9 if kind == "a correlated Gaussian" else 0.02
    )
