"""Names of picture files. Needs no matplotlib, so that a wrong name is refused at once."""

from pathlib import Path

from pyro_hvae.errors import ConfigError

SUFFIXES = (".png", ".pdf", ".svg")


def check_picture_path(path: Path, flag: str = "--picture") -> None:
    """Raises `ConfigError` for a file name that does not end like a picture."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{flag} is the name of a {', '.join(SUFFIXES)} file, got '{path}'. Example: {flag} figure.png.")
