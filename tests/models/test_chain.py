"""The chain: which latents and given inputs every conditional is given."""

import pyro
import pytest
import torch
from linear_gaussian import Fixed
from pyro import poutine
from torch.testing import assert_close

from pyro_hvae import BottomUp, Chain


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


def test_given_inputs_are_the_last_parents_of_all_but_the_prior():
    seen = {}

    class Spy(Fixed):
        def __init__(self, name, inputs):
            super().__init__([torch.zeros(1, n) for n in inputs], torch.ones(1))
            self.name = name

        def forward(self, *parents):
            seen[self.name] = parents
            return super().forward(*parents)

    y, w = torch.rand(1, 3), torch.rand(4, 2)
    model = Chain(Spy("z2", ()), [Spy("z1", (1, 2, 3))], Spy("x", (1, 1, 2, 3)), skip=True, given=["w", "y"])
    model(size=4, y=y, w=w)
    assert seen["z2"] == () and seen["z1"][1:] == (w, y) and seen["x"][2:] == (w, y)


@pytest.mark.parametrize("rows", [30, 1])
def test_a_linear_chain_with_a_given_input_has_the_evidence_of_its_closed_form(float64, rows):
    """x = W z + U y + noise, with W'W diagonal: the exact guide, which knows y, makes log p(x, z | y) - log q(z | x, y) the
    evidence N(U y, W W' + noise^2 I) at every z."""
    w = torch.linalg.qr(torch.randn(3, 2))[0] * torch.tensor([1.5, 0.7])
    u, noise = torch.randn(3, 2), 0.4
    precision = 1 + (w**2).sum(0) / noise**2
    gain = (w / noise**2 / precision).T
    model = Chain(Fixed([], torch.ones(2)), [], Fixed([w, u], noise * torch.ones(3)), given=["y"])
    guide = BottomUp([Fixed([gain, -gain @ u], precision.rsqrt())], given=["y"])
    x, y = torch.randn(30, 3), torch.randn(rows, 2)
    exact = torch.distributions.MultivariateNormal(y @ u.T, w @ w.T + noise**2 * torch.eye(3)).log_prob(x)
    with pyro.plate("particles", 5, dim=-2):
        q = poutine.trace(guide).get_trace(x, y=y)
        p = poutine.trace(poutine.replay(model, q)).get_trace(x, y=y)
    p.compute_log_prob()
    q.compute_log_prob()
    bound = p.nodes["x"]["log_prob"] + p.nodes["z1"]["log_prob"] - q.nodes["z1"]["log_prob"]
    assert_close(bound, exact.expand(5, 30))
