"""What every guide hands on beside x: the mask as numbers, then the given inputs, where x enters and where a law reads them."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pyro_hvae import Autoregressive, BottomUp, Heads, TopDown
from pyro_hvae.errors import ContractError

X = torch.rand(6, 1, 2, 2)
OBSERVED = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0)) > 0.5
Y = torch.rand(1, 3)


class Law(nn.Module):
    """N(0, 1) for 6 data, which keeps what it is given."""

    def forward(self, *parents):
        self.parents = parents
        return dist.Normal(torch.zeros(6, 2), torch.ones(6, 2)).to_event(1)


class Net(nn.Module):
    """Keeps what it is given, and gives features of ones."""

    def forward(self, *inputs):
        self.inputs = inputs
        return torch.ones(6, 5)


def equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


def inputs(observed, mask):
    return [X, *([(torch.ones(6, 1, 2, 2) if observed is None else observed.float())] if mask else []), Y]


def joined(observed, mask):
    return torch.cat([value.flatten(1).expand(6, -1) for value in inputs(observed, mask)], 1)


CASES = pytest.mark.parametrize("observed, mask", [(OBSERVED, True), (None, True), (OBSERVED, False), (None, False)])


@CASES
def test_bottom_up(observed, mask):
    q = [Law(), Law()]
    BottomUp(q, given=["y"], mask=mask)(X, observed=observed, y=Y)
    equal(q[0].parents, inputs(observed, mask))
    assert len(q[1].parents) == 2 and q[1].parents[0].shape == (6, 2) and q[1].parents[1] is Y


@CASES
def test_autoregressive(observed, mask):
    q = {"z2": Law(), "z1": Law()}
    Autoregressive(q, given=["y"], mask=mask)(X, observed=observed, y=Y)
    equal(q["z2"].parents, inputs(observed, mask))
    equal(q["z1"].parents[:-1], inputs(observed, mask))
    trunk = Net()
    Autoregressive(q, trunk, given=["y"], mask=mask)(X, observed=observed, y=Y)
    equal(trunk.inputs, [joined(observed, mask)])
    equal(q["z1"].parents[:-1], [torch.ones(6, 5)])


@CASES
def test_heads(observed, mask):
    heads, trunk = {"z1": Law(), "z2": Law()}, Net()
    Heads(heads, given=["y"], mask=mask)(X, observed=observed, y=Y)
    equal(heads["z1"].parents, [joined(observed, mask)])
    Heads(heads, {"z2": Net()}, trunk, given=["y"], mask=mask)(X, observed=observed, y=Y)
    equal(trunk.inputs, [joined(observed, mask)])


@CASES
def test_top_down(observed, mask):
    steps, level = [Net(), Net()], Law()
    TopDown(steps, [Law(), Law()], [level], given=["y"], mask=mask)(X, observed=observed, y=Y)
    equal(steps[0].inputs, [joined(observed, mask)])
    assert len(level.parents) == 2 and level.parents[1] is Y


def test_a_guide_without_a_mask_takes_x_itself():
    q = Law()
    BottomUp([q])(X, observed=OBSERVED)
    assert q.parents == (X,)
    for guide in (Autoregressive({"z1": Law()}, trunk := Net()), Heads({"z1": Law()}, trunk=trunk)):
        guide(X)
        assert trunk.inputs == (X,)


@pytest.mark.parametrize("guide", [BottomUp([Law()]), Heads({"z1": Law()}), Autoregressive({"z1": Law()}), TopDown([], [], [])])
def test_a_guide_without_given_inputs_takes_none(guide):
    with pytest.raises(ContractError, match="takes no input beside x, but it was given 'y'"):
        guide(X, y=Y)
