"""What importance-sampled likelihoods cost: against their own matrix products, against the obvious loop, and in memory.

    python -m benchmarks.importance                        # two minutes

784-300-300-40 networks, Bernoulli pixels, 5000 samples a datum, one thread, CPU time, all sides interleaved, medians of ratios
over rounds. `products` multiplies what the decoder multiplies, as many rows, and nothing else. `loop` is what is usually
written: image by image, 100 samples at a time, the image encoded anew for each, by Pyro's trace and replay. Memory is the
peak of a process of its own above what it needed to import and build. benchmarks/results/importance.json has the numbers.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from benchmarks.common import RESULTS, peak_mib, save
from benchmarks.measures import Measure, against, interleaved, report
from pyro_hvae import log_likelihood, recipes
from pyro_hvae.inference.importance_sampling import ROWS
from pyro_hvae.objectives.elbo import Objective

PARTICLES, IMAGES, CHUNK = 5000, 12, 100


def pair() -> tuple[Objective, Tensor]:
    torch.manual_seed(0)
    x = (torch.rand(64, 1, 28, 28) < 0.2).float()
    options = {"latent": 40, "hidden": (300, 300), "likelihood": "bernoulli", "activation": "relu"}
    return recipes.build("vae", x, options)[-1].objective, x


@torch.no_grad()
def products(objective: Objective, count: int) -> None:
    """The decoder's matrix products for so many rows."""
    weights = [layer.weight for layer in objective.model.modules() if isinstance(layer, nn.Linear)]
    inputs = [torch.zeros(ROWS, weight.shape[1]) for weight in weights]
    for start in range(0, count, ROWS):
        for weight, rows in zip(weights, inputs, strict=True):
            torch.mm(rows[: min(ROWS, count - start)], weight.T)


@torch.no_grad()
def loop(objective: Objective, x: Tensor) -> Tensor:
    """One image after another, encoded anew for every sample."""
    model, guide, values = objective.model, objective.guide, []
    for image in x:
        logs = []
        for _ in range(PARTICLES // CHUNK):
            many = image.expand(CHUNK, *image.shape)
            q = poutine.trace(guide).get_trace(many)
            p = poutine.trace(poutine.replay(model, q)).get_trace(many)
            q.compute_log_prob()
            p.compute_log_prob()
            nodes: tuple[Any, Any] = (p.nodes, q.nodes)
            logs.append(nodes[0]["x"]["log_prob"] + nodes[0]["z1"]["log_prob"] - nodes[1]["z1"]["log_prob"])
        values.append(torch.cat(logs).logsumexp(0) - math.log(PARTICLES))
    return torch.stack(values)


def peak(images: int) -> float:
    """MiB that the likelihood of so many images needs at its peak, in a process of its own."""
    code = f"import benchmarks.importance as b; print(b.grown({images}))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def grown(images: int) -> float:
    torch.set_num_threads(1)
    objective, x = pair()
    many = x.repeat(math.ceil(images / len(x)), 1, 1, 1)[:images]
    before = peak_mib()
    log_likelihood(objective.model, objective.guide, many, PARTICLES)
    return peak_mib() - before


def compared(rounds: int) -> tuple[list[Measure], dict[str, float]]:
    """The measures, and the seconds of every side."""
    objective, x = pair()
    x = x[:IMAGES]
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: log_likelihood(objective.model, objective.guide, x, PARTICLES),
        "products": lambda: products(objective, IMAGES * PARTICLES),
        "loop": lambda: loop(objective, x),
    }
    taken = interleaved(sides, rounds, turn=0.0, warm=1)
    units = {"products": ("matrix products", 0.6), "loop": ("loop", 3.0)}
    found = []
    for side, (name, bar) in units.items():
        ratio, detail = against(taken, side, "ours")
        found.append(Measure(f"{name} / likelihood", ratio, "CPU time / likelihood of 5,000 samples", bar, False, detail))
    return found, {name: statistics.median(seconds) for name, seconds in taken.items()}


def measures(quick: bool) -> list[Measure]:
    return compared(2 if quick else 9)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", type=Path, default=RESULTS / "importance.json")
    args = parser.parse_args()

    torch.set_num_threads(1)
    found, times = compared(args.rounds)
    memory = {images: peak(images) for images in (6, 200)}
    print(report(found))
    print(f"\n{IMAGES} images x {PARTICLES} samples: " + ", ".join(f"{name} {s:.2f} s" for name, s in times.items()))
    print("memory above the model's: " + ", ".join(f"{mib:.0f} MiB for {images} images" for images, mib in memory.items()))
    rows = [measure.to_dict() for measure in found]
    save(args.save, {"torch": torch.__version__, "measures": rows, "seconds": times, "peak_mib": memory})


if __name__ == "__main__":
    main()
