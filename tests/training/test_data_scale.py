"""The warning about a likelihood whose scale is far from that of the data."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_hvae as hv
from pyro_hvae.data import Rows
from pyro_hvae.data.rows import bernoulli
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.training.data_scale import describe_scale

NORMAL = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
X = (NORMAL - NORMAL.mean(0)) / NORMAL.std(0, unbiased=False)  # standard deviation 1 in every column


def model(scale, event=3, likelihood=hv.Gaussian, **options):
    return hv.Chain(hv.StandardNormal(2), [], likelihood(2, event, (4,), scale=scale, **options))


@pytest.mark.parametrize(
    ("factor", "warned"), [(1e3, True), (5.2, True), (5.0, False), (1.0, False), (0.2, False), (0.19, True)]
)
@pytest.mark.parametrize("likelihood", [hv.Gaussian, hv.Laplace])
def test_five_times_the_scale_and_a_fifth_of_it(factor, warned, likelihood):
    for x in (factor * 0.2 * X + 7, Rows(factor * 0.2 * X)):
        assert bool(describe_scale(x, model(0.2, likelihood=likelihood))) is warned


def test_the_numbers_are_those_of_the_data():
    x = X * torch.tensor([300.0, 40.0, 0.0])  # the constant column does not count
    text = describe_scale(x, model(2.0))
    deviation = ((300**2 + 40**2) / 2) ** 0.5
    start = (
        f"the training data have a standard deviation of {deviation:.3g} (columns from 40 to 300), {deviation / 2:.3g} times"
    )
    assert text.startswith(f"{start} the sigma of their Gaussian likelihood, 2: squared errors drown")
    assert "standardize=true" in text and f"sigma={deviation / 4:.2g}, and train it by learn_sigma=true" in text
    assert describe_scale(x, model(float(f"{deviation / 4:.2g}"))) == ""  # the advice, followed
    assert describe_scale(x, model(float(f"{deviation / 4:.2g}"), learn_scale=True)) == ""
    small = describe_scale(1e-3 * X, model(0.2))
    assert "0.005 times the sigma" in small and "what the data differ in is taken for noise" in small


def test_standardised_data_and_images_are_not_told_to_be_standardised():
    assert "standardize" not in describe_scale(X, model(50.0))
    text = describe_scale(X[:, :, None], model(50.0, event=(3, 1)))
    assert text and "standardize" not in text and "columns" not in text and ". Give the likelihood a scale" in text
    laplace = describe_scale(100 * X, model(0.2, likelihood=hv.Laplace))
    assert "times the scale of their Laplace likelihood, 0.2" in laplace and "learn_sigma" not in laplace


def test_missing_entries_are_left_out():
    known = torch.rand(X.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    holes = X.where(known, torch.nan)
    deviation = math.sqrt(np.nanvar(holes.numpy(), axis=0).mean())
    assert f"a standard deviation of {deviation:.3g} " in describe_scale(holes, model(float(deviation) / 100))


def test_other_likelihoods_and_programs_without_one():
    assert describe_scale(1e3 * X, hv.Chain(hv.StandardNormal(2), [], hv.Bernoulli(2, 3, (4,)))) == ""
    assert describe_scale(1e3 * X, lambda x: None) == ""
    assert describe_scale(torch.ones(5, 3), model(0.2)) == ""
    assert describe_scale((1e3 * X).where(X < 2, torch.inf), model(0.2)) == ""

    def rated(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z.new_zeros(3), torch.tensor([1.0, 10.0, 100.0])).to_event(1), obs=x)

    assert describe_scale(X * torch.tensor([1.0, 10.0, 100.0]), rated) == ""  # a sigma for each column
    assert "57.7 times" in describe_scale(X * torch.tensor([100.0, 10.0, 100.0]), rated)


def test_fit_warns_once_before_it_trains(tmp_path):
    def fit(x, **options):
        torch.manual_seed(0)
        objective = hv.ELBO()(model(1.0), hv.BottomUp([hv.Gaussian(3, 2, (4,), init_log_scale=-3.0)]))
        return hv.fit(objective, x, hv.TrainConfig(steps=2, batch_size=10, compile=False), progress=False, **options)

    assert len(fit(X)) == 1
    with pytest.warns(UserWarning, match="^the training data have a standard deviation of 100, .*standardize=true") as caught:
        fit(100 * X, out=tmp_path / "run")
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "standardize=true" in RunDirectory(tmp_path / "run").read_json("run.json")["warning"]


def test_the_random_stream_stays_where_it_is():
    """Also where the data draw from it when they are read."""
    x, small = Rows(torch.full((9, 3), 128, dtype=torch.uint8), bernoulli), model(1e-3)
    state = torch.get_rng_state()
    assert describe_scale(x, small)
    assert torch.equal(state, torch.get_rng_state())
