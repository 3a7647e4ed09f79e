"""beta-VAE, VLAE, pro-VLAE and teacher-student on a grid of factors: MIG, MIG-sup, factor score and reconstruction.

    python -m benchmarks.disentangling                      # rooms, a stand-in for 3D Shapes; three seeds, two runs at a time
    python -m benchmarks.disentangling --dataset sprites
    python -m benchmarks.disentangling --methods pro-vlae --beta 4

Equal latents, iterations, batches and learning rate for all, as the pro-VLAE paper demands; the grids are reduced and the
images 32 pixels wide, so that a run takes minutes on a core. A beta weighs four times more there than with 64 pixels: 2 is
the paper's 8. For teacher-student it is the teacher's, its students have 1, and as in the paper it is not varied: the first
is taken. Trains by the command line (finished runs are kept) and writes benchmarks/results/disentangling_DATASET.json.
"""

import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, arguments, command, flags, over_seeds, save, trained

# 14,000 images of the six factors of 3D Shapes, 15,360 of the five of dSprites, both with fewer values.
GRIDS = {
    "rooms": ["side=32", "floor_hues=5", "wall_hues=5", "object_hues=5", "scales=4", "orientations=7"],
    "sprites": ["side=32", "scales=4", "orientations=5", "positions=16"],
}
METHODS = {
    "beta-vae": ["beta-vae", "-o", "beta={beta}"],
    "vlae": ["vlae", "--schedule", "constant", "-o", "beta={beta}"],
    "pro-vlae": ["pro-vlae", "-o", "beta={beta}"],
    "teacher-student": ["teacher-student", "-o", "teacher_beta={beta}"],
}
TRAINING = ["batch_size=64", "lr=1e-3", "lr_decay=0", "information_every=500"]
METRICS = {"mig": "mig", "mig-sup": "mig_sup", "factor": "score", "reconstruction": "distortion"}


def measure(method: str, seed: int, runs: Path, dataset: str, beta: float, steps: int) -> dict[str, Any]:
    out = runs / f"{dataset}-{method}-beta{beta:g}-seed{seed}"
    recipe = [part.format(beta=beta) for part in METHODS[method]]
    options = flags([*GRIDS[dataset], *TRAINING])
    seconds = trained(out, *recipe, "--dataset", dataset, *options, "--steps", str(steps), "--seed", str(seed))
    found = command("metrics", str(out), *METRICS, "mutual-information")
    row: dict[str, Any] = {"method": method, "seed": seed, "beta": beta, "cpu_seconds": seconds}
    row |= {name: found[name][key] for name, key in METRICS.items()}
    row |= {"meaningful": len(found["mig"]["meaningful"]), "factor_gaps": found["mig"]["factor_gaps"]}
    shown = found["mutual-information"]
    row["information"] = {name: shown[name] for name in shown["stderr"]}
    row["flow"] = flow(out, steps)
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def flow(out: Path, steps: int) -> list[dict[str, float]]:
    """The information measured at the ends of the three progressive steps (or stages) of a run."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    ends = [row for row in rows if row["step"] in (steps // 3, 2 * steps // 3, steps)]
    return [{k.removeprefix("information."): v for k, v in row.items() if k.startswith("information.")} for row in ends]


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over all seeds, with their standard deviations: the paper's mean of the three best is that of all three here."""
    lines = []
    for method, beta in dict.fromkeys((row["method"], row["beta"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["beta"]) == (method, beta)]
        line: dict[str, Any] = {"method": method, "beta": beta, "seeds": len(mine)}
        for name in METRICS:
            values = [row[name] for row in mine]
            spread = f" +- {statistics.stdev(values):.3g}" if len(values) > 1 else ""
            line[name] = f"{statistics.fmean(values):.4g}{spread}"
        line |= {"meaningful": " ".join(str(row["meaningful"]) for row in mine)}
        line |= {"CPU s": round(statistics.fmean(row["cpu_seconds"] for row in mine))}
        lines.append(line)
    return lines


def main() -> None:
    parser = arguments(__doc__, "disentangling", "0-2")
    parser.add_argument("--dataset", default="rooms", choices=list(GRIDS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--beta", type=float, nargs="+", default=[2.0, 8.0])
    parser.add_argument("--steps", type=int, default=6_000)
    parser.set_defaults(save=None)
    args = parser.parse_args()

    from pyro_hvae.reports import format_table

    jobs = [(m, s, b) for b in args.beta for m, s in over_seeds(args.methods, args.seeds)]
    # As in the paper, its beta is not varied: the students' is 1.
    jobs = [job for job in jobs if job[0] != "teacher-student" or job[2] == args.beta[0]]
    with ProcessPoolExecutor(args.jobs) as pool:  # processes, so that each counts its own children's CPU time
        made = [pool.submit(measure, m, s, args.runs, args.dataset, b, args.steps) for m, s, b in jobs]
        rows = [future.result() for future in made]
    summary = summarise(rows)
    print(format_table(summary))
    path = args.save or RESULTS / f"disentangling_{args.dataset}.json"
    save(path, {"summary": summary, "runs": rows, "grid": GRIDS[args.dataset], "training": TRAINING, "steps": args.steps})


if __name__ == "__main__":
    main()
