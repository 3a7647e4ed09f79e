"""Draws, log-likelihoods and log weights as arrays and as a data tree, against closed forms (float64)."""

import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import LinearGaussianChain
from torch import nn

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, DeviceError
from pyro_hvae.inference import data_tree, draw_memory
from pyro_hvae.inference.draw_memory import require_memory

pytestmark = pytest.mark.usefixtures("float64")
CHAIN = LinearGaussianChain((3, 2))
X = CHAIN.evidence.sample((7,))


@pytest.fixture(scope="module")
def groups():
    return hv.posterior_draws(CHAIN.model(), CHAIN.guide(0.1), X, draws=2000, seed=3)


def test_every_array_has_its_shape(groups):
    shapes = {group: {name: value.shape for name, value in held.items()} for group, held in groups.items()}
    assert shapes == {
        "posterior": {"z1": (1, 2000, 7, 2), "z2": (1, 2000, 7, 3)},
        "sample_stats": {"log_weight": (1, 2000, 7)},
        "log_likelihood": {"x": (1, 2000, 7)},
        "importance": {"log_likelihood": (7,), "effective": (7,), "khat": (7,)},
        "observed_data": {"x": (7, 4)},
    }


def test_the_weights_are_those_of_the_draws(groups):
    z1, z2 = (torch.from_numpy(groups["posterior"][site][0]) for site in ("z1", "z2"))
    model, guide = CHAIN.model(), CHAIN.guide(0.1)
    x = X.expand(2000, 7, 4)
    log_x = model.likelihood(z1).log_prob(x)
    log_w = log_x + model.levels[0](z2).log_prob(z1) + model.prior().log_prob(z2)
    log_w = log_w - guide.levels[0](x).log_prob(z1) - guide.levels[1](z1).log_prob(z2)
    np.testing.assert_allclose(groups["log_likelihood"]["x"][0], log_x.detach())
    np.testing.assert_allclose(groups["sample_stats"]["log_weight"][0], log_w.detach())


def test_the_exact_guide_has_constant_weights_the_evidence():
    found = hv.posterior_draws(CHAIN.model(), CHAIN.guide(), X, draws=40)["importance"]
    np.testing.assert_allclose(found["log_likelihood"], CHAIN.evidence.log_prob(X))
    np.testing.assert_allclose(found["effective"], 40)
    assert (found["khat"] == -np.inf).all()


def test_a_narrow_guide_has_a_heavy_tail(groups):
    def khat(error):  # scales are off by exp(error)
        return hv.posterior_draws(CHAIN.model(), CHAIN.guide(error), X, draws=2000)["importance"]["khat"].mean()

    assert khat(0.3) < 0.3 and khat(-0.8) > 0.7


