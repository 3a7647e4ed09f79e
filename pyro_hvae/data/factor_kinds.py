"""What the values of a factor are: classes, a continuous quantity, or an identifier of the data."""

import torch
from torch import Tensor

from pyro_hvae.data.dataset import Dataset, Split

FEW = 10  # so many different values of a float are classes in the smallest data set, else a tenth of the number of data


def list_splits(data: Dataset) -> dict[str, Split]:
    return {"training": data.train, "validation": data.validation, "test": data.test}


def factor_values(data: Dataset, name: str) -> Tensor:
    """The values of a factor in all splits that have it."""
    return torch.cat([split.factors[name] for split in list_splits(data).values() if name in split.factors])


def most_classes(count: int) -> int:
    """How many different values a factor of so many data may have for them to be classes."""
    return max(FEW, count // 10)


def class_numbers(data: Dataset, name: str, values: Tensor) -> Tensor | None:
    """Values of a factor as classes: integers as they are, floats of few different values by their rank; None where continuous.

    Arguments:
        values: any of the factor's values, which all of the data set decide about.
    """
    if not (whole := factor_values(data, name)).is_floating_point():
        return values
    levels = whole.unique()
    return torch.searchsorted(levels, values.to(levels.dtype)) if len(levels) <= most_classes(len(whole)) else None


def is_identifier(data: Dataset, name: str) -> bool:
    """Whether most values of an integer factor occur once, as those of a row number do; of a grid no factor is one."""
    if data.grid is not None:
        return False
    values = factor_values(data, name)
    return not values.is_floating_point() and 2 * len(values.unique()) > len(values)
