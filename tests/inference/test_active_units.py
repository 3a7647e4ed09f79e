"""Active units against the definition by hand."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pyro_hvae import active_units


class Guide(nn.Module):
    """The mean of z2 is a draw of z1, which knows nothing of x."""

    def __init__(self):
        super().__init__()
        self.draws = []

    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            self.draws.append(z1)
            pyro.sample("z2", dist.Normal(z1, 1.0).to_event(1))


def test_the_sampling_variance_of_two_draws_is_subtracted_with_one_degree_of_freedom():
    x = torch.zeros(40, 3)
    guide = Guide()
    pyro.set_rng_seed(0)
    active_units(guide, x, samples=2)
    one, two = torch.stack(guide.draws[-2:]).double().unbind()
    sampling = ((one - two).square() / 4).mean()  # half the unbiased variance of two draws
    value = ((one + two) / 2).var(0, correction=0) - sampling
    for threshold, expected in ((value - 1e-6, 1), (value + 1e-6, 0)):
        pyro.set_rng_seed(0)
        assert active_units(Guide(), x, samples=2, threshold=threshold.item())["z2"] == expected
