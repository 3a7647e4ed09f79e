"""Cost of data: their share of a training step, images drawn per second, and the time to load a set.

    python -m benchmarks.data_loading                      # a minute; sets whose files are absent are left out

All on one thread, by CPU time. The share is of eager steps of `vae` at its cpu preset with batches of 128; reading and
stepping are interleaved, with medians over rounds. Drawing takes random images of the whole grid in batches of 128, with the
geometries cast beforehand, as `Batches` reads them. Writes benchmarks/results/data.json.
"""

import contextlib
import statistics
from typing import Any

import numpy as np
import pyro
import torch

from benchmarks.result_files import parser, save
from benchmarks.timing import Measure, compare, cpu_time, interleaved
from pyro_hvae import DATASETS
from pyro_hvae.data import Rows
from pyro_hvae.errors import DataError
from pyro_hvae.reports import format_table
from pyro_hvae.runs import resolve
from pyro_hvae.training import plan
from pyro_hvae.training.session import Session

BATCH, PIECE = 128, 256
GREY = {"binarize": "none", "likelihood": "gaussian", "sigma": "0.2"}
Row = dict[str, Any]


def share_of_step(dataset: str, options: dict[str, Any], rounds: int) -> Row:
    """Milliseconds of reading a batch and of a whole step, and their ratio."""
    made = plan(resolve("vae", dataset, options=options, train={"batch_size": BATCH}))
    session = Session(made.stages[0].objective, made.dataset.train.x, made.experiment.train, made.schedules[0], 10_000)
    with pyro.validation_enabled(False):
        cpu_time(session.step, 10)
        times = [[cpu_time(part, 20)[0] for part in (session.batches.next, session.step)] for _ in range(rounds)]
    reading, step = (statistics.median(column) for column in zip(*times, strict=True))
    name = " ".join([dataset, *(f"{k}={v}" for k, v in options.items())])
    return {"name": f"share of a step, {name}", "read_ms": 1e3 * reading, "step_ms": 1e3 * step, "value": reading / step}


def images_per_second(dataset: str, rounds: int) -> Row:
    """Images drawn per second from a generated factor set."""
    x = DATASETS[dataset]().train.x
    rng = np.random.default_rng(0)
    x.raw(torch.from_numpy(rng.permutation(len(x))[:20_000]))  # casts all geometries
    batches = (torch.from_numpy(rng.integers(0, len(x), BATCH)) for _ in range(rounds))
    times = [cpu_time(lambda index=index: x.raw(index), 20)[0] for index in batches]
    return {"name": f"images per second, {dataset}", "value": BATCH / statistics.median(times)}


def pass_over_selected_rows(count: int, rounds: int) -> Measure:
    """A pass over selected rows in pieces, as validation and encoding read them, beside `index_select` of the same pieces."""
    store, places = torch.zeros(count, 16), torch.randperm(count, generator=torch.Generator().manual_seed(0))
    some = Rows(store).take(places)
    sides = {
        "rows": lambda: [None for _ in some.split(PIECE)],
        "index_select": lambda: [store.index_select(0, piece).numel() for piece in places.split(PIECE)],
    }
    times = interleaved(sides, rounds, turn=0.0, warm=1)
    return compare(f"pass over {count:,} selected rows", times, "rows", "index_select", "time of Rows / index_select", 2.0)


def measures(quick: bool) -> list[Measure]:
    """The shares of sets that need no files."""
    rows = [share_of_step(name, {}, 5 if quick else 15) for name in (("digits",) if quick else ("digits", "sprites", "rooms"))]
    unit = "time of reading a batch / of an eager step"
    found = [Measure(row.pop("name"), row.pop("value"), unit, detail=row) for row in rows]
    return [*found, pass_over_selected_rows(100_000 if quick else 1_000_000, 5 if quick else 15)]


if __name__ == "__main__":
    flags = parser(__doc__, "data")
    flags.add_argument("--rounds", type=int, default=15)
    args = flags.parse_args()
    torch.set_num_threads(1)
    shares = [("mnist", GREY), ("mnist", {"binarize": "dynamic"}), ("mnist-static", {})]
    shares += [("digits", {}), ("sprites", {}), ("rooms", {})]
    rows: list[Row] = []
    for name, options in shares:
        with contextlib.suppress(DataError):  # the files are not here
            rows.append(share_of_step(name, options, args.rounds))
    rows += [images_per_second(name, args.rounds) for name in ("sprites", "rooms")]
    for name in DATASETS:
        with contextlib.suppress(DataError):
            rows.append({"name": f"seconds to load {name}", "value": cpu_time(DATASETS[name])[0]})
    print(format_table([{"measure": row["name"], "value": row["value"]} for row in rows]))
    save(args.save, {"torch": torch.__version__, "rounds": args.rounds, "measures": rows})
