"""Clusters without labels: components of a mixture prior beside k-means on codes, on digits and MNIST.

    python -m benchmarks.clusters                  # two data sets, three priors, three seeds; about half an hour on one core

Trains `vae` with 8 latents by the command line, 10 components where the prior is a mixture; finished runs are kept. Digits at
their preset, MNIST (grey values as soft targets of a Bernoulli) for `--steps` steps. `pyro-hvae metrics RUN clustering` then
compares clusters of the test data with the classes. `components`: the most responsible component of each datum; `k-means`: 10
means on the same codes, over 10 starts. `bound`: of the validation data. Writes benchmarks/results/clusters.json.
"""

from benchmarks import studies

PRIORS = ("normal", "gmm", "vamp")
DATA = {"digits": [], "mnist": ["-o", "binarize=none", "-o", "likelihood=bernoulli"]}
SCORES = ("accuracy", "nmi", "ari")


def measure(args: studies.Args, prior: str, seed: int, data: str) -> studies.Row:
    out = args.runs / f"{prior}-{data}-seed{seed}"
    options = studies.flags(["latent=8", f"prior={prior}", "components=10"])
    steps = ["--steps", str(args.steps)] if data == "mnist" else []
    seconds = studies.train(out, "vae", "--dataset", data, *DATA[data], *options, *steps, "--seed", str(seed))
    found = studies.run_metric(out, "clustering")
    bound = studies.metric_rows(out)[-1]["validation_elbo"]
    keys = ("clusterings", "clusters", "chance", "n_test", "tested_on")
    row: studies.Row = {"data": data, "prior": prior, "seed": seed, "cpu_seconds": seconds, "validation_bound": bound}
    return row | {key: found[key] for key in keys}


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    lines = list[studies.Row]()
    for name, key in (("components", "components"), ("k-means", "k-means, mean")):
        if key not in rows[0]["clusterings"]:
            continue
        line: studies.Row = {"data": rows[0]["data"], "prior": rows[0]["prior"], "clusters": name, "seeds": len(rows)}
        for score in (*SCORES, "used"):
            line[score] = studies.mean_and_deviation([row["clusterings"][key][score] for row in rows], 3)
        line["bound"] = studies.mean_and_deviation([row["validation_bound"] for row in rows], 4)
        lines.append(line | {"CPU s": studies.mean_cpu_seconds(rows)})
    return lines


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "clusters", "0-2", jobs=1, priors=PRIORS, data=DATA)
    parser.add_argument("--steps", type=int, default=6000)
    args = parser.parse_args()
    jobs = [(prior, seed, data) for data in args.data for prior, seed in studies.over_seeds(args.priors, args.seeds)]
    studies.run_study(args, jobs, measure, summarise, steps=args.steps)
