"""One contract over the likelihoods of recipes: density, start, captured passes, masks, data that they refuse (float64)."""

import math
from typing import Any, NamedTuple

import numpy as np
import pyro
import pytest
import torch
from both_ways import assert_same
from scipy import stats
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.conditionals.continuous_bernoulli_law import ContinuousBernoulli
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, DataError, NoMeanWarning
from pyro_hvae.evaluation.likelihood import _bits_unit
from pyro_hvae.inference.sampling import likelihood_name
from pyro_hvae.objectives import draw_sites, scalar_family
from pyro_hvae.recipes import LIKELIHOODS
from pyro_hvae.recipes.likelihoods import NEEDS
from pyro_hvae.training.training_step import TrainingPass

pytestmark = pytest.mark.usefixtures("float64")


class Row(NamedTuple):
    """A likelihood: scipy's of its scalars, by the parameters that torch's has; the data are drawn by `draw` from z."""

    kind: str
    scipy: Any
    draw: Any
    wrong: float  # a value that it cannot have
    bits: str | None = None  # what bits per dimension are of
    learns: str | None = None  # a parameter beside the network
    sigma: bool = False


def negative_binomial(fn):
    return stats.nbinom(fn.total_count.numpy(), torch.sigmoid(-fn.logits).numpy())


def student_t(fn):
    return stats.t(fn.df.numpy(), fn.loc.numpy(), fn.scale.numpy())


class Exponential:
    """The exponential law on [0, 1], of any sign."""

    def __init__(self, fn):
        logits = fn.logits.numpy()
        self.up, self.law = logits > 0, stats.truncexpon(abs(logits), scale=1 / abs(logits))

    def logpdf(self, x):
        return self.law.logpdf(np.where(self.up, 1 - x, x))


class Levels:
    """Shares of levels."""

    def __init__(self, fn):
        self.shares = fn.probs.numpy()

    def logpmf(self, x):
        levels = np.arange(self.shares.shape[-1])
        return np.log((self.shares * (x[..., None] == levels)).sum(-1))


def levels(z):
    return (1.5 + z + 0.3 * torch.randn_like(z)).round().clamp(0, 3)


def moments(fn):
    """Mean and variance of the scalars; of a level's number where they are levels."""
    law = scalar_family(fn)
    if not isinstance(law, torch.distributions.Categorical):
        return law.mean, law.variance
    number = torch.arange(law.probs.shape[-1], dtype=law.probs.dtype)
    mean = (law.probs * number).sum(-1)
    return mean, (law.probs * number**2).sum(-1) - mean**2


class Inflated:
    """A law of counts with further zeros."""

    def __init__(self, fn):
        kind = "negative-binomial" if hasattr(fn, "total_count") else "poisson"
        self.gate, self.law = torch.sigmoid(fn.gate_logits).numpy(), ROWS[kind].scipy(fn)

    def logpmf(self, x):
        return np.log(self.gate * (x == 0) + (1 - self.gate) * self.law.pmf(x))


def zeros(z):
    return counts(z) * (torch.rand_like(z) > 0.2)


def counts(z):
    return torch.poisson((1 + z).exp())


ROWS = {
    "poisson": Row("Poisson", lambda fn: stats.poisson(fn.rate.numpy()), counts, -1.0, "discrete data"),
    "negative-binomial": Row("NegativeBinomial", negative_binomial, counts, 0.5, "discrete data", "log_dispersion"),
    "student-t": Row("StudentT", student_t, lambda z: z + 0.3 * torch.randn_like(z), math.inf, learns="log_df", sigma=True),
    "beta": Row(
        "Beta",
        lambda fn: stats.beta(fn.concentration1.numpy(), fn.concentration0.numpy()),
        lambda z: (z + 0.3 * torch.randn_like(z)).sigmoid(),
        1.0,
        learns="log_precision",
    ),
    "continuous-bernoulli": Row("ContinuousBernoulli", Exponential, lambda z: (3 * z + torch.randn_like(z)).sigmoid(), 1.5),
    "zero-inflated-poisson": Row("ZeroInflatedPoisson", Inflated, zeros, -1.0, "discrete data", "gate_logits"),
    "zero-inflated-negative-binomial": Row(
        "ZeroInflatedNegativeBinomial", Inflated, zeros, 0.5, "discrete data", "counts.log_dispersion"
    ),
    "categorical": Row("Categorical", Levels, levels, 0.5, "discrete data"),
}
NAMES = pytest.mark.parametrize("name", ROWS)


