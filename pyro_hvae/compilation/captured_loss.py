"""A loss and its gradients captured together as one graph: Pyro's Python runs once, compiled code from then on."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

from pyro_hvae.compilation.eager_comparison import apart, shared, tolerance
from pyro_hvae.compilation.graph_key import GraphKey, Keys, function_modes
from pyro_hvae.compilation.graph_recording import dtypes, reason, record
from pyro_hvae.compilation.inductor import Runner
from pyro_hvae.compilation.pure_function import Pure, Uncapturable
from pyro_hvae.errors import HVAEError
from pyro_hvae.runtime.random_state import numpy_and_python_state, set_torch_rng_state, torch_rng_state

__all__ = ["Captured", "CaptureWarning", "capture"]

MOST = 256  # graphs of one module
ONCE = 8  # graphs in a row that served a single call


class CaptureWarning(UserWarning):
    """A captured module that runs eagerly, or a graph that runs uncompiled: slower than hoped for, as right as ever."""


def capture(
    module: nn.Module,
    *,
    gradient: bool = True,
    compile: bool = True,
    dynamic: bool = False,
    tell: Callable[[str], Any] | None = None,
    warn: Callable[[str], Any] | None = None,
) -> "Captured":
    """The module as a function that runs one captured graph: `loss = capture(ELBO()(model, guide))(x)` sets every `.grad`.

    Arguments:
        module: of tensors, such as an ELBO's pair; ours or Pyro's `Trace_ELBO()(model, guide)`. It returns the loss, one
            number, or a mapping from names to tensors that has one called "loss".
        gradient: False for a module that is only evaluated.
        compile: False runs the graph as it was recorded, without a compiler.
        dynamic: one graph for all batch sizes above one (the first dim of the first argument) instead of one for each. Programs
            then have to ask for `x.shape[0]`: `len(x)` is a number, which would stay in the graph.
        tell: called with a line for every graph that was made. warn: called instead of warning with a `CaptureWarning`.

    A call returns what the module returns, detached, and puts fresh gradients into `.grad` of the module's parameters (None for
    those that the loss does not reach), ready for any torch optimiser. Buffers change as in the eager pass, noise is fresh in
    every call and the same as the eager pass draws. On CUDA what a call with gradients returns, and they, live until the next.

    Graphs are kept by what they depend on: shapes, dtypes, devices, which parameters require a gradient, and the training
    flag and every number, flag, text (or list of such) among the attributes of every sub-module. What changes at every step has
    to be an argument or a buffer, or it would be another graph each time. Attributes of classes, globals and what functions
    close over are not looked at.

    The first call of a graph also runs the eager pass, under the same random numbers, and compares loss, gradients and buffers.
    Where they differ, or the module cannot be captured at all (it branches on data, enumerates, has its parameters in Pyro's
    store), it runs eagerly from then on, and a `CaptureWarning` says why. Where nothing can be compiled a graph runs as it is.

    >>> import pyro_hvae as hv
    >>> loss = hv.ELBO()(hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4)), hv.BottomUp([hv.Gaussian(4, 2)]))
    >>> step = hv.capture(loss, compile=False)
    >>> optimizer = torch.optim.Adam(loss.parameters(), fused=True)
    >>> for _ in range(3):
    ...     value = step(torch.zeros(8, 4))
    ...     optimizer.step()
    >>> value.shape, value.requires_grad
    (torch.Size([]), False)
    """
    return Captured(module, gradient, compile, dynamic, tell, warn)


@dataclass
class _Graph:
    pure: Pure
    run: Runner
    shared: tuple[int, ...]  # values that lie in the memory of others, and have to be copied
    calls: int = 1


class Captured:
    """What `capture` returns.

    Attributes:
        module, gradient, compile, dynamic: as given; compile becomes False where it fails.
        eager: why the module runs eagerly, or None. graphs: how many there are.
    """

    def __init__(
        self,
        module: nn.Module,
        gradient: bool = True,
        compile: bool = True,
        dynamic: bool = False,
        tell: Callable[[str], Any] | None = None,
        warn: Callable[[str], Any] | None = None,
    ) -> None:
        self.module, self.gradient, self.compile, self.dynamic = module, gradient, compile, dynamic
        self.tell, self.warn = tell or (lambda text: None), warn
        self.eager: str | None = None
        self._graphs: dict[GraphKey, _Graph] = {}
        self.keys = Keys(module)
        self._unsettled_passes = 0

    @property
    def graphs(self) -> int:
        return len({id(graph.run) for graph in self._graphs.values()})

    def __call__(self, *arguments: Tensor) -> Any:
        if self.eager is not None:
            return self._eagerly(arguments)
        if _PYRO_STACK or function_modes():
            around = ", ".join(type(handler).__name__ for handler in (*_PYRO_STACK, *function_modes()))
            self._give_up(f"what is around it ({around}) would stay in the graph as it is; put it inside")
            return self._eagerly(arguments)
        key = self.keys.of(arguments)
        self._forget_gradients()
        graph = self._graphs.get(key)
        if graph is None:
            return self._first(key, arguments)
        graph.calls += 1
        values = graph.run(*self.keys.places.parameters, *self.keys.places.buffers, *arguments)
        return self._give(graph.pure, values, graph.shared)

    def _give(self, pure: Pure, values: Sequence[Tensor], shared: Sequence[int] = ()) -> Any:
        """Puts what a pure pass returned where the eager pass would have put it."""
        if shared:
            # Two gradients in one place would be clipped twice.
            values = [value.clone() if i in shared else value for i, value in enumerate(values)]
        outputs, grads, buffers = pure.parts(values)
        if self.gradient:
            for i, grad in grads.items():
                self.keys.places.parameters[i].grad = grad
        if buffers:
            with torch.no_grad():
                for i, value in buffers.items():
                    self.keys.places.buffers[i].copy_(value)
        return outputs

    def _forget_gradients(self) -> None:
        """Before a pass, whose own then find their memory warm in the cache: 5 % of a step."""
        if self.gradient:
            for parameter in self.keys.places.parameters:
                parameter.grad = None

    def _eagerly(self, arguments: tuple[Tensor, ...]) -> Any:
        with torch.set_grad_enabled(self.gradient):
            outputs = self.module(*arguments)
        if self.gradient:
            loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
            stored = dict(pyro.get_param_store().named_parameters()).values()
            for parameter in (*self.module.parameters(), *stored):
                parameter.grad = None
            if loss.requires_grad:
                loss.backward()
        if isinstance(outputs, Mapping):
            return {name: value.detach() for name, value in outputs.items()}
        return outputs.detach()

    def _give_up(self, why: str) -> None:
        self.eager = why
        self._warn(f"{type(self.module).__name__} runs eagerly: {why}")

    def _warn(self, text: str) -> None:
        if self.warn is not None:
            self.warn(f"{text}.")
        else:
            warnings.warn(f"{text}.", CaptureWarning, stacklevel=5)

    def _first(self, key: GraphKey, arguments: tuple[Tensor, ...]) -> Any:
        """The first call of a graph: the eager pass, the graph, and whether they agree."""
        if why := self._too_many(key):
            self._give_up(why)
            return self._eagerly(arguments)
        tensors = [*self.keys.places.parameters, *self.keys.places.buffers, *arguments]
        devices = {t.device for t in tensors if t.is_cuda}
        before, others, start = torch_rng_state(devices), numpy_and_python_state(), time.perf_counter()
        pure = Pure(self.module, self.keys.places, self.gradient)
        try:
            expected = pure(*tensors)
        except HVAEError:
            raise
        except Exception as error:
            set_torch_rng_state(before)
            values = self._eagerly(arguments)  # where it is the module's own error it is raised again
            self._give_up(reason(error))
            return values
        after, now = torch_rng_state(devices), self.keys.of(arguments)
        # Whatever is wrong from here on, this pass was an eager one.
        try:
            if now != key:
                self._unsettled(key, now)
                return self._give(pure, expected)
            if not self._sound(pure, others):
                set_torch_rng_state(before)
                return self._eagerly(arguments)
            run = self._recorded(key, pure, tensors)
            set_torch_rng_state(before)
            values, failed = run.first(*tensors)
            if failed or values is None:
                set_torch_rng_state(before)  # it may have drawn before it failed
                values, self.compile = run(*tensors), False
                self._warn(f"the captured graph runs uncompiled: {reason(failed)}")
            within = tolerance({*(t.dtype for t in tensors), *dtypes(run.graph)})
            self._compare(pure, expected, values[: len(expected)], within)
            if not torch.equal(torch_rng_state()[None], after[None]):
                raise Uncapturable("the graph draws other random numbers than the eager pass")
        except Exception as error:
            if self.dynamic and key.size > 1 and not pure.fault:
                set_torch_rng_state(before)
                self.dynamic = False
                why = f"{reason(error)}. Programs must take the batch size from x.shape[0], not len(x)"
                self._warn(f"no graph serves all batch sizes, so each gets its own: {why}")
                return self._first(key, arguments)
            set_torch_rng_state(after)
            self._give_up(reason(error))
            return self._give(pure, expected)
        if all(run is not other.run for other in self._graphs.values()):
            operations = sum(node.op == "call_function" for node in run.graph.graph.nodes)
            how = "Compiled" if run.compiled else "Captured"
            self.tell(f"{how} {operations} operations in {time.perf_counter() - start:.1f} s.")
        self._unsettled_passes = 0
        # Results of an evaluation are collected; those of a step have been used when the next one begins.
        lent = tuple(range(len(values))) if run.lends and not self.gradient else shared(values, tensors)
        self._graphs[key] = graph = _Graph(pure, run, lent)
        return self._give(pure, values, graph.shared)

    def _unsettled(self, before: GraphKey, after: GraphKey) -> None:
        """A pass that changed what a graph depends on: a module may set itself up in its first, but not go on like that."""
        self._unsettled_passes += 1
        if self._unsettled_passes > 2:
            what = self.keys.difference(before, after)
            raise Uncapturable(f"{what} changes in every pass, and would stay in the graph as it was")

    def _sound(self, pure: Pure, others: tuple[Any, ...]) -> bool:
        """Whether a graph could do what the eager pass did; False where that pass did not do all of it itself, either."""
        if numpy_and_python_state() != others:
            raise Uncapturable("it draws from Python's or NumPy's random numbers; use torch's")
        hooks = "a parameter has hooks on its gradient, which a graph would not call" if self.keys.hooked() else None
        if pure.moved:
            raise Uncapturable(str(pure.fault))
        if why := pure.fault or hooks:
            self._give_up(why)
        return not why

    def _compare(self, pure: Pure, expected: Sequence[Tensor], found: Sequence[Tensor], within: float) -> None:
        """Outputs, gradients and buffers, each among themselves: a loss is larger than any gradient."""
        assert pure.trained is not None and pure.changed is not None
        parameters, buffers = self.keys.names()
        outputs = list(pure.names or ("output",))
        names = [outputs, [f"gradient of {parameters[i]}" for i in pure.trained], [buffers[i] for i in pure.changed]]
        start = 0
        for group in names:
            part = slice(start, start + len(group))
            if off := apart(group, expected[part], found[part], within):
                raise Uncapturable(f"the graph does not do what the eager pass does, {off}")
            start += len(group)

    def _recorded(self, key: GraphKey, pure: Pure, tensors: list[Tensor]) -> Runner:
        """The graph of a key: in dynamic mode that of another batch size, if there is one."""
        dynamic = self.dynamic and key.size > 1  # torch takes a dim of one for a constant
        if dynamic and (other := self._sibling(key)):
            return other.run
        return Runner(record(pure, tensors, dynamic), tensors[0].device, self.compile, dynamic)

    def _sibling(self, key: GraphKey) -> _Graph | None:
        """The graph of the same key but for the batch size."""
        alike = (g for other, g in self._graphs.items() if other.size > 1 and other.any_size() == key.any_size())
        return next(alike, None)

    def _too_many(self, key: GraphKey) -> str | None:
        graphs = list(self._graphs.values())
        if self.dynamic and self._sibling(key):
            return None
        if len(graphs) < MOST and (len(graphs) < ONCE or any(graph.calls > 1 for graph in graphs[-ONCE:])):
            return None
        what = self.keys.difference(list(self._graphs)[-1], key)
        return (
            f"it has needed a new graph {len(graphs)} times, the last time because {what} changed. What changes must be a "
            "tensor, an argument or a buffer; batches of many sizes need dynamic=True"
        )
