"""Codes of a run's data, or of a user's file, as a file, and the way back from such a file to data."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data import (
    RowFile,
    check_data_file,
    check_row_file,
    encode_factors,
    is_read,
    read_rows,
    unfold_columns,
    write_data,
    write_rows,
)
from pyro_hvae.errors import DataError
from pyro_hvae.inference import ancestral, decode, encode, mixture_priors, responsibilities
from pyro_hvae.objectives import inputs_for
from pyro_hvae.reports.run_measurement import require_finite_weights
from pyro_hvae.reports.run_rows import Arrays, RowSet, join_sets, protect_data, select_rows
from pyro_hvae.runs import OpenRun, describe_values, parse_given
from pyro_hvae.runtime import fixed_seed


def encode_file(
    run: OpenRun,
    source: Path | None,
    out: Path,
    layers: Sequence[str] | None = None,
    draws: int = 0,
    part: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the codes of data (see `encode`) into a file by `write_rows`, each beside its identifiers and classes.

    The arrays are z1, z1_sd, ... (see `Codes.arrays`). For a layer whose prior is a mixture, the column z1_component is the
    most probable component and z1_component_probability its p(c | x). A size factor that is the total of x is the column
    total, which `decode_file` reads.

    Arguments:
        source, part: as for `select_rows`; by default all parts. layers, draws, seed: as for `encode`.

    Raises:
        ConfigError, DataError: as `encode`, `select_rows` and `write_rows`, and for an `out` that holds the run's data.
        DivergenceError: for weights that are NaN or infinite.
    """
    check_row_file(out, overwrite)
    protect_data(run, out, source)
    require_finite_weights(run)
    sets, what = select_rows(run, source, part, "all")

    def compute(rows: RowSet) -> Arrays:
        x = rows.x.to(run.device)
        codes = encode(run.guide, x, layers=layers, draws=draws, seed=seed, progress=True)
        return _totals(run, codes.given) | _components(run, x, codes.means, seed) | codes.arrays()

    arrays = join_sets(sets, compute)
    write_rows(out, arrays, overwrite)
    columns = [name for name, values in arrays.items() if values.ndim == 1]
    shapes = {name: list(values.shape[1:]) for name, values in arrays.items() if values.ndim > 1}
    lines = [f"{what} encoded: {out}", *(f"  {name}  {' x '.join(map(str, shape))}" for name, shape in shapes.items())]
    lines.append(f"  beside them: {', '.join(columns)}")
    count = len(next(iter(arrays.values())))
    return {"out": str(out), "n": count, "arrays": shapes, "columns": columns, "text": "\n".join(lines)}


def _totals(run: OpenRun, given: Mapping[str, np.ndarray]) -> Arrays:
    """The size factor that is the total of x, in its own unit; none of another kind, for these are in the data already."""
    sizes = [condition for condition in run.conditions if not is_read(condition)]
    return {size.name: given[size.key][:, 0].astype(np.float64) * size.scale for size in sizes}


def _components(run: OpenRun, x: Any, layers: Mapping[str, Any], seed: int) -> Arrays:
    found = dict[str, np.ndarray]()
    for name in mixture_priors(run.model, x):
        if name in layers:
            highest, component = responsibilities(run.model, run.guide, x, name, seed=seed).max(1)
            found |= {f"{name}_component": component.cpu().numpy(), f"{name}_component_probability": highest.cpu().numpy()}
    return found


