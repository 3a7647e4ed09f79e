"""Linear-Gaussian models, whose evidence and posteriors have closed forms: Markov chains, and a pair with a skip."""

import math

import pyro.distributions as dist
import torch
from torch import nn

from pyro_hvae.guides import Autoregressive, BottomUp
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


class Fixed(nn.Module):
    """p(y | parents) = N(sum_i W_i parent_i + b, diag std^2): linear, diagonal, known."""

    def __init__(self, weights, std, bias=0.0):
        super().__init__()
        self.weights, self.std = weights, std
        self.bias = torch.as_tensor(bias).expand(std.shape)

    def forward(self, *parents):
        loc = sum((p @ w.T for p, w in zip(parents, self.weights, strict=True)), self.bias)
        return dist.Normal(loc, self.std.expand_as(loc)).to_event(1)


def skip_pair(error=0.0):
    """z2 ~ N(0, 1), z1 = a z2 + s1 noise, x = b z1 + c z2 + s noise, with the exact posterior as an autoregressive guide."""
    a, b, c, s1, s = 0.9, 1.3, 1.0, 0.5, 0.4
    one = torch.ones(1)

    def row(*values):
        return [torch.tensor([[v]]) for v in values]

    model = Chain(Fixed([], one), [Fixed(row(a), s1 * one)], Fixed(row(b, c), s * one), skip=True)
    joint = torch.tensor([[1.0, a], [a, a**2 + s1**2]])  # of (z2, z1)
    load = torch.tensor([c, b])
    evidence = (load @ joint @ load + s**2).item()
    gain = joint @ load / evidence
    posterior = joint - torch.outer(gain, load @ joint)
    # q(z1 | x), then q(z2 | x, z1).
    slope = posterior[0, 1] / posterior[1, 1]
    std1, std2 = posterior[1, 1].sqrt(), (posterior[0, 0] - slope * posterior[0, 1]).sqrt()
    q1 = Fixed(row(gain[1].item()), std1 * one, error)
    q2 = Fixed(row((gain[0] - slope * gain[1]).item(), slope.item()), std2 * one)
    return model, Autoregressive({"z1": q1, "z2": q2}), evidence
