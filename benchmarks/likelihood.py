"""Test likelihoods at an equal CPU budget: the comparison of Klushyn et al. 2019, table 2, on a processor's time.

    python -m benchmarks.likelihood --dataset mnist-static                # about two CPU hours: seven methods, 510 s each
    python -m benchmarks.likelihood --dataset fashion-mnist --budget 300

Every method has the preset's networks with 40 latents a layer and as many steps as 510 CPU seconds allow; the time of a step
is measured beforehand (400 steps with validation, on the same thread). Trained by the command line (finished runs are
kept), evaluated with 5000 importance samples on 500 seeded random test images, all methods on the same; those of the VHP
with 4 inner samples each. `NLL` is corrected to the whole test split by the control variate of the bound. `- vae` is the
paired difference over the images, whose error knows nothing of seeds. benchmarks/results/likelihood-DATASET.json has it all.
The paper's networks are convolutional and trained for days.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, command, cpu_seconds, over_seeds, save, trained
from pyro_hvae.evaluation.likelihood import published_likelihood
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
}
DATASETS = ("mnist-static", "mnist", "fashion-mnist", "omniglot")


def budgeted(method: str, seed: int, dataset: str, budget: float, runs: Path) -> Path:
    """The method's run, trained unless it is there."""
    out = runs / f"{method.replace(' ', '-').replace('=', '')}-seed{seed}"
    if not (out / "cpu_seconds.json").exists():
        call = ["train", *METHODS[method], "--dataset", dataset, "-o", "latent=40"]
        with tempfile.TemporaryDirectory() as folder:
            short, long = (cpu_seconds(*call, "--steps", str(n), "--seed", "100", "--out", f"{folder}/{n}") for n in (200, 600))
        steps = max(100, round(budget * 400 / (long - short), -2))
        trained(out, *call[1:], "--steps", str(int(steps)), "--seed", str(seed))
    return out


def measure(method: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    out = budgeted(method, seed, args.dataset, args.budget, args.runs)
    inner = 4 if method.startswith("vhp") else 1
    flags = ["--limit", str(args.limit), "--particles", str(args.particles), "--inner", str(inner)]
    found = command("evaluate", str(out), *flags)
    row: dict[str, Any] = {"method": method, "seed": seed, "cpu_seconds": json.loads((out / "cpu_seconds.json").read_text())}
    keys = ("log_likelihood", "stderr", "subset", "elbo", "iwae_50", "distortion", "rate")
    row |= {key: found[key] for key in (*keys, "active_units", "effective_samples", "n", "particles", "inner", "step")}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    row |= {"validation_bound": rows[-1].get("validation_elbo"), "beta": rows[-1]["beta"]}
    published = published_likelihood(read_experiment(out))
    row["paper"] = None if published is None else -float(published)
    print(json.dumps(row), file=sys.stderr, flush=True)
    with np.load(out / found["values"], allow_pickle=False) as file:
        return row | {"values": file["log_likelihood"][: args.limit]}


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line per method: means over seeds, and paired differences to the VAE of the same seed."""
    lines = []
    base = {row["seed"]: row["values"] for row in rows if row["method"] == "vae"}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        pairs = [base[row["seed"]] - row["values"] for row in mine if row["seed"] in base and method != "vae"]
        differences = [float(d.mean()) for d in pairs]
        errors = [float(d.std(ddof=1)) / math.sqrt(len(d)) for d in pairs]
        units = " | ".join(", ".join(f"{site} {n}" for site, n in sorted(row["active_units"].items())) for row in mine)
        lines.append(
            {
                "method": method,
                "seeds": len(mine),
                "NLL": -statistics.fmean(row["log_likelihood"] for row in mine),
                "paper": mine[0]["paper"],
                "- vae": statistics.fmean(differences) if differences else None,
                "+-": statistics.fmean(errors) if errors else None,
                "-bound": -statistics.fmean(row["elbo"] for row in mine),
                "active units": units,
                "beta": statistics.fmean(row["beta"] for row in mine),
                "steps": mine[0]["step"],
                "CPU s": round(statistics.fmean(row["cpu_seconds"] for row in mine)),
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist-static", choices=DATASETS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", default="0-0", help="first-last")
    parser.add_argument("--budget", type=float, default=510, help="CPU seconds of training a method")
    parser.add_argument("--limit", type=int, default=500, help="test images whose likelihood is taken")
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    args.runs = args.runs or Path(f"runs/benchmark-likelihood-{args.dataset}")

    from pyro_hvae.reports import format_table

    # One after the other: two at a time share caches, and their CPU seconds are no longer comparable.
    rows = [measure(method, seed, args) for method, seed in over_seeds(args.methods, args.seeds)]
    summary = summarise(rows)
    print(format_table(summary))
    for row in rows:
        row["values"] = row["values"].round(4).tolist()
    options = {"dataset": args.dataset, "budget": args.budget}
    save(args.save or RESULTS / f"likelihood-{args.dataset}.json", {**options, "summary": summary, "runs": rows})


if __name__ == "__main__":
    main()
