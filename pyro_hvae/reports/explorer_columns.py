"""What stands beside data as few numbers: classes, integers and quantities, each with what is needed to read it."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyro_hvae.data import Dataset
from pyro_hvae.reports.text_table import format_number

LEVELS = 20  # numbers of at most so many different values are classes
MOST_LEVELS = 254
MOST_COLUMNS = 40
MISSING = {"Uint8": 255, "Uint16": 65535}


def pack(values: np.ndarray) -> str:
    """Numbers of an array as text, base64 of their little-endian bytes."""
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def describe_columns(data: Dataset, columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Columns (n,) in the order of the factors, each as a dict; those without a use as colours but `row` are left out.

    Of classes it has `levels`; of numbers value = low + step * stored, but for a stored `missing`. `cyclic`: an angle.
    """
    described = [one for name, values in columns.items() if (one := _describe(data, name, values))]
    first = next(iter(data.train.factors), None)  # the angle of data that have one
    for one in described:
        one["cyclic"] = data.read_angles is not None and one["name"] == first
    plain = {"part", "row"}
    return sorted(described, key=lambda one: one["name"] in plain)[:MOST_COLUMNS]


def _describe(data: Dataset, name: str, values: np.ndarray) -> dict[str, Any] | None:
    if values.dtype.kind not in "biufU":
        values = values.astype(str)
    if name == "row":
        return {"name": name, "kind": "row", "type": "Uint32", "values": pack(values.astype(np.uint32)), "low": 0, "step": 1}
    if values.dtype.kind == "U":
        levels, codes = np.unique(values, return_inverse=True)
        texts = [str(level) for level in levels]
        if order := [label for label in map(str, data.labels.get(name, ())) if label in texts]:
            rank = {label: number for number, label in enumerate(dict.fromkeys([*order, *texts]))}
            codes, texts = np.array([rank[text] for text in texts])[codes], list(rank)
        return _classes(name, texts, codes) if _are_classes(len(texts), len(values)) else None
    numbers = values.astype(np.float64)
    known = np.isfinite(numbers)
    if not known.any():
        return None
    levels, codes = np.unique(numbers[known], return_inverse=True)
    if len(levels) <= LEVELS:
        whole = np.full(len(numbers), MISSING["Uint8"])
        whole[known] = codes
        return _classes(name, [format_number(float(level)) for level in levels], whole)
    low, high = float(levels[0]), float(levels[-1])
    step = (high - low) / (MISSING["Uint16"] - 1)
    stored = np.where(known, ((np.where(known, numbers, low) - low) / step).round(), MISSING["Uint16"])
    packed = pack(stored.astype(np.uint16))
    return {"name": name, "kind": "numbers", "type": "Uint16", "values": packed, "low": low, "high": high, "step": step}


def _are_classes(levels: int, count: int) -> bool:
    """Texts that mostly occur once are names of the data."""
    return levels <= MOST_LEVELS and (levels <= LEVELS or 2 * levels <= count)


def _classes(name: str, levels: list[str], codes: np.ndarray) -> dict[str, Any]:
    return {"name": name, "kind": "classes", "type": "Uint8", "levels": levels, "values": pack(codes.astype(np.uint8))}
