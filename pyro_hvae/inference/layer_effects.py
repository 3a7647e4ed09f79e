"""Effect of one layer of a hierarchy: x as the layer's noise varies at random or on a grid (Zhao et al. 2017, figures 3, 5)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.inference.sampling import (
    ROWS,
    Fixed,
    ancestral,
    expand_given,
    first_row,
    latents,
    repeat_rows,
    require_continuous,
)
from pyro_hvae.objectives import Noise, find_mean, given_for, scalar_family, site_graph, site_mean, standard_noise, takes_data
from pyro_hvae.runtime import in_evaluation_mode

Program = Callable[..., Any]
MAX_CELLS = 50  # along an axis of a grid: more are too small to see, and all go through the model at once


LEAST_BLOCKS = 256  # fewer do not show a heavy tail
MAX_ERROR = 1 / 3  # relative standard error of a variance, above which its shares say nothing


class NotEstimable(ConfigError):
    """A variance whose estimate rests on a few draws."""


@dataclass(frozen=True)
class LayerShare:
    """Share of a layer in the variance of E[x | z], and its standard error."""

    share: float
    stderr: float


@torch.no_grad()
@in_evaluation_mode
def decode_noise(model: Program, noise: Mapping[str, Tensor], given: Fixed = None) -> Tensor:
    """E[x | z], (rows, *event), for given standard noise of every layer, site -> (rows, *event of the site)."""
    with Noise(noise):
        return site_mean(ancestral(model, len(next(iter(noise.values()))), given=given)["x"])


@torch.no_grad()
@in_evaluation_mode
def sample_noise(model: Program, size: int, fixed: Fixed = None, given: Fixed = None) -> dict[str, Tensor]:
    """Standard noise of `size` ancestral samples: site -> (size, *event), from the top down; `fixed` as in `generate`."""
    return {name: standard_noise(site) for name, site in ancestral(model, size, fixed, given).items() if name != "x"}


@takes_data
@in_evaluation_mode
def posterior_noise(model: Program, guide: Program, x: Tensor | Batch) -> dict[str, Tensor]:
    """The noise for which the latents of the model are the posterior means of x: site -> (B, *event)."""
    return sample_noise(model, len(x), latents(guide, x, mean=True), given_for(model, x))


@takes_data
@torch.no_grad()
@in_evaluation_mode
def layer_samples(
    model: Program,
    site: str,
    count: int = 64,
    guide: Program | None = None,
    x: Tensor | Batch | None = None,
    *,
    given: Fixed = None,
    under: Fixed = None,
) -> Tensor:
    r"""E[x | z] for `count` draws of the noise of one layer, all other noise fixed; shape (count, *event).

    With $z_l = \mu_l(z_{>l}) + \sigma_l(z_{>l}) \epsilon_l$, only $\epsilon_l$ of `site` varies.

    Arguments:
        guide, x: fix the other layers at the code of one datum, x of shape (1, *event), instead of at a random draw.
        given: inputs of the model, one row, or one for each draw. under: inputs, one row, to decode the code of x under,
            instead of those beside x.

    Raises:
        ConfigError: for an unknown site, or a site with parents whose distribution has no standard noise.
    """
    _check_guide(guide, x)
    given = given if x is None else given_for(model, x[:1]) | dict(under or {})
    fresh = sample_noise(model, count, given=given)
    check_noise(model, site, fresh, given)
    if guide is None or x is None:
        fixed = sample_noise(model, 1, given=first_row(given))
    else:
        fixed = posterior_noise(model, guide, x[:1])
    noise = {name: fresh[name] if name == site else value.expand(count, *value.shape[1:]) for name, value in fixed.items()}
    return decode_noise(model, noise, given)


@torch.no_grad()
@in_evaluation_mode
def layer_shares(model: Program, outer: int = 64, inner: int = 16, *, given: Fixed = None) -> dict[str, LayerShare]:
    r"""Site -> share of the variance of E[x | z] that is left when the noise of all other layers is fixed.

    $V_l = E_{\epsilon_{-l}}[\mathrm{Var}_{\epsilon_l} \bar x] / \mathrm{Var} \bar x$ with both variances averaged over pixels:
    the total Sobol index of $\epsilon_l$. Both are measured on the same draws (see `combine_draws`), so each share lies in
    [0, 1]. The shares add up to one, or to more where layers interact.

    Arguments:
        outer, inner: for L layers about outer * inner * (L + 1) values of E[x | z] are computed, of at least 256 blocks.
        given: inputs of the model, any number of rows; each block takes one, so that y does not vary inside. Of more rows than
            blocks some are taken, spread over all.

    Raises:
        ConfigError: for fewer than two draws of either kind, or a site whose noise cannot be fixed.
        NotEstimable: as `variance_share`; also where p(x | z) has no mean.
    """
    sites = sample_noise(model, 1, given=first_row(given))
    check_noise(model, next(iter(sites)), sites, given)
    likelihood = ancestral(model, 2, given=first_row(given))["x"]["fn"]
    if find_mean(likelihood)[1] != "mean":
        kind = type(scalar_family(likelihood)).__name__
        raise NotEstimable(
            f"the variance of E[x | z] is not estimable: p(x | z) is a {kind}, which has no mean in closed form."
        )
    blocks, done, total = [], 0, count_blocks(len(sites), outer, inner)
    while done < total:
        size = min(total - done, max(1, ROWS >> len(sites)))
        row = torch.arange(done, done + size)  # spread out, for rows may be sorted by class
        beside = {name: value[(row * len(value) // total).to(value.device)] for name, value in (given or {}).items()}
        noise = combine_draws(model, size, beside)
        x = decode_noise(model, noise, repeat_rows(beside, 2 ** len(sites))).double()
        blocks.append(squared_differences(x.reshape(*(2,) * len(sites), size, -1)))
        done += size
    *parts, whole = torch.cat(blocks, 1)
    return {site: variance_share(part, whole) for site, part in zip(sites, parts, strict=True)}


def count_blocks(layers: int, outer: int, inner: int) -> int:
    """Number of blocks of 2^L values that take the place of `outer` groups of `inner` draws for each of L layers and for all.

    Raises:
        ConfigError: for fewer than two draws of either kind.
    """
    if outer < 2 or inner < 2:
        raise ConfigError(f"variances need at least two draws, got outer={outer} and inner={inner}.")
    return max(LEAST_BLOCKS, outer * inner * (layers + 1) >> layers)


def combine_draws(model: Program, blocks: int, given: Fixed = None) -> dict[str, Tensor]:
    """Two draws of the noise of every layer in all 2^L combinations: site -> (2^L * blocks, *event).

    `unflatten(0, (2,) * L + (blocks,))` gives every site a dim of two, in their order.
    """
    one, other = (sample_noise(model, blocks, given=given) for _ in range(2))
    combined = {}
    for layer, site in enumerate(one):
        pair = torch.stack([one[site], other[site]])
        dims = [2 if dim == layer else 1 for dim in range(len(one))]
        combined[site] = pair.reshape(*dims, *pair.shape[1:]).expand(*(2,) * len(one), *pair.shape[1:]).flatten(0, len(one))
    return combined


def squared_differences(values: Tensor) -> Tensor:
    r"""Half the mean square of the differences by the noise of each layer and, last, by all noise at once; (L + 1, blocks).

    In the mean over blocks these are $E[\mathrm{Var}_{\epsilon_l} f]$ of each layer l and $\mathrm{Var} f$, without bias
    (Jansen 1999). In every block the parts add up to at least the whole.

    Arguments:
        values: f of all combinations of `combine_draws`, shape (2, ..., 2, blocks, features).
    """
    layers = tuple(range(values.dim() - 2))
    turned = [values.flip(dims) for dims in (*layers, layers)]
    return torch.stack([(values - other).square().mean((*layers, -1)) / 2 for other in turned])


def variance_share(part: Tensor, whole: Tensor) -> LayerShare:
    """The ratio of two mean variances that are measured on the same blocks, at most 1, and its jackknife standard error.

    NaN where nothing varies.

    Arguments:
        part, whole: rows of `squared_differences`, (blocks,).

    Raises:
        NotEstimable: where the standard error of the whole variance is above a third of it, unless all of it is the part's.
    """
    n, total = len(whole), whole.sum()
    if not total:
        return LayerShare(math.nan, math.nan)
    if torch.equal(part, whole):
        return LayerShare(1.0, 0.0)
    error = (whole.std() * math.sqrt(n) / total).item()
    if not error <= MAX_ERROR:
        raise NotEstimable(
            f"the variance of E[x | z] is not estimable: the estimate from {n} draws, {total.item() / n:.3g}, has a standard "
            f"error of {error:.0%}, because a few draws hold most of it. So there are no shares of it. A larger outer helps, "
            "unless E[x | z] has heavy tails, such as the exponential of a Gaussian of several units."
        )
    share, without = part.sum() / total, (part.sum() - part) / (total - whole)
    return LayerShare(min(1.0, share.item()), (without.std(correction=0) * math.sqrt(n - 1)).item())


@takes_data
@torch.no_grad()
@in_evaluation_mode
def layer_grid(
    model: Program,
    site: str,
    cells: int = 20,
    reach: float = 2.0,
    guide: Program | None = None,
    x: Tensor | Batch | None = None,
    *,
    given: Fixed = None,
    under: Fixed = None,
) -> Tensor:
    r"""E[x | z] for the noise of a 2-d layer on a square grid; shape (cells * cells, *event), row by row from the top.

    $\epsilon_l \in \{-r, \dots, r\}^2$: the first dimension grows from left to right, the second from the bottom to the top.
    All other noise is drawn for every cell, as in Zhao et al. 2017, figure 5 (20 x 20 cells, a flat model, whose noise is z).
    The noise of a mixture prior is z less its mean, in its standard deviations; of a prior such as a flow it is z itself.

    Arguments:
        cells: along each axis. reach: r, in standard deviations.
        guide, x: fix the other layers at the code of one datum, x of shape (1, *event), instead.
        given: inputs of the model, one row for all cells. under: as in `layer_samples`.

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
    given = first_row(given) if x is None else given_for(model, x[:1]) | dict(under or {})
    grid_layers(model, site, given)
    require_continuous(model, [site], given)
    noise = sample_noise(model, cells * cells, given=given)
    check_noise(model, site, noise, given)
    _check_guide(guide, x)
    if guide is not None and x is not None:
        fixed = posterior_noise(model, guide, x[:1])
        noise = {name: value.expand(cells * cells, *value.shape[1:]) for name, value in fixed.items()}
    values = torch.linspace(-reach, reach, cells)
    second, first = torch.meshgrid(values.flip(0), values, indexing="ij")
    grid = torch.stack([first, second], -1).to(noise[site])
    return decode_noise(model, {**noise, site: grid.reshape(noise[site].shape)}, given)


