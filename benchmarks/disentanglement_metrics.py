"""Cost of the disentanglement metrics: histograms against scikit-learn's double loop, aggregate posteriors against all pairs.

    python -m benchmarks.disentanglement_metrics           # three minutes

By CPU time. Histograms: 10,000 points, nine latents, the six factors of 3D Shapes; both ways interleaved on one thread,
medians over rounds. Aggregate posterior: MIG and MIG-sup of nine latents (three layers of three) on 100,000 points and on a
million, 10,000 draws against every datum; and the time of a (draw, datum) term on grids beside that of all pairs, of which 100
draws are computed, in one dimension of a million data. Writes benchmarks/results/metrics.json.
"""

import os
import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor

from benchmarks.result_files import parser, save
from benchmarks.timing import Measure, cpu_time, interleaved, peak_mib, ratio_of
from pyro_hvae.metrics import Posteriors, draw_aggregate, histogram_gaps, information_gaps, log_ratios
from pyro_hvae.metrics.aggregate_posterior import GRID_DRAWS

PAIR_DRAWS = 100
SIZES = {"floor": 10, "wall": 10, "object": 10, "scale": 8, "shape": 4, "orientation": 15}


def draw_codes(points: int) -> tuple[Posteriors, dict[str, Tensor]]:
    """A half-entangled code: six dimensions mix neighbouring factors, three are noise; widths as in trained models."""
    generator = torch.Generator().manual_seed(0)
    factors = {name: torch.randint(size, (points,), generator=generator) for name, size in SIZES.items()}
    scaled = torch.stack([3 * values / SIZES[name] - 1.5 for name, values in factors.items()], 1)
    noise = torch.randn(points, 3, generator=generator)
    means = torch.cat([scaled + 0.3 * scaled.roll(1, 1), noise * torch.tensor([1.0, 0.3, 0.01])], 1)
    stds = 0.05 + 0.1 * torch.rand(points, 9, generator=generator)
    stds[:, 8] = 1.0
    return Posteriors(means, stds), factors


def mig_by_double_loop(means: Tensor, factors: dict[str, Tensor], bins: int = 20) -> float:
    """MIG as disentanglement_lib computes it."""
    codes = [np.digitize(column, np.histogram(column, bins)[1][:-1]) for column in means.numpy().T]
    values = [column.numpy() for column in factors.values()]
    information = np.array([[mutual_info_score(v, c) for v in values] for c in codes])
    entropies = np.array([mutual_info_score(v, v) for v in values])
    ranked = np.sort(information, axis=0)[::-1]
    return float(np.mean((ranked[0] - ranked[1]) / entropies))


def compare_histograms(rounds: int) -> dict[str, Any]:
    q, factors = draw_codes(10_000)
    sides = {"ours": lambda: histogram_gaps(q.mean, factors).mig, "loop": lambda: mig_by_double_loop(q.mean, factors)}
    ours, theirs = (side() for side in sides.values())
    if abs(ours - theirs) > 1e-12:
        raise SystemExit(f"the two ways disagree: {ours} and {theirs}")
    ratio, detail = ratio_of(interleaved(sides, rounds, turn=0.0, warm=0), "loop", "ours")
    return {"ours_ms": detail["ms"]["ours"], "double_loop_ms": detail["ms"]["loop"], "ratio": ratio}


def compare_densities(points: int, rounds: int) -> dict[str, Any]:
    """Nanoseconds of a term of `log_ratios` of one dimension on grids, and by all pairs; the largest difference of both."""
    q = draw_codes(points)[0].dims([0])
    draws = draw_aggregate(q)
    few = replace(draws, values=draws.values[:PAIR_DRAWS], rows=draws.rows[:PAIR_DRAWS])
    assert draws.exact and PAIR_DRAWS <= GRID_DRAWS < len(draws.rows)
    sides = {"grids": lambda: log_ratios(q, draws), "pairs": lambda: log_ratios(q, few)}
    difference = (sides["grids"]()[:PAIR_DRAWS] - sides["pairs"]()).abs().max().item()
    times = interleaved(sides, rounds, turn=0.0, warm=0)
    terms = {"grids": points * len(draws.rows), "pairs": points * PAIR_DRAWS}
    each = {name: [seconds / terms[name] for seconds in times[name]] for name in sides}
    ratio, _ = ratio_of(each, "pairs", "grids")
    ns = {f"{name}_ns_a_term": 1e9 * statistics.median(values) for name, values in each.items()}
    return {"points": points, "draws": len(draws.rows), **ns, "ratio": ratio, "difference": difference}


def measures(quick: bool) -> list[Measure]:
    rounds = 5 if quick else 15
    found, densities = compare_histograms(rounds), compare_densities(100_000 if quick else 1_000_000, 3 if quick else 5)
    unit = "time of scikit-learn's double loop / ours"
    return [
        Measure("mig-histogram, 10,000 points", found.pop("ratio"), unit, 8.0, most=False, detail=found),
        Measure("mig, a term", densities.pop("ratio"), "time of all pairs / on grids", 30.0, most=False, detail=densities),
    ]


def measure_aggregate_posterior(points: int) -> dict[str, Any]:
    q, factors = draw_codes(points)
    before, wall = peak_mib(), time.perf_counter()
    cpu, found = cpu_time(lambda: information_gaps(q, factors))
    wall = time.perf_counter() - wall
    assert found.exact and found.samples == 10_000
    grown = peak_mib() - before
    return {"points": points, "cpu_s": cpu, "wall_s": wall, "grown_mib": grown, "mig": found.mig, "mig_sup": found.mig_sup}


if __name__ == "__main__":
    flags = parser(__doc__, "metrics")
    flags.add_argument("--rounds", type=int, default=15)
    args = flags.parse_args()
    torch.set_num_threads(1)
    compared = compare_histograms(args.rounds)
    print("histograms: {ours_ms:.1f} ms, double loop {double_loop_ms:.1f} ms, ratio {ratio:.1f}".format(**compared))
    densities = compare_densities(1_000_000, 5)
    line = "a term: {grids_ns_a_term:.3f} ns on grids, {pairs_ns_a_term:.2f} ns by pairs, difference {difference:.1g}"
    print(line.format(**densities))
    runs = [measure_aggregate_posterior(points) for points in (100_000, 1_000_000)]
    line = "{points:,} data: {cpu_s:.1f} s CPU, {wall_s:.1f} s wall, {grown_mib:.0f} MiB more, MIG {mig:.6f}"
    print("\n".join(line.format(**run) for run in runs))
    versions = {"torch": torch.__version__, "load": os.getloadavg()[0]}
    save(args.save, {**versions, "histograms": compared, "densities": densities, "aggregate": runs})
