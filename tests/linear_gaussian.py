"""Linear-Gaussian chains z_L -> ... -> z_1 -> x, whose evidence and posteriors have closed forms."""

import math

import pyro.distributions as dist
import torch
from torch import nn

from pyro_hvae.guides import BottomUp
from pyro_hvae.models import Chain


class Linear(nn.Module):
    """p(y | parent) = N(weight parent + bias, covariance), with full covariance."""

    def __init__(self, weight, bias, covariance):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.register_buffer("tril", torch.linalg.cholesky(covariance))

    def forward(self, *parents):
        loc = parents[0] @ self.weight.T + self.bias if parents else self.bias
        return dist.MultivariateNormal(loc, scale_tril=self.tril)


class LinearGaussianChain:
    """A random chain with dims from the top down, e.g. (3, 2) and data of 4 dims; float64.

    `evidence` is the exact law of x; `guide(error)` is the exact posterior chain, its means and scales off by `error`.
    """

    def __init__(self, dims=(3, 2), data=4, noise=0.6, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.dims, self.data = dims, data
        sizes = [*dims, data]
        self.weights = [torch.randn(b, a, generator=g, dtype=torch.float64) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.biases = [torch.randn(b, generator=g, dtype=torch.float64) for b in sizes[1:]]
        self.noises = [noise**2 * torch.eye(b, dtype=torch.float64) for b in sizes[1:]]
        # Marginals from the top down: means and covariances of z_L, ..., z_1, x.
        self.means, self.covariances = [torch.zeros(dims[0]).double()], [torch.eye(dims[0]).double()]
        for w, b, n in zip(self.weights, self.biases, self.noises, strict=True):
            self.means.append(w @ self.means[-1] + b)
            self.covariances.append(w @ self.covariances[-1] @ w.T + n)

    def model(self):
        top = Linear(torch.zeros(self.dims[0], 1).double(), self.means[0], self.covariances[0])
        below = [Linear(w, b, n) for w, b, n in zip(self.weights, self.biases, self.noises, strict=True)]
        return Chain(top, below[:-1], below[-1])

    def guide(self, error=0.0):
        levels = []
        for i in reversed(range(len(self.dims))):  # from z_1 upwards: p(parent | child) by conjugacy
            w = self.weights[i]
            gain = self.covariances[i] @ w.T @ torch.linalg.inv(self.covariances[i + 1])
            covariance = self.covariances[i] - gain @ w @ self.covariances[i]
            bias = self.means[i] - gain @ self.means[i + 1] + error
            covariance = (covariance + covariance.T) / 2 * math.exp(2 * error)
            levels.append(Linear(gain, bias, covariance))
        return BottomUp(levels)

    @property
    def evidence(self):
        return torch.distributions.MultivariateNormal(self.means[-1], self.covariances[-1])

    def posterior_kl(self, x, error):
        """Exact KL(q(z1 | x) || p(z1)) for the guide with the given error, shape (B,)."""
        q = self.guide(error).levels[0](x)
        p = torch.distributions.MultivariateNormal(self.means[-2], self.covariances[-2])
        return torch.distributions.kl_divergence(q, p)
