"""The VampPrior: a mixture of the guide's own posteriors at learnt pseudo-inputs (Tomczak and Welling 2018)."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_hvae.conditionals.gaussian_mixture import GaussianMixture
from pyro_hvae.errors import ConfigError
from pyro_hvae.networks import mask_input


class Vamp(nn.Module):
    r"""The prior $p(z) = \frac1C \sum_c q(z \mid u_c)$ with the guide's own conditional q and learnt pseudo-inputs u_c.

    Gradients reach the shared conditional. The KL to a mixture has no closed form: the ELBO takes the Monte Carlo log-ratio.

    Arguments:
        encoder: the `Gaussian` q(z | x) of the guide, a diagonal one over an event of shape (D,).
        data: values near which the pseudo-inputs start, shape (C, *event of x): random training data.
        clip: range the pseudo-inputs are clipped to, such as (0, 1) for images. They start strictly inside, u = low +
            (0.05 + 0.9 x) (high - low) for x in [0, 1], since outside the range the clipping passes no gradient.
            None leaves them free. The published code starts them at N(0.05, 0.01^2) instead.
        given: where the pseudo-inputs' own given inputs start, for an encoder q(z | x, y), each (C, ...). They are learnt, too.
        mask: the encoder is q(z | x, mask, y); no entry of a pseudo-input is missing.

    Raises:
        ConfigError: for no data; in a pass, for an encoder that gives no diagonal Gaussian.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian
    >>> Vamp(Gaussian((1, 4, 4), 3), torch.rand(10, 1, 4, 4))().sample((7,)).shape
    torch.Size([7, 3])
    """

    def __init__(
        self,
        encoder: nn.Module,
        data: Tensor,
        clip: tuple[float, float] | None = (0.0, 1.0),
        given: Sequence[Tensor] = (),
        mask: bool = False,
    ) -> None:
        super().__init__()
        if len(data) < 1:
            raise ConfigError("a VampPrior needs at least one pseudo-input.")
        start = data.detach().clone()
        if clip is not None:
            low, high = clip
            start = low + (high - low) * (0.05 + 0.9 * (start - low) / (high - low))
        self.encoder, self.clip, self.mask = encoder, clip, mask
        self.pseudo_inputs = nn.Parameter(start + 0.01 * torch.randn_like(start))
        self.pseudo_given = nn.ParameterList([nn.Parameter(y.detach().clone()) for y in given])

    def forward(self) -> GaussianMixture:
        inputs = self.pseudo_inputs if self.clip is None else self.pseudo_inputs.clamp(*self.clip)
        components = self.encoder(inputs, *mask_input(inputs, None, self.mask), *self.pseudo_given)
        normal = getattr(components, "base_dist", components)
        if not isinstance(normal, dist.Normal):
            raise ConfigError(
                f"a VampPrior mixes diagonal Gaussians q(z | x), but this guide's is a {type(normal).__name__}. Use "
                "-o posterior=diagonal, or -o prior=gmm."
            )
        return GaussianMixture(normal.loc, normal.scale, validate_args=False)
