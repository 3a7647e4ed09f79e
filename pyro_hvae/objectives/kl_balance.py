"""Weights of the layers' rates during a warm-up that make the rate of a layer that knows little of x cheap."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError

LEAST = 0.01  # nats, that no layer's rate becomes worthless


def balance(
    rates: Mapping[str, Tensor], sizes: Mapping[str, int], weights: Mapping[str, "float | Tensor"]
) -> dict[str, Tensor]:
    r"""Site -> its weight, times the KL balance of NVAE while beta is below 1 (Vahdat and Kautz 2020; their code).

    $\gamma_l = L k_l / \sum_j k_j$ with $k_l = (|\bar F_l| + 0.01) / d_l$ for L layers of $d_l$ dimensions, whose rates in the
    batch are $\bar F_l$; without gradient. The gammas average 1: a layer of a small rate pays less for it, and one of a large
    rate more. With them the loss is no bound. Deviations: we take the absolute value of the mean of log q - log p, they the
    mean of absolute KLs, which is the same for KLs in closed form; $d_l$ stands for their (side of the layer's map)^2 over the
    number of such layers.

    Raises:
        ConfigError: for a single layer, which has nothing to be balanced with.

    >>> rates, sizes = {"z1": torch.tensor(2.99), "z2": torch.tensor(0.99)}, {"z1": 2, "z2": 2}
    >>> {site: round(gamma.item(), 6) for site, gamma in balance(rates, sizes, {"x": 2.0}).items()}
    {'z1': 1.5, 'z2': 0.5}
    >>> balance(rates, sizes, {"x": 1.0})["z1"].item()
    1.0
    """
    if len(rates) < 2:
        raise ConfigError(f"balance=true weighs layers against each other, and there is only {', '.join(rates)}. Leave it out.")
    shares = torch.stack([(rate.detach().abs() + LEAST) / sizes[site] for site, rate in rates.items()])
    gammas = shares / shares.mean()
    warming = torch.as_tensor(weights.get("x", 1.0), device=gammas.device) > 1
    gammas = gammas.where(warming, 1.0)
    return {site: gamma * weights.get(site, 1.0) for site, gamma in zip(rates, gammas, strict=True)}
