"""The rule by which numbers of any type become floats."""

import numpy as np
import pytest
import torch

from pyro_hvae.data import may_be_grey, to_floats


@pytest.mark.parametrize("shape", [(3, 4, 1), (3, 1, 4), (12, 1)])
def test_whole_numbers_of_series_are_no_grey_values(shape):
    series = np.arange(12).reshape(shape) * 100
    assert torch.equal(to_floats(series), torch.from_numpy(series).float())
    assert not may_be_grey(True, False, shape) and may_be_grey(True, True, shape)
    assert to_floats(np.full((3, 4, 4), 51)).unique().tolist() == [torch.tensor(0.2).item()]
    assert may_be_grey(True, False, (3, 1, 4, 4)) and not may_be_grey(False, False, (3, 4, 4))
