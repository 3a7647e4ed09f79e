"""The constraint of GECO and REWO: densities it may be of, and functions of one's own, captured and resumed (float64)."""

from itertools import product

import pyro
import pyro.distributions as dist
import pytest
import torch
from both_ways import assert_same
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.training.training_step import TrainingPass

pytestmark = pytest.mark.usefixtures("float64")


def blurred(x, fn):
    """Squared error after the mean over pairs of neighbours."""
    off = x - fn.mean
    return (off[..., ::2] + off[..., 1::2]).square().mean(-1) / 4


class Distance(nn.Module):
    """Squared distance of features, as perceptual ones are."""

    def __init__(self):
        super().__init__()
        self.features = nn.Linear(4, 3)

    def forward(self, x, fn):
        return (self.features(x) - self.features(fn.mean)).square().sum(-1)


class LogNormal(nn.Module):
    """exp(y + c) with a Gaussian y, of a fixed scale, or multiplied by a trained one."""

    def __init__(self, fixed):
        super().__init__()
        self.net = hv.Gaussian(2, 4, (8,), scale=0.5)
        self.factor = None if fixed else nn.Parameter(torch.ones(()))

    def forward(self, z):
        more = [] if self.factor is None else [dist.transforms.AffineTransform(0.0, self.factor)]
        normal = self.net(z).base_dist
        return WithMean(normal, [*more, dist.transforms.ExpTransform()]).to_event(1)


class WithMean(dist.TransformedDistribution):
    @property
    def mean(self):
        return (self.base_dist.mean + self.base_dist.variance / 2).exp()


def pair(likelihood=None, particles=1):
    torch.manual_seed(0)
    model = hv.Chain(hv.StandardNormal(2), [], likelihood or hv.Gaussian(2, 4, (8,), scale=0.5))
    return hv.ELBO(particles=particles)(model, hv.BottomUp([hv.Gaussian(4, 2, (8,))]))


@pytest.mark.parametrize("likelihood, learned", [
    (lambda: hv.Gaussian(2, 4, (8,), scale=0.5), False),
    (lambda: hv.Gaussian(2, 4, (8,)), True),
    (lambda: hv.Gaussian(2, 4, (8,), scale=0.5, learn_scale=True), True),
    (lambda: hv.StudentT(2, 4, (8,), scale=0.5, df=3.0), False),
    (lambda: hv.StudentT(2, 4, (8,), scale=0.5), True),
    (lambda: hv.StudentT(2, 4, (8,), scale=0.5, df=3.0, learn_scale=True), True),
    (lambda: hv.Beta(2, 4, (8,)), True),
    (lambda: hv.NegativeBinomial(2, 4, (8,)), False),
    (lambda: hv.FullCovarianceGaussian(2, 4, (8,)), True),
    (lambda: LogNormal(fixed=True), False),
    (lambda: LogNormal(fixed=False), True),
])  # fmt: skip
def test_nats_are_of_a_density_whose_scale_is_fixed(likelihood, learned):
    """Those of counts are probabilities, whose unit nothing changes."""
    x = torch.rand(5, 4) if isinstance(likelihood(), hv.Beta | LogNormal) else torch.arange(20.0).reshape(5, 4)
    estimate = pair(likelihood()).estimate(x)
    assert estimate.constraint("rmse").isfinite()
    if not learned:
        assert estimate.constraint("nats").isfinite()
        return
    with pytest.raises(ConfigError, match="needs a likelihood with a fixed scale, but that of this .* is learned"):
        estimate.constraint("nats")


