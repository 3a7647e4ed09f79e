"""Given inputs and missing entries: bounds, likelihoods and gradients against closed forms, and what is refused."""

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from torch import nn

import pyro_hvae as hv
from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError, ContractError, DataError
from pyro_hvae.models import EncodingModel
from pyro_hvae.objectives import ELBO, PixelError
from tests.factor_model import ExactGuide, FactorModel, incomplete_data


def close(one, two):
    return torch.allclose(one.double(), two.double(), rtol=0, atol=1e-10)


@pytest.fixture
def case():
    model = FactorModel()
    return model, ExactGuide(model), *incomplete_data(model)


@pytest.mark.parametrize("elbo", [ELBO(), ELBO(analytic_kl=False), ELBO(particles=7), ELBO(particles=3, alpha=1.0)])
def test_the_bound_of_an_exact_guide_is_the_density_of_the_observed_entries(case, elbo):
    model, guide, x, known, y = case
    analytic = elbo.particles == 1 and elbo.analytic_kl
    exact = model.log_observed(x, known, y)
    estimates = [
        elbo.estimate(model, guide, data)
        for data in (
            Batch.of(x, {"y": y}),
            Batch(x.nan_to_num(123.0), {"y": y}, known),  # what stands in missing entries does not matter
        )
    ]
    for estimate in estimates:
        bound = estimate.bound()
        # A closed KL of another draw than that of x leaves noise in the bound.
        assert analytic or close(bound, exact)
        assert not analytic or (bound.mean() - exact.mean()).abs() < 1.0
    many = torch.stack([elbo.estimate(model, guide, Batch.of(x, {"y": y})).bound().detach() for _ in range(400)])
    assert ((many.mean(0) - exact).abs() <= 5 * many.std(0) / 20 + 1e-10).all()


def test_its_gradient_is_that_of_the_density_of_the_observed_entries(case):
    model, guide, x, known, y = case
    loss = ELBO(analytic_kl=False)(model, guide)
    parameters = list(model.parameters())
    exact = torch.autograd.grad(-model.log_observed(x, known, y).mean(), parameters)
    for call in (
        lambda: loss(x, y=y),
        lambda: loss(x.nan_to_num(7.0), y=y, observed=known),
        lambda: loss(Batch.of(x, {"y": y})),
    ):
        for found, expected in zip(torch.autograd.grad(call(), parameters), exact, strict=True):
            assert close(found, expected)


def test_a_captured_pass_and_stock_svi_do_what_the_eager_pass_does(case):
    model, guide, x, known, y = case
    exact = -model.log_observed(x, known, y).mean().item()
    step = hv.capture(ELBO(analytic_kl=False)(model, guide), compile=False)
    for data in ((x, {"y": y}), (x, {"y": y}), (x.nan_to_num(), {"y": y, "observed": known}), (Batch.of(x, {"y": y}), {})):
        assert step(data[0], **data[1]).item() == pytest.approx(exact, abs=1e-10)
    assert step.eager is None and step.graphs == 1
    for parameter, expected in zip(
        model.parameters(), torch.autograd.grad(-model.log_observed(x, known, y).mean(), model.parameters()), strict=True
    ):
        assert close(parameter.grad, expected)
    assert step(x, y=y + 1).item() == pytest.approx(-model.log_observed(x, known, y + 1).mean().item(), abs=1e-10)
    complete = step(x.nan_to_num(), y=y).item()  # nothing is missing: another graph
    everything = torch.ones_like(known)
    assert complete == pytest.approx(-model.log_observed(x.nan_to_num(), everything, y).mean().item(), abs=1e-10)
    assert step.graphs == 2
    stock = SVI(*hv.for_svi(guide, model), pyro.optim.Adam({"lr": 0.0}), pyro.infer.Trace_ELBO())  # any pair: it is refused
    with pytest.raises(ContractError, match="takes no mask, and Pyro's own bounds leave no entries of x out. Use hv.ELBO as"):
        stock.step(x.nan_to_num(), y=y, observed=known)
    svi = SVI(*hv.for_svi(model, guide), pyro.optim.Adam({"lr": 0.0}), ELBO(analytic_kl=False))
    assert svi.step(x, y=y) == pytest.approx(exact, abs=1e-10)
    assert svi.evaluate_loss(x.nan_to_num(), y=y, observed=known) == pytest.approx(exact, abs=1e-10)


