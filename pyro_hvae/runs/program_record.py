"""What a run keeps of a user's own program, so that another one is noticed when it is handed over."""

import hashlib
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import nn

from pyro_hvae.objectives import ProgramModule
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
    """SHA-256 of the code of the file in FILE.py:FUNCTION; None where there is none. What it imports does not count."""
    try:
        with tokenize.open(spec.rpartition(":")[0]) as file:
            return _hash_code(file.read())
    except (OSError, SyntaxError, UnicodeDecodeError):
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
    if isinstance(program, ProgramModule):
        program = program.program
    if isinstance(program, nn.Module):
        modules: Any = program.named_modules()
    else:
        yield "", getattr(program, "__qualname__", type(program).__qualname__)
        yield from _describe_source("", program)
        modules = ((f"module {number}", module) for number, module in enumerate(find_modules(program)))
    for name, module in modules:
        kind = type(module)
        yield name, kind.__qualname__
        yield from _describe_source(name, *_list_methods(kind))
        if "_load_from_state_dict" in vars(kind):
            continue  # its attributes are state, which training changes and a checkpoint restores
        for key, value in vars(module).items():
            if key != "training" and not key.startswith("_") and (found := _plain(value)) is not None:
                yield f"{name}.{key}".lstrip("."), found[0]


def _describe_source(name: str, *functions: Any) -> Iterator[tuple[str, str]]:
    for function in functions:
        try:
            yield f"{name}.{function.__name__}()".lstrip("."), _hash_code(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError):
            continue  # typed into a console, or without a Python source


def _list_methods(kind: type) -> list[FunctionType]:
    """The functions of a class and of those of its bases that are no library's."""
    own = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in LIBRARIES]
    found = {name: value for base in reversed(own) for name, value in vars(base).items() if isinstance(value, FunctionType)}
    return list(found.values())


def _hash_code(text: str) -> str:
    """SHA-256 of Python code without its comments, blanks and line ends."""
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENCODING, tokenize.ENDMARKER}
    marks = {tokenize.INDENT: "{", tokenize.DEDENT: "}"}
    try:
        tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in blank]
        text = "\n".join(marks.get(token.type, token.string) for token in tokens)
    except (tokenize.TokenError, SyntaxError):
        pass  # such as a lambda within a line: the text as it stands
    return hashlib.sha256(text.encode()).hexdigest()


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
