"""Pairs under stock SVI: a saved parameter store is restored by name, or a warning says that it is not."""

import warnings

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from pyro_hvae.conditionals import Gaussian, StandardNormal
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import BottomUp
from pyro_hvae.models import Chain
from pyro_hvae.objectives import for_svi


@pytest.fixture(autouse=True)
def clear_store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def make(seed, size=4, **name):
    torch.manual_seed(seed)
    pair = Chain(StandardNormal(2), [], Gaussian(2, size)), BottomUp([Gaussian(size, 2)])
    return pair, SVI(*for_svi(*pair, **name), pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())


def values(pair):
    return [p.detach().clone() for module in pair for p in module.parameters()]


def x(size=4):
    return torch.ones(8, size)


def train_and_save(path, **name):
    pair, svi = make(0, **name)
    for _ in range(5):
        svi.step(x())
    pyro.get_param_store().save(path)
    pyro.clear_param_store()
    return values(pair)


def load(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyro.get_param_store().load(path)


@pytest.mark.parametrize("used", [False, True])
def test_an_equal_name_restores_what_was_trained_and_training_goes_on(tmp_path, used):
    trained = train_and_save(tmp_path / "store", name="vae")
    pair, svi = make(1, name="vae")
    if used:
        svi.step(x())
    load(tmp_path / "store")
    svi.evaluate_loss(x())
    assert all(torch.equal(a, b) for a, b in zip(values(pair), trained, strict=True))
    svi.step(x())
    assert not all(torch.equal(a, b) for a, b in zip(values(pair), trained, strict=True))


@pytest.mark.parametrize("name", [{}, {"name": "vae"}])
def test_another_name_warns_that_nothing_is_restored(tmp_path, name):
    train_and_save(tmp_path / "store", **name)
    pair, svi = make(1)
    before = values(pair)
    load(tmp_path / "store")
    with pytest.warns(UserWarning, match="nothing is restored.*name="):
        svi.evaluate_loss(x())
    assert all(torch.equal(a, b) for a, b in zip(values(pair), before, strict=True))


def test_several_pairs_of_one_process_do_not_warn():
    pairs = [make(seed) for seed in range(3)]  # the test suite makes errors of warnings
    for _ in range(2):
        for _, svi in pairs:
            svi.step(x())
    del pairs
    make(4)[1].step(x())


def test_a_name_of_a_pair_of_other_shapes_is_refused(tmp_path):
    train_and_save(tmp_path / "store", name="vae")
    load(tmp_path / "store")
    with pytest.raises(ConfigError, match="name of its own"):
        make(1, size=5, name="vae")[1].step(x(5))
