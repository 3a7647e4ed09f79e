r"""The same autoencoders written by hand in PyTorch, as fast as possible: the peers of the library's speed.

They have functional log-densities, the KL of $N(\mu, \sigma)$ and $N(0, I)$ in closed form, one reduction, fused Adam, and
gradients set to None. They take over the weights of a pair of the library, so that both compute the same loss, digit by digit
under the same random numbers. `log sigma` is not bounded. The mean of the data is not subtracted: the first bias does that.
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_hvae import Bernoulli, Gaussian
from pyro_hvae.objectives.elbo import Objective


def gaussian_error(output: Tensor, x: Tensor, sigma: float) -> Tensor:
    """-log N(x; mean, sigma) per datum, the mean over the batch."""
    x = x.flatten(1)
    constant = x.shape[1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
    return F.mse_loss(output, x, reduction="sum") / (2 * sigma**2 * len(x)) + constant


def bernoulli_error(output: Tensor, x: Tensor) -> Tensor:
    """-log Bernoulli(x; logits) per datum, the mean over the batch."""
    return F.binary_cross_entropy_with_logits(output, x.flatten(1), reduction="sum") / len(x)


def copy_network(conditional: Gaussian | Bernoulli) -> nn.Module:
    """A copy of a conditional's network that takes data without subtracting their mean."""
    net = copy.deepcopy(conditional.net)
    mean = conditional.input_mean
    first = net[0] if isinstance(net, nn.Sequential) else None
    if mean is not None and isinstance(first, nn.Linear):
        with torch.no_grad():
            first.bias.sub_(first.weight @ mean)
    elif mean is not None and mean.any():
        raise ValueError("the mean of the data can only go into a linear layer")
    return net


def chain_parts(pair: Any) -> list[Any]:
    """The conditionals of a chain: encoders from the bottom up, then decoders from the top down."""
    return [*pair.guide.levels, *pair.model.levels, pair.model.likelihood]


class VAE(nn.Module):
    """Loss of a variational autoencoder with a standard normal prior, nats per datum."""

    def __init__(self, pair: Objective) -> None:
        super().__init__()
        encoder, *_, decoder = chain_parts(pair)
        self.encoder, self.decoder = copy_network(encoder), copy_network(decoder)
        self.error = bernoulli_error if isinstance(decoder, Bernoulli) else partial(gaussian_error, sigma=decoder.scale)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_sigma = self.encoder(x.flatten(1)).chunk(2, -1)
        sigma = log_sigma.exp()
        z = mean + sigma * torch.randn_like(sigma)
        kl = 0.5 * (mean.square() + sigma.square() - 1).sum() - log_sigma.sum()
        return self.error(self.decoder(z), x) + kl / len(x)


class VHP(VAE):
    r"""Loss of a VAE with a two-level prior and K draws of the upper latent (Klushyn et al. 2019, eq. 8-9), nats per datum.

    $-\log p(x \mid z_1) + \log q(z_1 \mid x) - \log \frac1K \sum_k p(z_1 \mid z_2^k) p(z_2^k) / q(z_2^k \mid z_1)$. The
    constants of the latents' densities cancel. The noise is kept, so that no draw is standardised again. With `loop` the K
    draws are taken one after the other instead of along a dimension.
    """

    def __init__(self, pair: Objective, loop: bool = False) -> None:
        super().__init__(pair)
        _, up, down, _ = chain_parts(pair)
        self.up, self.down = copy_network(up), copy_network(down)
        self.particles, self.loop = pair.elbo.particles, loop

    def forward(self, x: Tensor) -> Tensor:
        mean, log_sigma = self.encoder(x.flatten(1)).chunk(2, -1)
        noise = torch.randn_like(mean)
        z1 = mean + log_sigma.exp() * noise
        log_q = (0.5 * noise.square() + log_sigma).sum() / len(x)
        mean, log_sigma = self.up(z1).chunk(2, -1)
        if self.loop:
            log_w = torch.stack([self.log_weight(z1, mean, log_sigma, torch.randn_like(z1)) for _ in range(self.particles)])
        else:
            noise = torch.randn(self.particles, *z1.shape, device=x.device, dtype=x.dtype)
            log_w = self.log_weight(z1, mean, log_sigma, noise)
        inner = log_w.logsumexp(0).mean() - math.log(self.particles)
        return self.error(self.decoder(z1), x) - log_q - inner

    def log_weight(self, z1: Tensor, mean: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
        """log p(z1 | z2) p(z2) / q(z2 | z1) without the constant of p(z1 | z2), at z2 = mean + sigma noise."""
        z2 = mean + log_sigma.exp() * noise
        below, log_below = self.down(z2).chunk(2, -1)
        off = (z1 - below) * (-log_below).exp()
        return (0.5 * (noise.square() - z2.square() - off.square()) + log_sigma - log_below).sum(-1)


def vhp_loss_by_loop(pair: Any, x: Tensor) -> Tensor:
    """The loss of `VHP` with Pyro's distributions, in the first form that one writes: one pass of the upper pair a draw."""
    encoder, up, down, decoder = chain_parts(pair)
    bottom, prior = encoder(x), pair.model.prior()
    z1 = bottom.rsample()
    log_w = []
    for _ in range(pair.elbo.particles):
        above = up(z1)
        z2 = above.rsample()
        log_w.append(down(z2).log_prob(z1) + prior.log_prob(z2) - above.log_prob(z2))
    inner = torch.stack(log_w).logsumexp(0) - math.log(len(log_w))
    return (bottom.log_prob(z1) - decoder(z1).log_prob(x) - inner).mean()


def make_step(loss: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """A usual training step on x, with torch's fastest Adam."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss(x)
        value.backward()
        optimizer.step()
        return value

    return step


def compiled(module: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The module under `torch.compile` with torch's own random numbers. Inductor's take 18 times as long on a CPU."""
    options: dict[str, Any] = {"fallback_random": True} | ({"triton.cudagraphs": True} if x.is_cuda else {})
    return torch.compile(module, fullgraph=True, options=options)
