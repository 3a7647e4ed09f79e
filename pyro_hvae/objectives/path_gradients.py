"""Gradients of a bound with respect to the guide through the path of its draws alone: sticking the landing, and DReG."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from pyro_hvae.compilation import TensorSlots
from pyro_hvae.objectives.handlers import Site
from pyro_hvae.objectives.program_module import as_module

GRADIENTS = ("reparameterised", "stl", "dreg")


def detached_parameters(program: Callable[..., Any]) -> AbstractContextManager[Any]:
    """Around a second pass of a program over the same data: its parameters are constants, and its buffers stay as they were."""
    slots = TensorSlots(as_module(program))
    return slots.substitute([p.detach() for p in slots.parameters], [buffer.clone() for buffer in slots.buffers])


class Paths:
    r"""The guide's draws as they enter the densities of a bound, with gradients that are multiplied by a factor.

    The factor is known after the densities. A draw that depends on an earlier one does so by the raw value, so that every path
    from a density to a parameter has the factor once.

    Attributes:
        values: site -> a copy of the draw. factor: of shape (K, B), for draws that vary over the particles; None is one.
    """

    def __init__(self, sites: dict[str, Site]) -> None:
        self.factor: Tensor | None = None
        self.values = {name: self._copy(site["value"], len(site["fn"].event_shape)) for name, site in sites.items()}

    def _copy(self, value: Tensor, event_dims: int) -> Tensor:
        if not value.requires_grad:
            return value
        copy = value.view_as(value)
        if value.dim() - event_dims > 1:  # draws that all particles share count for all of them
            copy.register_hook(lambda gradient: self._multiply(gradient, event_dims))
        return copy

    def _multiply(self, gradient: Tensor, event_dims: int) -> Tensor:
        if self.factor is None:
            return gradient
        return gradient * self.factor.reshape(self.factor.shape + (1,) * event_dims).to(gradient)

    def parents(self, constant: Collection[str]) -> dict[str, Tensor]:
        """Site -> what the densities of other sites depend on; without gradients for the sites in `constant`.

        The proposals of an inner bound have its shared sites for parameters. DReG takes the score of a proposal, also with
        respect to these, as a second path through its draws.
        """
        return {name: value.detach() if name in constant else value for name, value in self.values.items()}

    def weigh(self, log_w: Tensor, alpha: float) -> None:
        r"""Sets the factor of DReG, $\alpha + (1 - \alpha) \tilde w_k$, where $\tilde w \propto w^{1-\alpha}$; log w (K, B)."""
        self.factor = alpha + (1 - alpha) * ((1 - alpha) * log_w.detach()).softmax(0)
