"""Binary pixels from grey pixels, by the protocol of the likelihood literature."""

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.rows import Rows, bernoulli
from pyro_hvae.errors import ConfigError, require_known

BINARIZE = ("none", "dynamic", "fixed")


def check_binarize(kind: str, data_seed: int) -> None:
    """Raises `ConfigError` for an unknown kind of binarisation, or a seed outside [0, 2^32)."""
    require_known("binarize", kind, BINARIZE)
    if not 0 <= data_seed < 2**32:
        raise ConfigError(f"data_seed is the seed of the binarisation, at least 0 and below 2^32, not {data_seed}.")


def binarize_splits(kind: str, data_seed: int, train: Tensor, validation: Tensor, test: Tensor) -> tuple[Rows, Rows, Rows]:
    """Rows of three splits of grey images (n, channels, h, w), uint8, under one kind of binarisation.

    - "none" keeps grey values in [0, 1].
    - "dynamic" draws every training pixel as Bernoulli(grey value) at each reading. Validation and test images are drawn
      once, so that their likelihoods are of fixed data.
    - "fixed" draws all images once.

    Pixels drawn once come from `numpy.random.RandomState(data_seed).binomial`, which gives the same numbers on every machine:
    first validation, then test, then (for "fixed") training. With the seed 777 the validation and test pixels are those of
    Tomczak and Welling (2018), whose code does this. Likelihoods are comparable only within one kind.

    Raises:
        ConfigError: for an unknown kind, or a seed outside [0, 2^32).

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

    fixed = draw_once(validation), draw_once(test)
    return Rows(train, bernoulli) if kind == "dynamic" else draw_once(train), *fixed
