"""What a run keeps of a user's own program, so that another one is noticed when it is handed over."""

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pyro_hvae.runtime import find_modules

LIBRARIES = ("torch", "pyro", "pyro_hvae", "builtins", "functools")
PLAIN = (str, int, float, type(None), torch.dtype)


def record_program(spec: str | None, model: Any, guide: Any) -> dict[str, Any]:
    """The source of FILE.py:FUNCTION as it is now, and what the pair is made of, in primitives.

    Arguments:
        spec: None for a pair that no file was named for.
    """
    settings = {"model": dict(_describe(model)), "guide": dict(_describe(guide))}
    return {"source": hash_source(spec) if spec else None, "settings": settings}


def hash_source(spec: str) -> str | None:
    """SHA-256 of the file in FILE.py:FUNCTION, however its lines end; None where there is none. Its imports do not count."""
    try:
        return hashlib.sha256(Path(spec.rpartition(":")[0]).read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    except OSError:
        return None


def find_other_program(spec: str, recorded: str, record: Mapping[str, Any]) -> str | None:
    """How FILE.py:FUNCTION differs from the one that a run recorded, or None. An older run recorded no source, only names."""
    source, (file, function), (before, name) = record.get("source"), _names(spec), _names(recorded)
    if (now := hash_source(spec)) is None:
        return None  # there is no such file, which `program_from_file` says
    if function != name or (source is None and file != before):
        return f"it was trained with {recorded}, not with {spec}"
    return f"the source of {spec} is not what {recorded} was when it was trained" if source and source != now else None


def find_other_settings(model: Any, guide: Any, record: Mapping[str, Any]) -> str | None:
    """The first recorded class, setting or source in which a pair differs, or None. What only one has is not compared."""
    for name, program in (("model", model), ("guide", guide)):
        now = dict(_describe(program))
        for key, before in record.get("settings", {}).get(name, {}).items():
            if key in now and now[key] != before:
                where = f"{name}.{key}" if key else name
                is_source = key.endswith("()")
                return f"{where} has another source" if is_source else f"{where} is {now[key]!r} instead of {before!r}"
    return None


def _names(spec: str) -> tuple[str, str]:
    file, _, function = spec.rpartition(":")
    return Path(file).name, function


def _describe(program: Any) -> Iterator[tuple[str, Any]]:
    """Class, source and plain attributes of every module of a program by their names."""
    if isinstance(program, nn.Module):
        modules: Any = program.named_modules()
    else:
        yield "", getattr(program, "__qualname__", type(program).__qualname__)
        yield from _describe_source("", program)
        modules = ((f"module {number}", module) for number, module in enumerate(find_modules(program)))
    for name, module in modules:
        kind = type(module)
        yield name, kind.__qualname__
        if kind.__module__.partition(".")[0] not in LIBRARIES:
            yield from _describe_source(name, kind.forward)
        if "_load_from_state_dict" in vars(kind):
            continue  # its attributes are state, which training changes and a checkpoint restores
        for key, value in vars(module).items():
            if key != "training" and not key.startswith("_") and (found := _plain(value)) is not None:
                yield f"{name}.{key}".lstrip("."), found[0]


def _describe_source(name: str, function: Any) -> Iterator[tuple[str, str]]:
    try:
        yield f"{name}.forward()".lstrip("."), hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        return  # typed into a console, or without a Python source


def _plain(value: Any) -> tuple[Any] | None:
    """A value as JSON gives it back, in a tuple; None for what is no plain value."""
    if inspect.isroutine(value):
        return (getattr(value, "__qualname__", value.__name__),)
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return ([item[0] for item in items if item],) if all(items) else None
    if isinstance(value, torch.dtype):
        return (str(value),)
    if isinstance(value, float):
        return (repr(float(value)),)  # inf and nan, which JSON does not have
    return (value,) if isinstance(value, PLAIN) else None