def test_the_likelihood_of_observed_entries(case):
    model, guide, x, known, y = case
    exact = model.log_observed(x, known, y)
    for ask in (
        lambda: hv.log_likelihood(model, guide, x, particles=3, given={"y": y}),
        lambda: hv.log_likelihood(model, guide, x.numpy(), particles=3, given={"y": y.numpy()}),
        lambda: hv.log_likelihood(model, guide, x.nan_to_num(), particles=3, given={"y": y}, observed=known.numpy()),
        lambda: hv.log_likelihood(model, guide, Rows(x, given={"y": y}, incomplete=True), particles=3),
    ):
        assert close(ask(), exact)
    wrong = hv.log_likelihood(model, ExactGuide(model, error=0.05), x, particles=20_000, given={"y": y})
    assert (wrong - exact).abs().max() < 0.1 and not close(wrong, exact)
    plain = hv.log_likelihood(model, guide, x, particles=3)  # y defaults to zero
    assert close(plain, model.log_observed(x, known, torch.zeros_like(y)))


def test_a_mask_of_entries_inside_a_program_is_applied_like_missing_data(case):
    model, guide, x, known, y = case
    whole = x.nan_to_num(3.0)

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x=None, size=1, y=None):
            with poutine.mask(mask=known):
                return self.inner(x, size, y)

    class Ours(nn.Module):
        """Only x is masked, and the guide knows."""

        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x=None, size=1, y=None):
            m = self.inner
            with pyro.plate("data", size if x is None else len(x)):
                z = pyro.sample("z1", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
                with poutine.mask(mask=known):
                    loc = z @ m.w.T + y @ m.v.T + m.b
                    return pyro.sample("x", dist.Normal(loc, m.log_s.exp()).to_event(1), obs=x)

    told = functools.partial(guide, observed=known)
    assert close(ELBO(particles=4).estimate(Ours(), told, Batch(whole, {"y": y})).bound(), model.log_observed(x, known, y))
    fewer = Batch.of(whole.where(torch.arange(5) != 2, torch.nan), {"y": y})  # both masks at once
    assert fewer.observed is not None
    both = known & fewer.observed
    told = functools.partial(guide, observed=both)

    class Told(nn.Module):
        def forward(self, x, size=1, y=None):
            return told(x, y=y)

    assert close(ELBO(particles=4).estimate(Ours(), Told(), fewer).bound(), model.log_observed(whole, both, y))
    with pytest.raises(
        ContractError, match=r"site 'z1': its mask has the shape \(40, 5\), which does not broadcast to \(40,\)"
    ):
        ELBO().estimate(Masked(), guide, Batch(whole, {"y": y}))


def test_a_mask_that_could_be_of_data_or_of_entries_is_refused():
    class Square(nn.Module):
        def forward(self, x=None, size=1):
            with pyro.plate("data", size if x is None else len(x)):
                z = pyro.sample("z1", dist.Normal(torch.zeros(4), 1.0).to_event(1))
                with poutine.mask(mask=torch.eye(4) > 0):
                    return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    guide = hv.BottomUp([hv.Gaussian(4, 4)])
    assert ELBO()(Square(), guide)(torch.zeros(4, 4)).isfinite()
    with pytest.raises(ContractError, match="can be one of data in plates .* or one of entries"):
        ELBO(particles=4)(Square(), guide)(torch.zeros(4, 4))
    x = torch.zeros(4, 4).where(torch.eye(4) > 0, torch.nan)  # beside the data there is no doubt
    plain = hv.Chain(hv.StandardNormal(4), [], hv.Gaussian(4, 4))
    estimate = ELBO(particles=4).estimate(plain, guide, x)
    entries = estimate.x["fn"].base_dist.log_prob(torch.zeros(())).diagonal(dim1=1, dim2=2)  # one observed entry a row
    assert torch.allclose(estimate.terms["x"], entries, atol=1e-6)


class Own(nn.Module):
    """x | z from a function of three parameters."""

    def __init__(self, likelihood):
        super().__init__()
        self.net, self.likelihood = nn.Linear(2, 3), likelihood

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", self.likelihood(self.net(z)), obs=x)


FACTORISED = {
    "poisson": lambda h: dist.Poisson(h.exp()).to_event(1),
    "log-normal": lambda h: dist.LogNormal(h, 1.0).to_event(1),
    "gamma": lambda h: dist.Gamma(2.0, h.exp()).to_event(1),
    "beta": lambda h: dist.Beta(2.0, h.exp()).to_event(1),
    "categorical": lambda h: dist.Categorical(logits=torch.stack([h, -h], -1)).to_event(1),
    "student": lambda h: dist.StudentT(3.0, h, 1.0).to_event(1),
    "bernoulli": lambda h: dist.Bernoulli(logits=h, validate_args=False).to_event(1),
    # Of these the support depends on z, and does not hold 0.
    "uniform": lambda h: dist.Uniform(h.sigmoid() / 2, 2 + h.exp()).to_event(1),
    "pareto": lambda h: dist.Pareto(h.sigmoid() / 2, h.exp()).to_event(1),
}


@pytest.mark.parametrize("family", FACTORISED)
@pytest.mark.parametrize("particles", [1, 3])
def test_every_likelihood_of_independent_entries_counts_the_observed_ones(family, particles):
    model, guide = Own(FACTORISED[family]), hv.BottomUp([hv.Gaussian(3, 2)])
    value = 0.6 if family in ("log-normal", "gamma", "beta", "student", "uniform", "pareto") else 1.0
    x = torch.tensor([[value, math.nan, value], [math.nan, math.nan, math.nan], [value, value, value]])
    with pyro.validation_enabled(True):
        estimate = ELBO(particles=particles, analytic_kl=False).estimate(model, guide, x)
    entries = estimate.x["fn"].base_dist.log_prob(torch.full((3, 3), value))
    expected = entries.where(~x.isnan(), 0.0).sum(-1)
    assert torch.allclose(estimate.terms["x"], expected, atol=1e-6)
    estimate.loss().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in [*model.parameters(), *guide.parameters()])
    assert hv.log_likelihood(model, guide, x, particles=5).isfinite().all()
    assert hv.impute(model, guide, x, particles=50, draws=int(family == "pareto")).isfinite().all()


