"""Binary pixels out of grey ones, by the protocol of the likelihood literature."""

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.rows import Rows, bernoulli
from pyro_hvae.errors import ConfigError, unknown_name

__all__ = ["BINARIZE", "binarize_splits", "check_binarize"]

BINARIZE = ("none", "dynamic", "fixed")


def check_binarize(kind: str, data_seed: int) -> None:
    """Raises `ConfigError` for another kind than those of `binarize_splits`, or a seed that its generator does not take."""
    if kind not in BINARIZE:
        raise unknown_name("binarize", kind, BINARIZE)
    if not 0 <= data_seed < 2**32:
        raise ConfigError(f"data_seed is the seed of the binarisation, at least 0 and below 2^32, not {data_seed}.")


def binarize_splits(kind: str, data_seed: int, train: Tensor, validation: Tensor, test: Tensor) -> tuple[Rows, Rows, Rows]:
    """Rows of three splits of grey images (n, channels, h, w), uint8, under one of three kinds of binarisation.

    "none" leaves grey values in [0, 1]. "dynamic" draws every training pixel anew as Bernoulli(grey value) whenever it is read;
    validation and test images are drawn once, so that their likelihoods are of fixed data. "fixed" draws all of them once.
    Pixels drawn once come from `numpy.random.RandomState(data_seed).binomial`, first those of validation, then test, then (for
    "fixed") training: with the seed 777 those of validation and test are the ones of Tomczak and Welling (2018), whose code
    does this. That generator gives the same numbers on every machine. Likelihoods are comparable within one kind only.

    Raises:
        ConfigError: for another kind, or a seed outside [0, 2^32).

    >>> grey = torch.full((2, 1, 1, 3), 128, dtype=torch.uint8)
    >>> binarize_splits("dynamic", 777, grey, grey, grey)[2][:].flatten()
    tensor([0., 0., 1., 0., 1., 1.])
    """
    check_binarize(kind, data_seed)
    if kind == "none":
        return Rows(train), Rows(validation), Rows(test)
    random = np.random.RandomState(data_seed)

    def draw_once(grey: Tensor) -> Rows:
        drawn = random.binomial(1, grey.numpy().astype(np.float32) / 255).astype(np.uint8) * 255
        return Rows(torch.from_numpy(drawn))

    held, last = draw_once(validation), draw_once(test)
    return Rows(train, bernoulli) if kind == "dynamic" else draw_once(train), held, last
