"""The chain: which latents every conditional is given."""

import torch
from linear_gaussian import Fixed

from pyro_hvae import Chain


def test_with_skip_all_latents_above_are_given_nearest_first_and_else_the_nearest_alone():
    seen = {}

    class Spy(Fixed):
        def forward(self, *parents):
            seen[self.name] = [p.mean().round().item() for p in parents]
            return super().forward(*parents)

    def spy(name, count, mean):
        p = Spy([torch.zeros(1, 1)] * count, torch.full((1,), 1e-3), mean)
        p.name = name
        return p

    for skip, expected in ((True, {"z2": [3.0], "z1": [2.0, 3.0], "x": [1.0, 2.0, 3.0]}), (False, {"z1": [2.0], "x": [1.0]})):
        count = (lambda n: n) if skip else (lambda n: min(n, 1))
        levels = [spy("z2", count(1), 2.0), spy("z1", count(2), 1.0)]
        Chain(spy("z3", 0, 3.0), levels, spy("x", count(3), 0.0), skip=skip)(size=4)
        assert expected.items() <= seen.items()