@in_evaluation_mode
def grid_layers(model: Program, site: str | None = None, given: Fixed = None) -> list[str]:
    """The layers that `layer_grid` can show: all of two dimensions from the top down, or `site` alone.

    Raises:
        ConfigError: for an unknown site, and where no layer has two dimensions.
    """
    sizes = {name: value.numel() for name, value in sample_noise(model, 1, given=first_row(given)).items()}
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


def _check_guide(guide: Program | None, x: Tensor | Batch | None) -> None:
    if guide is None and x is not None:
        raise ConfigError("fixing the other layers at the code of x needs a guide, got guide=None: give guide=... and x=...")


@in_evaluation_mode
def check_noise(model: Program, site: str, noise: Mapping[str, Tensor], given: Fixed = None) -> None:
    """Raises `ConfigError` for a site that `noise` lacks, and for a model with a site whose noise cannot be fixed."""
    require_known("latent site", site, noise)
    beside = expand_given(first_row(given), 2, model)
    sites = ancestral(model, 2, given=beside)
    graph = site_graph(model, Batch(torch.zeros_like(sites["x"]["value"]), beside))
    for name, message in sites.items():
        if name != "x" and graph.in_degree(name) and standard_noise(message) is message["value"]:
            kind = type(scalar_family(message["fn"])).__name__
            raise ConfigError(f"site '{name}' is a {kind} with parents: it has no noise that can be fixed while they vary.")
