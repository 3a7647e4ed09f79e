"""Captured, pairs of Pyro's own kind under Pyro's own bounds do what they do eagerly."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from both_ways import assert_same, buffers, data, normal_model, pair, wide
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.nn import PyroModule, PyroParam
from torch import nn

pytestmark = pytest.mark.usefixtures("float64")


def gamma_model(self, x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Gamma(2.0, 1.0).expand([len(x), 2]).to_event(1))
        pyro.sample("x", dist.StudentT(4.0, self.net(z), 0.5).to_event(1), obs=x)


def gamma_guide(self, x):
    with pyro.plate("data", len(x)):
        shape, rate = nn.functional.softplus(self.net(x)).chunk(2, -1)
        pyro.sample("z", dist.Gamma(shape, rate).to_event(1))


def masked_model(self, x):
    normal_model(self, x, lambda mean: dist.Laplace(mean, 0.5).mask(x > 0))


def mvn_guide(self, x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.MultivariateNormal(self.net(x)[:, :2], scale_tril=self.factor.tril()))


def mvn_model(self, x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)


def scaled_model(self, x):
    with poutine.scale(scale=self.beta):
        normal_model(self, x)
    self.beta.mul_(1.25)


def part(self, x):
    return pyro.plate("data", len(x), subsample_size=3)


def part_model(self, x):
    with part(self, x) as i:
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).expand([3, 2]).to_event(1))
        pyro.sample("x", dist.Normal(self.net(z), 0.5).to_event(1), obs=x[i])


def part_guide(self, x):
    with part(self, x) as i:
        pyro.sample("z", dist.Normal(self.net(x[i])[:, :2], 0.5).to_event(1))


def bits_model(self, x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Bernoulli(torch.full((len(x), 2), 0.5)).to_event(1))
        pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)


def bits_guide(self, x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Bernoulli(logits=self.net(x)[:, :2]).to_event(1))


def convolution():
    return nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 1, 3, padding=1), nn.Flatten())


class Constrained(PyroModule):
    """Parameters of Pyro's own kind, under constraints."""

    def __init__(self):
        super().__init__()
        self.scale = PyroParam(torch.full((2,), 0.3), dist.constraints.positive)
        self.shift = PyroParam(torch.randn(2))
        self.factor = PyroParam(torch.eye(2), dist.constraints.lower_cholesky)
        self.net = PyroModule[nn.Linear](4, 2)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            tril = self.scale.unsqueeze(-1) * self.factor
            pyro.sample("z", dist.MultivariateNormal(self.net(x) + self.shift, scale_tril=tril))


BOUNDS = {
    "trace": lambda: Trace_ELBO()(*pair()),
    "5 particles": lambda: Trace_ELBO(5)(*pair()),
    "vectorised": lambda: Trace_ELBO(3, vectorize_particles=True, max_plate_nesting=1)(*pair()),
    "mean field": lambda: TraceMeanField_ELBO()(*pair()),
    "gamma": lambda: Trace_ELBO()(*pair(gamma_model, gamma_guide)),
    "mvn": lambda: Trace_ELBO()(*pair(mvn_model, mvn_guide, factor=nn.Parameter(torch.eye(2)))),
    "masked": lambda: Trace_ELBO()(*pair(masked_model)),
    "subsample": lambda: Trace_ELBO()(*pair(part_model, part_guide)),
    "score function": lambda: Trace_ELBO(2)(*pair(bits_model, bits_guide)),
    "batch norm": lambda: Trace_ELBO()(*pair(net=wide(nn.BatchNorm1d(6)))),
    "dropout": lambda: Trace_ELBO()(*pair(net=wide(nn.Dropout(0.4)))),
    "spectral norm": lambda: Trace_ELBO()(*pair(net=wide(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))))),
    "convolution": lambda: Trace_ELBO()(*pair(net=convolution())),
    "constraints": lambda: Trace_ELBO()(pair(mvn_model)[0], Constrained()),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_of_pyro(name):
    assert assert_same(BOUNDS[name](), data()).graphs == 1


def test_a_scale_that_is_a_tensor():
    model, guide = pair(scaled_model)
    assert_same(Trace_ELBO()(buffers(model, beta=torch.tensor(0.5)), guide), data())
    assert model.beta.item() == 0.5 * 1.25**4
