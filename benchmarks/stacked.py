"""Every recipe on static MNIST at its cpu preset: test likelihood and active units, in one table.

    python -m benchmarks.stacked                           # one seed, two runs at a time
    python -m benchmarks.stacked --methods hvae --seeds 0-2

Trains by the command line (finished runs are kept), evaluates with 5000 importance samples on 500 seeded random test
images, corrected to the whole test split by the control variate of the bound, and writes benchmarks/results/stacked.json.
Budgets differ: CPU seconds of the training command are in the table.
"""

import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, command, flags, over_seeds, save, trained

METHODS: dict[str, list[str]] = {
    "vae": ["vae"],
    "iwae L=1": ["iwae"],
    "iwae L=2": ["iwae", "-o", "levels=2"],
    "vampprior L=1": ["vampprior"],
    "vampprior L=2": ["vampprior", "-o", "levels=2"],
    "vhp REWO": ["vhp"],
    "vhp REWO K=1": ["vhp", "-o", "particles=1"],
    "hvae": ["hvae"],
    "ar-hvae": ["ar-hvae"],
    "lvae": ["lvae"],
}


def measure(method: str, seed: int, runs: Path, extra: list[str], limit: int, particles: int) -> dict[str, Any]:
    out = runs / f"{method.replace(' ', '-').replace('=', '')}-seed{seed}"
    seconds = trained(out, *METHODS[method], *flags(extra), "--dataset", "mnist-static", "--seed", str(seed))
    found = command("evaluate", str(out), "--limit", str(limit), "--particles", str(particles))
    row: dict[str, Any] = {"method": method, "seed": seed, "cpu_seconds": seconds}
    row |= {key: found[key] for key in ("log_likelihood", "stderr", "elbo", "distortion", "rate")}
    row |= {"active_units": found["active_units"], "n": found["n"], "particles": found["particles"], "step": found["step"]}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        mean = {key: statistics.fmean(r[key] for r in mine) for key in ("log_likelihood", "elbo", "cpu_seconds")}
        units = [", ".join(f"{site} {n}" for site, n in sorted(r["active_units"].items())) for r in mine]
        line: dict[str, Any] = {"method": method, "seeds": len(mine), "NLL": -mean["log_likelihood"]}
        line |= {"-bound": -mean["elbo"], "active units": " | ".join(units), "CPU s": round(mean["cpu_seconds"])}
        lines.append(line)
    return lines


def main() -> None:
    parser = arguments(__doc__, "stacked", "0-0")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--extra", nargs="*", default=[], help="key=value options for every run")
    parser.add_argument("--limit", type=int, default=500, help="test images whose likelihood is taken")
    parser.add_argument("--particles", type=int, default=5000)
    args = parser.parse_args()

    from pyro_hvae.reports import format_table

    jobs = over_seeds(args.methods, args.seeds)
    with ProcessPoolExecutor(args.jobs) as pool:  # processes, so that each counts its own children's CPU time
        made = [pool.submit(measure, m, s, args.runs, args.extra, args.limit, args.particles) for m, s in jobs]
        rows = [future.result() for future in made]
    summary = summarise(rows)
    print(format_table(summary))
    save(args.save, {"summary": summary, "runs": rows, "extra": args.extra})


if __name__ == "__main__":
    main()
