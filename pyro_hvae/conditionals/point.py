"""Point masses: conditionals without noise, which make an autoencoder a model/guide pair."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn


class Point(nn.Module):
    r"""All mass on the mean m of another conditional, $q(z \mid \text{parents}) = \delta(z - m)$: a deterministic encoder.

    A point has no density. Its log-density is set to that of N(0, I) at m, so that log p(z) - log q(z | x) is exactly 0 against
    a standard normal prior and the ELBO is log p(x | m), the autoencoder's objective. This is no bound on log p(x) and gives no
    importance weights. Nothing draws the code towards the prior, so data decoded from samples of it need not look like data.

    Arguments:
        conditional: its mean is the code; the network of `Gaussian(..., scale=1.0)` gives the mean alone.

    Shapes: parents and values as the conditional's.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian
    >>> q = Point(Gaussian((1, 4, 4), 2, scale=1.0))(torch.zeros(7, 5, 1, 4, 4))
    >>> q.batch_shape, q.event_shape, bool((q.sample() == q.mean).all())
    (torch.Size([7, 5]), torch.Size([2]), True)
    """

    def __init__(self, conditional: nn.Module) -> None:
        super().__init__()
        self.conditional = conditional

    def forward(self, *parents: Tensor) -> dist.Delta:
        fn = self.conditional(*parents)
        value, dims = fn.mean, len(fn.event_shape)
        prior = dist.Normal(torch.zeros_like(value), torch.ones_like(value)).to_event(dims)
        # Pyro annotates log_density as a float and takes a tensor.
        return dist.Delta(value, prior.log_prob(value), event_dim=dims)  # pyright: ignore[reportArgumentType]
