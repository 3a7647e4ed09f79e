"""The pixel error: a reconstruction cost of the image that features decode to, by hand."""

import pytest
import torch
from patch_pairs import OVERLAPPING, TILING, Pair, texture_mean
from torch.testing import assert_close

from pyro_hvae.inference.bounds_and_active_units import bound
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.objectives.pixel_error import PixelError

LAYOUTS = pytest.mark.parametrize("patches", [OVERLAPPING, TILING], ids=["overlapping", "tiling"])


@LAYOUTS
def test_the_pixel_error_by_hand(float64, patches):
    """It counts as reconstruction cost: in the loss, weighted as x is, and in no bound."""
    pair = Pair(patches)
    objective = PixelError(pair.decode)(pair.encoded, pair.seen)
    torch.manual_seed(3)
    found = objective.estimate(pair.x)
    torch.manual_seed(3)
    plain = ELBO()(pair.encoded, pair.seen).estimate(pair.x)
    off = pair.x - patches.put(texture_mean(pair, pair.encode(pair.x)))
    expected = off.square().flatten(1).sum(1).mean()
    assert set(found.penalties) == {"pixels"} and not plain.penalties
    assert_close(found.penalties["pixels"], expected)
    assert_close(found.loss(), plain.loss() + expected)
    for name in plain.terms:
        assert_close(found.terms[name], plain.terms[name])
    assert_close(found.bound_unweighted(), plain.bound_unweighted())
    assert_close(found.distortion(), plain.distortion())
    # The weight of the rate alone leaves it, that of x takes it along.
    assert_close(found.loss({"z2": 0.0}), plain.distortion() + expected)
    assert_close(found.loss({"x": 0.25}), 0.25 * (plain.distortion() + expected) + plain.rates()["z2"])
    torch.manual_seed(3)
    rows = bound(objective.elbo, pair.encoded, pair.seen, pair.x)
    assert rows["elbo"] == pytest.approx(plain.bound_unweighted().mean().item())


def test_the_gradient_of_the_pixel_error(float64):
    """Into both halves of the texture VAE, whatever z2 is; a step against it makes the error less."""
    pair = Pair()
    elbo = PixelError(pair.decode)

    def error():
        return elbo.estimate(pair.encoded, pair.seen, pair.x).penalties["pixels"]

    before = error()
    before.backward()
    assert all(w.grad is None for m in (pair.p, pair.q) for w in m.parameters())
    step, squares = 1e-6, 0.0
    for module in (pair.encode, pair.decode):
        for parameter in module.parameters():
            if parameter.grad is not None:
                squares += parameter.grad.square().sum().item()
                parameter.data.sub_(step * parameter.grad)
        assert sum(w.grad.square().sum() for w in module.parameters() if w.grad is not None) > 0
    assert (before - error()).item() == pytest.approx(step * squares, rel=1e-2)