@pytest.mark.parametrize("flow", [
    lambda: hv.GaussianFlow(2, 4, (8,)),
    lambda: hv.Flow(hv.conditionals.zuko_flows().MAF(4, context=2), parents=2),
])  # fmt: skip
@pytest.mark.parametrize("measure, why", [("nats", "a likelihood with a fixed scale"), ("rmse", "does not have in closed")])
def test_flows_have_neither_a_fixed_scale_nor_a_mean(flow, measure, why):
    """A function of one's own may be of what they have."""
    estimate, x = pair(flow()).estimate(torch.randn(5, 4)), torch.randn(5)
    with pytest.raises(ConfigError, match=rf"{why}.*Use a likelihood with a mean, such as hv\.Gaussian, or a schedule"):
        estimate.constraint(measure)
    assert_close(estimate.constraint(lambda _, fn: x), x.mean())


def undefined(value):
    """A measure that is not finite for the last datum."""

    def measure(x, fn):
        return torch.where(torch.arange(len(x)) < len(x) - 1, (x - fn.mean).square().mean(-1), value)

    return measure


ENGINES = {"fit": {"engine": "fit"}, "compiled": {"engine": "fit", "compile": True}, "svi": {"engine": "svi"}}
UNDEFINED = [
    *product(("fit", "svi"), (hv.schedules.Geco, hv.schedules.Rewo), (torch.inf, -torch.inf, torch.nan)),
    # A graph takes seconds to compile.
    ("compiled", hv.schedules.Geco, torch.inf),
    ("compiled", hv.schedules.Rewo, torch.nan),
]


@pytest.mark.parametrize("engine, schedule, value", UNDEFINED)
def test_a_function_that_is_not_finite_is_named(engine, schedule, value, tmp_path):
    options = ENGINES[engine]
    torch.set_default_dtype(torch.float32)
    config = hv.TrainConfig(steps=12, batch_size=16, log_every=4, **{"compile": False, **options})
    with pytest.raises(ConfigError, match=r"measure of the constraint, measure, gave NaN or an infinite value where log p"):
        hv.fit(pair(), torch.randn(64, 4), config, schedule(measure=undefined(value)), out=tmp_path, progress=False)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_one_infinite_constraint_moves_beta_by_a_bounded_factor(alpha):
    geco = hv.schedules.Geco(kappa=1.0, nu=0.1, alpha=alpha, measure=blurred)
    geco.update(torch.tensor(torch.inf))
    assert_close(geco.beta, torch.tensor(-1.0).exp())
    with pytest.raises(ConfigError, match="beta cannot follow it"):
        geco.require_usable()
    geco.update(torch.tensor(1.0))
    assert geco.beta.isfinite()


def test_a_pair_that_diverged_is_not_the_fault_of_the_function():
    """The constraint is NaN, and the divergence of the loss is what is said."""
    objective = pair()
    for parameter in list(objective.model.parameters())[-1:]:
        nn.init.constant_(parameter, 1e200)
    estimate = objective.estimate(torch.randn(6, 4))
    geco = hv.schedules.Geco(measure=blurred)
    geco.update(estimate.constraint(blurred))
    assert geco.average.isnan()
    geco.require_usable()


def test_integers_are_converted():
    objective, x = pair(), torch.randn(6, 4)
    constraint = objective.estimate(x).constraint(lambda x, fn: (x > 0).sum(-1))
    assert_close(constraint, (x > 0).sum(-1).double().mean())


