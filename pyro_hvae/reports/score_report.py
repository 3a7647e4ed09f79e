"""Scores of a run's data, or of a user's file: their means, the outliers among them, and a file of all."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyro_hvae.compilation import decide_evaluation
from pyro_hvae.data import Rows, check_row_file, write_rows
from pyro_hvae.inference import score
from pyro_hvae.reports.metric_report import SPACES
from pyro_hvae.reports.run_measurement import require_finite_weights
from pyro_hvae.reports.run_rows import Arrays, RowSet, join_sets, protect_data, select_rows
from pyro_hvae.reports.text_table import format_table
from pyro_hvae.runs import OpenRun


def score_file(
    run: OpenRun,
    source: Path | None,
    out: Path | None = None,
    particles: int = 100,
    inner: int = 1,
    draws: int = 16,
    part: str | None = None,
    lowest: int = 5,
    seed: int = 0,
    overwrite: bool = False,
    compile: bool | None = None,
) -> dict[str, Any]:
    """Scores of data (see `score`), with a file of all by `write_rows` on request; a low value is that of an outlier.

    Of a run on features they are those of the features, as in `evaluate`; of standardised data those of standardised data.

    Arguments:
        source, part: as for `select_rows`; by default the test data. out: the file, or None.
        particles, inner, draws, seed: as for `score`; inner particles are for the layers that the run's bound does not share.
        lowest: how many outliers are named, with the first column that identifies them.
        compile: as for `importance_weights`; None decides by the number of samples.

    Returns:
        `n`, mean and standard error (over data) of each column, the `lowest` rows, the protocol and the text.

    Raises:
        ConfigError, DataError: as `score`, `select_rows` and `write_rows`. DivergenceError: for weights that are not finite.
    """
    if out is not None:
        check_row_file(out, overwrite)
        protect_data(run, out, source)
    require_finite_weights(run)
    sets, what = select_rows(run, source, part, "test")
    objective, shared, scored = run.objective, run.objective.elbo.shared, list[str]()
    count = sum(len(rows.x) for rows in sets)
    samples = f"{count:,} data x {particles:,} samples"
    compile = decide_evaluation(compile, "the model", samples, count * particles * inner, run.device)

    def compute(rows: RowSet) -> Arrays:
        found = score(
            objective.model,
            objective.guide,
            run.view_of(Rows.of(rows.x)),
            particles=particles,
            inner=inner,
            shared=shared if inner > 1 else (),
            draws=draws,
            seed=seed,
            compile=compile,
            progress=True,
        ).columns()
        scored[:] = list(found)
        return found

    arrays = join_sets(sets, compute)
    if out is not None:
        write_rows(out, arrays, overwrite)
    columns = {name: arrays[name] for name in scored}
    means = {name: {"mean": float(v.mean()), "stderr": _stderr(v)} for name, v in columns.items()}
    outliers = _list_lowest(arrays, scored[0], lowest)
    given = [condition.name for condition in run.conditions]
    of = f"p(x | {', '.join(given)})" if given else "p(x)"
    observed = ", of the observed entries" if run.dataset.train.x.incomplete else ""
    measured = f"{particles} importance samples each" if particles else "no importance samples"
    space = SPACES.get(run.space, f" of {run.space}")
    lines = [
        f"{what}: log {of}{space}{observed}, {measured}, nats per datum",
        format_table({"": name, **values} for name, values in means.items()),
        "",
        f"lowest {scored[0]}, the data that the model expects least:",
        format_table(outliers),
        *([f"all: {out}"] if out else []),
    ]
    return {
        "n": count,
        "scores": means,
        "lowest": outliers,
        "by": scored[0],
        "particles": particles,
        "inner": inner,
        "draws": draws,
        "seed": seed,
        "space": run.space,
        **({"given": given} if given else {}),
        "units": "nats per datum",
        "out": str(out) if out else None,
        "text": "\n".join(lines),
    }


def _stderr(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _list_lowest(arrays: Mapping[str, np.ndarray], by: str, count: int) -> list[dict[str, Any]]:
    """The rows of the lowest values, each with part, row, and the first column of texts or whole numbers that differ all."""
    beside = {name: v for name, v in arrays.items() if name not in ("part", "row") and v.dtype.kind in "iuU"}
    identifier = [name for name, v in beside.items() if len(np.unique(v)) == len(v)][:1]
    names = [name for name in ("part", "row", *identifier, by) if name in arrays]
    places = np.argsort(arrays[by], kind="stable")[:count]
    return [{name: arrays[name][place].item() for name in names} for place in places]
