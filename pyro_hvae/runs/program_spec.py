"""FILE.py:FUNCTION, which names a user's own program."""

import os
from pathlib import Path

from pyro_hvae.errors import ConfigError


def split_program_spec(spec: str) -> tuple[Path, str]:
    """The file and the function in FILE.py:FUNCTION; raises `ConfigError` for another text and a file that does not exist."""
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not name or not os.path.isfile(path):
        raise ConfigError(
            f"--program '{spec}' is not FILE.py:FUNCTION of an existing file. Example: examples/own_model.py:build."
        )
    return path, name