class PartOfThePair(nn.Module):
    """Distance of what the guide reads, which is called in evaluation mode."""

    def __init__(self, guide):
        super().__init__()
        self.guide = guide

    def forward(self, x, fn):
        assert not self.training and not self.guide.training
        one, two = (self.guide.levels[0](value).base_dist.loc for value in (x, fn.mean))
        return (one - two).square().sum(-1)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_module_of_the_pair_is_trained_by_the_bound(compiled):
    torch.set_default_dtype(torch.float32)
    objective, x = pair(), torch.randn(64, 4)
    measure = PartOfThePair(objective.guide)
    before = [p.detach().clone() for p in objective.guide.parameters()]
    schedule = hv.schedules.Geco(kappa=0.5, nu=0.1, measure=measure)
    hv.fit(objective, x, hv.TrainConfig(steps=4, batch_size=16, compile=compiled), schedule, progress=False)
    assert all(p.requires_grad for p in measure.parameters()) and measure.training
    assert not any(torch.equal(a, b) for a, b in zip(before, objective.guide.parameters(), strict=True))


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("measure", [blurred, Distance().double()])
def test_a_function_is_called_with_x_and_its_distribution(measure, particles):
    objective, x = pair(particles=particles), torch.randn(6, 4)
    estimate = objective.estimate(x)
    expected = measure(x, estimate.x["fn"])
    assert expected.shape == ((6,) if particles == 1 else (3, 6))
    assert_close(estimate.constraint(measure), expected.mean().detach())
    geco = hv.schedules.Geco(beta0=1.0, kappa=0.5, nu=0.1, measure=measure)
    geco.update(estimate.constraint(geco.measure))
    assert_close(geco.beta, (-0.1 * (expected.detach().mean() - 0.25)).clamp(-1, 1).exp())


def test_data_that_a_mask_leaves_out_do_not_count():
    objective, x = pair(), torch.randn(6, 4)
    mask = torch.tensor([True, False, True, True, False, True])
    masked = hv.ELBO()(pyro.poutine.mask(objective.model, mask), pyro.poutine.mask(objective.guide, mask))
    estimate = masked.estimate(x)
    assert_close(estimate.constraint(blurred), blurred(x, estimate.x["fn"])[mask].mean().detach())


@pytest.mark.parametrize("measure", [blurred, Distance().double()])
@pytest.mark.parametrize("schedule", [hv.schedules.Geco, hv.schedules.Rewo])
def test_captured_passes_are_the_eager_ones(measure, schedule):
    passing = TrainingPass(pair(), schedule(beta0=0.5, kappa=10.0, nu=0.1, measure=measure))
    assert assert_same(passing, [(torch.randn(6, 4),) for _ in range(4)]).graphs == 1


def test_a_run_is_resumed_with_the_function_given_again(tmp_path):
    torch.set_default_dtype(torch.float32)
    x = torch.randn(64, 4)

    def fit(path, steps, **options):
        torch.manual_seed(0)
        schedule = hv.schedules.Geco(kappa=0.5, nu=0.1, measure=Distance())
        objective = pair()
        config = hv.TrainConfig(steps=steps, batch_size=16, lr_decay=0.0, log_every=1)
        hv.fit(objective, x, config, schedule, out=path, progress=False, **options)
        return objective, schedule

    whole, one = fit(tmp_path / "whole", 12)
    fit(tmp_path / "part", 6)
    resumed, other = fit(tmp_path / "part", 12, resume=True)
    assert_close(one.beta, other.beta, rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert all(p.requires_grad and p.grad is None for p in other.parameters())  # the caller's module stays as it is


def test_what_it_cannot_be():
    objective, x = pair(), torch.randn(6, 4)
    estimate = objective.estimate(x)
    for wrong, found in {
        (lambda x, fn: (x - fn.mean) ** 2): r"a tensor of shape \(6, 4\)",
        (lambda x, fn: (x - fn.mean).mean()): r"a tensor of shape \(\)",
        (lambda x, fn: 1.0): "a float",
    }.items():
        with pytest.raises(ConfigError, match=rf"gave {found}, but it gives one number for each datum, shape \(6,\)"):
            estimate.constraint(wrong)
    holes = objective.estimate(Batch(x, {}, x > 0))
    with pytest.raises(ConfigError, match="x has missing entries, and a measure of one's own is of the whole x"):
        holes.constraint(blurred)
    with pytest.raises(ConfigError, match="'nats', 'rmse' or a function"):
        hv.schedules.Geco(measure="mse")
    for wrong in (lambda x: x.mean(), lambda x, fn, k: x, nn.Linear(4, 1)):
        with pytest.raises(ConfigError, match=r"function \(x, p\(x \| z\)\) -> C of two arguments, but .* is not"):
            hv.schedules.Rewo(measure=wrong)
