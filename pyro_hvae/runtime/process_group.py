"""The processes that train one run together: who is who, sums over all of them, and how an error in one ends all.

Without torchrun, and without a process group of the caller's own, there is one process, and nothing here does anything.
"""

import atexit
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pyro_hvae.errors import ConfigError, HVAEError, LostProcessError
from pyro_hvae.runtime.launched_processes import launch_number, launched_count, launched_rank, machine_rank

PATIENCE = timedelta(minutes=30)  # for the slowest process, which may be compiling
SPEECH_PATIENCE = timedelta(seconds=5)  # for torchrun's store, when a process wants to say how it ended
ADDRESS = ("RANK", "MASTER_ADDR", "MASTER_PORT")


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if process_count() > 1 else launched_rank()


def is_writer() -> bool:
    """Whether this is the process that writes and prints."""
    return process_rank() == 0


def join_processes() -> None:
    """Joins the processes that torchrun has started (gloo on CPUs, NCCL on GPUs), unless they are joined already.

    Raises:
        ConfigError: where the environment does not say how. LostProcessError: where the others do not answer.
    """
    if launched_count() == 1 or process_count() > 1:
        return
    if missing := [name for name in ADDRESS if not os.environ.get(name)]:
        raise ConfigError(
            f"WORLD_SIZE={launched_count()} says that several processes train together, but {', '.join(missing)} is not set. "
            "Start them by torchrun, which sets all of it, or unset WORLD_SIZE."
        )
    # Its functions keep, as a default, the group that exists when they are first imported, and Dynamo imports them. The threads
    # of the group would then outlive `leave_processes`, and a process was seen to end by SIGABRT at its exit.
    importlib.import_module("torch.distributed.nn.functional")
    several = torch.cuda.is_available() and dist.is_nccl_available()
    if several and machine_rank() < torch.cuda.device_count():
        torch.cuda.set_device(machine_rank())
    with _explain_loss():
        store, rank, count = next(dist.rendezvous("env://", timeout=PATIENCE))  # pyright: ignore[reportPrivateImportUsage]
        # Processes that torchrun has started again would find there the addresses of those before them.
        store = dist.PrefixStore(f"pyro_hvae/{launch_number()}", store)  # pyright: ignore[reportPrivateImportUsage]
        backend = "cpu:gloo,cuda:nccl" if several else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=count)
    atexit.register(leave_processes)


def leave_processes() -> None:
    """Leaves the other processes: from here on none waits for another."""
    if process_count() > 1:
        dist.destroy_process_group()


def share_of(count: int) -> slice:
    """The share of this process in so many data: consecutive ones, in the order of the processes.

    >>> share_of(10)
    slice(0, 10, None)
    """
    rank, processes = process_rank(), process_count()
    return slice(rank * count // processes, (rank + 1) * count // processes) if processes > 1 else slice(0, count)


def require_shares(batch_size: int) -> None:
    """Raises `ConfigError` where a batch has no datum for some process."""
    if (count := process_count()) > batch_size:
        raise ConfigError(
            f"{count} processes cannot share a batch of {batch_size}: some would have no datum. Start at most {batch_size} "
            f"(--nproc-per-node), or use a batch size of {count} or more."
        )


def noise_seed(seed: int, step: int = 0) -> int:
    """The seed of this process's noise: `seed` itself for the first one, so that a process alone draws what it always did.

    Arguments:
        step: of the run, where a process joins it that has no random state in its checkpoint.
    """
    if (rank := process_rank()) == 0 or process_count() == 1:
        return seed
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1)[0])


@contextmanager
def _explain_loss() -> Iterator[None]:
    """Turns an error of torch.distributed about another process into a `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:  # gloo's own, and the base class of torch.distributed's
        reason = str(error).splitlines()[0].rpartition("] ")[2].partition(". ")[0].rstrip(".")
        raise LostProcessError(
            f"one of the {launched_count()} processes has ended without a word, as one that is killed, by hand or for lack of "
            f"memory, and the others cannot go on without it ({reason})."
        ) from error


def gather(value: Any) -> list[Any]:
    """The values of all processes, in their order. Each waits here for the others."""
    values = [value] * process_count()
    if process_count() > 1:
        with _explain_loss():
            dist.all_gather_object(values, value)
    return values


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrites tensors by those of the first process."""
    if process_count() == 1:
        return
    with torch.no_grad(), _explain_loss():
        for tensor in tensors:
            dist.broadcast(copy := tensor.detach().contiguous(), 0)
            tensor.copy_(copy)


def all_sum(values: Tensor) -> Tensor:
    """Replaces a tensor by its sum over all processes, and returns it."""
    if process_count() > 1:
        with _explain_loss():
            dist.all_reduce(values)
    return values


def average_values(values: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Name -> 0-dim tensor, averaged over all processes with their weights, which sum to one."""
    if process_count() == 1:
        return dict(values)
    total = all_sum(torch.stack([value.detach().double() for value in values.values()]) * weight)
    return dict(zip(values, total.unbind(), strict=True))


@contextmanager
def fail_together() -> Iterator[None]:
    """Raises in all processes what this package's code raised in one, once all have come to the end of the block."""
    failure: HVAEError | None = None
    try:
        yield
    except HVAEError as error:
        if process_count() == 1:
            raise
        failure = error
    if failures := [error for error in gather(failure) if error is not None]:
        raise failure or failures[0]


@contextmanager
def first_on_machine() -> Iterator[None]:
    """Runs the block in one process of each machine before the others, which then find the files that it has cached."""
    if machine_rank():
        gather(None)
    try:
        yield
    finally:
        if not machine_rank():
            gather(None)


def may_speak() -> bool:
    """Whether this process is the first of torchrun's to say how the training ended; the others then stay silent."""
    if launched_count() == 1:
        return True
    try:
        # The store of torchrun itself, which outlives its processes.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        how: dict[str, Any] = {"is_master": False, "timeout": SPEECH_PATIENCE, "wait_for_workers": False}
        store = dist.TCPStore(address, port, **how)  # pyright: ignore[reportPrivateImportUsage]
        return store.add(f"pyro_hvae/reports/{launch_number()}", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        return True


_sharing = _rehearsing = False


@contextmanager
def shared_batch() -> Iterator[None]:
    """In the block `share_mean` is a mean over the batch of all processes."""
    global _sharing
    before, _sharing = _sharing, process_count() > 1
    try:
        yield
    finally:
        _sharing = before


@contextmanager
def rehearsal() -> Iterator[None]:
    """In the block sums are of this process alone: it tries something out, which the others may do more or less often."""
    global _rehearsing
    before, _rehearsing = _rehearsing, True
    try:
        yield
    finally:
        _rehearsing = before


@torch.library.custom_op("pyro_hvae::process_sum", mutates_args=())
def process_sum(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes; an operation of torch, so that a captured graph holds it."""
    return values.clone() if _rehearsing else all_sum(values.clone())


@process_sum.register_fake
def _(values: Tensor) -> Tensor:
    return torch.empty_like(values)


def share_mean(mean: Tensor, count: int | Tensor) -> Tensor:
    """The mean over a batch of which this process's share has a `mean`, detached, of `count` data.

    Within `shared_batch`, and in all processes alike; elsewhere the mean itself.
    """
    if not _sharing:
        return mean
    number = torch.as_tensor(count, device=mean.device).to(mean)
    total, number = process_sum(torch.stack([mean.detach() * number, number])).unbind()
    return total / number.clamp(min=1)
