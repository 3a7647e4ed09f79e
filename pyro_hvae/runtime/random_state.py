"""States of the random number generators of torch, NumPy and Python."""

import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError

LARGEST_SEED = 2**32 - 1


def check_seed(seed: int) -> None:
    """Raises `ConfigError` for a seed out of range."""
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"seed must be between 0 and {LARGEST_SEED} (2^32 - 1), got {seed}: more bits would change nothing.")


def seed_streams(seed: int) -> None:
    """Seeds torch on all devices, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Seeds torch on all devices, NumPy and Python for the block, and restores the caller's random states afterwards.

    Raises:
        ConfigError: for a seed of more than 32 bits, of which torch would use 32 and NumPy none.
    """
    check_seed(seed)
    before = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            seed_streams(seed)
            yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


def rng_state() -> dict[str, Any]:
    """The states of all random streams, in tensors (which are quick to save) and primitives."""
    (kind, keys, *rest), (version, internal, gauss) = numpy_and_python_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.tensor(keys), *rest],
        "python": [version, torch.tensor(internal), gauss],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restores the result of `rng_state`; the CUDA states only on a machine with as many devices."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    # Older checkpoints hold lists of numbers.
    kind, keys, *rest = state["numpy"]
    if not 0 <= rest[0] <= len(keys):  # NumPy would read beside its keys
        raise ValueError(f"NumPy's random state is at {rest[0]} of {len(keys)}.")
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(torch.as_tensor(internal).tolist()), gauss))


def numpy_and_python_state() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The states of the global streams of NumPy and Python, as numbers that can be compared."""
    # NumPy annotates a tuple or a dict; without arguments it returns the tuple.
    kind, keys, *rest = np.random.get_state()
    return (kind, tuple(keys.tolist()), *rest), random.getstate()  # type: ignore[union-attr]


def torch_rng_state(devices: Collection[torch.device] = ()) -> dict[torch.device | None, Tensor]:
    """The states of torch's global streams: of the CPU (key None) and of these CUDA devices."""
    return {None: torch.get_rng_state(), **{device: torch.cuda.get_rng_state(device) for device in devices}}


def set_torch_rng_state(states: Mapping[torch.device | None, Tensor]) -> None:
    """Restores the result of `torch_rng_state`."""
    for device, state in states.items():
        torch.set_rng_state(state) if device is None else torch.cuda.set_rng_state(state, device)
