"""Scores of a run's data, or of a user's file: their means, the outliers among them, and a file of all."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyro_hvae.compilation import decide_evaluation
from pyro_hvae.data import Rows, check_row_file, write_rows
from pyro_hvae.errors import FewEffectiveSamplesWarning
from pyro_hvae.inference import Scores, describe_few_effective_samples, score
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

    Of a run on features they are those of the features, as in `evaluate`; of standardised data those of standardised data,
    beside `log_likelihood_own_units`, the log-density of the data in their own units.

    Arguments:
        source, part: as for `select_rows`; by default the test data. out: the file, or None.
        particles, inner, draws, seed: as for `score`; inner particles are for the layers that the run's bound does not share.
        lowest: how many outliers are named, with the first column that identifies them.
        compile: as for `importance_weights`; None decides by the number of samples.

    Returns:
        `n`, mean and standard error (over data) of each column, `not_finite`: column -> how many of its values are left out of
        these, the `lowest` rows, those of NaN first, the protocol and the text.

    Raises:
        ConfigError, DataError: as `score`, `select_rows` and `write_rows`. DivergenceError: for weights that are not finite.

    Warns:
        FewEffectiveSamplesWarning: as `score`, once for all data.
    """
    if out is not None:
        check_row_file(out, overwrite)
        protect_data(run, out, source)
    require_finite_weights(run)
    sets, what = select_rows(run, source, part, "test")
    objective, shared, held, scored = run.objective, run.objective.elbo.shared, list[Scores](), list[str]()
    by = run.dataset.standardization if run.space == run.dataset.space else None
    count = sum(len(rows.x) for rows in sets)
    samples = f"{count:,} data x {particles:,} samples"
    compile = decide_evaluation(compile, "the model", samples, count * particles * inner, run.device)

    def compute(rows: RowSet) -> Arrays:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewEffectiveSamplesWarning)
            scores = score(
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
            )
        held.append(scores)
        found = scores.columns()
        if by and scores.log_likelihood is not None:
            own = {"log_likelihood_own_units": scores.log_likelihood - by.log_scales(rows.x).numpy()}
            found = {"log_likelihood": scores.log_likelihood, **own, **found}
        scored[:] = list(found)
        return found

    arrays = join_sets(sets, compute)
    if out is not None:
        write_rows(out, arrays, overwrite)
    if few := _describe_few(held, particles):
        warnings.warn(few, FewEffectiveSamplesWarning, stacklevel=2)
    columns = {name: arrays[name] for name in scored}
    means = {name: _summarize(values[np.isfinite(values)]) for name, values in columns.items()}
    wrong = {name: bad for name, values in columns.items() if (bad := int((~np.isfinite(values)).sum()))}
    outliers = _list_lowest(arrays, scored[0], lowest)
    given = [condition.name for condition in run.conditions]
    of = f"p(x | {', '.join(given)})" if given else "p(x)"
    observed = ", of the observed entries" if run.dataset.train.x.incomplete else ""
    measured = f"{particles} importance samples each" if particles else "no importance samples"
    space = SPACES.get(run.space, f" of {run.space}")
    lines = [
        f"{what}: log {of}{space}{observed}, {measured}, nats per datum",
        format_table({"": name, **values} for name, values in means.items()),
        f"elbo: the bound with one particle, averaged over {draws} draws",
        *([f"not finite, left out of the means: {', '.join(f'{n} of {c:,} data' for n, c in wrong.items())}"] if wrong else []),
        "",
        f"lowest {scored[0]}, the data that the model expects least:",
        format_table(outliers),
        *([f"all: {out}"] if out else []),
    ]
    return {
        "n": count,
        "scores": means,
        "not_finite": wrong,
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


def _describe_few(held: Sequence[Scores], particles: int) -> str:
    """The sentence of `describe_few_effective_samples` about all scores together."""
    columns = [[getattr(scores, name) for scores in held] for name in ("log_likelihood", "half", "effective")]
    if particles < 100:
        return ""
    values, half, effective = (torch.from_numpy(np.concatenate(column)) for column in columns)
    return describe_few_effective_samples(values, half, effective, particles)


def _summarize(values: np.ndarray) -> dict[str, float]:
    many = len(values) > 1
    return {
        "mean": float(values.mean()) if len(values) else math.nan,
        "stderr": float(values.std(ddof=1) / math.sqrt(len(values))) if many else math.nan,
    }


def _list_lowest(arrays: Mapping[str, np.ndarray], by: str, count: int) -> list[dict[str, Any]]:
    """The rows of NaN, then of the lowest values, each with part, row, and the first column of texts or whole numbers that
    differ all."""
    beside = {name: v for name, v in arrays.items() if name not in ("part", "row") and v.dtype.kind in "iuU"}
    identifier = [name for name, v in beside.items() if len(np.unique(v)) == len(v)][:1]
    names = [name for name in ("part", "row", *identifier, by) if name in arrays]
    places = np.lexsort((arrays[by], ~np.isnan(arrays[by])))[:count]
    return [{name: arrays[name][place].item() for name in names} for place in places]
