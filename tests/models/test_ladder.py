"""Rungs: how a layer joins the features from above."""

import torch
from torch import nn
from torch.testing import assert_close

from pyro_hvae import Gaussian, Ladder, Rung, StandardNormal


def test_joins_of_a_branch_and_the_features_above():
    z, g = torch.randn(6, 2), torch.randn(6, 5)
    branch, identity = nn.Linear(2, 5), nn.Identity()
    assert_close(Rung(branch, identity, 5)(z, g), torch.cat([branch(z), g], 1))
    assert_close(Rung(branch, identity, 5, "sum")(z, g), g + branch(z))
    gated = Rung(branch, identity, 5, "gated")
    assert_close(gated(z, g), g + 0.1 * branch(z))
    assert gated.weight.shape == (5,) and gated.weight.requires_grad
    assert_close(gated(z), branch(z))  # the top joins nothing
    # Particles of one layer, shared draws of the other.
    many = torch.randn(4, 6, 2)
    assert_close(Rung(branch, identity, 5)(many, g)[3], Rung(branch, identity, 5)(many[3], g))


def test_given_inputs_join_the_top_branch_alone():
    seen = []

    class Spy(nn.Identity):
        def forward(self, z):
            seen.append(z)
            return z

    identity = nn.Identity()
    rungs = {"z2": Rung(Spy(), identity, 5), "z1": Rung(Spy(), identity, 2)}
    model = Ladder({"z2": StandardNormal(2), "z1": StandardNormal(2)}, rungs, Gaussian(7, 4), given=["y", "w"])
    y, w = torch.rand(3, 2), torch.rand(1, 1)
    model(size=3, w=w, y=y)
    assert_close(seen[0][:, 2:], torch.cat([y, w.expand(3, 1)], 1))
    assert seen[1].shape == (3, 2)
