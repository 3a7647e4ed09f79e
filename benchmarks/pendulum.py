"""The pendulum experiment of Klushyn et al. 2019 (section 4.1, table 1, figures 3-4), for several methods and seeds.

    python -m benchmarks.pendulum                  # all methods, seeds 0-9; one to two hours on two cores
    python -m benchmarks.pendulum --methods vhp-rewo --seeds 100-103 --extra upper=128,128

Trains by the command line; finished runs are kept. Measures the angle error and the graph interpolation over 4 draws of
the prior. Prints a table and writes benchmarks/results/pendulum.json.
"""

import statistics

from benchmarks import studies

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


def measure(args: studies.Args, method: str, seed: int) -> studies.Row:
    out = args.runs / f"{method}-seed{seed}"
    recipe = [*METHODS[method][0], *studies.flags(args.extra)]
    seconds = studies.train_without_cpu_time(out, *recipe, "--dataset", "pendulum", "--seed", str(seed))
    found = studies.command("metrics", str(out), "angle", "interpolation")
    angle, paths, final = found["angle"], found["interpolation"], studies.metric_rows(out)[-1]
    row = {"method": method, "seed": seed, "mae_rad": angle["mae_rad"], "cos_sin_rad": angle["cos_sin_rad"]}
    row |= {"good_paths": paths["good"], "paths": paths["draws"]}
    return row | {"beta": final["beta"], "elbo": final["validation_elbo"], "seconds": seconds}


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    method, errors = rows[0]["method"], [row["mae_rad"] for row in rows]
    line = {"method": method, "seeds": len(rows), "median": statistics.median(errors), "mean": statistics.fmean(errors)}
    line |= {"min": min(errors), "max": max(errors), "paper": METHODS[method][1]}
    line |= {"good paths": f"{sum(row['good_paths'] for row in rows)}/{sum(row['paths'] for row in rows)}"}
    return [line | {"bound": statistics.fmean(row["elbo"] for row in rows)}]


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "pendulum", "0-9", methods=METHODS)
    parser.add_argument("--extra", nargs="*", default=[], help="key=value options for every run")
    args = parser.parse_args()
    studies.run_study(args, studies.over_seeds(args.methods, args.seeds), measure, summarise, extra=args.extra)
