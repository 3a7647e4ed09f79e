"""Compiles a recorded graph with Inductor, and runs it uncompiled where that fails."""

import copy
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.fx import GraphModule

from pyro_hvae.compilation.compiled_code import compiled_code
from pyro_hvae.compilation.cpu_graph_passes import separate_biases, use_channels_last
from pyro_hvae.compilation.torch_private import direct_compiler
from pyro_hvae.runtime import cache_folder

CACHE = "TORCHINDUCTOR_CACHE_DIR"
TORCH_LOGGER = logging.getLogger("torch.utils.cpp_extension")


def compiler() -> str | None:
    """Path of the C++ compiler that Inductor would use on the CPU, or None. Only compiling shows whether it works."""
    names = [os.environ.get("CXX"), *(("cl",) if sys.platform == "win32" else ("g++", "clang++", "c++"))]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def compile_obstacle(device: torch.device) -> str | None:
    """Why nothing is compiled on a device unless the user asks for it, as a sentence; None where there is no obstacle."""
    if device.type not in ("cpu", "cuda"):
        return f"nothing is compiled on {device.type} unless --compile asks for it."
    if device.type == "cpu" and compiler() is None:
        return "no C++ compiler was found (g++, clang++ or CXX), which --compile needs."
    return None


def own_code_folder() -> Path | None:
    """The folder `compiled` of the cache, for compiled code; None where the user has set another folder."""
    folder, given = cache_folder() / "compiled", os.environ.get(CACHE, "")
    # Inductor's default, which every optimiser sets, lies among temporary files.
    default = not given or given.startswith(os.path.join(tempfile.gettempdir(), "torchinductor_"))
    return folder if default or given == str(folder) else None


class GraphRunner:
    """A graph as a function from tensors to tensors, without a gradient.

    Random numbers come from torch, so that they equal those of the eager pass; Inductor's own differ, and are 18 times as slow
    on a CPU. On CUDA all kernels are one CUDA graph; it draws fresh numbers, and what it returns lives until the next call.

    Compiled code is kept in the folder `compiled` of the cache (PYRO_HVAE_CACHE), where other processes find it. A
    TORCHINDUCTOR_CACHE_DIR that the user has set is respected. Damaged files of our own folder are removed (`CompiledCode`).

    On a CPU Inductor's code is called directly: a call through Dynamo would check all inputs, which the graph's key has
    checked (a third of a step of the smallest networks). CUDA graphs and graphs of all batch sizes go through `torch.compile`.

    Attributes:
        graph: as recorded. compiled: whether it runs compiled. reuses_memory: whether a call overwrites the last results.
    """

    def __init__(self, graph: GraphModule, device: torch.device, compile: bool = True, dynamic: bool = False) -> None:
        cuda = device.type == "cuda"
        # A CUDA graph would replay what it recorded, and a sum over processes was first recorded as that of this one alone.
        replayed = cuda and not any("process_sum" in str(node.target) for node in graph.graph.nodes)
        self.graph, self.compiled, self.reuses_memory = graph, compile, compile and replayed
        self._options: dict[str, Any] = {"fallback_random": True, "triton.cudagraphs": replayed}
        self._direct = direct_compiler() if device.type == "cpu" and not dynamic else None
        self._run: Callable[..., Any] | None = None if compile else graph
        self._compiling: Callable[[], AbstractContextManager[None]] = nullcontext
        if compile:
            if not cuda:
                use_channels_last(graph)
                separate_biases(graph)
            if folder := own_code_folder():
                os.environ[CACHE] = str(folder)
                self._compiling = compiled_code(folder).compiling
            if self._direct is None:
                self._run = torch.compile(graph, fullgraph=True, dynamic=dynamic, options=self._options)

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        if self.reuses_memory:
            torch.compiler.cudagraph_mark_step_begin()
        if self._run is None:
            self._run = self._compile_directly(tensors)
        return self._run(*tensors)

    def _compile_directly(self, tensors: Sequence[Tensor]) -> Callable[..., Any]:
        assert self._direct is not None
        # A copy, for Inductor may change what it is given; without notes of the recording, which are of other tensors.
        whole = GraphModule(self.graph, copy.deepcopy(self.graph.graph))
        for node in whole.graph.nodes:
            node.meta.clear()
        return self._direct(whole, list(tensors), options=self._options)

    def first_call(self, *tensors: Tensor) -> tuple[Sequence[Tensor] | None, Exception | None]:
        """Compiles by the first call at some shapes. Returns the error where that fails; later calls then run the graph."""
        try:
            # Hides Inductor's warnings about itself, and torch's line that a machine with CUDA's tools has no GPU.
            with self._compiling(), warnings.catch_warnings(action="ignore"), patch.object(TORCH_LOGGER, "disabled", True):
                return self(*tensors), None
        except Exception as error:  # of many kinds: no compiler, no space left, a bug of Inductor
            if not self.compiled:
                raise
            self._run, self.compiled, self.reuses_memory = self.graph, False, False
            return None, error
