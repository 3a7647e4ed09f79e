"""A ladder of one's own, trained layer by layer, and who knows what about the data before and after the second layer enters.

    python examples/own_ladder.py           # 8 x 8 digits, a minute
    pyro-hvae train --program examples/own_ladder.py:build --dataset digits --schedule progressive

The rungs, steps and heads are any modules; what has `gates` (as `Ladder` and `Heads` do) can be trained by `hv.Progressive`.
"""

import argparse

import torch
from torch import Tensor, nn

import pyro_hvae as hv

WIDE = 128


def layer(inputs: int, outputs: int = WIDE) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())


def build(x: Tensor) -> tuple[nn.Module, nn.Module]:
    """Two layers of two dimensions; z1 joins one layer above x, z2 two layers above it."""
    rungs = {
        "z2": hv.Rung(branch=layer(2), net=layer(WIDE), width=WIDE),
        "z1": hv.Rung(branch=layer(2), net=layer(2 * WIDE), width=WIDE),
    }
    priors = {"z2": hv.StandardNormal(2), "z1": hv.StandardNormal(2)}
    model = hv.Ladder(priors, rungs, hv.Gaussian(WIDE, x.shape[1:], (), scale=0.2, squash=True))
    heads = {"z1": hv.Gaussian(WIDE, 2, ()), "z2": hv.Gaussian(WIDE, 2, ())}
    return model, hv.Heads(heads, steps={"z1": layer(x[0].numel()), "z2": layer(WIDE)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="a few steps only")
    args = parser.parse_args()

    data = hv.DATASETS["digits"]()
    torch.manual_seed(0)
    x = data.train.x[:]
    model, guide = build(x)
    steps = 60 if args.fast else 6_000
    config = hv.TrainConfig(steps=steps, information_every=steps // 6, threads=1)
    rows = hv.fit(hv.ELBO()(model, guide), x, config, hv.Progressive(beta=1.0, gamma=0.5))
    for row in rows:
        if "information.z2" in row:
            known = "  ".join(f"{name} {row[f'information.{name}']:5.2f}" for name in ("z2", "z1", "total"))
            print(f"step {row['step']:5d}: layers in {row['layers']}, nats about x: {known}")
    for site, share in hv.layer_shares(model).items():
        print(f"{site}: {share.share:.2f} +- {share.stderr:.2f} of the variance of E[x|z] is this layer's alone")


if __name__ == "__main__":
    main()