def data(name, n=64, columns=4):
    """Columns that depend on one latent, each in its own way."""
    torch.manual_seed(1)
    return ROWS[name].draw(torch.randn(n, 1) * torch.linspace(-1, 1, columns))


def built(name, x, **options):
    torch.manual_seed(0)
    return recipes.build("hvae", x, {"dims": (2, 2), "hidden": (8,), "upper": (8,), "likelihood": name, **options})[-1]


def test_every_likelihood_has_a_row():
    elsewhere = {"gaussian", "laplace", "bernoulli", "discretised-logistic", "logistic-mixture"}
    assert {*ROWS, *elsewhere} == {*LIKELIHOODS}


@NAMES
@torch.no_grad()
def test_the_density_is_that_of_scipy(name):
    x, row = data(name), ROWS[name]
    conditional = built(name, x).objective.model.likelihood
    for parameter in conditional.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    fn = conditional(torch.randn(5, 64, 2))
    law = row.scipy(scalar_family(fn))
    each = (getattr(law, "logpmf", None) or law.logpdf)(x.numpy())
    assert fn.batch_shape == (5, 64) and fn.event_shape == (4,) and fn.log_prob(x).std() > 0
    assert_close(fn.log_prob(x), torch.as_tensor(each).sum(-1), atol=1e-9, rtol=1e-10)
    torch.manual_seed(0)
    mean, variance = moments(fn)
    error = (fn.sample((4000,)).double().mean(0) - mean) / (variance / 4000).sqrt()
    assert error.square().mean().item() == pytest.approx(1.0, abs=0.25)  # z-scores, 1280 of them


@NAMES
@torch.no_grad()
def test_it_starts_at_the_mean_of_the_data_and_no_network_overflows(name):
    x = data(name)
    conditional = built(name, x).objective.model.likelihood
    network = getattr(conditional, "counts", conditional)
    network.net[-1].weight.zero_()
    limit = 5e-3 if name == "categorical" else 1e-6  # no level has a share below 1e-3
    assert_close(moments(conditional(torch.randn(64, 2)))[0][0], x.mean(0), atol=limit, rtol=limit)
    conditional.float()
    network.net[-1].weight.fill_(1e4)
    for z in (-1e3, 1e3):
        fn = conditional(torch.full((64, 2), z, dtype=torch.float32))
        assert fn.log_prob(x.float()).isfinite().all() and moments(fn)[0].isfinite().all() and fn.sample().isfinite().all()


@NAMES
@pytest.mark.parametrize("measure", ["nats", "rmse", None])
def test_captured_passes_and_their_gradients_are_the_eager_ones(name, measure):
    """With the constraint of GECO, and of several particles without one."""
    x = data(name)
    stage = built(name, x)
    refused = {
        ("categorical", "rmse"): "which classes do not have. Use measure=nats",
        ("student-t", "nats"): "that of this StudentT is learned.* Use measure=rmse",
        ("beta", "nats"): "that of this Beta is learned.* Use measure=rmse",
    }
    if (name, measure) in refused:
        with pytest.raises(ConfigError, match=refused[name, measure]):
            stage.objective.estimate(x).constraint(measure)
        return
    objective = hv.ELBO(particles=1 if measure else 3)(stage.objective.model, stage.objective.guide)
    schedule = hv.schedules.Geco(measure=measure) if measure else hv.schedules.Constant()
    passing = TrainingPass(objective, schedule)
    calls = [(x[i : i + 16], *passing.arguments(schedule)) for i in (0, 16, 32)]
    assert assert_same(passing, calls).graphs == 1


@NAMES
def test_missing_entries_are_left_out(name):
    """Their values change neither the bound nor its gradient; imputed values lie where the likelihood has them."""
    x, row = data(name), ROWS[name]
    known = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    batch = Batch(x.where(known, 0.0), {}, known)
    objective = built(name, batch).objective
    everything = []
    for fill in (0.0, row.wrong, x):
        torch.manual_seed(3)
        loss = objective(x.where(known, torch.as_tensor(fill)), observed=known)
        everything.append([loss, *torch.autograd.grad(loss, list(objective.parameters()), allow_unused=True)])
    for other in everything[1:]:
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(everything[0], other, strict=True))
    torch.manual_seed(3)
    estimate = objective.estimate(batch)
    law = scalar_family(estimate.x["fn"])
    assert_close(estimate.terms["x"], law.log_prob(x).where(known, 0.0).sum(-1))
    for draws in (0, 2):
        filled = hv.impute(objective.model, objective.guide, batch, particles=20, draws=draws)
        assert_close(filled[..., known], x[known].expand(*filled.shape[:-2], -1))
        assert filled.isfinite().all() and (not draws or law.support.check(filled).all())


