"""Parents of a conditional are joined."""

import torch

from pyro_hvae import Gaussian
from pyro_hvae.networks.parent_network import join_parents


def test_several_parents_broadcast_and_concatenate():
    z1, z2, x = torch.randn(5, 3, 2), torch.randn(3, 4), torch.randn(3, 1, 2, 2)
    joined = join_parents([z1, z2, x], [(2,), (4,), (1, 2, 2)])
    assert joined.shape == (5, 3, 10)
    assert torch.equal(joined[2, 1], torch.cat([z1[2, 1], z2[1], x[1].flatten()]))
    assert Gaussian(6, 1)(z1, z2).batch_shape == (5, 3)
    assert Gaussian([(2,), (4,), (1, 2, 2)], 1)(z1, z2, x).batch_shape == (5, 3)
