"""Devices by name, and the number of threads."""

import pytest
import torch

from pyro_hvae.errors import ConfigError, DeviceError
from pyro_hvae.runtime.devices import limit_threads, pick_device


def test_a_device_is_picked_by_name(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device() == torch.device("cpu")
    for name in ("abacus", "meta"):
        with pytest.raises(ConfigError, match=f"no device called '{name}'. Use auto"):
            pick_device(name)
    with pytest.raises(DeviceError, match="torch sees .* GPUs. Use the device cpu"):
        pick_device("cuda:99")
    with pytest.raises(DeviceError, match="'mps' is not available here"):
        pick_device("mps")


def test_threads_are_limited_for_a_block():
    before = torch.get_num_threads()
    with limit_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with limit_threads(0):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
