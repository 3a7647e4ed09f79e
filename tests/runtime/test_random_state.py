"""Random states are restored exactly."""

import random

import numpy as np
import pytest
import torch

from pyro_hvae.errors import ConfigError
from pyro_hvae.runtime.random_state import (
    fixed_seed,
    numpy_and_python_state,
    rng_state,
    set_rng_state,
    set_torch_rng_state,
    torch_rng_state,
)


def draws():
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()


def test_a_fixed_seed_holds_for_its_block_only():
    before = repr(rng_state())
    with fixed_seed(3):
        one = draws()
    assert repr(rng_state()) == before
    with fixed_seed(3):
        assert draws() == one
    with fixed_seed(4):
        assert all(a != b for a, b in zip(draws(), one, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32, 2**32 + 1])
def test_seeds_of_more_bits_than_count_are_refused(seed):
    with pytest.raises(ConfigError, match="between 0 and 4294967295"):
        fixed_seed(seed).__enter__()


def test_states_are_restored():
    state, other = rng_state(), numpy_and_python_state()
    expected = draws()
    assert numpy_and_python_state() != other
    set_rng_state(state)
    assert numpy_and_python_state() == other and draws() == expected


def test_checkpoints_with_lists_of_numbers_are_restored():
    state = rng_state()
    expected = draws()
    kind, keys, *rest = state["numpy"]
    version, internal, gauss = state["python"]
    set_rng_state(state | {"numpy": [kind, keys.tolist(), *rest], "python": [version, internal.tolist(), gauss]})
    assert draws() == expected


def test_the_states_of_torch_alone_are_restored():
    state = torch_rng_state()
    expected = torch.rand(2)
    set_torch_rng_state(state)
    assert torch.equal(torch.rand(2), expected)
