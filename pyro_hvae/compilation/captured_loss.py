"""Captures a loss and its gradients as one graph: Pyro's Python runs once, and the graph runs from then on."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn
from torch.optim import Optimizer

from pyro_hvae.compilation.argument_layout import Layout, call_with_layout, flatten_arguments
from pyro_hvae.compilation.eager_comparison import describe_pass_deviation, tolerance
from pyro_hvae.compilation.graph_key import GraphKey, KeyReader
from pyro_hvae.compilation.graph_recording import describe_error, graph_dtypes, record_graph
from pyro_hvae.compilation.inductor import GraphRunner
from pyro_hvae.compilation.optimizer_step import OptimizerStep
from pyro_hvae.compilation.pure_function import PureFunction, Uncapturable, find_aliased
from pyro_hvae.compilation.torch_private import describe_missing, function_modes
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, HVAEError
from pyro_hvae.runtime import numpy_and_python_state, process_count, rehearsal, set_torch_rng_state, torch_rng_state

MOST_GRAPHS = 256  # of one module
MOST_SINGLE_CALLS = 8  # graphs in a row that served one call each


class CaptureWarning(UserWarning):
    """A captured module runs eagerly, or a graph runs uncompiled: the results are right, only slower."""


def capture(
    module: nn.Module,
    *,
    optimizer: Optimizer | None = None,
    gradient: bool = True,
    compile: bool = True,
    dynamic: bool = False,
    tell: Callable[[str], Any] | None = None,
    warn: Callable[[str], Any] | None = None,
) -> "Captured":
    """The module as a function that runs one captured graph: `loss = capture(ELBO()(model, guide))(x)` sets every `.grad`.

    Arguments:
        module: of tensors (or batches of them with given inputs), such as an ELBO's pair; ours or Pyro's
            `Trace_ELBO()(model, guide)`. It returns the loss, one
            number, or a mapping from names to tensors that has one called "loss".
        optimizer: of the module's parameters; every call then makes its step, too. A fused Adam or AdamW is fastest.
        gradient: False for a module that is only evaluated.
        compile: False runs the graph as it was recorded, without a compiler.
        dynamic: one graph for all batch sizes above one (the first dim of the first argument) instead of one for each. The
            programs must then read `x.shape[0]`: `len(x)` is a number, which would stay in the graph.
        tell: receives a line about every new graph. warn: receives warnings, instead of a `CaptureWarning`.

    A call returns what the module returns, detached, and puts fresh gradients into `.grad` of the module's parameters (None for
    those that the loss does not reach), ready for any torch optimiser. Buffers change as in the eager pass. Noise is fresh in
    every call, and equals that of the eager pass. On CUDA the outputs and gradients of a call live until the next call.

    A graph serves all calls with the same shapes, dtypes, devices, trained parameters, training flags, and the same numbers,
    flags and texts (or lists of such) among the attributes of every sub-module. What changes at every step must be an argument
    or a buffer, or each step would need another graph. Attributes of classes, globals and closures are not compared.

    The first call of a graph also runs the eager pass, under the same random numbers, and compares loss, gradients and buffers.
    Where they differ, or the module cannot be captured at all (it branches on data, enumerates, has its parameters in Pyro's
    store), it runs eagerly from then on, and a `CaptureWarning` says why. Where compiling fails the graph runs uncompiled.

    >>> import pyro_hvae as hv
    >>> loss = hv.ELBO()(hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4)), hv.BottomUp([hv.Gaussian(4, 2)]))
    >>> optimizer = torch.optim.Adam(loss.parameters(), fused=True)
    >>> step = hv.capture(loss, optimizer=optimizer, compile=False)
    >>> values = [step(torch.zeros(8, 4)) for _ in range(100)]
    >>> bool(values[-1] < values[0]), values[0].requires_grad
    (True, False)
    """
    if optimizer is not None and not gradient:
        raise ConfigError("an optimiser needs the gradients that gradient=False leaves out. Leave out one of the two.")
    step = OptimizerStep(optimizer) if optimizer is not None else None
    return Captured(module, gradient, compile, dynamic, tell or (lambda text: None), warn, step)


@dataclass
class _Graph:
    pure: PureFunction
    run: GraphRunner
    copied: Sequence[int]  # indices of values that share memory, and are copied
    calls: int = 1


@dataclass(eq=False)
class Captured:
    """What `capture` returns.

    Attributes:
        module, gradient, compile, dynamic: as given; compile becomes False where it fails. step: of the optimiser.
        eager: why the module runs eagerly, or None. graphs: their number.
    """

    module: nn.Module
    gradient: bool
    compile: bool
    dynamic: bool
    tell: Callable[[str], Any]
    warn: Callable[[str], Any] | None
    step: OptimizerStep | None = None
    eager: str | None = None

    def __post_init__(self) -> None:
        self._graphs: dict[GraphKey, _Graph] = {}
        self._layout: Layout = ()
        self._reader = KeyReader(self.module)
        self._key_changes = 0
        # A module may turn what it is given into tensors, as an ELBO's pair does.
        self._take_arguments: Callable[..., tuple[Any, ...]] | None = getattr(self.module, "take_arguments", None)

    @property
    def graphs(self) -> int:
        return len({id(graph.run) for graph in self._graphs.values()})

    def __call__(self, *given: Tensor | Batch, **named: Tensor) -> Any:
        outputs = self._run_pass(*given, **named)
        if self.step is not None:
            self.step()
        return outputs

    def _run_pass(self, *given: Tensor | Batch, **named: Tensor) -> Any:
        if self._take_arguments is not None and self.eager is None:
            given, named = self._take_arguments(*given, **named), {}
        arguments, self._layout = flatten_arguments(given, named)
        if self.eager is not None:
            return self._run_eagerly(arguments)
        if _PYRO_STACK or function_modes():
            around = ", ".join(type(handler).__name__ for handler in (*_PYRO_STACK, *function_modes()))
            self._give_up(f"the handlers around it ({around}) would stay in the graph as they are; put them inside")
            return self._run_eagerly(arguments)
        key = self._reader.read(arguments, self._layout)
        slots = self._reader.slots
        if self.gradient:  # before the pass, whose gradients then find their memory warm in the cache: 5 % of a step
            for parameter in slots.parameters:
                parameter.grad = None
        graph = self._graphs.get(key)
        if graph is None:
            if process_count() == 1:
                return self._run_first(key, arguments)
            self._rehearse(key, arguments)
            if (graph := self._graphs.get(key)) is None:
                return self._run_eagerly(arguments)
        graph.calls += 1
        return self._assign(graph.pure, graph.run(*slots.parameters, *slots.buffers, *arguments), graph.copied)

    def _assign(self, pure: PureFunction, values: Sequence[Tensor], copied: Sequence[int] = ()) -> Any:
        """Puts gradients and buffers where the eager pass would have put them, and returns the outputs."""
        if copied:
            # Two gradients in one place would be clipped twice.
            values = [value.clone() if i in copied else value for i, value in enumerate(values)]
        outputs, grads, buffers = pure.split(values)
        if self.gradient:
            for i, grad in grads.items():
                self._reader.slots.parameters[i].grad = grad
        with torch.no_grad():
            for i, value in buffers.items():
                self._reader.slots.buffers[i].copy_(value)
        return outputs

    def _run_eagerly(self, arguments: tuple[Tensor, ...]) -> Any:
        with torch.set_grad_enabled(self.gradient):
            outputs = call_with_layout(self.module, arguments, self._layout)
        named = outputs if isinstance(outputs, Mapping) else {"loss": outputs}
        if self.gradient:
            stored = dict(pyro.get_param_store().named_parameters()).values()
            for parameter in (*self.module.parameters(), *stored):
                parameter.grad = None
            if named["loss"].requires_grad:
                named["loss"].backward()
        detached = {name: value.detach() for name, value in named.items()}
        return detached if isinstance(outputs, Mapping) else detached["loss"]

    def _give_up(self, why: str) -> None:
        self.eager = why
        self._warn(f"{type(self.module).__name__} runs eagerly: {why}")

    def _warn(self, text: str) -> None:
        (self.warn or partial(warnings.warn, category=CaptureWarning, stacklevel=6))(f"{text}.")

    def _run_first(self, key: GraphKey, arguments: tuple[Tensor, ...]) -> Any:
        """The first call of a key: runs the eager pass, records the graph, and keeps it if the two agree."""
        if why := self._refuse_more_graphs(key):
            self._give_up(why)
            return self._run_eagerly(arguments)
        tensors = [*self._reader.slots.parameters, *self._reader.slots.buffers, *arguments]
        devices = {t.device for t in tensors if t.is_cuda}
        before, others, start = torch_rng_state(devices), numpy_and_python_state(), time.perf_counter()
        pure = PureFunction(self.module, self._reader.slots, self.gradient, self._layout)
        try:
            expected = pure(*tensors)
        except HVAEError:
            raise
        except Exception as error:
            set_torch_rng_state(before)
            values = self._run_eagerly(arguments)  # raises an error of the module's own again
            self._give_up(describe_error(error))
            return values
        after, now = torch_rng_state(devices), self._reader.read(arguments, self._layout)
        # From here on the pass above can serve as the eager pass, whatever goes wrong.
        try:
            if now != key:  # a module may set itself up in its first pass
                self._key_changes += 1
                if self._key_changes > 2:
                    what = self._reader.describe_difference(key, now)
                    raise Uncapturable(f"{what} changes in every pass, and would stay in the graph as it was")
                return self._assign(pure, expected)
            if not self._is_capturable(pure, others):
                set_torch_rng_state(before)
                return self._run_eagerly(arguments)
            run = self._make_runner(key, pure, tensors)
            is_new = all(run is not other.run for other in self._graphs.values())
            operations = sum(node.op == "call_function" for node in run.graph.graph.nodes)
            if is_new and self.compile:
                self.tell(f"Compiling {operations} operations: usually 10 to 60 s, minutes on a busy machine.")
            set_torch_rng_state(before)
            values, failed = run.first_call(*tensors)
            if failed or values is None:
                set_torch_rng_state(before)  # it may have drawn before it failed
                values, self.compile = run(*tensors), False
                self._warn(f"the captured graph runs uncompiled: {describe_error(failed)}")
            within = tolerance({*(t.dtype for t in tensors), *graph_dtypes(run.graph)})
            if off := describe_pass_deviation(pure, self._reader.tensor_names(), expected, values, within):
                raise Uncapturable(f"the graph does not do what the eager pass does, {off}")
            if not torch.equal(torch_rng_state()[None], after[None]):
                raise Uncapturable("the graph draws other random numbers than the eager pass")
        except Exception as error:
            if self.dynamic and key.size > 1 and not pure.fault:
                set_torch_rng_state(before)
                self.dynamic = False
                why = f"{describe_error(error)}. Programs must take the batch size from x.shape[0], not len(x)"
                self._warn(f"no graph serves all batch sizes, so each gets its own: {why}")
                return self._run_first(key, arguments)
            set_torch_rng_state(after)
            self._give_up(describe_error(error))
            return self._assign(pure, expected)
        if is_new:
            how = "Compiled" if run.compiled else "Captured"
            self.tell(f"{how} {operations} operations in {time.perf_counter() - start:.1f} s.")
            if run.compiled and not devices and not self._graphs and (missing := describe_missing()):
                self._warn(missing)
        # Results of an evaluation are collected; those of a training step are no longer needed when the next one begins.
        copied = range(len(values)) if run.reuses_memory and not self.gradient else find_aliased(values, tensors)
        self._graphs[key], self._key_changes = _Graph(pure, run, copied), 0
        return self._assign(pure, values, copied)

    def _rehearse(self, key: GraphKey, arguments: tuple[Tensor, ...]) -> None:
        """Makes a first call that sums over no other process, which may fail where this one does not, and takes it back."""
        tensors = [*self._reader.slots.parameters, *self._reader.slots.buffers, *arguments]
        before = torch_rng_state({t.device for t in tensors if t.is_cuda})
        buffers = [(buffer, buffer.clone()) for buffer in self._reader.slots.buffers]
        with rehearsal():
            self._run_first(key, arguments)
        set_torch_rng_state(before)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)

    def _is_capturable(self, pure: PureFunction, others: tuple[Any, ...]) -> bool:
        """Whether a graph could do what the eager pass did. Gives up, and returns False, where `pure` did not do all of it."""
        if numpy_and_python_state() != others:
            raise Uncapturable("it draws from Python's or NumPy's random numbers; use torch's")
        if pure.changes_inputs:
            raise Uncapturable(str(pure.fault))
        hooks = [p for p in self._reader.slots.parameters if p._backward_hooks or p._post_accumulate_grad_hooks]
        if why := pure.fault or ("a parameter has hooks on its gradient, which a graph would not call" if hooks else None):
            self._give_up(why)
        return not why

    def _make_runner(self, key: GraphKey, pure: PureFunction, tensors: list[Tensor]) -> GraphRunner:
        """Records the graph of a key. In dynamic mode it returns that of another batch size, if there is one."""
        dynamic = self.dynamic and key.size > 1  # torch takes a dim of one for a constant
        if dynamic and (other := self._find_sibling(key)):
            return other.run
        return GraphRunner(record_graph(pure, tensors, dynamic), tensors[0].device, self.compile, dynamic)

    def _find_sibling(self, key: GraphKey) -> _Graph | None:
        """A graph whose key differs in the batch size alone."""
        return next((g for k, g in self._graphs.items() if k.size > 1 and k.any_size() == key.any_size()), None)

    def _refuse_more_graphs(self, key: GraphKey) -> str | None:
        """Why one more graph would be too many, or None."""
        graphs = list(self._graphs.values())
        if self.dynamic and self._find_sibling(key):
            return None
        recent = graphs[-MOST_SINGLE_CALLS:]
        if len(graphs) < MOST_GRAPHS and (len(graphs) < MOST_SINGLE_CALLS or any(graph.calls > 1 for graph in recent)):
            return None
        what = self._reader.describe_difference(list(self._graphs)[-1], key)
        return (
            f"it has needed a new graph {len(graphs)} times, the last time because {what} changed. What changes must be a "
            "tensor, an argument or a buffer; batches of many sizes need dynamic=True"
        )
