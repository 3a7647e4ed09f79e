"""The device of a computation and its number of CPU threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pyro_hvae.errors import DeviceError
from pyro_hvae.runtime.device_names import require_device_name


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` takes cuda, then mps, then cpu.

    Raises:
        ConfigError: for another name. DeviceError: for a device this machine does not have.
    """
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    require_device_name(name)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device '{name}' is not available: torch sees {torch.cuda.device_count()} GPUs. Use the device cpu.")
    if device.type == "mps" and not mps:
        raise DeviceError("device 'mps' is not available here. Use the device cpu.")
    return device


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Runs the block on `count` CPU threads of torch; 0 leaves torch's setting. Small networks are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
