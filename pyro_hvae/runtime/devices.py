"""The device of a computation and its number of CPU threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pyro_hvae.errors import ConfigError, DeviceError
from pyro_hvae.runtime.device_names import require_device_name
from pyro_hvae.runtime.launched_processes import launched_count, machine_rank


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` takes cuda, then mps, then cpu. Each process of torchrun has a GPU of its own.

    Raises:
        ConfigError: for another name. DeviceError: for a device this machine does not have.
    """
    mps = torch.backends.mps.is_available() and launched_count() == 1
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    require_device_name(name)
    if launched_count() > 1 and name.startswith("cuda"):
        return _own_gpu(name)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device '{name}' is not available: torch sees {torch.cuda.device_count()} GPUs. Use the device cpu.")
    if device.type == "mps" and not mps:
        raise DeviceError("device 'mps' is not available here. Use the device cpu.")
    return device


def _own_gpu(name: str) -> torch.device:
    """The GPU of one process of several on this machine."""
    if name != "cuda":
        raise ConfigError(
            f"device '{name}' is one GPU, and {launched_count()} processes train, each on its own. Use --device cuda."
        )
    if (rank := machine_rank()) >= (found := torch.cuda.device_count()):
        raise DeviceError(
            f"process {rank} of this machine has no GPU: torch sees {found}. Start as many processes as there are "
            f"(--nproc-per-node {found or 'N'}), or use --device cpu."
        )
    return torch.device("cuda", rank)


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Runs the block on `count` CPU threads of torch; 0 leaves torch's setting. Small networks are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
