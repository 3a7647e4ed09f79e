"""`python -m pyro_hvae` is the command `pyro-hvae`."""

from pyro_hvae.cli import main

if __name__ == "__main__":
    main()
