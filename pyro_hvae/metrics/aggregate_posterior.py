"""Approximate posteriors of a data set, and density ratios to their average, the aggregate posterior."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError
from pyro_hvae.metrics.gaussian_sums import KernelSums

MAX_TERMS = 10_000_000_000  # (draw, component, dimension) terms of an exact computation of joint ratios: one minute
GRID_DRAWS, GRID_TERMS = 300, 1_000_000  # ratios of one dimension are computed on grids where there are more draws, and terms
MIN_DRAWS, COMPONENTS = 1_000, 20_000  # fewest draws before components are left out, and the number of components then
# Size of a block of kernels. It fits into the cache. It is just too small for torch to use several threads, which cost much
# more than they gain here as soon as another process needs a core.
ROWS, COLUMNS = 16, 2_000
MIN_LOG2 = -1000.0  # smallest log2 of a ratio: negligible beside 1; powers that underflow are several times slower


@dataclass(frozen=True, eq=False)
class Posteriors:
    r"""$q(z \mid x_n) = \frac1M \sum_m \prod_j \mathcal N(z_j; \mu_{nmj}, \sigma_{nmj}^2)$ for n = 1..N, in float64.

    M = 1 is the usual Gaussian. A layer above the first of a stochastic chain has a mixture over M draws of the layers below as
    its posterior; use at least 16 draws.

    Attributes:
        means, stds: (N, M, D); (N, D) stands for M = 1.

    Raises:
        ConfigError: for other or unequal shapes, values that are not finite, and scales that are not positive.

    >>> q = Posteriors(torch.zeros(5, 2), torch.ones(5, 2))
    >>> len(q), q.mean.shape, q.draw(seed=0).shape
    (5, torch.Size([5, 2]), torch.Size([5, 2]))
    """

    means: Tensor
    stds: Tensor

    def __post_init__(self) -> None:
        means, stds = (values.detach().to("cpu", torch.float64) for values in (self.means, self.stds))
        if means.shape != stds.shape or means.ndim not in (2, 3) or 0 in means.shape:
            raise ConfigError(
                "posteriors need means and stds of one shape, (data, latents) or (data, M, latents), "
                f"got {tuple(means.shape)} and {tuple(stds.shape)}."
            )
        if wrong := int((~means.isfinite() | ~stds.isfinite()).sum()):
            raise ConfigError(f"{wrong} of {means.numel()} posterior parameters are not finite: has the training diverged?")
        if stds.min() <= 0 or not ((means.abs() + 1) / stds).isfinite().all():
            raise ConfigError(
                f"posteriors need stds above 0 that one can divide by, got {stds.min().item():g}: pass scales, not "
                "log-variances, and clamp those that have collapsed."
            )
        object.__setattr__(self, "means", means if means.ndim == 3 else means[:, None])
        object.__setattr__(self, "stds", stds if stds.ndim == 3 else stds[:, None])

    def __len__(self) -> int:
        return len(self.means)

    @property
    def size(self) -> int:
        """M, the components of one datum's mixture."""
        return self.means.shape[1]

    @property
    def mean(self) -> Tensor:
        """The posterior means, (N, D)."""
        return self.means.mean(1)

    @property
    def variance_of_means(self) -> Tensor:
        r"""$\mathrm{Var}_n\, E[z_j \mid x_n]$, (D,), without the variance that a mean over M draws has by itself.

        That variance is 1/M for a unit that knows nothing of x and follows unit noise below it.
        """
        noise = self.means.var(1).mean(0) / self.size if self.size > 1 else 0.0
        return (self.mean.var(0, correction=0) - noise).clamp(min=0.0)

    def rows(self, index: Tensor) -> "Posteriors":
        """The posteriors of some data."""
        return Posteriors(self.means[index], self.stds[index])

    def dims(self, index: Tensor | slice | list[int]) -> "Posteriors":
        """The posteriors of some latent dimensions."""
        return Posteriors(self.means[..., index], self.stds[..., index])

    def draw(self, seed: int | torch.Generator) -> Tensor:
        """One z_n ~ q(z | x_n) per datum, (N, D)."""
        generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
        component = torch.randint(self.size, (len(self),), generator=generator)
        noise = torch.randn(len(self), self.means.shape[2], dtype=torch.float64, generator=generator)
        index = torch.arange(len(self)), component
        return self.means[index] + self.stds[index] * noise

    @classmethod
    def concatenate(cls, layers: "Iterable[Posteriors]") -> "Posteriors":
        """Several layers side by side, (N, M, sum of D); raises as `require_same_data`.

        For M = 1 this is the joint posterior of layers that are independent given x. Mixtures are repeated to a common M. This
        keeps the law of each layer but not the dependence between layers: use one dimension or one layer at a time.
        """
        layers = require_same_data(layers)
        size = math.lcm(*(q.size for q in layers))
        means, stds = ([getattr(q, name).repeat(1, size // q.size, 1) for q in layers] for name in ("means", "stds"))
        return cls(torch.cat(means, 2), torch.cat(stds, 2))


def require_same_data(layers: Iterable[Posteriors]) -> list[Posteriors]:
    """The layers as a list; raises `ConfigError` for no layers, or layers of different numbers of data."""
    layers = list(layers)
    if len(counts := sorted({len(q) for q in layers})) != 1:
        raise ConfigError(f"layers side by side need the same data, got {counts or 'no'} data.")
    return layers


@dataclass(frozen=True, eq=False)
class AggregateDraws:
    """Draws from the aggregate posterior, and the data whose posteriors represent it.

    Attributes:
        values: z_s ~ q(z | x_n(s)), (S, D). rows: n(s), (S,), all different.
        components: the data that represent all N, (B,), all different; B = N is exact. data: N.
    """

    values: Tensor
    rows: Tensor
    components: Tensor
    data: int

    @property
    def exact(self) -> bool:
        """True where all data are components."""
        return len(self.components) == self.data


def draw_aggregate(
    q: Posteriors, samples: int = 10_000, seed: int = 0, components: int | None = None, jointly: bool = True
) -> AggregateDraws:
    """One draw from the posterior of each of min(samples, N) different data, and the components to compare them with.

    Arguments:
        components: number of data that represent the aggregate posterior. Default: all data. The number of draws is then
            reduced, to no fewer than 1,000, until there are at most 1e10 terms of a draw, a component and a dimension. Where
            1,000 draws are still too many (a million data of ten dimensions), 20,000 components. Few components bias
            information upwards; few draws do not.
        jointly: as for `log_ratios`. Ratios of each dimension alone are linear in draws and data: none is left out for them.

    Raises:
        ConfigError: for fewer than two data, samples or components.
    """
    for name, count in [("data", len(q)), ("samples", samples), ("components", components)]:
        if count is not None and count < 2:
            raise ConfigError(f"an aggregate posterior needs two or more {name}, got {count}.")
    samples = min(samples, len(q))
    if components is None and (not jointly or q.means.shape[2] == 1):
        components = len(q)
    elif components is None:
        samples = min(samples, max(MIN_DRAWS, MAX_TERMS // q.means.numel()))
        components = len(q) if q.means.numel() * samples <= MAX_TERMS else COMPONENTS
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(q), generator=generator)[:samples]
    values = q.rows(rows).draw(generator)
    chosen = torch.randperm(len(q), generator=generator)[:components] if components < len(q) else torch.arange(len(q))
    return AggregateDraws(values, rows, chosen, len(q))


def log_ratios(q: Posteriors, draws: AggregateDraws, groups: Tensor | None = None, jointly: bool = True) -> Tensor:
    r"""$\log q(z_s \mid x_{n(s)}) - \log \hat q(z_s)$ in nats; the mean is the information of z about the datum.

    $\hat q(z_s) = \frac1N\, q(z_s \mid x_{n(s)}) + \frac{N-1}{N} \frac1B \sum_{b \ne n(s)} q(z_s \mid x_b)$. The weight of the
    sample's own datum is 1/N for every choice of the B others. So $\hat q$ is unbiased for the aggregate posterior
    $q(z) = \frac1N \sum_n q(z \mid x_n)$, and equal to it for B = N - 1. No ratio exceeds log N. The logarithm is biased: with
    few components the ratios are too large in the mean. Stratified sampling is from Chen et al. 2018, appendix C.1; their
    weights differ, they take the own 1/N from a single one of the others.

    Arguments:
        groups: integers (N,). The aggregate posterior is then that of the sample's own group, and N is the group's size.
        jointly: True gives the ratios of all dimensions together, (S,); False those of each dimension alone, (S, D).

    Raises:
        ConfigError: when the components contain no other datum of a sample's group.

    >>> q = Posteriors(torch.tensor([[0.0], [100.0]]), torch.ones(2, 1))
    >>> log_ratios(q, draw_aggregate(q)).exp()
    tensor([2., 2.], dtype=torch.float64)
    """
    groups = torch.zeros(len(q), dtype=torch.long) if groups is None else groups
    pieces = zip(draws.values.split(COLUMNS), draws.rows.split(COLUMNS), strict=True)
    own = torch.cat([_own_log_density(q, z, rows, jointly) for z, rows in pieces])
    ratios = torch.empty_like(own)
    draw_groups, component_groups = groups[draws.rows], groups[draws.components]
    for group in draw_groups.unique():
        here = (draw_groups == group).nonzero()[:, 0]
        components = draws.components[component_groups == group]
        position = torch.full((len(q),), -1)
        position[components] = torch.arange(len(components))
        position = position[draws.rows[here]]
        others = len(components) - (position >= 0).long()
        size = int((groups == group).sum())
        if size > 1 and not others.all():
            raise ConfigError(
                f"the {len(draws.components)} components contain too few of a group of {size} among {len(q)} data: take more."
            )
        gridded = own.shape[1] == draws.values.shape[1] and len(here) > GRID_DRAWS and len(here) * len(components) > GRID_TERMS
        compute = _sum_ratios_on_grids if gridded else _sum_ratios
        sums = compute(q, draws.values[here], own[here], components, position, jointly)
        ratios[here] = math.log(size) - (sums * (size - 1) / others.clamp(min=1)[:, None]).log1p()
    return ratios[:, 0] if jointly else ratios


def _sum_ratios(q: Posteriors, z: Tensor, own: Tensor, components: Tensor, position: Tensor, jointly: bool) -> Tensor:
    """Sum of q(z_s | x_b) / q(z_s | x_n(s)) over components b except the one at the draw's `position`; (S, 1) or (S, D).

    Nothing overflows relative to the own density: for z ~ q(z | x_n) the ratio has mean 1, so it exceeds e^700 with probability
    at most e^-700.
    """
    dims = range(z.shape[1])
    parts = [list(dims)] if jointly else [[j] for j in dims]
    sums = torch.zeros(len(z), len(parts), dtype=torch.float64)
    step = max(1, COLUMNS // q.size)
    memory = torch.empty(2, ROWS * step * q.size, dtype=torch.float64)  # a new allocation for each block doubles the time
    for first in range(0, len(components), step):
        chunk = components[first : first + step]
        means, stds = (values[chunk].flatten(0, 1).T.contiguous() for values in (q.means, q.stds))
        # Powers of two take a third of the time of `exp`.
        slope = (0.5 / math.log(2)) ** 0.5 / stds
        offset, weight = -means * slope, -stds.log2()
        weights = [weight[part].sum(0) for part in parts]
        for top in range(0, len(z), ROWS):
            block = slice(top, top + ROWS)
            at = position[block] - first
            log_ratio, distance = memory[:, : len(at) * means.shape[1]].view(2, len(at), -1)
            mine = ((at >= 0) & (at < len(chunk))).nonzero()[:, 0]
            for i, part in enumerate(parts):
                torch.sub(weights[i], own[block, i, None], out=log_ratio)
                for j in part:
                    torch.addcmul(offset[j], z[block, j, None], slope[j], out=distance)
                    log_ratio.addcmul_(distance, distance, value=-1)
                ratio = log_ratio.clamp_(min=MIN_LOG2).exp2_()
                ratio.unflatten(1, (-1, q.size))[mine, at[mine]] = 0
                sums[block, i] += ratio.sum(1)
    return sums / q.size


def _sum_ratios_on_grids(q: Posteriors, z: Tensor, own: Tensor, components: Tensor, position: Tensor, jointly: bool) -> Tensor:
    """As `_sum_ratios` for each dimension alone, in time that is linear in components and draws, by `KernelSums`."""
    means, stds = q.means[components], q.stds[components]
    sums, with_own = torch.zeros(z.shape, dtype=torch.float64), (position >= 0).nonzero()[:, 0]
    for j in range(z.shape[1]):
        kernels = KernelSums(means[..., j].flatten(), stds[..., j].flatten())
        if not kernels.resolves(z[:, j]):
            sums[:, j : j + 1] = _sum_ratios(q.dims([j]), z[:, j : j + 1], own[:, j : j + 1], components, position, False)
            continue
        for octave, values, stencils in kernels.octaves(z[:, j]):
            mine = position[with_own]
            values[with_own] -= stencils.read(with_own, means[mine, :, j], stds[mine, :, j]).sum(1)
            sums[:, j] += values.clamp(min=0.0).log2().sub(octave + own[:, j]).exp2() / q.size
    return sums


def _own_log_density(q: Posteriors, z: Tensor, rows: Tensor, jointly: bool) -> Tensor:
    """log2 q(z_s | x_n(s)) without the constant of the Gaussian, which cancels in every ratio; (S, 1) or (S, D)."""
    stds = q.stds[rows]
    log_density = -((z[:, None] - q.means[rows]) / stds).square() / 2 - stds.log()
    if jointly:
        log_density = log_density.sum(2, keepdim=True)
    return (log_density.logsumexp(1) - math.log(q.size)) / math.log(2)
