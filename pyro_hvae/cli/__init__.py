"""The command line `pyro-hvae`: argument parsing plus one library call per command."""

from pyro_hvae.cli.main import main as main

__all__ = ["main"]
