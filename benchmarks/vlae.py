"""The factor that each layer of VLAE carries on MNIST, in numbers, over seeds.

    python -m benchmarks.vlae                               # three seeds; about an hour on two cores
    python -m benchmarks.vlae --variants code --seeds 0-0

Trains `vlae --dataset mnist` at its cpu preset by the command line; finished runs are kept. Measures `layer-factors` and
draws the grid of every layer. Variant `paper` has the Gaussian likelihood and the concatenation of the paper; `code` has the
Laplace likelihood and the gated sum of the authors' code; `hvae` is a stochastic chain of three layers of two dimensions.
Writes benchmarks/results/vlae.json.
"""

import statistics

from benchmarks import studies

VARIANTS = {
    "paper": ["vlae"],
    "code": ["vlae", "-o", "likelihood=laplace", "-o", "sigma=0.125", "-o", "join=gated"],
    "hvae": ["hvae", "-o", "dims=2,2,2"],
}
FACTORS = ("ink", "slant", "width", "thickness")


def measure(args: studies.Args, variant: str, seed: int) -> studies.Row:
    out = args.runs / f"{variant}-seed{seed}"
    seconds = studies.train(out, *VARIANTS[variant], "--dataset", "mnist", "--seed", str(seed))
    found = studies.command("metrics", str(out), "layer-factors")
    studies.command("layers", str(out), "--grid")
    keys = ("consistency", "class_accuracy", "correlation", "correlation_nonlinear", "varied", "share", "classifier")
    return {"variant": variant, "seed": seed, "cpu_seconds": seconds} | {key: found[key] for key in keys}


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    """A line per layer: means over seeds, with the range in brackets."""
    lines = []
    for site in rows[0]["correlation"]:
        values = {
            "same class": [row["consistency"][site]["same_class"] for row in rows],
            "k-NN class": [row["class_accuracy"][site] for row in rows],
            "V_l": [row["share"][site]["of_pixels"] for row in rows],
        }
        for letter, key in (("R", "correlation"), ("V", "varied")):
            values |= {f"{letter} {factor}": [row[key][site][factor] for row in rows] for factor in FACTORS}
        cells = {k: f"{statistics.fmean(v):.2f} ({min(v):.2f}-{max(v):.2f})" for k, v in values.items()}
        lines.append({"variant": rows[0]["variant"], "layer": site, "seeds": len(rows), **cells})
    return lines


if __name__ == "__main__":
    args = studies.study_parser(__doc__, "vlae", "0-2", variants=VARIANTS).parse_args()
    studies.run_study(args, studies.over_seeds(args.variants, args.seeds), measure, summarise)
