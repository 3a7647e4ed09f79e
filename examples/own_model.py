"""Your own model and guide as Pyro programs: two latent layers with a skip connection z2 -> x.

Nothing is registered and no class of the library is inherited; every tool works on the pair all the same.

    python examples/own_model.py
    pyro-hvae train --program examples/own_model.py:build --dataset pendulum --schedule warmup
"""

import argparse

import pyro
import torch
from torch import Tensor, nn

import pyro_hvae as hv


class Model(nn.Module):
    """p(z2) p(z1 | z2) p(x | z1, z2)"""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.p2, self.p1 = hv.StandardNormal(2), hv.Gaussian(2, 2)
        self.px = hv.Gaussian(2 + 2, shape, scale=0.5)  # a conditional concatenates its parents

    def forward(self, x: Tensor | None = None, size: int = 1) -> Tensor:
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", self.p2())
            z1 = pyro.sample("z1", self.p1(z2))
            return pyro.sample("x", self.px(z1, z2), obs=x)


def build(x: Tensor) -> tuple[nn.Module, nn.Module]:
    """What `--program` calls with the training data."""
    shape = tuple(x.shape[1:])
    return Model(shape), hv.BottomUp([hv.Gaussian(shape, 2), hv.Gaussian(2, 2)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a few steps only")
    parser.add_argument("--out", default=None, help="run directory for metrics and checkpoints")
    args = parser.parse_args()

    data = hv.DATASETS["pendulum"]()
    x, test = data.train.x[:], data.test.x[: 100 if args.fast else 500]
    torch.manual_seed(0)
    model, guide = build(x)
    loss = hv.ELBO(particles=1)(model, guide)  # an nn.Module: .parameters(), loss(x)
    config = hv.TrainConfig(steps=200 if args.fast else 5_000, lr=1e-3, threads=1)
    rows = hv.fit(loss, x, config, schedule=hv.WarmUp(0.2), out=args.out)
    print(f"bound of the last batch: {rows[-1]['elbo']:.3f} nats per datum")
    values = hv.log_likelihood(model, guide, test, particles=100 if args.fast else 1000)
    print(f"test log-likelihood: {values.mean():.3f} nats per datum ({len(test)} images)")
    print(f"active units: {hv.active_units(guide, test)}")


if __name__ == "__main__":
    main()
