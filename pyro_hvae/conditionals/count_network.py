"""A network that gives the log means of counts, which a size factor multiplies."""

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from pyro_hvae.networks import NetworkOptions, ParentNetwork, Parents, Shape, require_size_factor, soft_clamp

LOG_MEAN = (-15.0, 20.0)  # of a count, beyond which it grows with the logarithm of the excess: its exp stays finite


class CountNetwork(ParentNetwork):
    """A network from the parents to log means of counts; arguments as for `Poisson`."""

    def __init__(
        self,
        parents: Parents,
        event: Shape,
        hidden: Sequence[int] = (128, 128),
        *,
        size_factor: bool = False,
        **network: Unpack[NetworkOptions],
    ) -> None:
        if (mean := network.get("output_mean")) is not None:
            network["output_mean"] = mean.clamp(min=1e-3).log()
        super().__init__(parents, event, hidden, **network)
        self.size_factor = size_factor

    def log_mean(self, parents: Sequence[Tensor]) -> Tensor:
        """log E[x | parents], (*plates, *event); the last parent is the size factor where the conditional takes one.

        Raises:
            ContractError: for a size factor that is not of shape (*plates, 1).
        """
        if not self.size_factor:
            return soft_clamp(self.outputs(parents)[0], *LOG_MEAN)
        *others, size = parents
        require_size_factor(size)
        log_mean = soft_clamp(self.outputs(others)[0], *LOG_MEAN)
        return log_mean + size.log().reshape(*size.shape[:-1], *[1] * len(self.event))
