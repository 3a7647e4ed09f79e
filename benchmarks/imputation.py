"""Imputation of scikit-learn's tables, beside its own imputers: error of the values and coverage of the intervals.

    python -m benchmarks.imputation                # three tables, five splits; about two minutes on two cores
    python -m benchmarks.imputation --tables wine --seeds 10-11

A split (a seed) removes 30 % of all entries at random and standardises the others, column by column. Every imputer is fitted to
what is left of the table, and fills it. Its error is the root mean square over the removed entries, in standard deviations of
the columns. `mean`, `knn` and `iterative` are `SimpleImputer`, `KNNImputer` and `IterativeImputer` with their defaults; `hvae`
is the recipe `iwae`, the same for all tables, with the bound of MIWAE (Mattei and Frellsen 2019). Its settings were chosen on
the splits 0 and 1. Intervals are the 5 % and 95 % quantiles of 200 draws. Writes benchmarks/results/imputation.json.
"""

import statistics
from typing import Any

import numpy as np

from benchmarks import studies

TABLES = ("breast-cancer", "wine", "diabetes")
SHARE = 0.3  # of entries that a split removes
OPTIONS = {"latent": 10, "hidden": (128, 128), "particles": 20, "sigma": 0.5, "learn_sigma": True}
TRAINING = {"lr": 1e-3, "batch_size": 64, "lr_decay": 0.5}
DRAWS, LEVEL = 200, 0.9
IMPUTERS = ("mean", "knn", "iterative")


def load_table(name: str) -> np.ndarray:
    from sklearn import datasets

    return getattr(datasets, f"load_{name.replace('-', '_')}")().data.astype(np.float64)


def measure(args: studies.Args, name: str, seed: int) -> studies.Row:
    import time
    import warnings

    import sklearn.experimental.enable_iterative_imputer  # noqa: F401
    import torch
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    torch.set_num_threads(1)
    whole = load_table(name)
    removed = np.random.default_rng(seed).random(whole.shape) < SHARE
    left = np.where(removed, np.nan, whole)
    mean, scale = np.nanmean(left, 0), np.nanstd(left, 0)
    truth, left = (whole - mean) / scale, (left - mean) / scale

    def error(filled: np.ndarray) -> float:
        return float(np.sqrt(np.mean((filled - truth)[removed] ** 2)))

    row: studies.Row = {"table": name, "seed": seed}
    made = {"mean": SimpleImputer(), "knn": KNNImputer(), "iterative": IterativeImputer(random_state=seed)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of ten rounds, the default
        row |= {imputer: error(each.fit_transform(left)) for imputer, each in made.items()}
    start = time.process_time()
    values, draws = impute(left, seed, args.steps)
    row |= {"hvae": error(values), "cpu_seconds": time.process_time() - start}
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    inside = ((low <= truth) & (truth <= high))[removed]
    return row | {"coverage": float(inside.mean()), "width": float((high - low)[removed].mean())}


def impute(left: np.ndarray, seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The table with means in its missing entries, (n, d), and with draws, (DRAWS, n, d)."""
    import torch

    import pyro_hvae as hv

    torch.manual_seed(seed)
    x = torch.tensor(left, dtype=torch.float32)
    (stage,) = hv.recipes.build("iwae", hv.Batch.of(x), OPTIONS)
    settings: dict[str, Any] = {**TRAINING, "steps": steps, "seed": seed}
    hv.fit(stage.objective, x, hv.TrainConfig(**settings), progress=False)
    pair = stage.objective.model, stage.objective.guide
    return hv.impute(*pair, x).numpy(), hv.impute(*pair, x, draws=DRAWS).numpy()


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    """Means over the splits, with their standard deviations."""
    line: studies.Row = {"table": rows[0]["table"], "splits": len(rows)}
    line |= {name: studies.mean_and_deviation([row[name] for row in rows], 3) for name in (*IMPUTERS, "hvae")}
    best = [row["hvae"] < min(row[name] for name in IMPUTERS) for row in rows]
    line |= {"ahead of all": f"{sum(best)}/{len(rows)}"}
    line |= {"coverage": studies.mean_and_deviation([row["coverage"] for row in rows], 3)}
    line |= {"width": f"{statistics.fmean(row['width'] for row in rows):.3g}"}
    return [line | {"CPU s": studies.mean_cpu_seconds(rows)}]


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "imputation", "10-14", tables=TABLES)
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    studies.run_study(args, studies.over_seeds(args.tables, args.seeds), measure, summarise, steps=args.steps)
