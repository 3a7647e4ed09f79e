"""Effect of one layer of a hierarchy: x as the layer's noise varies at random or on a grid (Zhao et al. 2017, figures 3, 5)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.inference.sampling import ancestral, latents
from pyro_hvae.objectives import Noise, site_graph, site_mean, standard_noise, takes_data
from pyro_hvae.runtime import in_evaluation_mode

Program = Callable[..., Any]
MAX_CELLS = 50  # along an axis of a grid: more are too small to see, and all go through the model at once


@dataclass(frozen=True)
class LayerShare:
    """Share of a layer in the variance of E[x | z], and its standard error."""

    share: float
    stderr: float


@torch.no_grad()
@in_evaluation_mode
def decode_noise(model: Program, noise: Mapping[str, Tensor]) -> Tensor:
    """E[x | z], (rows, *event), for given standard noise of every layer, site -> (rows, *event of the site)."""
    with Noise(noise):
        return site_mean(ancestral(model, len(next(iter(noise.values()))))["x"])


@torch.no_grad()
@in_evaluation_mode
def sample_noise(model: Program, size: int, fixed: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Standard noise of `size` ancestral samples: site -> (size, *event), from the top down; `fixed` as in `generate`."""
    return {name: standard_noise(site) for name, site in ancestral(model, size, fixed).items() if name != "x"}


@takes_data
@in_evaluation_mode
def posterior_noise(model: Program, guide: Program, x: Tensor) -> dict[str, Tensor]:
    """The noise for which the latents of the model are the posterior means of x: site -> (B, *event)."""
    return sample_noise(model, len(x), latents(guide, x, mean=True))


@takes_data
@torch.no_grad()
@in_evaluation_mode
def layer_samples(model: Program, site: str, count: int = 64, guide: Program | None = None, x: Tensor | None = None) -> Tensor:
    r"""E[x | z] for `count` draws of the noise of one layer, all other noise fixed; shape (count, *event).

    With $z_l = \mu_l(z_{>l}) + \sigma_l(z_{>l}) \epsilon_l$, only $\epsilon_l$ of `site` varies.

    Arguments:
        guide, x: fix the other layers at the code of one datum, x of shape (1, *event), instead of at a random draw.

    Raises:
        ConfigError: for an unknown site, or a site with parents whose distribution has no standard noise.
    """
    _check_guide(guide, x)
    fresh = sample_noise(model, count)
    check_noise(model, site, fresh)
    fixed = sample_noise(model, 1) if guide is None or x is None else posterior_noise(model, guide, x[:1])
    noise = {name: fresh[name] if name == site else value.expand(count, *value.shape[1:]) for name, value in fixed.items()}
    return decode_noise(model, noise)


@torch.no_grad()
@in_evaluation_mode
def layer_shares(model: Program, outer: int = 64, inner: int = 16) -> dict[str, LayerShare]:
    r"""Site -> share of the variance of E[x | z] that is left when the noise of all other layers is fixed.

    $V_l = E_{\epsilon_{-l}}[\mathrm{Var}_{\epsilon_l} \bar x] / \mathrm{Var} \bar x$ with both variances averaged over pixels:
    the total Sobol index of $\epsilon_l$. The shares sum to one, or to more where layers interact.

    Arguments:
        outer: draws of the noise of the other layers. inner: draws of the layer's own noise for each.

    Raises:
        ConfigError: for fewer than two draws of either kind.
    """
    if outer < 2 or inner < 2:
        raise ConfigError(f"variances need at least two draws, got outer={outer} and inner={inner}.")
    fixed = sample_noise(model, outer)
    check_noise(model, next(iter(fixed)), fixed)
    x = decode_noise(model, sample_noise(model, outer * inner)).flatten(1).double()
    total = (x - x.mean(0)).square().mean(1) * (len(x) / (len(x) - 1))
    shares = {}
    for site in fixed:
        noise = {name: value.repeat_interleave(inner, 0) for name, value in fixed.items()}
        noise[site] = sample_noise(model, outer * inner)[site]
        within = decode_noise(model, noise).reshape(outer, inner, -1).double().var(1).mean(1)
        shares[site] = variance_share(within, total)
    return shares


