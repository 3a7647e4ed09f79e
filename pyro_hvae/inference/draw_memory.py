"""The most draws of latents that are kept in memory at once."""

from pyro_hvae.errors import ConfigError

MOST_VALUES = 2**28  # numbers of all draws: 1 GiB


def require_memory(draws: int, data: int, width: int) -> None:
    """Raises `ConfigError` where draws of `width` latents for some data are more than `MOST_VALUES` numbers."""
    if (values := draws * data * width) > MOST_VALUES:
        raise ConfigError(
            f"{draws} draws of {width} latents for {data} data are {values:.2g} numbers, more than {MOST_VALUES:.2g}. Take "
            "fewer draws, or fewer data at once."
        )
