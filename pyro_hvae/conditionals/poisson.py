"""Poisson likelihoods, for counts."""

import pyro.distributions as dist
from torch import Tensor

from pyro_hvae.conditionals.count_network import CountNetwork


class Poisson(CountNetwork):
    r"""Independent counts, $\log p(x) = \sum_d x_d \log \lambda_d - \lambda_d - \log x_d!$ with $\lambda = s \mu$.

    The network gives $\log \mu$.

    Arguments:
        parents, event, hidden, activation, gain, norm, input_bound, input_mean, net: as for `Gaussian`.
        output_mean: of the counts, at least 1e-3, at s = 1.
        size_factor: the last parent is the datum's size s > 0, of shape (*plates, 1), which multiplies all means and does not
            enter the network; without it s = 1.

    Single precision loses about 0.003 nats an entry at counts of 1e4, 0.04 at 1e5 and 0.4 at 1e6 (at most three times as much),
    where $x \log \lambda$ and $\log x!$ cancel: give counts in a larger unit, or make the pair `.double()`.

    Values of $\log \mu$ beyond [-15, 20] grow with the logarithm of their excess only.

    Raises:
        ContractError: for a size factor of another shape.

    >>> import torch
    >>> Poisson(2, 3, gain=0.0, output_mean=torch.ones(3))(torch.zeros(1, 2)).log_prob(torch.tensor([[0.0, 1.0, 2.0]]))
    tensor([-3.6931], grad_fn=<SumBackward1>)
    >>> Poisson(2, 3, gain=0.0, size_factor=True)(torch.zeros(1, 2), torch.tensor([[5.0]])).mean
    tensor([[5., 5., 5.]], grad_fn=<ExpBackward0>)
    """

    def forward(self, *parents: Tensor) -> dist.Independent:
        return dist.Poisson(self.log_mean(parents).exp()).to_event(len(self.event))
