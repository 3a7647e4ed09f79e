"""The pendulum experiment of Klushyn et al. 2019 (section 4.1, table 1, figures 3-4) over methods and seeds.

    python -m benchmarks.pendulum                  # all methods, seeds 0-9, two at a time
    python -m benchmarks.pendulum --methods vhp-rewo --seeds 100-103 --extra upper=128,128

Trains by the command line (finished runs are kept), measures the angle error and the graph interpolation over 4 draws of
the prior, prints a table and writes benchmarks/results/pendulum.json.
"""

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, command, flags, over_seeds, save

# method -> (arguments of `train`, published error in radians)
METHODS: dict[str, tuple[list[str], str | None]] = {
    "vhp-rewo": (["vhp", "--schedule", "rewo"], "0.054"),
    "vhp-rewo-diagonal": (["vhp", "--schedule", "rewo", "-o", "posterior=diagonal"], "0.054"),
    "vhp-geco": (["vhp", "--schedule", "geco"], "0.53"),
    "vhp-warmup-20%": (["vhp", "--schedule", "warmup", "-o", "warmup=0.2"], "0.20"),
    "vhp-warmup-80%": (["vhp", "--schedule", "warmup", "-o", "warmup=0.8"], "0.31"),
    "vhp-constant": (["vhp", "--schedule", "constant"], "0.49"),
    "iwae": (["iwae"], None),
    "vae": (["vae"], None),
}


def measure(method: str, seed: int, runs: Path, extra: list[str]) -> dict[str, Any]:
    out, seconds = runs / f"{method}-seed{seed}", None
    if not (out / "figures" / "samples.png").exists():
        started = time.perf_counter()
        command("train", *METHODS[method][0], *flags(extra), "--dataset", "pendulum", "--seed", str(seed), "--out", str(out))
        seconds = time.perf_counter() - started
    found = command("metrics", str(out), "angle", "interpolation")
    final = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    row = {"method": method, "seed": seed, "mae_rad": found["angle"]["mae_rad"], "cos_sin_rad": found["angle"]["cos_sin_rad"]}
    row |= {"good_paths": found["interpolation"]["good"], "paths": found["interpolation"]["draws"]}
    row |= {"beta": final["beta"], "elbo": final["validation_elbo"], "seconds": seconds}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        errors = [row["mae_rad"] for row in mine]
        line = {"method": method, "seeds": len(mine), "median": statistics.median(errors), "mean": statistics.fmean(errors)}
        line |= {"min": min(errors), "max": max(errors), "paper": METHODS[method][1]}
        line |= {"good paths": f"{sum(r['good_paths'] for r in mine)}/{sum(r['paths'] for r in mine)}"}
        line |= {"bound": statistics.fmean(row["elbo"] for row in mine)}
        table.append(line)
    return table


def main() -> None:
    parser = arguments(__doc__, "pendulum", "0-9")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--extra", nargs="*", default=[], help="key=value options for every run")
    args = parser.parse_args()

    from pyro_hvae.reports import format_table

    jobs = over_seeds(args.methods, args.seeds)
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda job: measure(job[0], job[1], args.runs, args.extra), jobs))
    summary = summarise(rows)
    print(format_table(summary))
    save(args.save, {"summary": summary, "runs": rows, "extra": args.extra})


if __name__ == "__main__":
    main()
