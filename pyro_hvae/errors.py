"""The errors of this library. Each says what is wrong, why, and what to do; the command line maps them to exit codes."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


class HVAEError(Exception):
    """Base class of every error this library raises on purpose; `exit_code` is the command line's."""

    exit_code = 1


class ConfigError(HVAEError, ValueError):
    """A name, option or value that cannot be used."""

    exit_code = 2


class ContractError(HVAEError, ValueError):
    """A model/guide pair that breaks the program contract (plate `data`, observed site `x`, ...)."""

    exit_code = 2


class DataError(HVAEError):
    """A data set or run directory that is missing, unreadable or unwritable."""

    exit_code = 3


class CheckpointError(HVAEError):
    """A checkpoint that is missing, corrupt, untrusted or too new."""

    exit_code = 3


class DivergenceError(HVAEError):
    """A loss that is no longer a usable number."""

    exit_code = 4


class DeviceError(HVAEError):
    """A device or an optional extra that is not available here."""

    exit_code = 5


class LostProcessError(HVAEError):
    """One of the processes that train together has ended, and the others cannot go on."""


class Interrupted(HVAEError):
    """Training stopped by a signal, after a resumable checkpoint was written."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


# How the advice of messages is typed on the command line -> how it is in Python.
IN_PYTHON = {
    r"(?<!train )-o (?=\w+=)": "",
    "--checkpoint best": "checkpoint='best'",
    "Leave --checkpoint out": "Leave checkpoint out",
}


@contextmanager
def python_advice(words: Mapping[str, str] = IN_PYTHON) -> Iterator[None]:
    """Within it, also as a decorator, errors say their advice as it is typed in Python, key=value for -o key=value.

    Arguments:
        words: pattern of what is typed on the command line -> what stands for it.

    >>> with python_advice():
    ...     raise ConfigError("Use -o network=mlp.")
    Traceback (most recent call last):
    pyro_hvae.errors.ConfigError: Use network=mlp.
    """
    try:
        yield
    except HVAEError as error:
        text = str(error)
        for typed, called in words.items():
            text = re.sub(typed, called, text)
        error.args = (text, *error.args[1:])
        raise


class NoMeanWarning(UserWarning):
    """A distribution has no mean, or none in closed form, and another of its values stands for it."""


class FewEffectiveSamplesWarning(UserWarning):
    """Few of the samples of an importance-sampled likelihood carry its weight, so it is probably too low."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown `name` of some `kind`, with the nearest known one suggested.

    >>> print(unknown_name("dataset", "pendulm", ["pendulum"]))
    no dataset called 'pendulm'. Did you mean 'pendulum'? Known: pendulum.
    """
    known = sorted(known)
    by_lower = {k.lower(): k for k in reversed(known)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f" Did you mean '{by_lower[near[0]]}'?" if near else ""
    return ConfigError(f"no {kind} called '{name}'.{hint} Known: {', '.join(known) or 'none'}.")


def missing_extra(extra: str, purpose: str) -> DeviceError:
    """The error for a `purpose` whose packages belong to an optional extra that is not installed.

    The package is not published, so the command installs the extra from a clone.

    >>> print(missing_extra("data", "reading HDF5 files"))
    reading HDF5 files needs the extra 'data'. Install it in the clone of pyro-hvae: pip install -e '.[data]'.
    """
    return DeviceError(
        f"{purpose} needs the extra '{extra}'. Install it in the clone of pyro-hvae: pip install -e '.[{extra}]'."
    )


def require_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises the error of `unknown_name` unless `name` is known."""
    if name not in known:
        raise unknown_name(kind, name, known)
