"""The names of devices. Needs no torch, so that a wrong name is refused before torch is imported."""

import re

from pyro_hvae.errors import ConfigError


def require_device_name(name: str) -> None:
    """Raises `ConfigError` for what is no name of a device, whether this machine has it or not."""
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:(0|[1-9]\d?))?", name):
        raise ConfigError(f"no device called '{name}'. Use auto, cpu, cuda, cuda:0 or mps.")
