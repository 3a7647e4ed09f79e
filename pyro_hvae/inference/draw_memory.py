"""Refuses draws that take too much memory, before the first of them is made."""

from pyro_hvae.errors import ConfigError

MOST_VALUES = 2**28  # numbers of all draws: 1 GiB


def require_memory(width: int, data: int, draws: int) -> None:
    """Raises `ConfigError` where draws of all latents need more than 1 GiB.

    Arguments:
        width: numbers of the latents of one datum. data: number of data. draws: for each of them.

    >>> require_memory(20, 1000, 1000)
    """
    if (values := draws * data * width) <= MOST_VALUES:
        return
    fewer = [f"{MOST_VALUES // (data * width):,} draws"] if data * width <= MOST_VALUES else []
    fewer += [f"{MOST_VALUES // (draws * width):,} data at a time"] if draws * width <= MOST_VALUES else []
    raise ConfigError(
        f"{draws:,} draws of {width:,} latents for {data:,} data are {values:.2g} numbers, more than {MOST_VALUES:.2g}. "
        f"Take at most {' or '.join(fewer) or 'a few draws of a few data'}."
    )
