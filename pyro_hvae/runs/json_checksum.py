"""A checksum in the JSON files of a run, by which changed numbers are noticed."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

KEY = "crc32"


def add_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the CRC-32 of their JSON as the last entry.

    >>> add_checksum({"step": 1})
    {'step': 1, 'crc32': '3a87913d'}
    """
    return {**values, KEY: _checksum(values)}


def take_checksum(values: dict[str, Any]) -> bool | None:
    """Removes the checksum from values that were read, and returns whether it holds; None where they have none."""
    found = values.pop(KEY, None)
    return None if found is None else found == _checksum(values)


def _checksum(values: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values).encode()):08x}"
