"""The step of an optimiser, without the Python around the operation that does it where this is possible."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pyro_hvae.compilation.torch_private import fused_adam, has_step_hooks

OFF = ("amsgrad", "maximize", "capturable", "differentiable")
SUBNORMAL = 5e-324  # equals 0 where the processor takes subnormal numbers for 0


class OptimizerStep:
    """`OptimizerStep(optimizer)()` does what `optimizer.step()` does, to the last bit of all but subnormal numbers.

    Subnormal numbers (below 1.2e-38 in float32) become 0. The moments of parameters that no longer get a gradient, such
    as those of a dead unit, would else decay to such numbers, with which a processor is many times slower: a step of a small
    network then takes 1.3 to 1.7 times as long. No parameter beyond 1e-25 changes by this.

    Most of a fused step of Adam on small networks is Python code of torch. Where the optimiser is a plain, fused Adam or AdamW
    on the CPU that has made a step already, its one operation is called directly, on the optimiser's own state. All else (other
    optimisers, amsgrad, hooks, a learning rate in a tensor, a scheduler that has wrapped the step) is `optimizer.step()`.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._operation = fused_adam(optimizer) if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW) else None
        self._counts, self._total = list[Tensor](), torch.zeros(0)  # the counts are views of the total

    @torch.no_grad()
    def __call__(self) -> None:
        kept = SUBNORMAL != 0
        if kept:
            torch.set_flush_denormal(True)
        try:
            self._step()
        finally:
            if kept:
                torch.set_flush_denormal(False)

    def _step(self) -> None:
        groups = self._plain_groups() if self._operation is not None else None
        if self._operation is None or groups is None:
            self.optimizer.step()
            return
        self._count([state for _, _, states in groups for state in states])
        for group, parameters, states in groups:
            self._operation(
                parameters,
                [p.grad for p in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def _plain_groups(self) -> list[tuple[dict[str, Any], list[Tensor], list[dict[str, Tensor]]]] | None:
        """Groups, their parameters with a gradient, and the states of these; None where the operation is not all of a step."""
        optimizer, found = self.optimizer, []
        # A scheduler wraps `step`, and torch's gradient scaler hands over its scale in attributes.
        if has_step_hooks(optimizer) or not vars(optimizer).keys().isdisjoint(("step", "grad_scale", "found_inf")):
            return None
        for group in optimizer.param_groups:
            if not group.get("fused") or any([group.get(name) for name in OFF]):
                return None
            if group.get("decoupled_weight_decay", False) and type(optimizer) is torch.optim.Adam:
                return None
            numbers = (group["lr"], *group["betas"], group["eps"], group["weight_decay"])
            if any([type(number) not in (float, int) for number in numbers]):
                return None
            parameters = [p for p in group["params"] if p.grad is not None]
            states = [optimizer.state.get(p) for p in parameters]
            kinds = {(p.dtype, p.device.type, p.grad.layout) for p in parameters}
            if not all(states) or len(kinds) > 1 or any([kind[1:] != ("cpu", torch.strided) for kind in kinds]):
                return None
            if parameters:
                found.append((group, parameters, states))
        return found

    def _count(self, states: list[dict[str, Tensor]]) -> None:
        """Adds one to the count of steps of all states: one addition, where torch makes one for each."""
        counts = [state["step"] for state in states]
        if len(counts) != len(self._counts) or any([one is not two for one, two in zip(counts, self._counts, strict=True)]):
            self._total = torch.stack(counts) if counts else torch.zeros(0)
            self._counts = list(self._total.unbind())
            for state, count in zip(states, self._counts, strict=True):
                state["step"] = count
        self._total.add_(1)