@pytest.mark.parametrize(
    "likelihood",
    [
        lambda h: dist.MultivariateNormal(h, torch.eye(3)),
        lambda h: dist.Dirichlet(h.exp()),
        lambda h: dist.OneHotCategorical(h.exp()),
    ],
)
def test_a_likelihood_that_does_not_factorise_is_refused(likelihood):
    model, guide = Own(likelihood), hv.BottomUp([hv.Gaussian(3, 2)])
    x = torch.tensor([[1.0, math.nan, 0.0], [0.0, 0.0, 1.0]])
    for ask in (
        lambda: ELBO()(model, guide)(x),
        lambda: hv.log_likelihood(model, guide, x, particles=2),
        lambda: hv.impute(model, guide, x),
        lambda: hv.fit(ELBO()(model, guide), x, hv.TrainConfig(steps=1), progress=False),
    ):
        with pytest.raises(ConfigError, match="'x' is a .* does not factorise over entries.*such as hv.Gaussian, or fill"):
            ask()


def test_the_constraint_counts_observed_entries():
    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4, scale=0.5))
    guide = hv.BottomUp([hv.Gaussian(4, 2)])
    x = (torch.arange(24.0) / 20).reshape(6, 4).where(torch.arange(24).reshape(6, 4) % 3 > 0, torch.nan)
    x[0] = torch.nan
    estimate = ELBO().estimate(model, guide, x)
    squares = (x - estimate.x["fn"].mean).square()
    assert estimate.constraint("rmse").item() == pytest.approx(squares[1:].nanmean(1).mean().item(), rel=1e-5)
    assert estimate.constraint("nats").item() == pytest.approx((squares.nansum(1)[1:] / 0.5).mean().item(), rel=1e-5)
    for schedule in (hv.Rewo(kappa=5.0, measure="rmse"), hv.Geco(kappa=0.3, measure="rmse")):
        hv.fit(ELBO()(model, guide), x, hv.TrainConfig(steps=3, batch_size=6), schedule=schedule, progress=False)


