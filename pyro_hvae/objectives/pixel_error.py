"""The ELBO of a pair over features with a reconstruction error of the pixels."""

from typing import Any

from torch import Tensor, nn

from pyro_hvae.data import Batch, x_of
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.objectives.handlers import Site


class PixelError(ELBO):
    r"""The ELBO of a pair over features, plus the squared error of the image that the features themselves decode to.

    $\lVert x - D(z_1) \rVert^2$ is what the end-to-end objective of `EncodingModel` lacks: an error of data that training
    cannot change. With it the loss is that of the whole hierarchy z2 -> z1 -> x whose guide has a point for z1, under
    N(., 1/2 I) without its constant, in nats per datum. It counts as reconstruction cost (see `Terms.penalties`).

    Arguments:
        decode: features to pixels; for it to be trained, the model has to hold it, too.
    """

    def __init__(self, decode: nn.Module) -> None:
        super().__init__()
        self.decode = decode

    def penalties(self, model: Any, guide: Any, x: Tensor | Batch, p: dict[str, Site], q: dict[str, Site]) -> dict[str, Tensor]:
        if isinstance(x, Batch) and x.observed is not None:
            raise ConfigError(
                "x has missing entries, but features of x, and the pixels that they decode to, need all of them. Fill the "
                "entries in."
            )
        error = self.decode(p["x"]["value"]) - x_of(x)
        return {"pixels": error.square().flatten(1).sum(1).mean()}
