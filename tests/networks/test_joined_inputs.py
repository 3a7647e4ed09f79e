"""Given inputs by name, and the layer that prepares them for a network."""

import pytest
import torch
from torch.testing import assert_close

from pyro_hvae.errors import ContractError
from pyro_hvae.networks import InputLayer, join_inputs, take_given


def test_given_inputs_come_in_the_order_of_their_names():
    y, w = torch.rand(3, 1), torch.rand(3, 2)
    assert take_given(("w", "y"), {"y": y, "w": w}) == [w, y]
    assert take_given((), {}) == []
    with pytest.raises(ContractError, match=r"takes w, y beside x, but it was not given 'w'. Give it: loss\(x, w=w\)"):
        take_given(("w", "y"), {"y": y})
    with pytest.raises(ContractError, match=r"build the program with given=\('w', 'y'\)"):
        take_given(("w",), {"y": y, "w": w})


def test_x_alone_is_joined_to_nothing():
    x = torch.rand(3, 1, 2, 2)
    assert join_inputs([x]) is x


@pytest.mark.parametrize("plates", [(5,), (3, 5)])
def test_missing_entries_are_filled_and_given_numbers_become_channels(plates):
    event = (2, 3, 4)
    x, y = torch.rand(*plates, *event), torch.rand(*plates, 2)
    mask = (torch.rand(*plates, *event) > 0.5).float()
    h = torch.cat([x.flatten(-3), mask.flatten(-3), y], -1)
    images = InputLayer(event, mask=True, maps=True)(h).unflatten(-1, (6, 3, 4))
    assert_close(images[..., :2, :, :], x * mask)
    assert_close(images[..., 2:4, :, :], mask)
    assert_close(images[..., 4:, :, :], y[..., None, None].expand(*plates, 2, 3, 4))
    fill = torch.rand(event)
    found = InputLayer(event, mask=True, fill=fill)(h)
    assert_close(found, torch.cat([torch.where(mask > 0, x, fill).flatten(-3), mask.flatten(-3), y], -1))
