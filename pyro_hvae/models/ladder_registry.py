"""Networks of ladders by name, the values of `-o network=` for vlae and pro-vlae.

A new one is a function (event, dims, width, join, norm) -> `LadderNetworks` and an entry; norm None is the network's own.
"""

from collections.abc import Callable

from pyro_hvae.errors import require_known
from pyro_hvae.models.dense_ladder import dense
from pyro_hvae.models.ladder_blocks import LadderNetworks
from pyro_hvae.models.pro_vlae_ladder import pro_celeba, pro_shapes
from pyro_hvae.models.vlae_ladder import vlae_celeba, vlae_mnist, vlae_svhn

LADDERS: dict[str, Callable[..., LadderNetworks]] = {
    "dense": dense,
    "vlae-mnist": vlae_mnist,
    "vlae-svhn": vlae_svhn,
    "vlae-celeba": vlae_celeba,
    "pro-shapes": pro_shapes,
    "pro-celeba": pro_celeba,
}


def ladder_networks(name: str) -> Callable[..., LadderNetworks]:
    """The entry of `LADDERS`; raises `ConfigError` for an unknown name."""
    require_known("network of a ladder", name, LADDERS)
    return LADDERS[name]
