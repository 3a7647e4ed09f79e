"""What the disentanglement metrics cost: histograms against scikit-learn's double loop, and the aggregate posterior.

    python -m benchmarks.metrics                           # about a minute

By CPU time. Histograms: 10,000 points, nine latents, the six factors of 3D Shapes, both ways interleaved on one thread,
medians over rounds. Aggregate posterior: MIG and MIG-sup of nine latents (three layers of three) on 100,000 points, every pair
of 10,000 draws and 100,000 components, on one thread and on two. benchmarks/results/metrics.json has the numbers.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor

from benchmarks.common import RESULTS, peak_mib, save, timed
from benchmarks.measures import Measure
from pyro_hvae.metrics import Gaps, Posteriors, histogram_gaps, information_gaps

SIZES = {"floor": 10, "wall": 10, "object": 10, "scale": 8, "shape": 4, "orientation": 15}


def made(points: int) -> tuple[Posteriors, dict[str, Tensor]]:
    """A half-entangled code: six dimensions mix neighbouring factors, three are noise; widths as in trained models."""
    generator = torch.Generator().manual_seed(0)
    factors = {name: torch.randint(size, (points,), generator=generator) for name, size in SIZES.items()}
    scaled = torch.stack([3 * values / SIZES[name] - 1.5 for name, values in factors.items()], 1)
    noise = torch.randn(points, 3, generator=generator)
    means = torch.cat([scaled + 0.3 * scaled.roll(1, 1), noise * torch.tensor([1.0, 0.3, 0.01])], 1)
    stds = 0.05 + 0.1 * torch.rand(points, 9, generator=generator)
    stds[:, 8] = 1.0
    return Posteriors(means, stds), factors


def by_loops(means: Tensor, factors: dict[str, Tensor], bins: int = 20) -> float:
    """MIG as disentanglement_lib computes it."""
    codes = [np.digitize(column, np.histogram(column, bins)[1][:-1]) for column in means.numpy().T]
    values = [column.numpy() for column in factors.values()]
    known = np.array([[mutual_info_score(v, c) for v in values] for c in codes])
    entropies = np.array([mutual_info_score(v, v) for v in values])
    ranked = np.sort(known, axis=0)[::-1]
    return float(np.mean((ranked[0] - ranked[1]) / entropies))


def histograms(rounds: int) -> dict[str, Any]:
    q, factors = made(10_000)
    ours, theirs = [], []
    for _ in range(rounds):
        cpu, found = timed(lambda: histogram_gaps(q.mean, factors))
        ours.append(cpu)
        cpu, mig = timed(lambda: by_loops(q.mean, factors))
        theirs.append(cpu)
        if abs(found.mig - mig) > 1e-12:
            raise SystemExit(f"the two ways disagree: {found.mig} and {mig}")
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "ours_ms": 1e3 * statistics.median(ours),
        "double_loop_ms": 1e3 * statistics.median(theirs),
        "ratio": statistics.median(ratios),
    }


def measures(quick: bool) -> list[Measure]:
    found = histograms(5 if quick else 15)
    unit = "time of scikit-learn's double loop / ours"
    return [Measure("mig-histogram, 10,000 points", found.pop("ratio"), unit, 8.0, most=False, detail=found)]


def aggregate(threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    q, factors = made(100_000)
    before, wall = peak_mib(), time.perf_counter()
    cpu, found = timed(lambda: information_gaps(q, factors))
    wall = time.perf_counter() - wall
    assert isinstance(found, Gaps) and found.exact and found.samples == 10_000
    grown = peak_mib() - before
    return {"threads": threads, "cpu_s": cpu, "wall_s": wall, "grown_mib": grown, "mig": found.mig, "mig_sup": found.mig_sup}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", type=Path, default=RESULTS / "metrics.json")
    args = parser.parse_args()

    torch.set_num_threads(1)
    compared = histograms(args.rounds)
    print("histograms: {ours_ms:.1f} ms, double loop {double_loop_ms:.1f} ms, ratio {ratio:.1f}".format(**compared))
    runs = []
    for threads in (1, 2):
        runs.append(aggregate(threads))
        line = "aggregate posterior, {threads} thread(s): {cpu_s:.0f} s CPU, {wall_s:.0f} s wall, {grown_mib:.0f} MiB more"
        print(line.format(**runs[-1]))
    load = os.getloadavg()[0]
    save(args.save, {"torch": torch.__version__, "load": load, "histograms": compared, "aggregate": runs})


if __name__ == "__main__":
    main()
