"""The validation data whose bound a training follows."""

import torch

import pyro_hvae as hv
from pyro_hvae.data import Batch, Rows
from pyro_hvae.training.validation import MOST, choose_validation


def test_few_data_are_all_taken():
    x = torch.randn(MOST, 2)
    assert torch.equal(choose_validation(x)[:], x) and len(choose_validation(Rows(x))) == MOST


def test_of_many_data_the_same_choice_is_taken_with_what_stands_beside_them():
    x = torch.arange(3.0 * MOST)[:, None]
    state = torch.get_rng_state()
    one, other = choose_validation(x), choose_validation(Batch(x, {"y": 2 * x}))
    assert torch.equal(state, torch.get_rng_state())
    places = one[:][:, 0]
    assert len(places.unique()) == MOST and torch.equal(places, places.sort().values)
    assert torch.equal(other[:].x, one[:]) and torch.equal(other[:].given["y"], 2 * one[:])
    # Every part of the data is in it by its share.
    shares = torch.histc(places, 3, 0, 3 * MOST) / MOST
    assert (shares - 1 / 3).abs().max() < 4 * (2 / 9 / MOST) ** 0.5


def test_a_training_follows_the_chosen_data(monkeypatch):
    monkeypatch.setattr("pyro_hvae.training.validation.MOST", 8)
    torch.manual_seed(0)
    pair = hv.Chain(hv.StandardNormal(1), [], hv.Gaussian(1, 2)), hv.BottomUp([hv.Gaussian(2, 1)])
    x, sizes = torch.randn(100, 2), []
    monkeypatch.setattr(
        "pyro_hvae.training.stage_loop.validation_bound", lambda objective, held, seed: sizes.append(len(held)) or 0.0
    )
    config = hv.TrainConfig(steps=4, batch_size=10, eval_every=2, compile=False)
    hv.fit(hv.ELBO()(*pair), x, config=config, validation=x, progress=False)
    assert sizes == [8, 8]