@pytest.mark.parametrize("mask", [[True, False, True, True], [[True, False, True, True], [False, False, True, False]]])
@pytest.mark.parametrize("particles", [1, 3])
def test_the_constraint_counts_the_entries_that_a_mask_of_the_program_leaves_in(mask, particles):
    mask = torch.tensor(mask)

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 8)

        def forward(self, x=None, size=1):
            with pyro.plate("data", size if x is None else len(x)):
                z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                with poutine.mask(mask=mask):
                    return pyro.sample("x", dist.Normal(self.net(z).unflatten(-1, (1, 2, 4)), 0.5).to_event(3), obs=x)

    x = torch.randn(5, 1, 2, 4)
    estimate = ELBO(particles=particles).estimate(Masked(), hv.BottomUp([hv.Gaussian((1, 2, 4), 2)]), x)
    squares = (x - estimate.x["fn"].mean).square()[..., mask.expand(1, 2, 4)]
    assert estimate.constraint("rmse").item() == pytest.approx(squares.mean().item(), rel=1e-5)
    assert estimate.constraint("nats").item() == pytest.approx(squares.sum(-1).mean().item() / 0.5, rel=1e-5)


def test_a_mask_beside_a_batch_leaves_its_missing_entries_missing(case):
    model, guide, x, known, y = case
    more = torch.rand(x.shape) > 0.3
    both = Batch.of(x.where(known & more, math.nan), {"y": y})
    loss = ELBO()(model, guide)
    torch.manual_seed(1)
    one = loss(Batch.of(x.where(known, math.nan), {"y": y}), observed=more)
    torch.manual_seed(1)
    assert torch.equal(one, loss(both))


def test_missing_entries_of_what_is_no_entry_of_the_model_are_refused():
    x = torch.tensor([[1.0, math.nan, 3.0]])
    encode, program = nn.Linear(3, 4), hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4))
    with pytest.raises(ContractError, match=r"missing entries and the shape \(3,\), but the model's site 'x' has \(4,\)"):
        ELBO()(EncodingModel(program, encode), hv.BottomUp([hv.Gaussian(3, 2)]))(x)
    same = EncodingModel(hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 3)), nn.Linear(3, 3))
    with pytest.raises(ConfigError, match="features of x, and the pixels that they decode to, need all of them. Fill the"):
        PixelError(nn.Linear(3, 3))(same, hv.BottomUp([hv.Gaussian(3, 2)]))(x)


