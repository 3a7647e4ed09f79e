"""Cost of importance-sampled likelihoods against their own matrix products and against the usual loop, and their memory.

    python -m benchmarks.importance_sampling               # two minutes

784-300-300-40 networks, Bernoulli pixels, 5000 samples a datum, one thread, CPU time; all sides are interleaved, ratios are
medians over rounds. `products` multiplies the decoder's matrices for as many rows, and nothing else. `loop` is the code that
most people write: image by image, 100 samples at a time, encoding the image for each chunk anew, by Pyro's trace and replay.
Memory is the peak of a process of its own above its need for imports and networks. Writes benchmarks/results/importance.json.
"""

import math
import statistics
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from benchmarks.result_files import parser, save
from benchmarks.timing import Measure, Side, compare, in_own_process, interleaved, peak_mib
from pyro_hvae import log_likelihood, recipes
from pyro_hvae.inference.importance_sampling import ROWS
from pyro_hvae.objectives.elbo import Objective
from pyro_hvae.reports import format_table

PARTICLES, IMAGES, CHUNK = 5000, 12, 100


def build_pair(images: int) -> tuple[Objective, Tensor]:
    torch.manual_seed(0)
    x = (torch.rand(64, 1, 28, 28) < 0.2).float()
    options = {"latent": 40, "hidden": (300, 300), "likelihood": "bernoulli", "activation": "relu"}
    return recipes.build("vae", x, options)[-1].objective, x.repeat(math.ceil(images / len(x)), 1, 1, 1)[:images]


@torch.no_grad()
def products(objective: Objective, count: int) -> None:
    """The decoder's matrix products for `count` rows."""
    weights = [layer.weight for layer in objective.model.modules() if isinstance(layer, nn.Linear)]
    inputs = [torch.zeros(ROWS, weight.shape[1]) for weight in weights]
    for start in range(0, count, ROWS):
        for weight, rows in zip(weights, inputs, strict=True):
            torch.mm(rows[: min(ROWS, count - start)], weight.T)


@torch.no_grad()
def loop(objective: Objective, x: Tensor) -> Tensor:
    """The likelihood of one image after another, encoded anew for every chunk of samples."""
    model, guide, values = objective.model, objective.guide, []
    for image in x:
        logs = []
        for _ in range(PARTICLES // CHUNK):
            many = image.expand(CHUNK, *image.shape)
            q: Any = poutine.trace(guide).get_trace(many)
            p: Any = poutine.trace(poutine.replay(model, q)).get_trace(many)
            q.compute_log_prob()
            p.compute_log_prob()
            logs.append(p.nodes["x"]["log_prob"] + p.nodes["z1"]["log_prob"] - q.nodes["z1"]["log_prob"])
        values.append(torch.cat(logs).logsumexp(0) - math.log(PARTICLES))
    return torch.stack(values)


def peak_above_networks(images: int) -> float:
    """MiB at the peak of the likelihood of `images` images, above this process's peak before it."""
    torch.set_num_threads(1)
    objective, x = build_pair(images)
    before = peak_mib()
    log_likelihood(objective.model, objective.guide, x, PARTICLES)
    return peak_mib() - before


def compare_times(rounds: int) -> tuple[list[Measure], dict[str, float]]:
    """The measures, and the seconds of every side."""
    objective, x = build_pair(IMAGES)
    sides: dict[str, Side] = {
        "ours": lambda: log_likelihood(objective.model, objective.guide, x, PARTICLES),
        "products": lambda: products(objective, IMAGES * PARTICLES),
        "loop": lambda: loop(objective, x),
    }
    times = interleaved(sides, rounds, turn=0.0, warm=1)
    unit = "CPU time / likelihood of 5,000 samples"
    found = [
        compare("matrix products / likelihood", times, "products", "ours", unit, bar=0.6, most=False),
        compare("loop / likelihood", times, "loop", "ours", unit, bar=3.0, most=False),
    ]
    return found, {name: statistics.median(seconds) for name, seconds in times.items()}


def measures(quick: bool) -> list[Measure]:
    return compare_times(2 if quick else 9)[0]


if __name__ == "__main__":
    flags = parser(__doc__, "importance")
    flags.add_argument("--rounds", type=int, default=9)
    args = flags.parse_args()
    torch.set_num_threads(1)
    found, times = compare_times(args.rounds)
    memory = {images: in_own_process(peak_above_networks, images) for images in (6, 200)}
    print(format_table([measure.row() for measure in found]))
    print(f"\n{IMAGES} images x {PARTICLES} samples: " + ", ".join(f"{name} {s:.2f} s" for name, s in times.items()))
    print("memory above the model's: " + ", ".join(f"{mib:.0f} MiB for {images} images" for images, mib in memory.items()))
    measured = {"measures": [measure.to_dict() for measure in found], "seconds": times, "peak_mib": memory}
    save(args.save, {"torch": torch.__version__, **measured})
