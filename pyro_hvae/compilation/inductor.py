"""A recorded graph made fast by Inductor, where that works."""

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from pyro_hvae.compilation.cpu_graph_passes import channels_last, separate_biases
from pyro_hvae.runtime.folders import cache_folder

__all__ = ["Runner", "compiler", "compile_obstacle"]

CACHE = "TORCHINDUCTOR_CACHE_DIR"


def compiler() -> str | None:
    """The C++ compiler that Inductor would use on the CPU, as far as one can tell without running it; None without any.

    Whether it works is only known once it has compiled something.
    """
    names = [os.environ.get("CXX"), *(("cl",) if sys.platform == "win32" else ("g++", "clang++", "c++"))]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def compile_obstacle(device: torch.device) -> str | None:
    """Why nothing is compiled for a device unless somebody asks for it, as a sentence; None where it is."""
    if device.type not in ("cpu", "cuda"):
        return f"nothing is compiled on {device.type} unless --compile asks for it."
    if device.type == "cpu" and compiler() is None:
        return "no C++ compiler was found (g++, clang++ or CXX), which --compile needs."
    return None


class Runner:
    """A graph as a function: the same tensors in, the same out, without a gradient.

    Random numbers are torch's own on every device, so that they are those of the eager pass; Inductor's are 18 times as slow on
    a processor, and others. On CUDA the kernels are launched as one CUDA graph, which draws fresh numbers in every replay.
    What it returns there lives until the next call.

    Compiled code is kept in `compiled` of the cache folder (PYRO_HVAE_CACHE), where another process finds it; a
    TORCHINDUCTOR_CACHE_DIR of one's own is respected.

    Attributes:
        graph: as recorded. compiled: whether it runs compiled, and not as it was recorded.
    """

    def __init__(self, graph: GraphModule, device: torch.device, compile: bool = True, dynamic: bool = False) -> None:
        self.graph, self.cuda, self.compiled = graph, device.type == "cuda", compile
        options: dict[str, Any] = {"fallback_random": True, "triton.cudagraphs": self.cuda}
        self._run: Callable[..., Any] = graph
        if compile:
            if not self.cuda:
                channels_last(graph)
                separate_biases(graph)
            _keep_cache()
            self._run = torch.compile(graph, fullgraph=True, dynamic=dynamic, options=options)

    @property
    def lends(self) -> bool:
        """Whether what it returns is written over by the next call."""
        return self.cuda and self.compiled

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        if self.lends:
            torch.compiler.cudagraph_mark_step_begin()
        return self._run(*tensors)

    def first(self, *tensors: Tensor) -> tuple[Sequence[Tensor] | None, Exception | None]:
        """The first call at some shapes, which compiles. Where that fails the error is returned; later calls run the graph."""
        try:
            with _quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Inductor's own, of its parts
                return self(*tensors), None
        except Exception as error:  # of many kinds: no compiler, no space left, a bug of Inductor
            if not self.compiled:
                raise
            self._run, self.compiled = self.graph, False
            return None, error


def _keep_cache() -> None:
    """Compiled code outlives a reboot: Inductor's own default, which any optimiser sets, is the folder of temporary files."""
    given = os.environ.get(CACHE, "")
    if not given or given.startswith(os.path.join(tempfile.gettempdir(), "torchinductor_")):
        os.environ[CACHE] = str(cache_folder() / "compiled")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remark, on standard error, that a machine with CUDA's tools has no GPU."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
