"""Does the bottom layer suffice? A three-layer HVAE sampled by a Gibbs chain on z1 alone (Zhao et al. 2017, figure 2).

    python examples/gibbs_bottom_layer.py

Trains on static MNIST where its file is in PYRO_HVAE_DATA, else on scikit-learn's 8 x 8 digits; draws gibbs_bottom_layer.png.
"""

import argparse

import torch
from matplotlib.figure import Figure
from torch import Tensor

import pyro_hvae as hv


def build(x: Tensor) -> tuple[hv.Chain, hv.BottomUp]:
    """p(z3) p(z2 | z3) p(z1 | z2) p(x | z1) and q(z1 | x) q(z2 | z1) q(z3 | z2), all Gaussian but p(x | z1)."""
    shape, dims = tuple(x.shape[1:]), (20, 20, 20)

    def between(parent: int, child: int) -> hv.Gaussian:
        return hv.Gaussian(parent, child, (128, 128), std="sigmoid")

    likelihood = hv.Bernoulli(dims[0], shape, (300, 300), output_mean=x.mean(0))
    model = hv.Chain(hv.StandardNormal(dims[2]), [between(dims[2], dims[1]), between(dims[1], dims[0])], likelihood)
    encoder = hv.Gaussian(shape, dims[0], (300, 300), std="sigmoid", init_log_scale=-3.0)
    return model, hv.BottomUp([encoder, between(dims[0], dims[1]), between(dims[1], dims[2])])


def draw(panels: dict[str, Tensor], side: int = 8) -> Figure:
    figure = Figure(figsize=(5.5 * len(panels), 6), dpi=110, layout="constrained")
    for place, (title, images) in zip(figure.subfigures(1, len(panels)), panels.items(), strict=True):
        place.suptitle(title, fontsize=10)
        for axis, image in zip(place.subplots(side, side).ravel(), images, strict=False):
            axis.imshow(image.squeeze().numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a few steps only")
    parser.add_argument("--steps", type=int, default=20, help="of every chain")
    args = parser.parse_args()

    try:
        data = hv.DATASETS["mnist-static"]()
    except hv.HVAEError:  # the file is not there
        data = hv.DATASETS["digits"]()
    torch.manual_seed(0)
    model, guide = build(data.train.x[:])
    config = hv.TrainConfig(steps=30 if args.fast else 6_000, batch_size=128, lr_decay=0.6, threads=1)
    rows = hv.fit(hv.ELBO()(model, guide), data.train.x, config, schedule=hv.WarmUp(0.15))
    print(f"bound of the last batch on {data.name}: {rows[-1]['elbo']:.2f} nats per datum")

    chains = hv.gibbs(model, guide, data.validation.x[:100], steps=args.steps)  # keeps z1 alone; z2 and z3 are never used
    ancestral = hv.generate(model, 100, mean=False)["x"]
    others, test = data.test.x[torch.randperm(len(data.test.x))[:1100]].split([100, min(1000, len(data.test.x) - 100)])
    for name, x in {"Gibbs chains": chains.x[-1], "ancestral": ancestral, "other test data": others}.items():
        found = hv.energy_distance(x, test)
        print(f"energy distance to test data, {name}: {found.value:.4f} +- {found.stderr:.4f}")
    for site, share in hv.layer_shares(model).items():
        print(f"share of {site}'s noise in the variance of E[x|z]: {share.share:.3f} +- {share.stderr:.3f}")
    means = hv.generate(model, 64)["x"]
    titles = f"Gibbs chains on z1, step {args.steps}", "ancestral sampling of z3, z2, z1"
    draw(dict(zip(titles, (chains.mean[-1], means), strict=True))).savefig("gibbs_bottom_layer.png")
    print("Picture: gibbs_bottom_layer.png")


if __name__ == "__main__":
    main()
