"""A program over features that is given images: by hand, and why its end-to-end training degenerates."""

import math

import pytest
import torch
from patch_pairs import OVERLAPPING, TILING, Pair
from torch import nn
from torch.testing import assert_close

from pyro_hvae.conditionals.patch_codes import ImagePosterior
from pyro_hvae.guides import BottomUp
from pyro_hvae.models import EncodingModel
from pyro_hvae.objectives.elbo import ELBO

LAYOUTS = pytest.mark.parametrize("patches", [OVERLAPPING, TILING], ids=["overlapping", "tiling"])


@LAYOUTS
def test_an_encoding_model_equals_the_pair_on_the_codes(float64, patches):
    pair = Pair(patches)
    outer, inner = ELBO()(pair.encoded, pair.seen), ELBO()(pair.model, pair.guide)
    torch.manual_seed(3)
    found = outer.estimate(pair.x)
    torch.manual_seed(3)
    expected = inner.estimate(pair.encode(pair.x))
    assert set(found.terms) == {"x", "z2"}
    for name, term in expected.terms.items():
        assert_close(found.terms[name], term)
    assert_close(found.loss(), expected.loss())
    constant = math.prod(pair.encode.event) / 2 * math.log(math.pi)
    off = pair.encode(pair.x) - pair.p(found.latents["z2"]).mean
    kl = -expected.terms["z2"]
    assert_close(found.loss(), (off.square().flatten(1).sum(1) + kl).mean() + constant)
    assert pair.encoded(size=2).shape == (2, *pair.encode.event)
    ours = {id(p) for p in pair.encoded.parameters()}
    assert ours == {id(p) for module in (pair.p, pair.encode) for p in module.parameters()}


def test_a_held_decoder_is_among_the_parameters_and_changes_nothing(float64):
    pair = Pair()
    holding = EncodingModel(pair.model, pair.encode, pair.decode)
    torch.manual_seed(3)
    found = ELBO().estimate(holding, pair.seen, pair.x).loss()
    torch.manual_seed(3)
    assert_close(found, ELBO().estimate(pair.encoded, pair.seen, pair.x).loss())
    more = {id(p) for p in holding.parameters()} - {id(p) for p in pair.encoded.parameters()}
    assert more == {id(p) for p in pair.decode.parameters()}


class Detached(nn.Module):
    def __init__(self, encode):
        super().__init__()
        self.net = encode

    def forward(self, x):
        return self.net(x).detach()


def test_the_gradient_into_the_encoder_is_the_sum_of_both_sides(float64):
    """What is observed, and what z2 is inferred from: each has one of its own, and together they are that of the loss."""
    pair = Pair()
    frozen = Detached(pair.encode)
    weights = [p for p in pair.encode.q.parameters()]

    def gradient(observed, inferred):
        objective = ELBO()(EncodingModel(pair.model, observed), BottomUp([ImagePosterior(pair.q, inferred)], first=2))
        torch.manual_seed(3)
        grads = torch.autograd.grad(objective.estimate(pair.x).loss(), weights, allow_unused=True)
        return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(weights, grads, strict=True)])

    both = gradient(pair.encode, pair.encode)
    one, other = gradient(pair.encode, frozen), gradient(frozen, pair.encode)
    assert one.norm() > 1e-3 and other.norm() > 1e-3
    assert (both - one).norm() > 1e-3 and (both - other).norm() > 1e-3
    assert_close(both, one + other)


def test_features_that_shrink_make_the_pair_s_loss_fall_without_an_anchor(float64):
    """Why end-to-end training degenerates: halve the codes, and what is left to explain is a quarter; pixels know better."""
    pair = Pair()
    pair.p.net[-1].weight.data.zero_()
    pair.p.net[-1].bias.data.zero_()  # explains nothing: the distortion is the codes' sum of squares
    constant = math.prod(pair.encode.event) / 2 * math.log(math.pi)

    def distortion():
        return ELBO().estimate(pair.encoded, pair.seen, pair.x).distortion().item() - constant

    before = distortion()
    pair.encode.q.net[-1].weight.data.mul_(0.5)
    pair.encode.q.net[-1].bias.data.mul_(0.5)
    assert distortion() == pytest.approx(before / 4)
