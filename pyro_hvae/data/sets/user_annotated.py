"""Vectors from a user's AnnData file (.h5ad): cells by genes, with the annotations of cells as factors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.array_values import explain_nonfinite
from pyro_hvae.data.dataset import Split
from pyro_hvae.data.files.annotated_files import read_annotated_matrix
from pyro_hvae.data.files.row_readers import read_rows
from pyro_hvae.data.option_checks import check_names
from pyro_hvae.data.rows import Drawn, Rows
from pyro_hvae.data.sets.user_parts import UserParts
from pyro_hvae.data.sets.user_tables import find_factors
from pyro_hvae.errors import ConfigError, DataError


def read_annotated(path: Path, layer: str = "", columns: Sequence[str] = (), labels: Sequence[str] = ()) -> UserParts:
    """The rows of X, or of a layer, as vectors; columns of obs with few different texts, or named by labels, as factors.

    A sparse matrix stays sparse in memory: only the rows of a batch are made dense. Values are read as float32 and keep
    their units, counts too. NaN is a missing entry; what a sparse matrix does not store is 0.

    Arguments:
        layer: name of the layer; empty for X.
        columns: names of the variables to take; empty for all.
        labels: columns of obs that are factors; empty for all classes. What holds numbers is a factor only if it is named.

    Raises:
        ConfigError: for an unknown layer, column or label.
        DataError: for an infinite value, and as for `read_annotated_matrix`.
    """
    held = read_annotated_matrix(path, layer)
    x, names = held.x, held.columns
    if columns:
        check_names("column", columns, names)
        if twice := next((name for name in columns if names.count(name) > 1), None):
            raise ConfigError(f"columns names '{twice}', of which {path} has several. Make the names unique by anndata.")
        x, names = x[:, [names.index(name) for name in columns]], tuple(columns)
    values = x if isinstance(x, np.ndarray) else x.data
    missing = np.isnan(values).ravel()
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32, copy=False)).ravel() | missing
    if not finite.all():
        dense = isinstance(x, np.ndarray)
        rows, places = np.divmod(np.arange(x.size), x.shape[1]) if dense else (x.tocoo().row, x.tocoo().col)
        at = int(np.argmin(finite))
        raise DataError(
            f"{path} has the value {values.flat[at]} in row {rows[at]} (from 0), column '{names[places[at]]}'"
            f"{explain_nonfinite(values.flat[at])} Or choose other columns by columns=."
        )
    factors, texts, unused = find_factors(path, held.rows, labels)
    what = f"{x.shape[0]:,} rows of {path.name}, {f'layer {layer}' if layer else 'X'} of {x.shape[1]:,} columns"
    what += "" if isinstance(x, np.ndarray) else ", kept sparse"
    known = values.ravel()[~missing]
    if known.size and known.max() > 1 and known.min() >= 0 and (known == np.rint(known)).all():
        what += "; whole numbers such as counts, which are taken as real numbers"
    what += f"; factors: {', '.join(factors)}" if factors else ""
    rows = Rows(_to_store(x), Tensor.float, incomplete=bool(missing.any()))
    split = Split(rows, factors)
    return UserParts({"train": split}, what, texts, names, unused=unused, beside=lambda _: read_rows(path).columns())


def _to_store(x: Any) -> Tensor | Drawn:
    if isinstance(x, np.ndarray):
        return torch.from_numpy(np.require(x, requirements=("C", "W")))
    return Drawn(lambda index: x[index].toarray(), x.shape)
