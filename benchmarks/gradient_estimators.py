"""Variance and bias of the gradients `stl` and `dreg` of the IWAE bound, for 1, 8 and 64 particles, at the start and trained.

    python -m benchmarks.gradient_estimators       # three seeds; about four minutes on one core

An IWAE with 16 latents of the binarised digits (> 7 of 16). Gradients of one batch of 64 images with respect to the guide, 400
draws each, all estimators with the same noise. `variance`: the total variance over the parameters, over that of the plain
gradient (`reparameterised`). `bias`: the distance of the mean gradient from that of the plain one, over the length of the
latter, both squared and without the part that noise adds, var(draws) / 400. `error`: by how much the bias grows with one
standard deviation of its square (jackknife over ten groups of draws). For one particle the plain gradient takes the KL in
closed form, and the others do not. Writes benchmarks/results/gradient_estimators.json.
"""

import statistics
from typing import Any

from benchmarks import studies

PARTICLES = ("1", "8", "64")
ESTIMATORS = ("reparameterised", "stl", "dreg")
GROUPS = 10


def squared_length(draws: Any) -> float:
    """|E g|^2 without bias, from independent draws of g, (n, parameters)."""
    return (draws.mean(0).square() - draws.var(0) / len(draws)).sum().item()


def squared_bias(other: Any, plain: Any) -> tuple[float, float]:
    """|E other - E plain|^2 / |E plain|^2 and its standard deviation; row i of both has the same noise."""
    import torch

    def ratio(kept: Any) -> float:
        return squared_length(other[kept] - plain[kept]) / squared_length(plain[kept])

    group = torch.arange(len(plain)) % GROUPS
    without = [ratio(group != number) for number in range(GROUPS)]
    return ratio(group >= 0), ((GROUPS - 1) * statistics.pvariance(without)) ** 0.5


def measure(args: studies.Args, particles: str, seed: int) -> studies.Row:
    import math
    import time

    import torch

    import pyro_hvae as hv
    from pyro_hvae.data import digits

    torch.set_num_threads(1)
    x = (digits().train.x[:] > 7 / 16).float()
    start = time.process_time()
    torch.manual_seed(seed)
    options = {"latent": 16, "particles": int(particles), "likelihood": "bernoulli", "hidden": (64,), "activation": "relu"}
    (stage,) = hv.recipes.build("iwae", x, options)
    pair = stage.objective
    row: studies.Row = {"particles": int(particles), "seed": seed}
    guide = list(pair.guide.parameters())

    def gradients(estimator: str) -> torch.Tensor:
        pair.elbo.set_gradient(estimator)
        torch.manual_seed(seed)
        draws = [torch.cat([g.flatten() for g in torch.autograd.grad(pair(x[:64]), guide)]) for _ in range(args.draws)]
        return torch.stack(draws).double()

    for moment in ("start", "trained"):
        if moment == "trained":
            pair.elbo.set_gradient("reparameterised")
            settings = hv.TrainConfig(steps=args.steps, batch_size=64, lr=1e-3, seed=seed, compile=False)
            hv.fit(pair, x, settings, progress=False)
        plain = gradients("reparameterised")
        length, deviation = math.sqrt(squared_length(plain)), plain.var(0).sum().sqrt().item()
        row[moment] = {"reparameterised": {"length": length, "deviation": deviation}}
        for estimator in ESTIMATORS[1:]:
            other = gradients(estimator)
            square, spread = squared_bias(other, plain)
            bias = math.sqrt(max(0.0, square))
            row[moment][estimator] = {
                "variance": (other.var(0).sum() / plain.var(0).sum()).item(),
                "bias": bias,
                "error": math.sqrt(bias**2 + spread) - bias,
            }
    return row | {"cpu_seconds": time.process_time() - start}


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    lines = list[studies.Row]()
    for moment in ("start", "trained"):
        for estimator in ESTIMATORS[1:]:
            line: studies.Row = {"particles": rows[0]["particles"], "when": moment, "gradient": estimator}
            for key in ("variance", "bias", "error"):
                values = [row[moment][estimator][key] for row in rows]
                line[key] = f"{min(values):.2g} to {max(values):.2g}"
            lines.append(line | {"CPU s": studies.mean_cpu_seconds(rows)})
    return lines


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "gradient_estimators", "0-2", jobs=1, particles=PARTICLES)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--draws", type=int, default=400)
    args = parser.parse_args()
    studies.run_study(args, studies.over_seeds(args.particles, args.seeds), measure, summarise, steps=args.steps)
