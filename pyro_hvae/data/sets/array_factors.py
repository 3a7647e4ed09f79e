"""Arrays beside the data of a file that become factors: numbers, columns of small tables, and texts of few different values."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.dataset import Split
from pyro_hvae.data.factor_kinds import most_classes
from pyro_hvae.data.files.array_files import StoredArray
from pyro_hvae.data.sets.array_ranges import find_range

COLUMN_NAMES = ("columns", "feature_names")  # names for the array of columns' names
COLUMNS = 32  # a table with more columns is not taken as factors


def describe_array(path: Path, member: StoredArray) -> str:
    """An array in words: its name and that of its file."""
    return f"{member.name} of {path.name}" if member.name else path.name


def read_factors(path: Path, members: dict[str, StoredArray], count: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The factors of a part, and by its full name the reason for each array that is none."""
    factors: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    for name, member in members.items():
        if reason := _find_obstacle(member, count):
            unused[member.name] = reason
            continue
        floats, columns = member.dtype.kind == "f", member.shape[1] if len(member.shape) == 2 else 1
        values = member.read().reshape(count, columns)
        if floats and np.isnan(values).any():
            unused[member.name] = "missing values"
            continue
        if floats and columns > 1 and not np.isfinite(values).all():
            unused[member.name] = "values that are not finite"
            continue
        if floats:
            find_range(describe_array(path, member), values)
        table = torch.from_numpy(np.array(values, dtype=np.float64 if floats else np.int64))
        factors |= {name if columns == 1 else f"{name}_{column}": table[:, column] for column in range(columns)}
    return factors, unused


def add_text_factors(
    parts: dict[str, dict[str, StoredArray]], splits: dict[str, Split], unused: dict[str, str]
) -> dict[str, list[str]]:
    """Adds arrays of n texts with few different ones to the factors and takes them from `unused`; returns their texts."""
    labels: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for held in parts.values() for name in held if name.lower() not in COLUMN_NAMES):
        found = {
            part: (member, read_column(member))
            for part, held in parts.items()
            if (member := held.get(name)) and unused.get(member.name) == "text" and member.shape == (len(splits[part]),)
        }
        if not found:
            continue
        known = np.unique(np.concatenate([texts for _, texts in found.values()]))
        if len(known) > most_classes(sum(len(texts) for _, texts in found.values())):
            continue
        labels[name] = known.tolist()
        for part, (member, texts) in found.items():
            splits[part].factors[name] = torch.from_numpy(np.searchsorted(known, texts))
            del unused[member.name]
    return labels


def is_text(member: StoredArray) -> bool:
    """Whether an array is of texts of any length, which h5py describes as objects."""
    return (member.dtype.metadata or {}).get("vlen") in (str, bytes)


def read_column(member: StoredArray) -> np.ndarray:
    """The numbers or texts of an array (n,); bytes become texts."""
    values = member.read()
    if member.dtype.kind in "biuf":
        return values
    return np.array([t.decode(errors="replace") if isinstance(t, bytes) else str(t) for t in values], dtype=str)


def _find_obstacle(member: StoredArray, count: int) -> str | None:
    """Why an array beside the data is no factor, or None."""
    shape, kind = member.shape, member.dtype.kind
    if kind not in "biuf":
        if is_text(member):
            return "text"
        return {"O": "pickled objects", "U": "text", "S": "text", "V": "no array of numbers"}.get(kind, f"{member.dtype}")
    if not shape or shape[0] != count:
        return f"{shape[0] if shape else 'one'} value{'s' * bool(shape)} for {count} data"
    if len(shape) > 2:
        return f"shape {shape}"
    return f"{shape[1]} columns" if len(shape) == 2 and not 0 < shape[1] <= COLUMNS else None
