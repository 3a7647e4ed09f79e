"""What the files of a run hold: the kinds of values that are looked for in each, and the first that is another."""

from collections.abc import Mapping
from typing import Any

ANY = object
# A type; [kind] for a list of it; {name: kind} for these entries, a name that ends in "?" for one that may be missing,
# and ... for every other name; (kind, ...) for one of several kinds.
Kind = Any
WORDS = {
    **{type(None): "null", bool: "true or false", int: "a whole number", float: "a number", str: "a text"},
    **{list: "a list", tuple: "a list", dict: "a table of names"},
}

CONFIG: Kind = {
    "recipe?": str,
    "dataset": str,
    "schedule": str,
    "train": {...: ANY},
    "recipe_options?": {...: ANY},
    "schedule_options?": {...: ANY},
    "data_options?": {...: ANY},
    "condition?": [str],
    "size_factor?": str,
    "conditions?": [{"name": str, ...: ANY}],
    "program?": str,
    "data_identity?": str,
    "standardization?": {...: [(float, int)]},
    ...: ANY,
}
PROGRAM: Kind = {"source?": (str, type(None)), "settings?": {"model?": {...: ANY}, "guide?": {...: ANY}}, ...: ANY}
ROW: Kind = {"step": int, "crc32?": str, ...: (float, int, bool, type(None))}


def find_misfit(value: Any, kind: Kind, where: str) -> str | None:
    """What is another kind of value than it has to be, in words; None where everything fits.

    >>> find_misfit({"step": 1.5}, ROW, "the row")
    'the row.step is a number, not a whole number'
    >>> find_misfit({}, ROW, "the row")
    "the row has no 'step'"
    """
    if kind is ANY:
        return None
    if isinstance(kind, tuple):
        misfits = [find_misfit(value, each, where) for each in kind]
        return misfits[0] if all(misfits) else None
    wanted: Any = dict if isinstance(kind, dict) else list if isinstance(kind, list) else kind
    accepted: Any = (list, tuple) if wanted is list else Mapping if wanted is dict else wanted
    if not isinstance(value, accepted) or (type(value) in (bool,) and wanted is not bool):  # Python's truth values are numbers
        return f"{where} is {_say(type(value))}, not {_say(wanted)}"
    if isinstance(kind, list):
        parts = ((item, kind[0], f"{where}[{number}]") for number, item in enumerate(value))
    elif isinstance(kind, dict):
        kinds = {name.removesuffix("?"): each for name, each in kind.items() if name is not ...}
        if missing := [name for name in kind if name is not ... and not name.endswith("?") and name not in value]:
            return f"{where} has no '{missing[0]}'"
        parts = ((item, kinds.get(name, kind.get(..., ANY)), f"{where}.{name}") for name, item in value.items())
    else:
        return None
    return next(filter(None, (find_misfit(*part) for part in parts)), None)


def _say(kind: type) -> str:
    return WORDS.get(kind, f"a {kind.__name__}")