def test_what_is_given_is_checked(case):
    model, guide, x, known, y = case
    loss = ELBO()(model, guide)
    for ask, error, text in (
        (lambda: loss(x, y=y[:3]), ConfigError, "'y' has 3 rows, but x has 40. Give one row for each datum"),
        (lambda: loss(x, observed=known[:, :3]), ConfigError, r"'observed' has the shape \(40, 3\), but x has \(40, 5\)"),
        (lambda: loss(x, observed=known.float()), ConfigError, "'observed' is of torch.float32. Give booleans"),
        (lambda: loss(x, label=y), ContractError, "neither model nor guide takes the given input 'label', only y. Add it to"),
        (lambda: loss(x, y=["a"] * 40), DataError, "y is list of <U1, but data are numbers"),
        (lambda: loss(), ContractError, "a pass is of x, .*but it was given no x"),
        (lambda: hv.generate(model, 3, given={"y": y[:2]}), ConfigError, "'y' has 2 rows, but the size is 3. Give one row, or"),
        (
            lambda: hv.generate(model, 3, given={"label": y[:3]}),
            ContractError,
            "the model does not take the given input 'label'",
        ),
        (lambda: Batch(x, {"size": y}), ConfigError, "cannot be called 'size'"),
        (lambda: loss(Rows(x), observed=known), ConfigError, "mark missing entries by NaN"),
    ):
        with pytest.raises(error, match=text):
            ask()


def test_a_pair_that_wants_an_input_and_is_given_none_says_so():
    class Model(nn.Module):
        def forward(self, x=None, size=1, *, y):
            with pyro.plate("data", size if x is None else len(x)):
                z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(z + y, 1.0).to_event(1), obs=x)

    def guide(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("z1", dist.Normal(x - y, 1.0).to_event(1))

    x, y, plain = torch.randn(5, 2), torch.randn(5, 2), hv.BottomUp([hv.Gaussian(2, 2)])
    text = r"takes the input 'y', which was not given. Give it beside x: loss\(x, y=y\)"
    for ask in (
        lambda: ELBO()(Model(), guide)(x),
        lambda: ELBO()(Model(), plain)(x),
        lambda: hv.generate(Model(), 5),
        lambda: hv.log_likelihood(Model(), plain, x, particles=2),
    ):
        with pytest.raises(ContractError, match=text):
            ask()

    class Optional(Model):
        def forward(self, x=None, size=1, y=None):
            return super().forward(x, size, y=y.float())

    for ask in (lambda: ELBO()(Optional(), plain)(x), lambda: hv.generate(Optional(), 5)):
        with pytest.raises(ContractError, match=text):
            ask()
    with pytest.raises(ContractError, match=r"was given hv.Rows. Read some of them: loss\(rows\[:64\]\)"):
        ELBO()(Model(), guide)(Rows(x), y=y)
    assert ELBO()(Model(), guide)(Rows(x)[:64], y=y).isfinite()
    assert ELBO()(Model(), guide)(x, y=y).isfinite() and ELBO()(Model(), plain)(x, y=y).isfinite()  # one of the two takes it
    assert hv.generate(Model(), 5, given={"y": y[:1]})["x"].shape == (5, 2)
    assert hv.latents(guide, x, given={"y": y})["z1"].shape == (5, 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_given_input_that_is_not_finite_is_refused(case, bad):
    model, guide, x, _, y = case
    y = y.index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(bad, dtype=y.dtype))
    loss = ELBO()(model, guide)
    for ask in (
        lambda: loss(x, y=y),
        lambda: loss(Batch.of(x, {"y": y})),
        lambda: hv.capture(loss, compile=False)(x, y=y),
        lambda: hv.log_likelihood(model, guide, x, particles=2, given={"y": y}),
        lambda: hv.fit(loss, Rows.of(x), hv.TrainConfig(steps=1), given={"y": y}, progress=False),
    ):
        with pytest.raises(
            DataError,
            match="the given input 'y' is NaN or infinite for 1 of .* Leave these rows out, or give it a value in each",
        ):
            ask()
    kept = torch.arange(len(x)) != 2
    assert loss(x[kept], y=y[kept]).isfinite()


@pytest.mark.parametrize("particles", [1, 4])
def test_a_support_that_depends_on_the_latents(particles):
    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else x.shape[0]):
            z = pyro.sample("z1", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            return pyro.sample("x", dist.Uniform(-5 - z.exp(), 5 + z.exp()).to_event(1), obs=x)

    loss = ELBO(particles=particles)(model, hv.BottomUp([hv.Gaussian(3, 3)]))
    x = torch.rand(6, 3)
    x[1, 2] = torch.nan
    assert loss(x).isfinite()
    x[3, 1] = 1e9
    with pytest.raises(DataError, match=r"x has the value 1e\+09 at index \(3, 1\) of this batch"):
        loss(x)
    assert loss(x, observed=x < 5).isfinite()


def test_a_program_that_takes_nothing_more_is_called_as_before():
    calls = []

    class Model(nn.Module):
        def forward(self, x=None, size=1):
            calls.append((None if x is None else x.shape, size))
            with pyro.plate("data", size if x is None else len(x)):
                z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    guide = hv.BottomUp([hv.Gaussian(2, 2)])
    x = torch.randn(4, 2).where(torch.eye(4, 2) == 0, torch.nan)
    assert ELBO()(Model(), guide)(x).isfinite() and calls[-1] == ((4, 2), 1)
    hv.generate(Model(), 3)
    assert calls[-1] == (None, 3)


def test_training_is_told_what_is_beside_the_data(case):
    _, _, x, known, y = case
    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian([(2,), (3,)], 5), given=["y"])
    guide = hv.BottomUp([hv.Gaussian([(5,), (5,), (3,)], 2)], given=["y"], mask=True)
    rows = []
    for give in (
        lambda: {"x": x.float(), "given": {"y": y}},
        lambda: {"x": x.numpy(), "given": {"y": np.asarray(y)}},
        lambda: {"x": Batch.of(x.float(), {"y": y.float()})},
        lambda: {"x": x.float().nan_to_num(), "given": {"y": y}, "observed": known},
    ):
        torch.manual_seed(0)
        for module in (*model.modules(), *guide.modules()):
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        settings = hv.TrainConfig(steps=4, batch_size=8, log_every=1)
        validation = Batch.of(x.float(), {"y": y.float()})
        rows.append(hv.fit(ELBO()(model, guide), **give(), config=settings, validation=validation, progress=False))
    assert all(row == rows[0] for row in rows) and all(math.isfinite(row["loss"]) for row in rows[0])


