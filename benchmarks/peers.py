r"""The same autoencoders written by hand in PyTorch, as well as one can: what the library's speed is held against.

Functional log-densities, the KL of $N(\mu, \sigma)$ and $N(0, I)$ in closed form, one reduction, fused Adam, gradients
set to None. They take over the weights of a pair of the library, so that both compute the same loss, digit by digit under the
same random numbers; `log sigma` is neither bounded nor is the data's mean subtracted, which the first bias can do.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_hvae.conditionals.bernoulli import Bernoulli
from pyro_hvae.conditionals.gaussian import Gaussian
from pyro_hvae.objectives.elbo import Objective

__all__ = ["VAE", "VHP", "compiled", "looped", "network", "stepping"]


def gaussian_error(sigma: float) -> Callable[[Tensor, Tensor], Tensor]:
    """-log N(x; mean, sigma) per datum, a mean over the batch."""

    def error(output: Tensor, x: Tensor) -> Tensor:
        x = x.flatten(1)
        constant = x.shape[1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
        return F.mse_loss(output, x, reduction="sum") / (2 * sigma**2 * len(x)) + constant

    return error


def bernoulli_error(output: Tensor, x: Tensor) -> Tensor:
    """-log Bernoulli(x; logits) per datum, a mean over the batch."""
    return F.binary_cross_entropy_with_logits(output, x.flatten(1), reduction="sum") / len(x)


def network(conditional: Gaussian | Bernoulli) -> nn.Module:
    """A copy of a conditional's network that takes data as they are."""
    net = copy.deepcopy(conditional.net)
    mean = conditional.input_mean
    first = net[0] if isinstance(net, nn.Sequential) else None
    if mean is not None and isinstance(first, nn.Linear):
        with torch.no_grad():
            first.bias.sub_(first.weight @ mean)
    elif mean is not None and mean.any():
        raise ValueError("the mean of the data can only go into a linear layer")
    return net


def parts(pair: Any) -> list[Any]:
    """The conditionals of a chain: encoders from the bottom up, then decoders from the top down."""
    return [*pair.guide.levels, *pair.model.levels, pair.model.likelihood]


class VAE(nn.Module):
    """Loss of a variational autoencoder with a standard normal prior, nats per datum."""

    def __init__(self, pair: Objective) -> None:
        super().__init__()
        encoder, decoder = parts(pair)
        self.encoder, self.decoder = network(encoder), network(decoder)
        self.error = bernoulli_error if isinstance(decoder, Bernoulli) else gaussian_error(decoder.scale)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_sigma = self.encoder(x.flatten(1)).chunk(2, -1)
        sigma = log_sigma.exp()
        z = mean + sigma * torch.randn_like(sigma)
        kl = 0.5 * (mean.square() + sigma.square() - 1).sum() - log_sigma.sum()
        return self.error(self.decoder(z), x) + kl / len(x)


class VHP(nn.Module):
    r"""Loss of a VAE with a two-level prior and K draws of the upper latent (Klushyn et al. 2019, eq. 8-9), nats per datum.

    $-\log p(x \mid z_1) + \log q(z_1 \mid x) - \log \frac1K \sum_k p(z_1 \mid z_2^k) p(z_2^k) / q(z_2^k \mid z_1)$. The
    constants of the latents' densities cancel, and the noise is at hand, so that no draw is standardised again.

    Arguments:
        loop: take the K draws one after the other instead of as a dimension.
    """

    def __init__(self, pair: Objective, loop: bool = False) -> None:
        super().__init__()
        encoder, up, down, decoder = parts(pair)
        self.encoder, self.up, self.down, self.decoder = network(encoder), network(up), network(down), network(decoder)
        self.error, self.particles, self.loop = gaussian_error(decoder.scale), pair.elbo.particles, loop

    def forward(self, x: Tensor) -> Tensor:
        mean, log_sigma = self.encoder(x.flatten(1)).chunk(2, -1)
        noise = torch.randn_like(mean)
        z1 = mean + log_sigma.exp() * noise
        known = (0.5 * noise.square() + log_sigma).sum() / len(x)
        mean, log_sigma = self.up(z1).chunk(2, -1)
        if self.loop:
            log_w = torch.stack([self.log_weight(z1, mean, log_sigma, torch.randn_like(z1)) for _ in range(self.particles)])
        else:
            noise = torch.randn(self.particles, *z1.shape, device=x.device, dtype=x.dtype)
            log_w = self.log_weight(z1, mean, log_sigma, noise)
        inner = log_w.logsumexp(0).mean() - math.log(self.particles)
        return self.error(self.decoder(z1), x) - known - inner

    def log_weight(self, z1: Tensor, mean: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
        """log p(z1 | z2) p(z2) / q(z2 | z1), less the constant of p(z1 | z2), at z2 = mean + sigma noise."""
        z2 = mean + log_sigma.exp() * noise
        below, log_below = self.down(z2).chunk(2, -1)
        off = (z1 - below) * (-log_below).exp()
        return (0.5 * (noise.square() - z2.square() - off.square()) + log_sigma - log_below).sum(-1)


def looped(pair: Any, x: Tensor) -> Tensor:
    """The loss of `VHP` with Pyro's distributions, a pass of the upper pair for each of the K draws, as one first writes it."""
    encoder, up, down, decoder = parts(pair)
    bottom, prior = encoder(x), pair.model.prior()
    z1 = bottom.rsample()
    log_w = []
    for _ in range(pair.elbo.particles):
        above = up(z1)
        z2 = above.rsample()
        log_w.append(down(z2).log_prob(z1) + prior.log_prob(z2) - above.log_prob(z2))
    inner = torch.stack(log_w).logsumexp(0) - math.log(len(log_w))
    return (bottom.log_prob(z1) - decoder(z1).log_prob(x) - inner).mean()


def stepping(loss: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """A training step on x as one writes it, with torch's fastest Adam."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss(x)
        value.backward()
        optimizer.step()
        return value

    return step


def compiled(module: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The module under `torch.compile`, with torch's own random numbers: those of Inductor take 18 times as long on a CPU."""
    options: dict[str, Any] = {"fallback_random": True} | ({"triton.cudagraphs": True} if x.is_cuda else {})
    return torch.compile(module, fullgraph=True, options=options)
