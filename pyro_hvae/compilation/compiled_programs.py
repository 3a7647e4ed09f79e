"""Remembers which programs have compiled code in the cache, which makes compiling them again quick."""

import contextlib
import hashlib
import platform
from pathlib import Path

import torch

from pyro_hvae.compilation.compiled_code import MARKED
from pyro_hvae.compilation.inductor import own_code_folder
from pyro_hvae.errors import DataError
from pyro_hvae.runtime import atomic_write


def is_compiled(program: str) -> bool:
    """Whether a training of this program was compiled before, on this machine and by this torch, into the present cache.

    Arguments:
        program: a description of all that its graphs depend on. Where it is wrong, compiling takes longer, and nothing else.
    """
    return (path := _mark(program)) is not None and path.is_file()


def note_compiled(program: str) -> None:
    """Notes that all graphs of a program are in the cache. A mark goes when the folder of compiled code is emptied."""
    path = _mark(program)
    with contextlib.suppress(OSError, DataError):  # without a mark the next run counts on compiling all
        if path is not None and path.parent.parent.is_dir() and not path.exists():
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path, "", shared=True) as part:
                part.write_text(program)


def _mark(program: str) -> Path | None:
    folder = own_code_folder()
    versions = f"{torch.__version__} {platform.node()} {platform.processor()} {torch.get_num_threads()}"
    return None if folder is None else folder / MARKED / hashlib.sha256(f"{versions}\n{program}".encode()).hexdigest()
