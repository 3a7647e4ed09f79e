"""The small handwritten digits of scikit-learn: real images without a download."""

import numpy as np
import torch

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.option_checks import check_seed

SIZES = (1_297, 200, 300)  # training, validation, test: all 1,797 images


def digits(data_seed: int = 0) -> Dataset:
    """1,297 training, 200 validation and 300 test images of 8 x 8 pixels in [0, 1] (17 grey levels), drawn at random.

    The optical digits of Alpaydin and Kaynak (1998), as bundled with scikit-learn. The factor "class" is the digit. The 43
    writers of the images are unknown, so a writer may occur in all three splits.

    Arguments:
        data_seed: seed of the random split.

    Raises:
        ConfigError: for a negative seed.

    >>> digits().train.x.shape
    torch.Size([1297, 1, 8, 8])
    """
    check_seed(data_seed)
    from sklearn.datasets import load_digits  # imported here, because the import is slow

    pixels, classes = load_digits(return_X_y=True)
    x = torch.from_numpy((np.asarray(pixels) / 16).astype(np.float32).reshape(-1, 1, 8, 8))
    whole = Split(x, {"class": torch.from_numpy(np.asarray(classes).astype(np.int64))})
    order = torch.from_numpy(np.random.default_rng(data_seed).permutation(len(x)))
    return Dataset(
        "digits", *map(whole.take, order.split(SIZES)), counts={"all": len(x)}, labels={"class": tuple("0123456789")}
    )