@NAMES
def test_data_that_it_cannot_have_are_refused(name):
    x, row = data(name), ROWS[name]
    objective = built(name, x).objective
    bad = x.clone()
    bad[3, 1] = row.wrong
    said = rf"at index \(3, 1\).* a {row.kind}, has a density at" if name in NEEDS else "Replace values that are not finite"
    with pytest.raises(DataError, match=rf"x has the value {row.wrong:g} .*{said}"):
        objective(bad)
    if name in NEEDS:
        with pytest.raises(ConfigError, match=r"likelihood needs .*, but these lie in .* among them. Use -o likelihood=gauss"):
            built(name, bad)
    known = bad == x
    assert built(name, Batch(bad.where(known, 0.0), {}, known)).objective(bad, observed=known).isfinite()
    if not row.sigma:
        with pytest.raises(ConfigError, match="learn_sigma cannot be on. Leave learn_sigma out, or use -o likelihood=gaussian"):
            built(name, x, learn_sigma=True)


@NAMES
def test_it_learns(name):
    x, row = data(name, 256), ROWS[name]
    stage = built(name, x)
    config = hv.TrainConfig(steps=50, batch_size=64, lr=1e-2, log_every=1)
    rows = hv.fit([stage], x, config, progress=False)
    losses = [r["loss"] for r in rows]
    assert sum(losses[-10:]) / 10 < sum(losses[:5]) / 5 - 0.1
    parameters = dict(stage.objective.model.likelihood.named_parameters())
    assert row.learns is None or parameters[row.learns].std() > 0  # each column's went its own way


@NAMES
@torch.no_grad()
def test_pictures_units_and_constraints(name):
    x, row = data(name), ROWS[name]
    objective = built(name, x).objective
    assert likelihood_name(objective.model) == row.kind
    unit = _bits_unit(draw_sites(objective.model, x)["x"], hv.data.Rows(x))
    assert (unit and unit.of) == row.bits and (unit is None or unit.dims == 4)
    pyro.set_rng_seed(0)
    estimate = objective.estimate(x)
    fn = estimate.x["fn"]
    assert_close(estimate.constraint("nats"), -fn.log_prob(x).mean())
    at = objective.model.likelihood(hv.latents(objective.guide, x, mean=True)["z1"])
    if name == "categorical":
        with pytest.warns(NoMeanWarning, match="the mode is used"):
            assert_close(hv.reconstruct(objective.model, objective.guide, x), scalar_family(at).probs.argmax(-1).double())
    else:
        assert_close(estimate.constraint("rmse"), (x - scalar_family(fn).mean).square().mean())
        assert_close(hv.reconstruct(objective.model, objective.guide, x), scalar_family(at).mean)


def test_levels_are_those_of_the_known_data_and_images_have_them_too():
    x = data("categorical")
    known = x != 3
    assert built("categorical", Batch(x.where(known, 0.0), {}, known)).objective.model.likelihood.levels == 3
    assert built("categorical", torch.zeros_like(x)).objective.model.likelihood.levels == 2
    images = torch.randint(5, (20, 1, 8, 8)).double()
    objective = built("categorical", images, network="conv", hidden=(2, 3)).objective
    law = scalar_family(objective.estimate(images).x["fn"])
    assert law.probs.shape == (20, 1, 8, 8, 5) and not torch.equal(law.probs[0, 0, 0, 0], law.probs[0, 0, 0, 1])
    with pytest.raises(ConfigError, match="Use another recipe, such as vae or hvae"):
        recipes.build("vlae", x, {"dims": (2, 2), "width": 5, "likelihood": "categorical"})
    with pytest.raises(ConfigError, match="needs levels 0, 1, 2, ... below 1024, but these lie in"):
        built("categorical", 400 * x)


