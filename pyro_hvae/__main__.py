"""`python -m pyro_hvae` is the command `pyro-hvae`."""

from pyro_hvae.cli import command_group as main

if __name__ == "__main__":
    main()