def decode_file(
    run: OpenRun,
    source: Path,
    out: Path,
    given: Mapping[str, str] | None = None,
    draw: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes E[x | z] of the codes in a file, as `encode_file` or others write it, in the units of the run's data.

    The columns of conditions are read from the file, too. Layers that it lacks are as in `decode`. All columns that are no
    codes, such as rows, identifiers and classes, are written beside x; a condition is written as the one that x is under.

    Arguments:
        out: a file for `write_data`. given: values of conditions as typed, instead of those in the file.

    Raises:
        ConfigError, DataError: as `decode`, `read_rows` and `write_data`; for a file without rows, without codes of the run's
            layers or with more of them than a layer has, or without a condition of the run.
    """
    check_data_file(out, overwrite, run.dataset.shape)
    protect_data(run, out, source)
    require_finite_weights(run)
    held = read_rows(source)
    one = {condition.key: torch.ones(1, condition.width, device=run.device) for condition in run.conditions}
    with fixed_seed(0):
        sites = ancestral(run.model, 1, given=inputs_for(run.model, one))
    events = {name: tuple(site["fn"].event_shape) for name, site in sites.items() if name != "x"}
    _refuse_surplus(held, events)
    read = {name: held.read_numbers(name, event) for name, event in events.items()}
    codes = {name: values for name, values in read.items() if values is not None}
    if not codes:
        known = ", ".join(f"{name} {event}" for name, event in events.items())
        raise DataError(
            f"{source} holds no codes of the run's layers, which are {known}. Give a file of pyro-hvae encode, or one with "
            "these arrays, or with columns such as z1_0 and z1_1."
        )
    count = len(next(iter(codes.values())))
    if wrong := next((name for name, values in codes.items() if len(values) != count), None):
        raise DataError(f"'{wrong}' of {source} has {len(codes[wrong])} rows, other layers {count}. Give as many.")
    if not count:
        raise DataError(f"{source} has no rows: its codes are of 0 data. Give a file with a row for each datum.")
    typed = parse_given(run, given or {})
    under = inputs_for(run.model, typed | _read_conditions(run, held, typed, count))
    beside = {name: values for name, values in held.columns(without=_name_codes(held, events)).items() if len(values) == count}
    for condition in run.conditions:
        if condition.key in typed:
            name, value = condition.name, typed[condition.key][0]
            beside[name] = np.full(count, condition.describe(value) if condition.classes else float((given or {})[name]))
    x = decode(run.model, codes, given=under, draw=draw, seed=seed, progress=True)
    data = run.dataset
    write_data(out, data.inverse(torch.from_numpy(x)).numpy() if data.inverse else x, data.columns, overwrite, beside)
    lacking = [name for name in events if name not in codes]
    text = f"{count:,} data decoded from {', '.join(name for name in events if name in codes)} of {source.name}: {out}"
    if beside and out.suffix.lower() != ".npy":
        text += f"\n  beside them: {', '.join(beside)}"
    if lacking:
        how = "drawn" if draw else "means"
        text += f"\nNot in the file: {', '.join(lacking)}; {how} given the layers above."
    if typed:
        text += f"\ndecoded under {describe_values(run, typed)}"
    return {"out": str(out), "n": count, "shape": list(x.shape), "layers": [*codes], "lacking": lacking, "text": text}


def _refuse_surplus(held: RowFile, events: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `DataError` for a column such as z1_5 of a layer of five dimensions, z1_0 to z1_4."""
    for name, event in events.items():
        known = list(unfold_columns({name: np.empty((0, *event))}))
        for other in held.arrays:
            if re.fullmatch(rf"{re.escape(name)}(_\d+)+", other) and other not in known:
                span = f"{known[0]} to {known[-1]}" if len(known) > 1 else known[0]
                raise DataError(
                    f"{held.path} has '{other}', but '{name}' of the run has the shape {event}, {span}. Is it of another "
                    "model? Remove the column, or decode the file by the run that encoded it."
                )


def _name_codes(held: RowFile, layers: Iterable[str]) -> list[str]:
    """The columns of a file that are codes, or what `encode_file` writes about them."""
    names = "|".join(map(re.escape, layers))
    codes = re.compile(rf"({names})(_sd|_draws|_probabilities|_component|_component_probability)?(_\d+)*")
    return [name for name in held.arrays if codes.fullmatch(name)]


def _read_conditions(run: OpenRun, held: RowFile, typed: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The conditions of the run that were not typed, from columns of a file, encoded."""
    conditions = [condition for condition in run.conditions if condition.key not in typed]
    factors, labels = dict[str, Tensor](), dict[str, list[str]]()
    for name in (condition.name for condition in conditions):
        values = held.read(name)
        if values is None or len(values) != count:
            found = "no column" if values is None else f"{len(values)} values of"
            raise DataError(
                f"{held.path} has {found} '{name}', under which the run decodes {count} codes. Add it, or give one value for "
                f"all: --given {name}=VALUE."
            )
        values = values.astype(np.int64) if values.dtype.kind == "b" else values
        if values.dtype.kind not in "iuf":
            known, values = np.unique(values, return_inverse=True)
            labels[name] = known.tolist()
        elif not np.isfinite(values).all():
            raise DataError(f"'{name}' of {held.path} is missing in some rows. Fill it in, or leave these rows out.")
        factors[name] = torch.from_numpy(np.asarray(values))
    totals = {c.key: c.encode(factors[c.name]) for c in conditions if not is_read(c)}
    return encode_factors(factors, labels, conditions, held.path.name) | totals
