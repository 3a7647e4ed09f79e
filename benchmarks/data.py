"""What data cost: their share of a training step, images drawn per second, and the time until a set is loaded.

    python -m benchmarks.data                              # a minute; sets whose files are absent are left out

Everything on one thread, by CPU time. The share is of steps of `vae` at its cpu preset with batches of 128, reading and
stepping interleaved, medians over rounds. Drawing is of random images of the whole grid in batches of 128, geometries cast
beforehand, as `Batches` reads them. benchmarks/results/data.json has the numbers.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch

from benchmarks.common import RESULTS, save
from benchmarks.measures import Measure
from pyro_hvae.data import DATASETS
from pyro_hvae.errors import DataError
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.training.experiment_plan import plan
from pyro_hvae.training.session import Session

BATCH = 128


def seconds(function: Callable[[], Any], times: int) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    for _ in range(times):
        function()
    return (time.process_time() - start) / times


def share(dataset: str, options: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Milliseconds of reading a batch and of a whole step, and their ratio."""
    experiment = resolve("vae", dataset, options=options, train={"batch_size": BATCH})
    made = plan(experiment)
    session = Session(made.stages[0].objective, made.dataset.train.x, experiment.train, made.schedules[0], 10_000)
    with pyro.validation_enabled(False):
        seconds(session.step, 10)
        pairs = [(seconds(session.batches.next, 20), seconds(session.step, 20)) for _ in range(rounds)]
    reading, step = (statistics.median(column) for column in zip(*pairs, strict=True))
    name = " ".join([dataset, *(f"{k}={v}" for k, v in options.items())])
    return {"name": f"share of a step, {name}", "read_ms": 1e3 * reading, "step_ms": 1e3 * step, "value": reading / step}


def drawn(dataset: str, rounds: int) -> dict[str, Any]:
    """Images per second of a generated factor set."""
    x = DATASETS[dataset]().train.x
    rng = np.random.default_rng(0)
    x.raw(torch.from_numpy(rng.permutation(len(x))[:20_000]))  # all geometries
    times = []
    for _ in range(rounds):
        index = torch.from_numpy(rng.integers(0, len(x), BATCH))
        times.append(seconds(lambda index=index: x.raw(index), 20))
    return {"name": f"images per second, {dataset}", "value": BATCH / statistics.median(times)}


def loaded(dataset: str) -> dict[str, Any]:
    return {"name": f"seconds to load {dataset}", "value": seconds(lambda: DATASETS[dataset](), 1)}


def measures(quick: bool) -> list[Measure]:
    """The shares of sets that need no files."""
    found = []
    for dataset in ("digits",) if quick else ("digits", "sprites", "rooms"):
        row = share(dataset, {}, 5 if quick else 15)
        found.append(Measure(row.pop("name"), row.pop("value"), "time of reading a batch / of an eager step", detail=row))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", type=Path, default=RESULTS / "data.json")
    args = parser.parse_args()

    from pyro_hvae.reports import format_table

    torch.set_num_threads(1)
    grey = {"likelihood": "gaussian", "sigma": "0.2"}
    shares = [("mnist", {"binarize": "none", **grey}), ("mnist", {"binarize": "dynamic"}), ("mnist-static", {})]
    shares += [("digits", {}), ("sprites", {}), ("rooms", {})]
    measures: list[Callable[[], dict[str, Any]]] = [
        *(lambda n=name, o=options: share(n, o, args.rounds) for name, options in shares),
        *(lambda n=name: drawn(n, args.rounds) for name in ("sprites", "rooms")),
        *(lambda n=name: loaded(n) for name in DATASETS),
    ]
    rows = []
    for measure in measures:
        try:
            rows.append(measure())
        except DataError:
            continue  # its files are not here
    print(format_table([{"measure": row["name"], "value": row["value"]} for row in rows]))
    save(args.save, {"torch": torch.__version__, "rounds": args.rounds, "measures": rows})


if __name__ == "__main__":
    main()
