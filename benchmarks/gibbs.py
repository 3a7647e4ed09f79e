"""Does the bottom layer suffice, and what does each layer do? Gibbs chains and layer shares of the HVAE over seeds.

    python -m benchmarks.gibbs                             # grey and static MNIST, seeds 0-2, two at a time

Trains `hvae` at its cpu preset by the command line (finished runs are kept). For chains of several lengths on z1 (300 chains
from validation data, their last states) the energy distance of draws x ~ p(x | z1) to 1000 test data is printed beside that of
ancestral samples and of other test data; then again with the guide resampled among K draws. Shares of the variance of
E[x | z] follow. Mean and standard deviation are over seeds; benchmarks/results/gibbs.json has every run.
"""

import json
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, command, over_seeds, save

LENGTHS = (5, 20, 100, 500)
RESAMPLED = (20, 100)


def measure(dataset: str, seed: int, runs: Path, chains: int, particles: int) -> dict[str, Any]:
    out = runs / f"hvae-{dataset}-seed{seed}"
    if not (out / "figures" / "samples.png").exists():
        command("train", "hvae", "--dataset", dataset, "--seed", str(seed), "--out", str(out))

    def chain(steps: int, k: int) -> dict[str, Any]:
        last = ["--burn-in", str(steps - 1), "--thin", "1", "--chains", str(chains)]
        return command("gibbs", str(out), "--steps", str(steps), *last, "--particles", str(k))

    row: dict[str, Any] = {"dataset": dataset, "seed": seed, "K": particles}
    row["distance"] = {}
    for k, lengths in ((1, LENGTHS), (particles, RESAMPLED)):
        for steps in lengths:
            found = chain(steps, k)
            row["distance"][f"chain of {steps}" + (f", K={k}" if k > 1 else "")] = found["distance"]["gibbs"]["draws"]["value"]
    for name in ("ancestral", "test"):
        row["distance"][name] = found["distance"][name]["draws"]["value"]
    row["stderr"] = {name: found["distance"][name]["draws"]["stderr"] for name in found["distance"]}
    mixing = command("gibbs", str(out), "--steps", "500", "--burn-in", "250")
    row |= {"rhat": mixing["diagnostics"]["z1"]["rhat_median"], "class_changed": mixing["class_changed"]}
    row["share"] = {site: value["share"] for site, value in command("layers", str(out))["share"].items()}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == dataset]
        for kind in ("distance", "share"):
            for name in mine[0][kind]:
                values = [row[kind][name] for row in mine]
                spread = statistics.stdev(values) if len(values) > 1 else float("nan")
                what = {"distance": "energy distance", "share": "share of variance"}[kind]
                line = {"dataset": dataset, "what": what, "of": name, "seeds": len(values)}
                lines.append(line | {"mean": statistics.fmean(values), "sd": spread})
    return lines


def main() -> None:
    parser = arguments(__doc__, "gibbs", "0-2")
    parser.add_argument("--datasets", nargs="+", default=["mnist", "mnist-static"])
    parser.add_argument("--chains", type=int, default=300)
    parser.add_argument("--particles", type=int, default=20)
    args = parser.parse_args()

    from pyro_hvae.reports import format_table

    jobs = over_seeds(args.datasets, args.seeds)
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda job: measure(job[0], job[1], args.runs, args.chains, args.particles), jobs))
    summary = summarise(rows)
    print(format_table(summary))
    save(args.save, {"summary": summary, "runs": rows})


if __name__ == "__main__":
    main()
