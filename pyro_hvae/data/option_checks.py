"""Checks of the options that several data sets share: seed, size, side, names and the sizes of splits."""

from collections.abc import Collection, Sequence

from pyro_hvae.errors import ConfigError, require_known

MAX_BYTES = 2**34  # of generated data that are held in memory


def check_seed(data_seed: int) -> None:
    """Raises `ConfigError` for a negative seed."""
    if data_seed < 0:
        raise ConfigError(f"data_seed, the seed of what is random in a data set, is at least 0, got {data_seed}.")


def check_size(size: int, datum_bytes: int) -> None:
    """Raises `ConfigError` for fewer than one datum, or for data of more than `MAX_BYTES` bytes in total."""
    if size < 1 or size * datum_bytes > MAX_BYTES:
        why = "it is at least 1" if size < 1 else f"the data would need {size * datum_bytes / 2**30:,.0f} GiB of memory"
        raise ConfigError(f"size={size} cannot be the number of training data: {why}. Example: -o size=10000.")


def check_side(side: int) -> None:
    """Raises `ConfigError` for a side that is neither 64 pixels nor a half or a quarter of that."""
    if side not in (64, 32, 16):
        raise ConfigError(f"side is 64, 32 or 16 pixels, got {side}. Example: -o side=32.")


def check_names(kind: str, chosen: Sequence[str], known: Collection[str]) -> None:
    """Raises `ConfigError` for an unknown name (suggesting the nearest), a repeated name, or no name at all."""
    for name in chosen:
        require_known(kind, name, known)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"{kind}s needs at least one name and each only once, got {', '.join(chosen) or 'none'}.")


def split_sizes(count: int, validation: int, test: int) -> list[int]:
    """Sizes of the training, validation and test data; raises `ConfigError` when a size is below 1.

    >>> split_sizes(100, 10, 20)
    [70, 10, 20]
    """
    if validation < 1 or test < 1 or (train := count - validation - test) < 1:
        raise ConfigError(
            f"{count:,} data cannot be split into {validation:,} for validation, {test:,} for testing and at least one for "
            "training. Choose smaller numbers, or a larger part of the data."
        )
    return [train, validation, test]
