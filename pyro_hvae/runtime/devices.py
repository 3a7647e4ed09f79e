"""Devices and the random streams on them."""

import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError, DeviceError

__all__ = ["pick_device", "seeded", "rng_state", "set_rng_state", "draw_state", "set_draw_state", "other_streams", "threads"]


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` takes cuda, then mps, then cpu.

    Raises:
        ConfigError: for a name torch does not know. DeviceError: for a device this machine does not have.
    """
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"no device called '{name}'. Use auto, cpu, cuda, cuda:0 or mps.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device '{name}' is not available: torch sees {torch.cuda.device_count()} GPUs. Use --device cpu.")
    if device.type == "mps" and not mps:
        raise DeviceError("device 'mps' is not available here. Use --device cpu.")
    return device


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs its body on fresh random streams of torch (all devices), and gives the caller's back afterwards.

    NumPy's and Python's global streams are not seeded (nothing here draws from them), but given back as well.
    """
    before = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


def rng_state() -> dict[str, Any]:
    """The state of every random stream a program may use, in tensors and primitives; tensors are written in no time."""
    numpy, (version, internal, gauss) = other_streams()
    kind, keys, *rest = numpy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.tensor(keys), *rest],
        "python": [version, torch.tensor(internal), gauss],
    }


def other_streams() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The states of NumPy's and Python's global streams, in numbers that can be compared."""
    # It is typed as tuple or dict; without arguments it is the tuple.
    kind, keys, *rest = np.random.get_state()
    return (kind, tuple(keys.tolist()), *rest), random.getstate()  # type: ignore[union-attr]


def set_rng_state(state: Mapping[str, Any]) -> None:
    """The inverse of `rng_state`; a CUDA state is restored only where there are as many devices."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    # Older checkpoints hold lists of numbers.
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(torch.as_tensor(internal).tolist()), gauss))


def draw_state(devices: Collection[torch.device] = ()) -> dict[torch.device | None, Tensor]:
    """The states of torch's global streams: the CPU's (None) and those of CUDA devices."""
    return {None: torch.get_rng_state(), **{device: torch.cuda.get_rng_state(device) for device in devices}}


def set_draw_state(states: Mapping[torch.device | None, Tensor]) -> None:
    """The inverse of `draw_state`."""
    for device, state in states.items():
        torch.set_rng_state(state) if device is None else torch.cuda.set_rng_state(state, device)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Small networks are fastest on one thread; 0 leaves torch's setting."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
