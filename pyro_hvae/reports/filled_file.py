"""Copies of a user's file in which a run has filled the missing entries, and the text about them."""

from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from pyro_hvae.data import Batch, check_copy, read_batch, write_filled
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference import impute
from pyro_hvae.reports.run_rows import protect_data
from pyro_hvae.runs import OpenRun
from pyro_hvae.runtime import fixed_seed


def fill_file(
    run: OpenRun, source: Path, out: Path, particles: int = 1000, draws: int = 0, seed: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Writes copies of a file in which the missing entries have values of a run (see `impute`), all else stays as it came.

    Arguments:
        source: a table with the columns of the run's x, or a file of arrays of its shape; other columns do not matter.
        out: the copy with means; with draws NAME.csv stands for NAME-1.csv, NAME-2.csv, ..., complete data sets for multiple
            imputation. overwrite: whether such a file may be replaced.

    Raises:
        ConfigError: for a file without missing entries, a run that trained on features of x, as `impute` and `check_copy`.
        DataError: for a file that lacks a column, a condition or the shape of the run's data.
    """
    outs = [out] if not draws else [_number(out, i + 1) for i in range(draws)]
    for file in outs:
        check_copy(source, file, overwrite)
        protect_data(run, file)
    if run.stage.pixels or run.stage.view:
        raise ConfigError(
            f"'{run.directory.path}' was trained on features of x, which need all its entries, so that it cannot fill any in. "
            "Impute with a run of another recipe."
        )
    data, key = run.dataset, str(run.experiment.data_options.get("key", ""))
    batch = read_batch(source, data, run.conditions, key)
    observed = batch.observed if isinstance(batch, Batch) else None
    if observed is None or observed.all():
        where = " in the columns of the run" if data.columns else ""
        raise ConfigError(f"{source} has no missing entries{where}, so there is nothing to fill in.")
    with fixed_seed(seed), tqdm(total=len(batch), unit="row", disable=None) as bar:
        values = impute(run.model, run.guide, batch.to(run.device), particles, draws, progress=bar.update).cpu()
    by = data.standardization
    values = by.undo(values) if by else values.double()
    if len(data.shape) == 3:  # grey values, which a Gaussian leaves: a file with others would be refused as data
        values = values.clamp(0, 1)
    for file, filled in zip(outs, values if draws else [values], strict=True):
        write_filled(source, file, filled, data.columns, key, overwrite)
    return _describe(source, outs, ~observed, data.columns, particles, run)


def _number(out: Path, number: int) -> Path:
    """The name of a numbered copy: filled.csv.gz -> filled-1.csv.gz."""
    stem, *ends = out.name.split(".")
    return out.with_name(".".join([f"{stem}-{number}", *ends]))


def _describe(source: Path, outs: list[Path], missing: Tensor, columns: Any, particles: int, run: OpenRun) -> dict[str, Any]:
    count, total = int(missing.sum()), missing.numel()
    by_column = dict(zip(columns, missing.sum(0).tolist(), strict=True)) if columns else {}
    text = [f"{count:,} of {total:,} entries of {source.name} filled in ({100 * count / total:.3g} %), {particles} particles:"]
    text += [f"  {file}" for file in outs]
    if not run.dataset.train.x.incomplete:
        text.append(
            "The run was trained on complete data, so its guide does not know which entries are missing; the weights of the "
            "particles make up for that."
        )
    values = {"out": [str(file) for file in outs], "filled": count, "entries": total, "columns": by_column}
    return {**values, "particles": particles, "trained_on_missing": run.dataset.train.x.incomplete, "text": "\n".join(text)}
