"""Zero-inflated likelihoods, for counts with more zeros than their law has."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.conditionals.negative_binomial import NegativeBinomial
from pyro_hvae.conditionals.poisson import Poisson
from pyro_hvae.errors import ConfigError


class ZeroInflated(nn.Module):
    r"""Counts that are 0 with a probability $\pi$, else of another conditional, $\pi_d [x_d = 0] + (1 - \pi_d) p(x_d)$.

    The mean is $(1 - \pi) \mu$. The zeros do not depend on the parents, nor on the size factor that `counts` may take.

    Arguments: `counts` is a `Poisson` or `NegativeBinomial`. `share` is where $\pi$ starts; it is trained, one a column.

    Raises:
        ConfigError: for a share that is not between 0 and 1.

    >>> ZeroInflated(Poisson(2, 3, gain=0.0), share=0.25)(torch.zeros(1, 2)).mean
    tensor([[0.7500, 0.7500, 0.7500]], grad_fn=<MulBackward0>)
    """

    def __init__(self, counts: Poisson | NegativeBinomial, share: float = 0.1) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise ConfigError(f"the share of zeros must be between 0 and 1, got {share!r}.")
        self.counts = counts
        self.gate_logits = nn.Parameter(torch.full(counts.event, math.log(share / (1 - share))))

    def forward(self, *parents: Tensor) -> dist.Independent:
        law = self.counts(*parents).base_dist
        if isinstance(self.counts, Poisson):
            fn = dist.ZeroInflatedPoisson(law.rate, gate_logits=self.gate_logits)
        else:
            # Pyro refuses probabilities that round to 1, which it computes from logits beyond 17 and does not use.
            options = {"gate_logits": self.gate_logits, "validate_args": False}
            fn = dist.ZeroInflatedNegativeBinomial(law.total_count, logits=law.logits, **options)
        return fn.to_event(len(self.counts.event))
