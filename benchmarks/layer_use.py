"""What keeps the layers of a stacked hierarchy in use: warm-up, cyclical warm-up, free bits and REWO, on static MNIST.

    python -m benchmarks.layer_use                 # two depths, seven ways, three seeds; about an hour on one core

Trains `hvae` with 3 and 5 layers of 20 latents by the command line; finished runs are kept. `free bits` are nats of a whole
layer: 1, 2 and 10 are 0.05, 0.1 and 0.5 a latent. REWO's kappa is 1.15 times the error per pixel of the run without any of
these. Per layer: the rate in nats, and units whose posterior mean varies by more than 0.01 in variance; of the top layer, whose
KL has a closed form, also units with a KL above 0.05 nats. NLL from importance samples of seeded random test images, corrected
to the whole test split by the control variate of the bound. Writes benchmarks/results/layer_use.json.
"""

import statistics

from benchmarks import studies

WAYS: dict[str, list[str]] = {
    "nothing": ["--schedule", "constant"],
    "warm-up": ["--schedule", "warmup", "-o", "warmup=0.2"],
    "cyclical": ["--schedule", "cyclical"],
    "free bits 1": ["--schedule", "constant", "-o", "free_bits=1"],
    "free bits 2": ["--schedule", "constant", "-o", "free_bits=2"],
    "free bits 10": ["--schedule", "constant", "-o", "free_bits=10"],
    "REWO": ["--schedule", "rewo", *studies.flags(["measure=rmse", "kappa=0.196", "nu=1", "beta0=0.001"])],
}
DEPTHS = ("3", "5")


def measure(args: studies.Args, way: str, seed: int, depth: str) -> studies.Row:
    out = args.runs / f"{way.replace(' ', '-')}-{depth}-seed{seed}"
    dims = ",".join(["20"] * int(depth))
    options = ["-o", f"dims={dims}", "--steps", str(args.steps), "--seed", str(seed)]
    seconds = studies.train(out, "hvae", *WAYS[way], *options, "--dataset", "mnist-static")
    found = studies.command("evaluate", str(out), "--limit", str(args.limit), "--particles", str(args.particles))
    keys = ("log_likelihood", "stderr", "elbo", "distortion", "rate", "active_units", "informative_units", "n", "step")
    row: studies.Row = {"way": way, "depth": int(depth), "seed": seed, "cpu_seconds": seconds, "particles": args.particles}
    return row | {key: found[key] for key in keys}


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    sites = sorted(rows[0]["rate"])

    def means(key: str, digits: int) -> str:
        known = [site for site in sites if site in rows[0][key]]
        return ", ".join(f"{site} {statistics.fmean(row[key][site] for row in rows):.{digits}f}" for site in known)

    line: studies.Row = {"layers": rows[0]["depth"], "way": rows[0]["way"], "seeds": len(rows)}
    for name, key in (("NLL", "log_likelihood"), ("-bound", "elbo")):
        line[name] = studies.mean_and_deviation([-row[key] for row in rows], 4)
    line |= {"rate": means("rate", 1), "active units": means("active_units", 0)}
    return [line | {"KL > 0.05": means("informative_units", 0), "CPU s": studies.mean_cpu_seconds(rows)}]


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "layer_use", "0-2", jobs=1, ways=WAYS, depths=DEPTHS)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--limit", type=int, default=300, help="number of test images whose likelihood is estimated")
    parser.add_argument("--particles", type=int, default=1000)
    args = parser.parse_args()
    jobs = [(way, seed, depth) for depth in args.depths for way, seed in studies.over_seeds(args.ways, args.seeds)]
    studies.run_study(args, jobs, measure, summarise, steps=args.steps)
