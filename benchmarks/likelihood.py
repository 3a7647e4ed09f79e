"""Test likelihoods at an equal CPU budget: the comparison of Klushyn et al. 2019, table 2.

    python -m benchmarks.likelihood --dataset mnist-static                # about two CPU hours: seven methods, 510 s each
    python -m benchmarks.likelihood --dataset fashion-mnist --budget 300

Every method has the preset's networks with 40 latents a layer and as many steps as 510 CPU seconds allow. The time of a step
is measured first (400 steps with validation, on the same thread). Trains by the command line; finished runs are kept, and so
are the rows of a file of results with the same budget, so that a study can go on later, or elsewhere.
Evaluates all methods with 5000 importance samples on the same 500 seeded random test images; those of the VHP have 4 inner
samples each. `NLL` is corrected to the whole test split by the control variate of the bound. `- vae` is the paired difference
over the images; its error does not include the variation over seeds. Writes benchmarks/results/likelihood-DATASET.json. The
paper's networks are convolutional and trained for days.
"""

import json
import math
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import studies
from benchmarks.result_files import RESULTS, save
from pyro_hvae.evaluation.likelihood import published_likelihood
from pyro_hvae.reports import format_table
from pyro_hvae.runs.run_loading import read_experiment

LATENT2 = ["-o", "latent2=40"]
METHODS: dict[str, list[str]] = {
    "vae": ["vae"],
    "iwae L=1": ["iwae"],
    "iwae L=2": ["iwae", "-o", "levels=2", *LATENT2],
    "vampprior": ["vampprior"],
    "vhp REWO": ["vhp", *LATENT2],
    "vhp GECO": ["vhp", *LATENT2, "--schedule", "geco"],
    "vhp WU": ["vhp", *LATENT2, "--schedule", "warmup"],
    **{f"vae {prior}": ["vae", "-o", f"prior={prior}"] for prior in ("gmm", "vamp", "realnvp", "spline")},
}
KEYS = ("log_likelihood", "stderr", "importance_bias", "subset", "elbo", "iwae_50", "distortion", "rate", "active_units")
KEYS += ("informative_units", "effective_samples", "n", "particles", "inner", "step")  # of an evaluation
DATASETS = ("mnist-static", "mnist", "fashion-mnist", "omniglot")


def steps_within_budget(recipe: list[str], budget: float) -> str:
    """The number of steps that `budget` CPU seconds allow, from the time of 400 steps."""
    call = ["train", *recipe, "--seed", "100", "--steps"]
    with tempfile.TemporaryDirectory() as folder:
        short, long = (studies.cpu_seconds(*call, steps, "--out", f"{folder}/{steps}") for steps in ("200", "600"))
    return str(int(max(100, round(budget * 400 / (long - short), -2))))


def measure(args: studies.Args, method: str, seed: int) -> studies.Row:
    out = args.runs / f"{method.replace(' ', '-').replace('=', '')}-seed{seed}"
    recipe = [*METHODS[method], "--dataset", args.dataset, "-o", "latent=40"]
    steps = "0" if (out / "cpu_seconds.json").exists() else steps_within_budget(recipe, args.budget)
    seconds = studies.train(out, *recipe, "--steps", steps, "--seed", str(seed))
    inner = "4" if method.startswith("vhp") else "1"
    flags = ["--limit", str(args.limit), "--particles", str(args.particles), "--inner", inner]
    found = studies.command("evaluate", str(out), *flags)
    row: studies.Row = {"method": method, "seed": seed, "cpu_seconds": seconds}
    row |= {key: found[key] for key in KEYS}
    final, published = studies.metric_rows(out)[-1], published_likelihood(read_experiment(out))
    row |= {"validation_bound": final.get("validation_elbo"), "beta": final["beta"]}
    row["paper"] = None if published is None else -float(published)
    print(json.dumps(row), file=sys.stderr, flush=True)
    with np.load(out / found["values"], allow_pickle=False) as file:
        return row | {"values": file["log_likelihood"][: args.limit]}


def read_results(path: Path, args: studies.Args) -> dict[studies.Job, studies.Row]:
    """(method, seed) -> its row in a file of results, of those that this command would give again."""
    held = json.loads(path.read_text()) if path.exists() else {}
    if (held.get("dataset"), held.get("budget")) != (args.dataset, args.budget):
        return {}
    same = (args.particles, args.limit)
    rows = [row for row in held["runs"] if row.keys() >= {*KEYS} and (row["particles"], len(row["values"])) == same]
    return {(row["method"], row["seed"]): row | {"values": np.array(row["values"])} for row in rows}


def write_results(path: Path, found: dict[studies.Job, studies.Row], args: studies.Args) -> list[studies.Row]:
    """Writes all rows and their summary, which is returned."""
    jobs = sorted(found, key=lambda job: (list(METHODS).index(job[0]), job[1]))
    rows = [found[job] for job in jobs]
    vae = {row["seed"]: row["values"] for row in rows if row["method"] == "vae"}
    summary = studies.summaries(jobs, rows, partial(summarise, vae=vae))
    rounded = [row | {"values": row["values"].round(4).tolist()} for row in rows]
    save(path, {"summary": summary, "runs": rounded, "dataset": args.dataset, "budget": args.budget})
    return summary


def summarise(rows: list[studies.Row], vae: dict[int, Any]) -> list[studies.Row]:
    """Means over seeds, and paired differences to the VAE's values of the same seed."""
    method = rows[0]["method"]
    pairs = [vae[row["seed"]] - row["values"] for row in rows if row["seed"] in vae and method != "vae"]
    paired = [(float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d))) for d in pairs]
    difference, error = (statistics.fmean(column) for column in zip(*paired, strict=True)) if paired else (None, None)
    mean = {key: statistics.fmean(row[key] for row in rows) for key in ("log_likelihood", "elbo", "beta")}
    line = {"method": method, "seeds": len(rows), "NLL": -mean["log_likelihood"], "paper": rows[0]["paper"]}
    line |= {"- vae": difference, "+-": error, "-bound": -mean["elbo"], **studies.count_units(rows)}
    return [line | {"beta": mean["beta"], "steps": rows[0]["step"], "CPU s": studies.mean_cpu_seconds(rows)}]


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "likelihood", "0-0", jobs=None, methods=METHODS)
    parser.add_argument("--dataset", default="mnist-static", choices=DATASETS)
    parser.add_argument("--budget", type=float, default=510, help="CPU seconds of training a method")
    parser.add_argument("--limit", type=int, default=500, help="number of test images whose likelihood is estimated")
    parser.add_argument("--particles", type=int, default=5000)
    parser.set_defaults(runs=None, save=None)
    args = parser.parse_args()
    args.runs = args.runs or Path(f"runs/benchmark-likelihood-{args.dataset}")

    path = args.save or RESULTS / f"likelihood-{args.dataset}.json"
    found, summary = read_results(path, args), list[studies.Row]()
    # One after the other: two at a time share caches, and their CPU seconds are no longer comparable.
    for job in studies.over_seeds(args.methods, args.seeds):
        if job not in found:
            found[job] = measure(args, *job)
        summary = write_results(path, found, args)
    print(format_table(summary))
