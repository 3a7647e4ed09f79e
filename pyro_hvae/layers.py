"""What a layer of a hierarchy does: x as one layer's noise varies and all other noise stays (Zhao et al. 2017, figure 3)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.dependencies import site_graph
from pyro_hvae.errors import ConfigError, unknown_name
from pyro_hvae.handlers import Noise, site_mean, standard_noise
from pyro_hvae.inference import ancestral, latents

__all__ = ["LayerShare", "code_noise", "layer_noise", "layer_samples", "layer_shares"]

Program = Callable[..., Any]


@dataclass(frozen=True)
class LayerShare:
    """A layer's part in the variance of E[x | z], and its standard error."""

    share: float
    stderr: float


def _mean(model: Program, noise: Mapping[str, Tensor]) -> Tensor:
    """E[x | z] for given noise, shape (rows, *event)."""
    with Noise(noise):
        return site_mean(ancestral(model, len(next(iter(noise.values()))))["x"])


def _noise(sites: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: standard_noise(site) for name, site in sites.items() if name != "x"}


@torch.no_grad()
def layer_noise(model: Program, size: int) -> dict[str, Tensor]:
    """The standard noise of `size` ancestral samples: site -> (size, *event), from the top down."""
    return _noise(ancestral(model, size))


@torch.no_grad()
def code_noise(model: Program, guide: Program, x: Tensor) -> dict[str, Tensor]:
    """The noise with which the model reproduces the posterior means of x: site -> (B, *event)."""
    return _noise(ancestral(model, len(x), latents(guide, x, mean=True)))


@torch.no_grad()
def layer_samples(model: Program, site: str, count: int = 64, guide: Program | None = None, x: Tensor | None = None) -> Tensor:
    r"""E[x | z] for `count` draws of the noise of one layer, all other noise fixed; shape (count, *event).

    With $z_l = \mu_l(z_{>l}) + \sigma_l(z_{>l}) \epsilon_l$, only $\epsilon_l$ of `site` is drawn anew.

    Arguments:
        guide, x: fix the other layers at the code of one datum, x of shape (1, *event), instead of at a random draw.

    Raises:
        ConfigError: for an unknown site, or one whose distribution has no noise of its own to hold fixed.
    """
    fresh = layer_noise(model, count)
    _check(model, site, fresh)
    fixed = layer_noise(model, 1) if guide is None or x is None else code_noise(model, guide, x[:1])
    noise = {name: fresh[name] if name == site else value.expand(count, *value.shape[1:]) for name, value in fixed.items()}
    return _mean(model, noise)


@torch.no_grad()
def layer_shares(model: Program, outer: int = 64, inner: int = 16) -> dict[str, LayerShare]:
    r"""Site -> share of the variance of E[x | z] that stays when all other layers' noise is held.

    $V_l = E_{\epsilon_{-l}}[\mathrm{Var}_{\epsilon_l} \bar x] / \mathrm{Var} \bar x$ with both variances averaged over pixels:
    the total Sobol index of $\epsilon_l$. The shares sum to one or more, more where layers interact.

    Arguments:
        outer: draws of the other layers' noise. inner: draws of the layer's own noise for each.

    Raises:
        ConfigError: for fewer than two draws of either kind.
    """
    if outer < 2 or inner < 2:
        raise ConfigError(f"variances need at least two draws, got outer={outer} and inner={inner}.")
    fixed = layer_noise(model, outer)
    _check(model, next(iter(fixed)), fixed)
    x = _mean(model, layer_noise(model, outer * inner)).flatten(1).double()
    spread = (x - x.mean(0)).square().mean(1) * (len(x) / (len(x) - 1))
    total, total_error = spread.mean().item(), spread.std().item() / math.sqrt(len(x))
    shares = {}
    for site in fixed:
        noise = {name: value.repeat_interleave(inner, 0) for name, value in fixed.items()}
        noise[site] = layer_noise(model, outer * inner)[site]
        varied = _mean(model, noise).reshape(outer, inner, -1).double().var(1).mean(1)
        mean, error = varied.mean().item(), varied.std().item() / math.sqrt(outer)
        relative = math.hypot(error / mean if mean else 0.0, total_error / total) if total else math.nan
        shares[site] = LayerShare(mean / total if total else math.nan, mean / total * relative if total else math.nan)
    return shares


def _check(model: Program, site: str, noise: Mapping[str, Tensor]) -> None:
    if site not in noise:
        raise unknown_name("latent site", site, noise)
    sites = ancestral(model, 2)
    graph = site_graph(model, torch.zeros_like(sites["x"]["value"]))
    for name, message in sites.items():
        if name != "x" and graph.in_degree(name) and standard_noise(message) is message["value"]:
            kind = type(message["fn"]).__name__
            raise ConfigError(f"site '{name}' is a {kind} with parents: it has no noise that could be held while they vary.")
