"""Imputation and Gibbs chains of incomplete data, against the conditional Gaussian of a factor model."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_hvae as hv
from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError, DivergenceError, FewEffectiveSamplesWarning
from tests.factor_model import ExactGuide, FactorModel, incomplete_data


@pytest.fixture
def case():
    torch.manual_seed(0)
    model = FactorModel()
    return model, ExactGuide(model), *incomplete_data(model, size=6)


def laws(model, x, known, y):
    """For each datum with missing entries: its row, mean and covariance of these entries."""
    means = model.law(y)[0]
    for row in range(len(x)):
        if not known[row].all():
            with torch.no_grad():
                yield row, *model.conditional(x[row], known[row], means[row])


@pytest.mark.parametrize("error", [0.0, 0.05])  # of the guide: weights make up for it
def test_means_are_those_of_the_conditional_gaussian(case, error):
    model, _, x, known, y = case
    filled = hv.impute(model, ExactGuide(model, error), x, particles=20_000, given={"y": y})
    assert filled.shape == x.shape and torch.equal(filled[known], x[known])
    for row, mean, covariance in laws(model, x, known, y):
        # E[x | z] varies less than x.
        assert ((filled[row][~known[row]] - mean).abs() < 6 * covariance.diagonal().sqrt() / math.sqrt(10_000)).all()


@pytest.mark.parametrize("error", [0.0, 0.05])
def test_draws_have_the_mean_and_the_covariance_of_the_conditional_gaussian(case, error):
    model, _, x, known, y = case
    count = 4000
    draws = hv.impute(model, ExactGuide(model, error), x, particles=20_000, draws=count, given={"y": y})
    assert draws.shape == (count, *x.shape) and torch.equal(draws[:, known], x[known].expand(count, -1))
    for row, mean, covariance in laws(model, x, known, y):
        values, scale = draws[:, row][:, ~known[row]], covariance.diagonal().sqrt()
        # Draws share the particles, of which there are five times as many.
        assert ((values.mean(0) - mean).abs() < 5 * scale * math.sqrt(1 / count + 1 / 20_000)).all()
        error_of_covariance = torch.outer(scale, scale) * math.sqrt(2 / count + 2 / 20_000)
        assert ((values.T.cov() - covariance).abs() < 5 * error_of_covariance).all()


def test_a_chain_keeps_what_is_observed_and_draws_what_is_missing_from_its_conditional_law(case):
    model, guide, x, known, y = case
    row = 3
    x, known, y = (value[row : row + 1].repeat(2000, 1) for value in (x, known, y))
    assert 0 < known[0].sum() < 5
    chains = hv.gibbs(model, guide, x, steps=60, burn_in=59, given={"y": y})
    assert torch.equal(chains.x[0][known], x[known]) and chains.x.isfinite().all()
    assert torch.equal(chains.trail[0].isnan(), ~known[:8]) and chains.trail[1:].isfinite().all()
    ((_, mean, covariance),) = laws(model, x[:1], known[:1], y[:1])
    values, scale = chains.x[0][:, ~known[0]], covariance.diagonal().sqrt()
    assert ((values.mean(0) - mean).abs() < 5 * scale / math.sqrt(2000)).all()
    assert ((values.T.cov() - covariance).abs() < 5 * torch.outer(scale, scale) * math.sqrt(2 / 2000)).all()
    complete = hv.gibbs(model, guide, x.nan_to_num(), steps=2, given={"y": y})
    assert not torch.equal(complete.x[0][known], x[known])  # without missing entries everything is drawn


def test_data_of_every_kind_and_complete_data(case):
    model, guide, x, known, y = case
    fill = []
    for data, beside in (
        (x, {"given": {"y": y}}),
        (x.numpy(), {"given": {"y": y.numpy()}}),
        (x.nan_to_num(), {"given": {"y": y}, "observed": known}),
        (Batch.of(x, {"y": y}), {}),
        (Rows(x, given={"y": y}, incomplete=True), {}),
    ):
        torch.manual_seed(1)
        fill.append(hv.impute(model, guide, data, particles=50, **beside))
    assert all(torch.equal(value, fill[0]) for value in fill)
    whole = torch.randn(3, 5, dtype=torch.float64)
    assert torch.equal(hv.impute(model, guide, whole), whole)
    assert torch.equal(hv.impute(model, guide, whole, draws=2), whole.expand(2, 3, 5))


def test_pieces_do_not_change_the_result_but_for_noise(case, monkeypatch):
    model, guide, x, known, y = case
    at_once = hv.impute(model, guide, x, particles=20_000, given={"y": y})
    monkeypatch.setattr("pyro_hvae.inference.imputation.VALUES", 2 * 20_000 * 5)
    assert (hv.impute(model, guide, x, particles=20_000, given={"y": y}) - at_once).abs().max() < 0.2
    assert hv.impute(model, guide, x, particles=100, draws=3, given={"y": y}).shape == (3, 6, 5)


def test_classes_are_the_most_probable_ones():
    class Classes(nn.Module):
        def forward(self, x=None, size=1):
            with pyro.plate("data", size if x is None else len(x)):
                z = pyro.sample("z1", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                logits = torch.tensor([0.0, 1.0, 0.5]).expand(*z.shape[:-1], 2, 3)
                return pyro.sample("x", dist.Categorical(logits=logits).to_event(1), obs=x)

    x = torch.tensor([[2.0, math.nan], [math.nan, 0.0]])
    guide = hv.BottomUp([hv.Gaussian(2, 1)])
    assert hv.impute(Classes(), guide, x).tolist() == [[2.0, 1.0], [1.0, 0.0]]
    draws = hv.impute(Classes(), guide, x, draws=3000)[:, 1, 0]
    expected = torch.tensor([0.0, 1.0, 0.5]).softmax(0)
    assert (draws.long().bincount(minlength=3) / 3000 - expected).abs().max() < 0.05


def test_few_effective_samples_are_told(case):
    model, _, x, _, y = case
    with pytest.warns(
        FewEffectiveSamplesWarning, match=r"median effective sample size is \d.\d of 200, below 10. Take more"
    ) as caught:
        hv.impute(model, ExactGuide(model, error=30.0), x, particles=200, given={"y": y})
    assert caught[0].filename == __file__  # the line of the caller
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hv.impute(model, ExactGuide(model), x, particles=200, given={"y": y})


@pytest.mark.parametrize(
    ("options", "text"),
    [({"particles": 1}, "at least two particles, got particles=1"), ({"draws": -1}, "from 0 .means. to 10000, got -1")],
)
def test_numbers_out_of_range(case, options, text):
    model, guide, x, _, _ = case
    with pytest.raises(ConfigError, match=text):
        hv.impute(model, guide, x, **options)


@pytest.mark.parametrize("draws", [0, 2])
def test_weights_that_are_no_numbers_give_no_values(draws):
    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z * math.nan, 1.0).to_event(1), obs=x)

    x = torch.tensor([[2.0, math.nan], [math.nan, 0.0]])
    with pytest.raises(DivergenceError, match="the importance weights of 2 of 2 data are no numbers"):
        hv.impute(model, hv.BottomUp([hv.Gaussian(2, 2)]), x, particles=5, draws=draws)
