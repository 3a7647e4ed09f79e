"""Every question of a conditional pair, p(x | y): against closed forms of linear models."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_hvae as hv
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, ContractError, DataError
from pyro_hvae.inference import (
    InformationFlow,
    ancestral,
    bound,
    direct_data_dependence,
    kl_per_dimension,
    likelihood_name,
    prior_latents,
)
from pyro_hvae.objectives import parents
from tests.factor_model import ExactGuide, FactorModel, incomplete_data


@pytest.fixture
def case():
    torch.manual_seed(0)
    model = FactorModel()
    return model, ExactGuide(model), incomplete_data(model, size=12)[0].nan_to_num(0.5), incomplete_data(model, size=12)[2]


def pair(width=3, scale=0.5):
    """A two-level chain and its guide, both given y of `width` numbers."""
    torch.manual_seed(1)
    levels = [hv.Gaussian([(2,), (width,)], 2, (8,), scale=scale)]
    model = hv.Chain(hv.StandardNormal(2), levels, hv.Gaussian([(2,), (width,)], 4, (8,), scale=scale), given=["y"])
    return model, hv.BottomUp([hv.Gaussian([(4,), (width,)], 2), hv.Gaussian([(2,), (width,)], 2)], given=["y"])


@pytest.mark.parametrize("compile", [False, True])
def test_samples_have_the_law_of_x_given_y(case, compile):
    model, _, _, y = case
    size = 8192 if compile else 20_000  # two chunks of the compiled graph
    for given in (y[:1], y[:1].numpy(), y[:1].expand(size, -1)):
        x = hv.generate(model, size, given={"y": given}, mean=False, compile=compile)["x"]
        mean, covariance = (law.detach() for law in model.law(y[:1]))
        scale = covariance.diagonal().sqrt()
        assert ((x.mean(0) - mean[0]).abs() < 5 * scale / math.sqrt(size)).all()
        assert ((x.T.cov() - covariance).abs() < 5 * torch.outer(scale, scale) * math.sqrt(2 / size)).all()


def test_a_chain_of_a_conditional_pair_stays_in_the_law_of_x_given_y(case):
    model, guide, _, y = case
    size = 3000
    start = hv.generate(model, size, given={"y": y[:1]}, mean=False)["x"]
    x = hv.gibbs(model, guide, start, steps=30, burn_in=29, given={"y": y[:1].expand(size, -1)}).x[0]
    mean, covariance = (law.detach() for law in model.law(y[:1]))
    scale = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean[0]).abs() < 5 * scale / math.sqrt(size)).all()
    assert ((x.T.cov() - covariance).abs() < 5 * torch.outer(scale, scale) * math.sqrt(2 / size)).all()
    other = hv.gibbs(model, guide, start, steps=30, burn_in=29, given={"y": y[:1].expand(size, -1) + 3}).x[0]
    assert ((other.mean(0) - mean[0]).abs() > 5 * scale / math.sqrt(size)).any()  # it would leave it under another y


def test_the_same_code_under_another_input(case):
    model, guide, x, y = case
    own = hv.reconstruct(model, guide, x, given={"y": y})
    other = hv.reconstruct(model, guide, x, given={"y": y}, under={"y": y[:1] + 1})
    assert torch.allclose(other - own, (y[:1] + 1 - y) @ model.v.T)
    each = hv.reconstruct(model, guide, x, given={"y": y}, under={"y": y + 2})
    assert torch.allclose(each - own, 2 * model.v.sum(1).expand(12, -1))
    with pytest.raises(ConfigError, match="'y' has 2 rows, but the size is 12"):
        hv.reconstruct(model, guide, x, given={"y": y}, under={"y": y[:2]})


def test_paths_between_data_of_one_input_and_of_two():
    model, guide = pair()
    x, y = torch.randn(2, 4), torch.eye(3)
    path = hv.interpolate(model, guide, x[0], x[1], nodes=50, given={"y": y[:1]})
    assert torch.allclose(path.images[-1], hv.reconstruct(model, guide, x[1:], given={"y": y[:1]})[0], atol=1e-5)
    again = hv.interpolate(model, guide, x[0], x[1], nodes=50, given={"y": torch.stack([y[0], y[0]])}, under={"y": y[:1]})
    assert torch.equal(path.images, again.images)
    other = hv.interpolate(model, guide, x[0], x[1], nodes=50, given={"y": y[:1]}, under={"y": y[1:2]})
    under = hv.reconstruct(model, guide, x[1:], given={"y": y[:1]}, under={"y": y[1:2]})
    assert torch.allclose(other.images[-1], under[0], atol=1e-5) and not torch.equal(other.images, path.images)
    with pytest.raises(ConfigError, match="the ends of the path have different values of 'y'.*under={'y': value}, of one row"):
        hv.interpolate(model, guide, x[0], x[1], nodes=50, given={"y": y[:2]})
    assert hv.interpolate(model, guide, x[0], x[1], nodes=50, given={"y": y[:2]}, under={"y": y[2:]}).images.isfinite().all()


def test_traversals_layers_and_information_of_a_conditional_pair():
    model, guide = pair()
    x, y = torch.randn(40, 4), torch.eye(3)[torch.arange(40) % 3]
    data = Batch(x, {"y": y})
    values = bound(hv.ELBO(), model, guide, data)
    assert values["elbo"] <= hv.log_likelihood(model, guide, data, particles=500).mean() + 0.1
    with torch.no_grad():
        for p in guide.parameters():
            p.mul_(3)
    rows = hv.traverse(model, guide, data[:1], data)
    assert rows.images.shape[1:] == (9, 4)
    assert torch.equal(hv.traverse(model, guide, x[:1], data, given={"y": y[:1]}).images, rows.images)
    other = hv.traverse(model, guide, data[:1], data, under={"y": y[1:2]})
    assert other.units == rows.units and not torch.equal(other.images, rows.images)
    assert hv.layer_samples(model, "z1", 5, guide, data[:1]).shape == (5, 4)
    assert hv.layer_grid(model, "z1", 3, guide=guide, x=data[:1]).shape == (9, 4)
    assert hv.layer_samples(model, "z2", 5, given={"y": y[:1]}).shape == (5, 4)
    assert hv.layer_grid(model, "z2", 3, given={"y": y[:1]}).shape == (9, 4)
    flow = InformationFlow(data).row(guide)
    assert flow == InformationFlow(data).row(guide) and "information.z1" in flow
    q = hv.posteriors(guide, x, given={"y": y})
    assert q["z1"].means.shape == (40, 1, 2)
    assert list(kl_per_dimension(model, guide, data)) == ["z2"]
    assert hv.active_units(guide, data) == hv.active_units(guide, x, given={"y": y})
    assert parents(model, data[:2]) == ["z1"] and likelihood_name(model, {"y": y}) == "Gaussian, sigma 0.5"
    assert prior_latents(model, 7, given={"y": y[:1]})["z1"].shape == (7, 2)


def test_shares_of_layers_are_averages_over_the_given_inputs():
    class Scaled(nn.Module):
        """x = y z1 + z2: the share of z1 is y^2 / (y^2 + 1) under one y."""

        def forward(self, x=None, size=1, *, y):
            with pyro.plate("data", size if x is None else len(x)):
                z2 = pyro.sample("z2", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                z1 = pyro.sample("z1", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(y * z1 + z2, 0.1).to_event(1), obs=x)

    for y in ([[2.0]], [[1.0], [3.0]]):
        square = np.square(y).mean()
        share = hv.layer_shares(Scaled(), 200, 50, given={"y": torch.tensor(y)})["z1"]
        assert abs(share.share - square / (square + 1)) < 4 * share.stderr + 1e-6
    share = hv.layer_shares(Scaled(), 64, 16, given={"y": torch.tensor([[1.0]] * 2000 + [[3.0]] * 2000)})["z1"]
    assert abs(share.share - 5 / 6) < 4 * share.stderr  # of sorted rows, more than there are blocks
    with pytest.raises(ContractError, match="takes the input 'y', which was not given"):
        hv.layer_shares(Scaled())


def test_what_a_guide_reads_of_y_is_a_dependence_on_the_datum():
    def guide(x, y):
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal(x[:, :2] + y[:, :2], 1.0).to_event(1))
            z2 = pyro.sample("z2", dist.Normal(z1 + y[:, :2], 1.0).to_event(1))
            pyro.sample("z3", dist.Normal(z2, 1.0).to_event(1))

    x = torch.randn(60, 4)
    y = torch.eye(3)[torch.arange(60) // 20]  # sorted: the first ones are alike
    assert direct_data_dependence(guide, x, given={"y": y}) == {"z1": True, "z2": True, "z3": False}
    alike = y[:1].expand(60, -1)
    assert direct_data_dependence(guide, x, given={"y": alike}) == {"z1": True, "z2": False, "z3": False}


def test_the_stated_signature_has_the_inputs():
    import inspect

    for question in (hv.log_likelihood, hv.latents, hv.reconstruct, hv.gibbs, hv.traverse, hv.posteriors, hv.impute):
        assert {"given", "observed"} <= set(inspect.signature(question).parameters)
    for question in (hv.generate, hv.interpolate, hv.layer_shares, hv.layer_grid, hv.layer_samples, hv.fit):
        assert "given" in inspect.signature(question).parameters


def test_a_sample_under_a_wrong_number_of_rows(case):
    model, _, _, y = case
    with pytest.raises(ConfigError, match="'y' has no rows, but the size is 2"):
        ancestral(model, 2, given={"y": torch.tensor(1.0)})


def test_values_of_any_type_are_taken_and_those_that_are_not_finite_refused():
    model, guide = pair()  # float32
    x, y = torch.randn(6, 4), np.array([[1.0, 0.0, 2.0]])
    for given in (y, y.astype(np.float16), y.astype(int), y.tolist(), torch.tensor(y)):
        torch.manual_seed(0)
        draws = hv.generate(model, 6, given={"y": given})["x"]
        torch.manual_seed(0)
        assert torch.equal(draws, hv.generate(model, 6, given={"y": torch.tensor([[1.0, 0.0, 2.0]])})["x"])
        assert hv.reconstruct(model, guide, x, given={"y": torch.zeros(6, 3)}, under={"y": given}).dtype == torch.float32
    bad = {"y": y * np.nan}
    for ask in (
        lambda: hv.generate(model, 6, given=bad),
        lambda: hv.reconstruct(model, guide, x, given={"y": torch.zeros(6, 3)}, under=bad),
        lambda: prior_latents(model, 9000, compile=True, given=bad),
    ):
        with pytest.raises(DataError, match="the given input 'y' is NaN or infinite for"):
            ask()
    with pytest.raises(ContractError, match="takes the given input 'q', only y. Add it"):  # `**given` is no name
        hv.log_likelihood(model, guide, x, given={"q": torch.zeros(6)})


def test_an_input_of_the_guide_alone_is_one_of_every_question():
    model = hv.Chain(hv.StandardNormal(2), [hv.Gaussian(2, 2)], hv.Gaussian(2, 4))
    guide = hv.BottomUp([hv.Gaussian([(4,), (3,)], 2), hv.Gaussian([(2,), (3,)], 2)], given=["y"])
    with torch.no_grad():
        for p in guide.parameters():
            p.mul_(3)
    x, y = torch.randn(6, 4), torch.eye(3).repeat(2, 1)
    data, hole = Batch(x, {"y": y}), Batch.of(x.where(torch.arange(4) > 0, torch.nan), {"y": y})
    codes = hv.latents(guide, data, mean=True)
    assert torch.allclose(hv.reconstruct(model, guide, data), hv.generate(model, 6, codes)["x"])
    assert hv.gibbs(model, guide, data, steps=2).x.shape == (1 + 1, 6, 4)
    assert hv.impute(model, guide, hole, particles=50, draws=3).isfinite().all()
    assert hv.interpolate(model, guide, x[0], x[1], nodes=50, given={"y": y[:2]}).images.isfinite().all()
    assert hv.traverse(model, guide, data[:1], data).images.isfinite().all()
    assert hv.layer_samples(model, "z1", 3, guide, data[:1]).shape == (3, 4)
    assert hv.layer_grid(model, "z2", 3, guide=guide, x=data[:1]).shape == (9, 4)
    with pytest.raises(ContractError, match="the model does not take the given input 'y'. Add it to a program"):
        hv.reconstruct(model, guide, data, under={"y": y[:1]})
