"""A conditional factor model, x = W z + V y + b + noise, whose laws of observed entries have closed forms; float64."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn


class FactorModel(nn.Module):
    """z ~ N(0, I), x | z, y ~ N(W z + V y + b, diag s^2)."""

    def __init__(self, latent=2, data=5, inputs=3, seed=0):
        super().__init__()
        g = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return nn.Parameter(torch.randn(*shape, generator=g, dtype=torch.float64))

        self.w, self.v, self.b, self.log_s = draw(data, latent), draw(data, inputs), draw(data), draw(data)

    def forward(self, x=None, size=1, y=None):
        if y is None:
            y = self.v.new_zeros(size if x is None else x.shape[0], self.v.shape[1])
        with pyro.plate("data", size if x is None else x.shape[0]):
            z = pyro.sample("z1", dist.Normal(self.w.new_zeros(self.w.shape[1]), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z @ self.w.T + y @ self.v.T + self.b, self.log_s.exp()).to_event(1), obs=x)

    def law(self, y):
        """Mean (B, D) and covariance (D, D) of p(x | y)."""
        return y @ self.v.T + self.b, self.w @ self.w.T + torch.diag((2 * self.log_s).exp())

    def log_observed(self, x, known, y):
        """log p(x_observed | y) of every datum, (B,)."""
        mean, covariance = self.law(y)
        values = [
            torch.distributions.MultivariateNormal(m[k], covariance[k][:, k]).log_prob(row[k]) if k.any() else row.new_zeros(())
            for row, m, k in zip(x, mean, known, strict=True)
        ]
        return torch.stack(values)

    def conditional(self, row, known, mean):
        """Mean and covariance of the missing entries of one datum, given the observed ones."""
        covariance = self.law(torch.zeros(1, self.v.shape[1], dtype=torch.float64))[1]
        gain = covariance[~known][:, known] @ torch.linalg.inv(covariance[known][:, known])
        return mean[~known] + gain @ (row[known] - mean[known]), covariance[~known][:, ~known] - gain @ covariance[known][
            :, ~known
        ]


class ExactGuide(nn.Module):
    """The exact posterior p(z | x_observed, y) of a factor model: every importance weight is p(x_observed | y)."""

    def __init__(self, model, error=0.0):
        super().__init__()
        self.model, self.error = model, error

    def forward(self, x, size=1, observed=None, y=None):
        m = self.model
        known = torch.ones_like(x) if observed is None else observed.to(x.dtype)
        y = x.new_zeros(len(x), m.v.shape[1]) if y is None else y
        precise = known * (-2 * m.log_s).exp()  # (B, D)
        information = torch.eye(m.w.shape[1], dtype=x.dtype) + torch.einsum("dl,bd,dk->blk", m.w, precise, m.w)
        off = ((x - y @ m.v.T - m.b) * precise) @ m.w
        loc = torch.linalg.solve(information, off) + self.error
        with pyro.plate("data", len(x)):
            pyro.sample("z1", dist.MultivariateNormal(loc, precision_matrix=information))


def incomplete_data(model, size=40, share=0.4, seed=1):
    """x with NaN, its mask and y; the first row is complete, the second is all missing."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(size, model.v.shape[1], generator=g, dtype=torch.float64)
    x = model.law(y)[0].detach() + torch.randn(size, len(model.b), generator=g, dtype=torch.float64)
    known = torch.rand(x.shape, generator=g) > share
    known[0], known[1] = True, False
    return x.where(known, torch.nan), known, y
