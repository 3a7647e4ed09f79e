"""The approximate posteriors of a data set, and the aggregate posterior that they add up to."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError

__all__ = ["AggregateDraws", "Posteriors", "draw_aggregate", "log_ratios", "require_same_data"]

TERMS = 10_000_000_000  # (draw, component, dimension) terms up to which everything is exact: a minute
FEWEST, COMPONENTS = 1_000, 20_000  # draws to keep before components are left out, and data kept then
# Of a block of kernels: it stays in cache, and is just too small for torch to share among threads, which for operations as
# short as these costs several times what it gains as soon as another process wants a core.
ROWS, COLUMNS = 16, 2_000
FLOOR = -1000.0  # of a ratio's log to base 2: nothing beside 1, and powers are several times slower where they underflow


@dataclass(frozen=True, eq=False)
class Posteriors:
    r"""$q(z \mid x_n) = \frac1M \sum_m \prod_j \mathcal N(z_j; \mu_{nmj}, \sigma_{nmj}^2)$ for n = 1..N, in float64.

    M = 1 is the usual Gaussian. A layer above the first of a stochastic chain has no Gaussian posterior: it is the mixture over
    M draws of the layers below (at least 16 are wise), never the Gaussian of one draw.

    Attributes:
        means, stds: (N, M, D); given as (N, D) they mean M = 1.

    Raises:
        ConfigError: for unequal or other shapes, values that are not finite, and scales that are not positive.

    >>> q = Posteriors(torch.zeros(5, 2), torch.ones(5, 2))
    >>> len(q), q.mean.shape, q.draw(seed=0).shape
    (5, torch.Size([5, 2]), torch.Size([5, 2]))
    """

    means: Tensor
    stds: Tensor

    def __post_init__(self) -> None:
        means, stds = (values.detach().to("cpu", torch.float64) for values in (self.means, self.stds))
        if means.shape != stds.shape or means.ndim not in (2, 3) or 0 in means.shape:
            shapes = f"{tuple(means.shape)} and {tuple(stds.shape)}"
            raise ConfigError(
                f"posteriors need means and stds of one shape, (data, latents) or (data, M, latents), got {shapes}."
            )
        if wrong := int((~means.isfinite() | ~stds.isfinite()).sum()):
            raise ConfigError(f"{wrong} of {means.numel()} posterior parameters are not finite: has the training diverged?")
        if stds.min() <= 0 or not ((means.abs() + 1) / stds).isfinite().all():
            smallest = f"{stds.min().item():g}"
            raise ConfigError(
                f"posteriors need stds above 0 that one can divide by, got {smallest}: pass scales, not log-variances, and "
                "clamp those that have collapsed."
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
        r"""$\mathrm{Var}_n\, E[z_j \mid x_n]$, (D,): the mean over M draws varies by itself, which is subtracted.

        A unit that knows nothing of x and follows unit noise below it would else have a variance of 1/M.
        """
        noise = self.means.var(1).mean(0) / self.size if self.size > 1 else 0.0
        return (self.mean.var(0, correction=0) - noise).clamp(min=0.0)

    def rows(self, index: Tensor) -> "Posteriors":
        """Those of some data."""
        return Posteriors(self.means[index], self.stds[index])

    def dims(self, index: Tensor | slice | list[int]) -> "Posteriors":
        """Those of some latent dimensions."""
        return Posteriors(self.means[..., index], self.stds[..., index])

    def draw(self, seed: int | torch.Generator) -> Tensor:
        """One z_n ~ q(z | x_n) per datum, (N, D)."""
        generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
        component = torch.randint(self.size, (len(self),), generator=generator)
        noise = torch.randn(len(self), self.means.shape[2], dtype=torch.float64, generator=generator)
        every = torch.arange(len(self))
        return self.means[every, component] + self.stds[every, component] * noise

    @classmethod
    def concatenate(cls, layers: "Iterable[Posteriors]") -> "Posteriors":
        """Several layers side by side, (N, M, sum of D).

        For M = 1 it is the joint posterior of layers that are independent given x. Mixtures are repeated to a common M, which
        keeps each layer's law but not the dependence between layers: good for one dimension or one layer at a time only.

        Raises:
            ConfigError: for no layers, or layers of different numbers of data.
        """
        layers = require_same_data(layers)
        size = math.lcm(*(q.size for q in layers))
        means, stds = ([getattr(q, name).repeat(1, size // q.size, 1) for q in layers] for name in ("means", "stds"))
        return cls(torch.cat(means, 2), torch.cat(stds, 2))


def require_same_data(layers: Iterable[Posteriors]) -> list[Posteriors]:
    """The layers; raises `ConfigError` for none, or for layers of different numbers of data."""
    layers = list(layers)
    if len(counts := sorted({len(q) for q in layers})) != 1:
        raise ConfigError(f"layers side by side need the same data, got {counts or 'no'} data.")
    return layers


@dataclass(frozen=True, eq=False)
class AggregateDraws:
    """AggregateDraws from the aggregate posterior, and the data whose posteriors stand for it.

    Attributes:
        values: z_s ~ q(z | x_n(s)), (S, D).
        rows: n(s), (S,), different data.
        components: the data that stand for all N, (B,), different too; B = N is exact.
        data: N.
    """

    values: Tensor
    rows: Tensor
    components: Tensor
    data: int

    @property
    def exact(self) -> bool:
        """Whether the aggregate posterior is that of all data."""
        return len(self.components) == self.data


def draw_aggregate(q: Posteriors, samples: int = 10_000, seed: int = 0, components: int | None = None) -> AggregateDraws:
    """One draw for each of min(samples, N) different data, and the components to compare them with.

    Arguments:
        components: how many data stand for the aggregate posterior. By default all, with as many draws, but no fewer than
            1,000, as make at most 1e10 terms of a draw, a component and a dimension; where that is still too much (more than a
            million data of ten dimensions), 20,000. Few components bias information upwards, few draws do not.

    Raises:
        ConfigError: for fewer than two data, samples or components.
    """
    for name, count in [("data", len(q)), ("samples", samples), ("components", components)]:
        if count is not None and count < 2:
            raise ConfigError(f"an aggregate posterior needs two or more {name}, got {count}.")
    samples = min(samples, len(q))
    if components is None:
        samples = min(samples, max(FEWEST, TERMS // q.means.numel()))
        components = len(q) if q.means.numel() * samples <= TERMS else COMPONENTS
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(q), generator=generator)[:samples]
    values = q.rows(rows).draw(generator)
    some = torch.randperm(len(q), generator=generator)[:components] if components < len(q) else torch.arange(len(q))
    return AggregateDraws(values, rows, some, len(q))


def log_ratios(q: Posteriors, draws: AggregateDraws, groups: Tensor | None = None, jointly: bool = True) -> Tensor:
    r"""$\log q(z_s \mid x_{n(s)}) - \log \hat q(z_s)$ in nats, whose mean is the information of z about the datum.

    $\hat q(z_s) = \frac1N\, q(z_s \mid x_{n(s)}) + \frac{N-1}{N} \frac1B \sum_{b \ne n(s)} q(z_s \mid x_b)$: the own datum
    has its 1/N whatever the B others are, so that $\hat q$ is unbiased for the aggregate posterior
    $q(z) = \frac1N \sum_n q(z \mid x_n)$ and equals it when they are all the others. No ratio exceeds log N. The logarithm is
    biased nevertheless: with few components the ratios are too large in the mean. Stratified sampling is from Chen et al. 2018,
    appendix C.1, with other weights: theirs take the own 1/N from a single one of the others.

    Arguments:
        groups: integers (N,): the aggregate posterior is then that of the data of the sample's own group, with N its size.
        jointly: over all dimensions, of shape (S,); else of each dimension alone, of shape (S, D).

    Raises:
        ConfigError: when the components hold no other datum of a sample's group.

    >>> q = Posteriors(torch.tensor([[0.0], [100.0]]), torch.ones(2, 1))
    >>> log_ratios(q, draw_aggregate(q)).exp()
    tensor([2., 2.], dtype=torch.float64)
    """
    groups = torch.zeros(len(q), dtype=torch.long) if groups is None else groups
    pieces = zip(draws.values.split(COLUMNS), draws.rows.split(COLUMNS), strict=True)
    own = torch.cat([_own_log_density(q, z, rows, jointly) for z, rows in pieces])
    ratios = torch.empty_like(own)
    of_draws, of_components = groups[draws.rows], groups[draws.components]
    for group in of_draws.unique():
        here = (of_draws == group).nonzero()[:, 0]
        components = draws.components[of_components == group]
        position = torch.full((len(q),), -1)
        position[components] = torch.arange(len(components))
        position = position[draws.rows[here]]
        others = len(components) - (position >= 0).long()
        size = int((groups == group).sum())
        if size > 1 and not others.all():
            raise ConfigError(
                f"the {len(draws.components)} components hold too few of a group of {size} among {len(q)} data; take more."
            )
        sums = _sums(q, draws.values[here], own[here], components, position, jointly)
        ratios[here] = math.log(size) - (sums * (size - 1) / others.clamp(min=1)[:, None]).log1p()
    return ratios[:, 0] if jointly else ratios


def _sums(q: Posteriors, z: Tensor, own: Tensor, components: Tensor, position: Tensor, jointly: bool) -> Tensor:
    """Sum over components b, but the one at the draw's `position`, of q(z_s | x_b) / q(z_s | x_n(s)); (S, 1) or (S, D).

    Relative to the own density nothing overflows: under z ~ q(z | x_n) such a ratio has mean 1, so that it exceeds e^700 with
    probability e^-700 only.
    """
    dims = range(z.shape[1])
    parts = [list(dims)] if jointly else [[j] for j in dims]
    sums = torch.zeros(len(z), len(parts), dtype=torch.float64)
    step = max(1, COLUMNS // q.size)
    memory = torch.empty(2, ROWS * step * q.size, dtype=torch.float64)  # fetching it anew for each block would double the time
    for first in range(0, len(components), step):
        chunk = components[first : first + step]
        means, stds = (values[chunk].flatten(0, 1).T.contiguous() for values in (q.means, q.stds))
        # Powers of two, which take a third of the time of `exp`.
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
                ratio = log_ratio.clamp_(min=FLOOR).exp2_()
                ratio.unflatten(1, (-1, q.size))[mine, at[mine]] = 0
                sums[block, i] += ratio.sum(1)
    return sums / q.size


def _own_log_density(q: Posteriors, z: Tensor, rows: Tensor, jointly: bool) -> Tensor:
    """log2 q(z_s | x_n(s)) but for the constant of the Gaussian, which cancels in every ratio; (S, 1) or (S, D)."""
    stds = q.stds[rows]
    log_density = -((z[:, None] - q.means[rows]) / stds).square() / 2 - stds.log()
    if jointly:
        log_density = log_density.sum(2, keepdim=True)
    return (log_density.logsumexp(1) - math.log(q.size)) / math.log(2)