@pytest.mark.parametrize("unknown", [torch.nan, torch.inf])
def test_a_given_input_that_is_unknown_for_some_data_is_refused_before_it_spoils_the_weights(case, unknown):
    model, guide, x, _, y = case
    y = y.clone()
    y[[1, 4]] = unknown
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for call in (
        lambda: hv.fit(ELBO()(model, guide), x, hv.TrainConfig(steps=2, compile=False), given={"y": y}, progress=False),
        lambda: hv.fit(ELBO()(model, guide), Batch.of(x, {"y": y}), hv.TrainConfig(steps=2, compile=False), progress=False),
        lambda: hv.log_likelihood(model, guide, x, particles=5, given={"y": y}),
        lambda: ELBO()(model, guide)(x, y=y),
    ):
        with pytest.raises(DataError, match=rf"'y' is NaN or infinite for 2 of {len(x)} data"):
            call()
    assert all(map(torch.equal, before, model.parameters()))


def test_help_says_what_stands_beside_x():
    parameters = inspect.signature(hv.impute).parameters
    assert [parameters[name].annotation for name in ("given", "observed")] == [Mapping[str, Any] | None, torch.Tensor | None]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nan_is_a_missing_entry_on_every_device():
    model, guide = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 3)).cuda(), hv.BottomUp([hv.Gaussian(3, 2)]).cuda()
    x = torch.tensor([[1.0, math.nan, 3.0], [4.0, 5.0, 6.0]])
    for data in (x.numpy(), x.cuda(), Batch(x.cuda())):
        filled = hv.impute(model, guide, data)
        assert filled.is_cuda and filled.isfinite().all() and torch.equal(filled[1].cpu(), x[1])
        assert hv.log_likelihood(model, guide, data, particles=5).isfinite().all()