def variance_share(within: Tensor, total: Tensor) -> LayerShare:
    """The ratio of two mean variances and its standard error; NaN where nothing varies.

    Arguments:
        within: variance of each group, (groups,). total: squared deviation of each independent draw, unbiased, (n,).
    """
    mean, variance = within.mean().item(), total.mean().item()
    if not variance:
        return LayerShare(math.nan, math.nan)
    error, variance_error = (v.std().item() / math.sqrt(len(v)) for v in (within, total))
    share = mean / variance
    return LayerShare(share, math.hypot(error / variance, share * variance_error / variance))


@takes_data
@torch.no_grad()
@in_evaluation_mode
def layer_grid(
    model: Program, site: str, cells: int = 20, reach: float = 2.0, guide: Program | None = None, x: Tensor | None = None
) -> Tensor:
    r"""E[x | z] for the noise of a 2-d layer on a square grid; shape (cells * cells, *event), row by row from the top.

    $\epsilon_l \in \{-r, \dots, r\}^2$: the first dimension grows from left to right, the second from the bottom to the top.
    All other noise is drawn for every cell, as in Zhao et al. 2017, figure 5 (20 x 20 cells, a flat model, whose noise is z).
    For a prior without standard noise, such as a mixture, the noise is z itself.

    Arguments:
        cells: along each axis. reach: r, in standard deviations.
        guide, x: fix the other layers at the code of one datum, x of shape (1, *event), instead.

    Raises:
        ConfigError: as `grid_layers` and `layer_samples`; for cells outside 2..50, or a reach that is not positive and finite.

    >>> from pyro_hvae import Bernoulli, Chain, StandardNormal
    >>> layer_grid(Chain(StandardNormal(2), [], Bernoulli(2, 6)), "z1", cells=5).shape
    torch.Size([25, 6])
    """
    if not 2 <= cells <= MAX_CELLS:
        raise ConfigError(f"a grid has from 2 to {MAX_CELLS} cells along an axis, got {cells}.")
    if not 0 < reach < math.inf:
        raise ConfigError(f"a grid reaches from -r to r with r positive and finite, got {reach:g}.")
    grid_layers(model, site)
    noise = sample_noise(model, cells * cells)
    check_noise(model, site, noise)
    _check_guide(guide, x)
    if guide is not None and x is not None:
        fixed = posterior_noise(model, guide, x[:1])
        noise = {name: value.expand(cells * cells, *value.shape[1:]) for name, value in fixed.items()}
    values = torch.linspace(-reach, reach, cells)
    second, first = torch.meshgrid(values.flip(0), values, indexing="ij")
    grid = torch.stack([first, second], -1).to(noise[site])
    return decode_noise(model, {**noise, site: grid.reshape(noise[site].shape)})


@in_evaluation_mode
def grid_layers(model: Program, site: str | None = None) -> list[str]:
    """The layers that `layer_grid` can show: all of two dimensions from the top down, or `site` alone.

    Raises:
        ConfigError: for an unknown site, and where no layer has two dimensions.
    """
    sizes = {name: value.numel() for name, value in sample_noise(model, 1).items()}
    if site is not None:
        require_known("latent site", site, sizes)
    asked = sizes if site is None else {site: sizes[site]}
    if not (planes := [name for name, size in asked.items() if size == 2]):
        found = " and ".join(f"{name} has {size}" for name, size in asked.items())
        raise ConfigError(
            f"a grid shows a layer of two dimensions, but {found}. Use 'layers' without --grid, which samples a layer of any "
            "size, or 'traverse', which varies one dimension at a time."
        )
    return planes


def _check_guide(guide: Program | None, x: Tensor | None) -> None:
    if guide is None and x is not None:
        raise ConfigError("fixing the other layers at the code of x needs a guide, got guide=None: give guide=... and x=...")


@in_evaluation_mode
def check_noise(model: Program, site: str, noise: Mapping[str, Tensor]) -> None:
    """Raises `ConfigError` for a site that `noise` lacks, and for a model with a site whose noise cannot be fixed."""
    require_known("latent site", site, noise)
    sites = ancestral(model, 2)
    graph = site_graph(model, torch.zeros_like(sites["x"]["value"]))
    for name, message in sites.items():
        if name != "x" and graph.in_degree(name) and standard_noise(message) is message["value"]:
            kind = type(message["fn"]).__name__
            raise ConfigError(f"site '{name}' is a {kind} with parents: it has no noise that can be fixed while they vary.")