@pytest.mark.parametrize("make", [hv.Poisson, hv.NegativeBinomial])
@pytest.mark.parametrize("size, loss", [(1e4, 0.003), (1e5, 0.04), (1e6, 0.4)])
def test_single_precision_loses_digits_of_large_counts_and_double_none(make, size, loss):
    """The numbers of the docstring, which are means over entries."""
    g = torch.Generator().manual_seed(0)
    mean, x = ((size * (1 + 0.01 * torch.randn(500, generator=g))).round() for _ in range(2))
    p = make(2, 500, gain=0.0, output_mean=mean, **({} if make is hv.Poisson else {"dispersion": 0.5}))

    def lost(dtype):
        fn = p.to(dtype)(torch.zeros(1, 2, dtype=dtype)).base_dist
        mean = fn.mean[0].detach().double()
        law = stats.poisson(mean) if make is hv.Poisson else stats.nbinom(2, 2 / (2 + mean))
        return (fn.log_prob(x.to(dtype))[0].detach().double() - torch.as_tensor(law.logpmf(x))).abs()

    single = lost(torch.float32)
    assert loss / 4 < single.mean() < 2 * loss and single.max() < 4 * loss, (single.mean(), single.max())
    assert lost(torch.float64).max() < 1e-7


def test_a_continuous_bernoulli_is_exact_at_every_logit():
    """Integrals by quadrature and slopes by the mean, d log p / d logit = x - mean, small logits and large ones."""
    logits = torch.tensor([0.0, 1e-9, -1e-4, 0.0499, 0.0501, -2.0, 30.0, -200.0, 900.0], requires_grad=True)
    fn = ContinuousBernoulli(logits=logits)
    nodes, weights = (torch.as_tensor(values) for values in np.polynomial.legendre.leggauss(400))
    nodes, density = (nodes[:, None] + 1) / 2, fn.log_prob((nodes[:, None] + 1) / 2).exp() * weights[:, None] / 2
    assert_close(density.sum(0), torch.ones(9), atol=1e-10, rtol=0)
    assert_close((density * nodes).sum(0), fn.mean, atol=1e-10, rtol=0)
    assert_close((density * (nodes - fn.mean) ** 2).sum(0), fn.variance, atol=1e-10, rtol=0)
    x = torch.linspace(0, 1, 9)
    assert_close(torch.autograd.grad(fn.log_prob(x).sum(), logits)[0], x - fn.mean.detach(), atol=1e-10, rtol=0)
    u = torch.linspace(0.01, 0.99, 50)[:, None]
    inner = fn.icdf(u).detach()[..., None] * nodes[:, 0]  # the probability below the quantile is u
    below = (ContinuousBernoulli(logits=logits.detach()[:, None]).log_prob(inner).exp() * weights / 2).sum(-1)
    assert_close(below * fn.icdf(u).detach(), u.expand(50, 9), atol=1e-9, rtol=0)
    assert fn.icdf(torch.tensor([[0.0], [1.0]])).isfinite().all()


def test_the_scale_and_the_degrees_of_freedom_of_a_student_t_are_fixed_or_learned():
    x = data("student-t")
    for learn in (False, True):
        conditional = built("student-t", x, sigma=0.3, learn_sigma=learn).objective.model.likelihood
        assert [name for name, _ in conditional.named_parameters() if "net" not in name] == ["log_df"] + ["log_scale"] * learn
        assert_close(scalar_family(conditional(torch.zeros(1, 2))).scale, torch.full((1, 4), 0.3))
    law = hv.StudentT(2, 4, df=1.0)(torch.zeros(1, 2))
    assert_close(law.log_prob(x), torch.as_tensor(stats.cauchy(law.base_dist.loc.detach()).logpdf(x)).sum(-1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: hv.StudentT(2, 3, scale=0.0), "scale must be positive, got 0.0"),
        (lambda: hv.StudentT(2, 3, df=-1.0), "degrees of freedom must be positive, got -1.0"),
        (lambda: hv.Beta(2, 3, precision=0.0), "precision must be positive, got 0.0"),
        (lambda: hv.ZeroInflated(hv.Poisson(2, 3), share=1.0), "between 0 and 1, got 1.0"),
        (lambda: hv.Categorical(2, 3, levels=1), "at least two levels, got levels=1"),
        (lambda: hv.NegativeBinomial(2, 3, dispersion=-0.5), "dispersion must be positive, got -0.5"),
    ],
)
def test_parameters_that_are_none_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
