"""Which of one's own data are for training, validation and testing: as their names say, else dealt out at random."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.dataset import Split, check_seed
from pyro_hvae.errors import ConfigError

__all__ = ["PARTS", "check_fractions", "split_at_random"]

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders and arrays are called, in small letters -> the part they hold."""


def check_fractions(data_seed: int, validation: float, test: float) -> None:
    """Raises `ConfigError` for a negative seed, or fractions that are not above 0 and together below 1."""
    check_seed(data_seed)
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ConfigError(
            f"validation={validation} and test={test} are fractions of the data: each above 0, and together below 1 so that "
            "some are left to train on. Example: -o validation=0.1 -o test=0.1."
        )


def split_at_random(parts: Mapping[str, Split], data_seed: int, validation: float, test: float) -> tuple[Split, Split, Split]:
    """Training, validation and test data, where one or both of the latter may have to be taken from the training data.

    The training data are permuted by `numpy.random.default_rng(data_seed).permutation(n)`, the same on every machine. The
    first become validation data where there are none, the next test data where there are none, the rest training data; each
    is the fraction of n rounded, at least one. With validation and test data given, the training data keep their order.

    Arguments:
        parts: "train", and maybe "validation" and "test".

    Raises:
        ConfigError: when nothing is left to train on.

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
        raise ConfigError(f"{len(train)} data are too few to take {sizes} and leave some to train on. Collect more.")
    order = torch.from_numpy(np.random.default_rng(data_seed).permutation(len(train)))
    *taken, rest = order.split([*wanted.values(), len(train) - held])
    dealt = {**parts, **{part: _take(train, index) for part, index in zip(wanted, taken, strict=True)}}
    return _take(train, rest), dealt["validation"], dealt["test"]


def _take(split: Split, index: Tensor) -> Split:
    return Split(split.x.take(index), {name: values[index] for name, values in split.factors.items()})