def test_batches_and_the_caller_see_no_difference(groups, monkeypatch):
    state = torch.random.get_rng_state()
    again = hv.posterior_draws(CHAIN.model(), CHAIN.guide(0.1), X, draws=2000, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(again["posterior"]["z1"], groups["posterior"]["z1"])
    assert data_tree.ROWS // 2000 == 1  # so far a batch for each datum
    monkeypatch.setattr(data_tree, "ROWS", 2000 * len(X))
    at_once = hv.posterior_draws(CHAIN.model(), CHAIN.guide(0.1), X, draws=2000)
    np.testing.assert_allclose(at_once["importance"]["log_likelihood"], groups["importance"]["log_likelihood"], atol=0.3)


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.prior, self.px, self.q = hv.StandardNormal(2), hv.Gaussian([(2,), (3,)], 4), hv.Gaussian([(4,), (3,)], 2)

    def model(self, x=None, size=1, y=None):
        with pyro.plate("data", size if x is None else len(x)):
            return pyro.sample("x", self.px(pyro.sample("z1", self.prior()), y), obs=x)

    def guide(self, x, y):
        with pyro.plate("data", len(x)):
            return pyro.sample("z1", self.q(x, y))


def test_given_inputs_and_missing_entries_stand_beside():
    pair, y = Conditional(), torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    x = torch.randn(4, 4)
    x[1, 2] = torch.nan
    found = hv.posterior_draws(pair.model, pair.guide, x, given={"y": y}, draws=30)
    np.testing.assert_array_equal(found["constant_data"]["y"], y)
    np.testing.assert_array_equal(found["observed_data"]["x"], x)
    z = torch.from_numpy(found["posterior"]["z1"][0])
    log_p = pair.px(z, y.expand(30, 4, 3)).base_dist.log_prob(x.nan_to_num())
    np.testing.assert_allclose(found["log_likelihood"]["x"][0], (log_p * ~x.isnan()).sum(-1).detach())


def test_arviz_reads_the_tree():
    az = pytest.importorskip("arviz_base")
    chains = hv.gibbs(CHAIN.model(), CHAIN.guide(), X, steps=20, burn_in=4, thin=2)
    tree = hv.to_datatree(CHAIN.model(), CHAIN.guide(0.1), X, draws=50, chains=chains)
    assert tree.posterior.z1.dims == ("chain", "draw", "datum", "z1_dim_0") and tree.posterior.z1.shape == (1, 50, 7, 2)
    assert tree.importance.khat.dims == ("datum",) and tree.observed_data.x.dims == ("datum", "x_dim_0")
    assert tree.gibbs.x.dims == ("chain", "draw", "x_dim_0") and tree.gibbs.x.shape == (7, 8, 4)
    np.testing.assert_array_equal(tree.gibbs.z1.values[:, 3], chains.z["z1"][3].detach())
    assert az.extract(tree, group="posterior")["z1"].sizes["sample"] == 50


def test_the_tree_without_arviz_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(DeviceError, match=r"needs the extra 'arviz'"):
        hv.to_datatree(CHAIN.model(), CHAIN.guide(), X, draws=50)


def points(x):
    with pyro.plate("data", len(x)):
        for site, width in (("z1", 2), ("z2", 3)):
            pyro.sample(site, dist.Delta(torch.zeros(len(x), width)).to_event(1))


def test_impossible_questions_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="draws=29.*30 draws or more"):
        hv.posterior_draws(CHAIN.model(), CHAIN.guide(), X, draws=29)
    with pytest.raises(ConfigError, match="all mass on a point"):
        hv.posterior_draws(CHAIN.model(), points, X, draws=50)
    monkeypatch.setattr(draw_memory, "MOST_VALUES", 40 * 7 * 5 - 1)
    with pytest.raises(ConfigError, match="40 draws of 5 latents for 7 data"):
        hv.encode(CHAIN.guide(), X, draws=40)
    assert hv.encode(CHAIN.guide(), X, draws=40, layers=["z2"]).draws["z2"].shape == (7, 40, 3)


def test_too_many_draws_are_refused_before_they_are_made(monkeypatch):
    exact, shapes = CHAIN.guide(), []

    def guide(x):
        shapes.append(tuple(x.shape))
        return exact(x)

    with pytest.raises(ConfigError, match=r"^60,000,000 draws of 5 latents for 7 data are 2.1e\+09 numbers, more"):
        hv.posterior_draws(CHAIN.model(), guide, X, draws=60_000_000)
    assert shapes == [(1, 4)]
    # The advice is tried: what it names is the most that goes.
    monkeypatch.setattr("pyro_hvae.inference.draw_memory.MOST_VALUES", 5 * 3 * 40 + 1)
    with pytest.raises(ConfigError, match=r"Take at most 17 draws or 3 data at a time\.$"):
        hv.posterior_draws(CHAIN.model(), guide, X, draws=40)
    assert hv.posterior_draws(CHAIN.model(), guide, X[:3], draws=40)["importance"]["khat"].shape == (3,)
    require_memory(5, 7, 17)
    for width, data, draws, advice in ((600, 1, 2, "1 draws"), (2, 400, 2, "150 data"), (700, 2, 2, "a few draws")):
        with pytest.raises(ConfigError, match=f"Take at most {advice}"):
            require_memory(width, data, draws)
