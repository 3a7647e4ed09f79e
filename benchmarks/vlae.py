"""VLAE on MNIST: which factor each layer carries, as numbers, over seeds.

    python -m benchmarks.vlae                               # three seeds, two runs at a time
    python -m benchmarks.vlae --variants code --seeds 0-0

Trains `vlae --dataset mnist` at its cpu preset by the command line (finished runs are kept), measures `layer-factors` and draws
every layer's grid. Variants: `paper` has the Gaussian likelihood and concatenation of the paper, `code` the Laplace and the
gated sum of the authors' code, `hvae` a stochastic chain of three layers of two dimensions as well. Writes
benchmarks/results/vlae.json.
"""

import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, command, over_seeds, save, trained

VARIANTS = {
    "paper": ["vlae"],
    "code": ["vlae", "-o", "likelihood=laplace", "-o", "sigma=0.125", "-o", "join=gated"],
    "hvae": ["hvae", "-o", "dims=2,2,2"],
}


def measure(variant: str, seed: int, runs: Path) -> dict[str, Any]:
    out = runs / f"{variant}-seed{seed}"
    seconds = trained(out, *VARIANTS[variant], "--dataset", "mnist", "--seed", str(seed))
    found = command("metrics", str(out), "layer-factors")
    command("layers", str(out), "--grid")
    keys = ("consistency", "class_accuracy", "correlation", "correlation_nonlinear", "varied", "share", "classifier")
    row: dict[str, Any] = {"variant": variant, "seed": seed, "cpu_seconds": seconds} | {key: found[key] for key in keys}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line per variant and layer: means over seeds, with the range in brackets."""
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        for site in mine[0]["correlation"]:
            parts = {
                "same class": [row["consistency"][site]["same_class"] for row in mine],
                "k-NN class": [row["class_accuracy"][site] for row in mine],
                "V_l": [row["share"][site]["of_pixels"] for row in mine],
            }
            for factor in ("ink", "slant", "width", "thickness"):
                parts[f"R {factor}"] = [row["correlation"][site][factor] for row in mine]
            for factor in ("ink", "slant", "width", "thickness"):
                parts[f"V {factor}"] = [row["varied"][site][factor] for row in mine]
            cells = {k: f"{statistics.fmean(v):.2f} ({min(v):.2f}-{max(v):.2f})" for k, v in parts.items()}
            lines.append({"variant": variant, "layer": site, "seeds": len(mine), **cells})
    return lines


def main() -> None:
    parser = arguments(__doc__, "vlae", "0-2")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    args = parser.parse_args()

    from pyro_hvae.reports import format_table

    with ProcessPoolExecutor(args.jobs) as pool:  # processes, so that each counts its own children's CPU time
        made = [pool.submit(measure, variant, seed, args.runs) for variant, seed in over_seeds(args.variants, args.seeds)]
        rows = [future.result() for future in made]
    summary = summarise(rows)
    print(format_table(summary))
    save(args.save, {"summary": summary, "runs": rows})


if __name__ == "__main__":
    main()
