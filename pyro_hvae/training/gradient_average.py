"""Averages the gradients of a step over the processes that train together."""

import torch
from torch import Tensor, nn

from pyro_hvae.runtime import all_sum, broadcast

STATISTICS = ("running_mean", "running_var")  # of torch's normalisations over a batch


class GradientAverage:
    """One sum over all processes a step, of all gradients in one piece of memory, after they were computed in whatever way.

    The whole batch's gradient is the mean of the shares' gradients, weighted by their sizes. The running statistics of batch
    normalisation are averaged with them. DistributedDataParallel does not fit: it averages within `backward`, which a captured
    graph never calls, and only parameters that train when it is built, while schedules hold parameters back for a time. Here
    each parameter has a fixed place, and keeps no gradient where no process has one, so that its optimiser leaves it alone.

    Arguments:
        module: whose parameters are trained; those of the first process are sent to the others.
        weight: the share of this process in a batch, from 0 to 1.

    Attributes:
        asked: whether this process was asked to stop. agreed: whether any was, as of the step before the last one, in all
            processes alike. No step waits for a device to read it.
    """

    def __init__(self, module: nn.Module, weight: float) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.statistics = [b for name, b in module.named_buffers() if name.endswith(STATISTICS)]
        self.weight, self.asked, self.agreed = weight, False, False
        self._stop: Tensor | None = None
        broadcast([*module.parameters(), *module.buffers()])

    @torch.no_grad()
    def run(self) -> None:
        """Replaces `.grad` of all parameters by the average; every process must come here in every step."""
        tensors = [*self.parameters, *self.statistics]
        present = [p.grad is not None for p in self.parameters]
        values = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters] + self.statistics
        flags = torch.tensor([*present, self.asked], dtype=torch.float32).to(tensors[0].device, non_blocking=True)
        total = all_sum(torch.cat([*(value.flatten() for value in values), flags]).mul_(self.weight))
        *means, flags = total.split([*(tensor.numel() for tensor in tensors), len(flags)])
        # Only a parameter without a gradient here makes a step wait for its device.
        reached = present if all(present) else (flags[:-1] > 0).tolist()
        for parameter, mean, has in zip(self.parameters, means, reached, strict=False):
            parameter.grad = mean.view_as(parameter).to(parameter) if has else None
        for buffer, mean in zip(self.statistics, means[len(self.parameters) :], strict=True):
            buffer.copy_(mean.view_as(buffer))
        self.agreed, self._stop = self._stop is not None and bool(self._stop > 0), flags[-1].clone()
