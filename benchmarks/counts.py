"""Negative binomial, Poisson and a Gaussian on log counts: `hvae` on words of source files and on genes of cells.

    python -m benchmarks.counts                                  # words; three seeds, about five minutes on one core
    python -m benchmarks.counts --data words cells --cells sample_cell_by_gene.csv

`words`: the 200 commonest words of Python's own source files (the first 1,500 by name). `cells`: the 300 genes with most counts
in 559 cells, a table that the package celltypist 1.7.1 ships (celltypist/data/samples; cells in rows). A random fifth is the
test, of every seed another. `test`: log-likelihood of the test data in nats a datum, by 1,000 importance samples. All are
probabilities of counts: a Gaussian of y = log(1 + x), of standardised columns, gives a count the mass between x - 1/2 and x +
1/2, and 0 all below: it is trained as a density of y and judged by the mass of counts. `sized` is a negative binomial given the
total of x, so that it has less to predict than the others. Writes benchmarks/results/counts.json.
"""

import csv
import re
import statistics
import sysconfig
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import studies

LIKELIHOODS = ("gaussian", "poisson", "negative-binomial", "zero-inflated-negative-binomial", "sized")


def read_words(files: int = 1500, words: int = 200) -> Any:
    """Counts of the commonest words of lower-case letters in the standard library, (files, words)."""
    import numpy as np

    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = [path for path in sorted(folder.rglob("*.py")) if "site-packages" not in path.parts]
    counts = [Counter(re.findall(r"[a-z]{2,}", path.read_text("utf-8", "ignore").lower())) for path in paths[:files]]
    common = Counter(word for count in counts for word in count).most_common(words)
    table = np.array([[count[word] for word, _ in common] for count in counts], dtype="float32")
    return table[table.sum(1) > 20]


def read_cells(path: Path, genes: int = 300) -> Any:
    """Counts of the genes with most, (cells, genes)."""
    import numpy as np

    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        table = np.array([[float(value) for value in row[1:]] for row in rows]).round().astype("float32")
    return table[:, np.sort(np.argsort(-table.mean(0))[:genes])]


def on_log_counts(guide: Any, likelihood: Any, mean: Any, deviation: Any) -> tuple[Any, Any]:
    """A guide and a likelihood of counts x from those of y = (log(1 + x) - mean) / deviation."""
    import pyro.distributions as dist
    import torch

    class Rounded(dist.TorchDistribution):
        """The mass of a Gaussian of y between x - 1/2 and x + 1/2, below 1/2 for x = 0."""

        arg_constraints: dict[str, Any] = {}
        support: Any = dist.constraints.independent(dist.constraints.nonnegative_integer, 1)  # pyright: ignore

        def __init__(self, of_y: Any) -> None:
            self.normal = of_y.base_dist
            super().__init__(of_y.batch_shape, of_y.event_shape, validate_args=False)

        def expand(self, batch_shape: Any, _instance: Any = None) -> "Rounded":
            return Rounded(dist.Independent(self.normal.expand((*batch_shape, *self.event_shape)), 1))

        def log_prob(self, value: Any) -> Any:
            def standard(edge: Any) -> Any:
                y = (edge.log1p() - mean) / deviation
                return (y - self.normal.loc) / self.normal.scale

            value = value.double()  # neighbouring edges of large counts differ in the last digits
            high = standard(value + 0.5)
            low = standard((value - 0.5).clamp(min=0)).where(value > 0, -torch.inf)
            near = low > 0  # by symmetry: tails lose no digits
            low, high = torch.where(near, -high, low), torch.where(near, -low, high)
            log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
            return (log_high + (-(log_low - log_high).exp()).log1p()).float().sum(-1)

    class GuideOfCounts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.guide = guide

        def forward(self, x: Any, size: int = 1) -> Any:
            return self.guide((x.log1p() - mean) / deviation)

    class LikelihoodOfCounts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.likelihood = likelihood

        def forward(self, *parents: Any) -> Rounded:
            return Rounded(self.likelihood(*parents))

    return GuideOfCounts(), LikelihoodOfCounts()


def measure(args: studies.Args, likelihood: str, seed: int, data: str) -> studies.Row:
    import time

    import torch

    import pyro_hvae as hv
    from pyro_hvae.data import Dataset, Rows, Split, condition_on

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    counts = torch.from_numpy(read_words() if data == "words" else read_cells(args.cells))
    counts = counts[torch.randperm(len(counts))]
    test, train = counts[: len(counts) // 5], counts[len(counts) // 5 :]
    start = time.process_time()
    options: dict[str, Any] = {"dims": (8, 4), "hidden": (128, 128), "upper": (64, 64)}
    options["likelihood"] = {"sized": "negative-binomial"}.get(likelihood, likelihood)
    x, held_out, y = Rows(train), Rows(test), train.log1p()
    mean, deviation = y.mean(0), y.std(0)
    if likelihood == "gaussian":
        x, options["learn_sigma"] = Rows((y - mean) / deviation), True
    if likelihood == "sized":
        sized, _ = condition_on(Dataset("counts", Split(x), Split(held_out), Split(held_out)), (), "total")
        x, held_out = sized.train.x, sized.test.x
    torch.manual_seed(seed)
    (stage,) = hv.recipes.build("hvae", x.sample(), options)
    settings = hv.TrainConfig(steps=args.steps, batch_size=64, lr=1e-3, grad_clip=100.0, lr_decay=0.5, seed=seed)
    hv.fit(stage.objective, x, settings, hv.WarmUp(0.2), progress=False)
    model, guide = stage.objective.model, stage.objective.guide
    if likelihood == "gaussian":
        guide, model.likelihood = on_log_counts(guide, model.likelihood, mean, deviation)
    torch.manual_seed(seed)
    values = hv.log_likelihood(model, guide, held_out, particles=1000)
    row: studies.Row = {"data": data, "likelihood": likelihood, "seed": seed, "n": len(test), "columns": counts.shape[1]}
    row |= {"test": values.mean().item(), "error": (values.std() / len(values) ** 0.5).item()}
    return row | {"cpu_seconds": time.process_time() - start}


def summarise(rows: list[studies.Row], reference: dict[tuple[str, int], float]) -> list[studies.Row]:
    """Means over the seeds; differences are to the negative binomial of the same seed, which has the same data."""
    line: studies.Row = {"data": rows[0]["data"], "likelihood": rows[0]["likelihood"], "seeds": len(rows)}
    line["test"] = studies.mean_and_deviation([row["test"] for row in rows], 5)
    pairs = [row["test"] - reference[row["data"], row["seed"]] for row in rows if (row["data"], row["seed"]) in reference]
    line["- negative-binomial"] = studies.mean_and_deviation(pairs, 3) if pairs else ""
    line["error"] = round(statistics.fmean(row["error"] for row in rows), 1)
    return [line | {"CPU s": studies.mean_cpu_seconds(rows)}]


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "counts", "0-2", jobs=None, likelihoods=LIKELIHOODS)
    parser.add_argument("--data", nargs="+", default=["words"], choices=["words", "cells"])
    parser.add_argument("--cells", type=Path, help="table of cells (rows) and genes for --data cells")
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    jobs = [(name, seed, data) for data in args.data for name, seed in studies.over_seeds(args.likelihoods, args.seeds)]
    rows = [measure(args, *job) for job in jobs]
    reference = {(row["data"], row["seed"]): row["test"] for row in rows if row["likelihood"] == "negative-binomial"}
    studies.report(args.save, studies.summaries(jobs, rows, partial(summarise, reference=reference)), rows, steps=args.steps)
