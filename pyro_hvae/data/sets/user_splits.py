"""Training, validation and test data of a user's own data: parts by their names, and random splits for the rest."""

from collections.abc import Mapping

import numpy as np
import torch

from pyro_hvae.data.dataset import Split
from pyro_hvae.data.option_checks import check_seed
from pyro_hvae.errors import ConfigError

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Name of a folder or array, in small letters -> the part it holds."""


def check_fractions(data_seed: int, validation: float, test: float) -> None:
    """Raises `ConfigError` for a negative seed, or fractions that are not above 0 or not together below 1."""
    check_seed(data_seed)
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ConfigError(
            f"validation={validation} and test={test} are fractions of the data: each above 0, and together below 1 so that "
            "training data remain. Example: -o validation=0.1 -o test=0.1."
        )


def split_at_random(parts: Mapping[str, Split], data_seed: int, validation: float, test: float) -> tuple[Split, Split, Split]:
    """Training, validation and test data; takes missing validation or test data at random from the training data.

    `numpy.random.default_rng(data_seed).permutation(n)` permutes the training data, with the same result on every machine. The
    first ones become validation data if there are none, the next ones test data if there are none, the others training data.
    Each size is the fraction of n, rounded, at least one. If both parts are given, the training data keep their order.

    Arguments:
        parts: "train", and optionally "validation" and "test".

    Raises:
        ConfigError: when no training data are left.

    >>> [len(split) for split in split_at_random({"train": Split(torch.zeros(30, 2))}, 0, 0.1, 0.2)]
    [21, 3, 6]
    """
    train = parts["train"]
    fractions = {"validation": validation, "test": test}
    wanted = {part: max(1, round(len(train) * share)) for part, share in fractions.items() if part not in parts}
    if not wanted:
        return train, parts["validation"], parts["test"]
    if len(train) <= (held := sum(wanted.values())):
        sizes = " and ".join(f"{size} for {part}" for part, size in wanted.items())
        raise ConfigError(f"{len(train)} data are too few to take {sizes} and leave some for training. Collect more.")
    order = torch.from_numpy(np.random.default_rng(data_seed).permutation(len(train)))
    *taken, rest = map(train.take, order.split([*wanted.values(), len(train) - held]))
    complete = {**parts, **dict(zip(wanted, taken, strict=True))}
    return rest, complete["validation"], complete["test"]
