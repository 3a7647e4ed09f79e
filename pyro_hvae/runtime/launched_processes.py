"""The processes that torchrun has started, as its environment variables say. Needs no torch."""

import os


def _read(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default


def launched_count() -> int:
    """How many processes torchrun has started on all machines; 1 without it."""
    return max(1, _read("WORLD_SIZE", 1))


def launched_rank() -> int:
    """The number of this process among all, from 0."""
    return _read("RANK", 0) if launched_count() > 1 else 0


def machine_rank() -> int:
    """The number of this process among those of its machine, from 0."""
    return _read("LOCAL_RANK", 0) if launched_count() > 1 else 0


def may_be_restarted() -> bool:
    """Whether torchrun starts the processes again when one fails (`--max-restarts`)."""
    return launched_count() > 1 and _read("TORCHELASTIC_MAX_RESTARTS", 0) > 0


def launch_number() -> int:
    """How many times torchrun has started processes in the place of these before, which failed or were of another number."""
    return _read("TORCHELASTIC_RESTART_COUNT", 0)


def own_command() -> str:
    """How a user types the command of this package: by itself, or under torchrun as these processes."""
    if launched_count() == 1:
        return "pyro-hvae"
    here = _read("LOCAL_WORLD_SIZE", launched_count())
    nodes = "" if here == launched_count() else f"--nnodes {launched_count() // here} "
    return f"torchrun {nodes}--nproc-per-node {here} -m pyro_hvae"
