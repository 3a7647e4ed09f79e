"""Test likelihood and active units of every recipe on static MNIST at its cpu preset.

    python -m benchmarks.stacked                           # one seed; about an hour on two cores
    python -m benchmarks.stacked --methods hvae --seeds 0-2

Trains by the command line; finished runs are kept. Evaluates with 5000 importance samples on 500 seeded random test images,
corrected to the whole test split by the control variate of the bound. Writes benchmarks/results/stacked.json. Training
budgets differ; the table has the CPU seconds of the training command.
"""

import statistics

from benchmarks import studies

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


def measure(args: studies.Args, method: str, seed: int) -> studies.Row:
    out = args.runs / f"{method.replace(' ', '-').replace('=', '')}-seed{seed}"
    seconds = studies.train(out, *METHODS[method], *studies.flags(args.extra), "--dataset", "mnist-static", "--seed", str(seed))
    found = studies.command("evaluate", str(out), "--limit", str(args.limit), "--particles", str(args.particles))
    keys = ("log_likelihood", "stderr", "elbo", "distortion", "rate", "active_units", "informative_units")
    return {"method": method, "seed": seed, "cpu_seconds": seconds} | {
        key: found[key] for key in (*keys, "n", "particles", "step")
    }


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    nll, bound = (-statistics.fmean(row[key] for row in rows) for key in ("log_likelihood", "elbo"))
    line = {"method": rows[0]["method"], "seeds": len(rows), "NLL": nll, "-bound": bound}
    return [line | {**studies.count_units(rows), "CPU s": studies.mean_cpu_seconds(rows)}]


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "stacked", "0-0", methods=METHODS)
    parser.add_argument("--extra", nargs="*", default=[], help="key=value options for every run")
    parser.add_argument("--limit", type=int, default=500, help="number of test images whose likelihood is estimated")
    parser.add_argument("--particles", type=int, default=5000)
    args = parser.parse_args()
    studies.run_study(args, studies.over_seeds(args.methods, args.seeds), measure, summarise, extra=args.extra)
