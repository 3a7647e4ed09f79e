"""Samples of Gibbs chains on the bottom layer, and the share of every layer, of the HVAE over seeds.

    python -m benchmarks.gibbs                             # grey and static MNIST, seeds 0-2; about an hour on two cores

Trains `hvae` at its cpu preset by the command line; finished runs are kept. Runs 300 chains of several lengths on z1 from
validation data. Prints the energy distance of draws x ~ p(x | z1) at their last states to 1000 test data, beside that of
ancestral samples and of other test data, then again with the guide resampled among K draws. Prints the shares of the
variance of E[x | z]. Mean and standard deviation are over seeds; benchmarks/results/gibbs.json has every run.
"""

import statistics
from typing import Any

from benchmarks import studies

LENGTHS = (5, 20, 100, 500)
RESAMPLED = (20, 100)


def measure(args: studies.Args, dataset: str, seed: int) -> studies.Row:
    out = args.runs / f"hvae-{dataset}-seed{seed}"
    studies.train_without_cpu_time(out, "hvae", "--dataset", dataset, "--seed", str(seed))

    def distances(steps: int, k: int) -> dict[str, Any]:
        last = ["--burn-in", str(steps - 1), "--thin", "1", "--chains", str(args.chains)]
        return studies.command("gibbs", str(out), "--steps", str(steps), *last, "--particles", str(k))["distance"]

    row: studies.Row = {"dataset": dataset, "seed": seed, "K": args.particles, "distance": {}}
    for k, lengths in ((1, LENGTHS), (args.particles, RESAMPLED)):
        for steps in lengths:
            found = distances(steps, k)
            row["distance"][f"chain of {steps}" + (f", K={k}" if k > 1 else "")] = found["gibbs"]["draws"]["value"]
    row["distance"] |= {name: found[name]["draws"]["value"] for name in ("ancestral", "test")}
    row["stderr"] = {name: value["draws"]["stderr"] for name, value in found.items()}
    mixing = studies.command("gibbs", str(out), "--steps", "500", "--burn-in", "250")
    row |= {"rhat": mixing["diagnostics"]["z1"]["rhat_median"], "class_changed": mixing["class_changed"]}
    row["share"] = {site: value["share"] for site, value in studies.command("layers", str(out))["share"].items()}
    return row


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    lines = []
    for kind, what in (("distance", "energy distance"), ("share", "share of variance")):
        for name in rows[0][kind]:
            values = [row[kind][name] for row in rows]
            line = {"dataset": rows[0]["dataset"], "what": what, "of": name, "seeds": len(values)}
            deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
            lines.append(line | {"mean": statistics.fmean(values), "sd": deviation})
    return lines


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "gibbs", "0-2")
    parser.add_argument("--datasets", nargs="+", default=["mnist", "mnist-static"])
    parser.add_argument("--chains", type=int, default=300)
    parser.add_argument("--particles", type=int, default=20)
    args = parser.parse_args()
    studies.run_study(args, studies.over_seeds(args.datasets, args.seeds), measure, summarise)
