"""Codes of the estimator `hv.HVAE` in pipelines of scikit-learn, beside PCA and factor analysis: accuracy and log-likelihood.

    python -m benchmarks.pipelines                 # three tables, five folds each; four CPU minutes
    python -m benchmarks.pipelines --tables wine --steps 200

Each pipeline is StandardScaler, a code of as many numbers for every method, and LogisticRegression, under `cross_validate` with
five stratified folds. The accuracy is that of held-out rows; the log-likelihood is that of held-out rows, in nats a row and in
the units of the table, without the classes. The grey levels of digits get uniform noise in [0, 1), so that they have a density.
PCA is the probabilistic one, and like the `HVAE`s has one variance for all (scaled) columns; factor analysis has one for each.
The settings of the `HVAE`s are the estimator's defaults but for the width of the code. Writes
benchmarks/results/pipelines.json.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import studies

CODES = {"wine": 4, "breast-cancer": 8, "digits": 16}  # table -> width of the code
METHODS = ("pca", "factor-analysis", "vae", "hvae")
FOLDS = 5


def load_table(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    table = getattr(datasets, f"load_{name.replace('-', '_')}")()
    noise = np.random.default_rng(0).random(table.data.shape) if name == "digits" else 0.0
    return table.data + noise, table.target


def make_code(method: str, width: int, steps: int, seed: int) -> Any:
    """The transformer of a method; the code of `hvae` has two layers."""
    from sklearn.decomposition import PCA, FactorAnalysis

    import pyro_hvae as hv

    make: dict[str, Callable[[], Any]] = {
        "pca": lambda: PCA(width, random_state=seed),
        "factor-analysis": lambda: FactorAnalysis(width, random_state=seed),
        "vae": lambda: hv.HVAE("vae", latent=width, steps=steps, random_state=seed),
        "hvae": lambda: hv.HVAE("hvae", dims=(width - width // 4, width // 4), steps=steps, random_state=seed),
    }
    return make[method]()


def log_likelihood(pipeline: Any, x: np.ndarray, y: np.ndarray) -> float:
    """The mean log-likelihood of rows under a fitted pipeline's code, nats a row in the units of x."""
    scaler, code, _ = pipeline
    return code.score(scaler.transform(x)) - np.log(scaler.scale_).sum()


def measure(args: studies.Args, name: str, seed: int, method: str) -> studies.Row:
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_validate
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    torch.set_num_threads(1)
    x, y = load_table(name)
    pipeline = make_pipeline(
        StandardScaler(), make_code(method, CODES[name], args.steps, seed), LogisticRegression(max_iter=5000)
    )
    scoring = {"accuracy": "accuracy", "log_likelihood": log_likelihood}
    start = time.process_time()
    found = cross_validate(pipeline, x, y, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed), scoring=scoring)
    row = {"table": name, "method": method, "code": CODES[name], "seed": seed, "cpu_seconds": time.process_time() - start}
    return row | {key: found[f"test_{key}"].tolist() for key in scoring}


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    """Means over the folds, of all seeds, with their standard deviations."""
    line: studies.Row = {key: rows[0][key] for key in ("table", "method", "code")}
    for key, digits in (("accuracy", 3), ("log_likelihood", 4)):
        line[key] = studies.mean_and_deviation([value for row in rows for value in row[key]], digits)
    return [line | {"CPU s": studies.mean_cpu_seconds(rows)}]


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "pipelines", "0-0", tables=CODES, methods=METHODS)
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    jobs = [(*job, method) for job in studies.over_seeds(args.tables, args.seeds) for method in args.methods]
    studies.run_study(args, jobs, measure, summarise, steps=args.steps, folds=FOLDS)
