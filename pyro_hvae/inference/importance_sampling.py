"""Log-likelihood of any model/guide pair by importance sampling, in chunks: exact sample counts, bounded memory."""

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor, nn

from pyro_hvae.compilation import capture
from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError, ContractError, DivergenceError, FewEffectiveSamplesWarning
from pyro_hvae.objectives import ELBO, Record, Share, Site, is_point, mask_missing, run_program, site_log_prob, takes_data
from pyro_hvae.runtime import evaluation_mode, fixed_seed

Program = Callable[..., Any]
ROWS = 2048  # (datum, sample) pairs in one pass of the model: enough for a busy core, small enough for its caches
MAX_PARTICLES = 10_000_000
FEW_EFFECTIVE = 10  # effective samples below which an estimate is probably biased by more than its sampling error
GUIDE_ROWS = 32_768  # (datum, sample) pairs that one run of the guide draws


class Weights(NamedTuple):
    r"""Summaries of S importance weights $w_s = p(x, z_s) / q(z_s \mid x)$ for B data; each of shape (B,), float64, nats.

    Attributes:
        log_likelihood: $\log \frac1S \sum_s w_s$.
        bound: $\frac1S \sum_s \log w_s$, an estimate of the ELBO with an S-th of the variance of one sample.
        effective: $(\sum_s w_s)^2 / \sum_s w_s^2$, the effective sample size, between 1 and S.
        half: what S / 2 samples give, the mean of the estimates of the two halves of the samples; -inf for one sample.
            E half <= E log_likelihood <= log p(x). The second gap equals the first where it falls like 1 / S, as it does once
            many samples carry the weight, and is larger where few do.
    """

    log_likelihood: Tensor
    bound: Tensor
    effective: Tensor
    half: Tensor


@takes_data
def log_likelihood(
    model: Program,
    guide: Program,
    x: Tensor | Batch | Rows,
    particles: int = 5000,
    inner: int = 1,
    shared: Collection[str] = (),
    rows: int = ROWS,
    progress: Callable[[int], Any] | None = None,
    compile: bool = False,
) -> Tensor:
    r"""Importance-sampled $\log \hat p(x) = \log \frac1S \sum_s p(x, z_s) / q(z_s \mid x)$, nats, shape (N,), float64.

    Arguments and errors are those of `importance_weights`, and
        given, observed: what stands beside x; the likelihood is then log p(x | y), of the observed entries.
        progress: called with the number of finished data after every batch.

    Warns:
        FewEffectiveSamplesWarning: where the median effective sample size is below 10 of 100 samples or more.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model, guide = Chain(StandardNormal(2), [], Gaussian(2, 4)), BottomUp([Gaussian(4, 2)])
    >>> log_likelihood(model, guide, torch.zeros(3, 4), particles=100).shape
    torch.Size([3])
    """
    batches = []
    for weights in importance_weights(model, guide, x, particles, inner, shared, rows, compile=compile):
        batches.append(weights)
        if progress is not None:
            progress(len(weights.log_likelihood))
    values, _, effective, half = map(torch.cat, zip(*batches, strict=True))
    if particles >= 100 and (few := describe_few_effective_samples(values, half, effective, particles)):
        warnings.warn(few, FewEffectiveSamplesWarning, stacklevel=3)  # the caller of the decorated function
    return values


def describe_few_effective_samples(values: Tensor, half: Tensor, effective: Tensor, particles: int) -> str:
    """A sentence about an estimate that few of its samples carry (see `Weights`), else an empty text."""
    median = effective.double().nanquantile(0.5).item()  # `Tensor.median` is the lower of the two in the middle
    if not median < FEW_EFFECTIVE:
        return ""
    gap = (values - half).nanmean().item()
    below = "" if not math.isfinite(gap) else f" (half of the samples give {gap:.2g} nats less)"
    return (
        f"the log-likelihood is probably too low: the median effective sample size is "
        f"{median:.1f} of {particles}, below {FEW_EFFECTIVE}{below}. Take more particles, or a guide that fits the posterior "
        "better."
    )


@takes_data
@torch.no_grad()
def importance_weights(
    model: Program,
    guide: Program,
    x: Tensor | Batch | Rows,
    particles: int = 5000,
    inner: int = 1,
    shared: Collection[str] = (),
    rows: int = ROWS,
    start: int = 0,
    seed: int | None = None,
    compile: bool = False,
    warn: Callable[[str], Any] | None = None,
    alike: bool = False,
    keep_nan: bool = False,
) -> Iterator[Weights]:
    r"""Yields the importance weights of one batch of data after another, in order.

    With `inner` = 1 the weights are joint over all latents. They are unbiased for p(x), so E[log p^] <= log p(x). With K' =
    `inner` particles the shared sites (z1 of a VHP) are drawn S times, and the others K' times for each of these:
    $w_s = p(x \mid z_s) \hat p(z_s) / q(z_s \mid x)$, $\hat p(z) = \frac1{K'} \sum_k p(z, \zeta_k) / q(\zeta_k \mid z)$,
    unbiased with less variance (Klushyn et al. 2019, eq. 7). A mixture as a prior enters exactly. One run of the guide draws up
    to 32,768 samples, so its encoder runs once per datum; the model runs in chunks. Weights are summed in float64.

    Arguments:
        x: data of shape (N, *event).
        particles: S; the papers use 5000 (Klushyn et al. 2019, table 2).
        inner: K'. shared: the sites drawn once for K' draws of the others.
        rows: (datum, sample) pairs in one pass of the model; it changes memory, not the estimator or its noise.
        start: the first datum. For the noise of a run from 0, use a multiple of `data_per_batch(particles, inner)`.
        seed: of the noise, different in every batch; None draws from torch's global stream.
        compile: run the model's full chunks as one compiled graph (see `capture`), which takes seconds; others run eagerly.
            Samples are the same, weights equal up to rounding. warn: called instead of warning with a `CaptureWarning`.
        alike: one datum a batch, all with the noise of the seed: a value depends on its datum alone. The sampling errors of
            data then go together, and small numbers of particles take several times as long.
        keep_nan: a datum whose weights are no numbers has NaN, instead of the error.

    Raises:
        ConfigError: for fewer than one particle, inner particles without shared sites, or a guide without densities.
        DivergenceError: for weights that are NaN, but for `keep_nan`.
    """
    size = data_per_batch(particles, inner)
    size = 1 if alike else size
    if not len(x):
        raise ConfigError("there are no data to estimate a likelihood of: 0 data were given. Give at least one.")
    if inner > 1 and not shared:
        raise ConfigError(f"inner={inner} particles need a site that they share, such as z1 of a VHP; this bound has none.")
    elbo = ELBO(particles=max(2, inner), shared=shared if inner > 1 else ())
    terms = ImportanceTerms(model, inner, shared)
    captured = capture(terms, gradient=False, warn=warn) if compile else terms
    for first in range(start, len(x), size):
        batch = x[first : first + size]
        # Around each batch, because the caller of a generator runs between them.
        noise = nullcontext() if seed is None else fixed_seed(seed if alike else _batch_seed(seed, first))
        with evaluation_mode(model, guide), noise:
            if first == start:
                with pyro.validation_enabled(False):
                    elbo.check(model, guide, batch[:2])
            usual_size = len(batch) == min(size, len(x) - start)
            weights = _batch_weights(terms, captured if usual_size else terms, guide, batch, particles, rows)
        if not keep_nan:
            require_numbers(weights.log_likelihood)
        yield weights


def data_per_batch(particles: int, inner: int = 1) -> int:
    """Number of data that are estimated together; raises `ConfigError` for fewer than one particle, or more than 10 million."""
    for name, value in (("particles", particles), ("inner", inner)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if value > MAX_PARTICLES:
            raise ConfigError(f"{name}={value} would take too long; the papers use 5000. The maximum is {MAX_PARTICLES}.")
    return max(1, min(ROWS, GUIDE_ROWS // particles) // inner)


def _batch_seed(seed: int, first: int) -> int:
    """A different seed for every batch: torch's CPU generator uses 32 bits, which an odd multiplier permutes."""
    return (seed + first * 0x9E3779B1) % 2**32


class ImportanceTerms(nn.Module):
    """Contributions of the model's sites to the log weights, as a module to capture; `names` are the guide's sites."""

    def __init__(self, model: Program, inner: int, shared: Collection[str]) -> None:
        super().__init__()
        self.model, self.inner, self.shared = model, inner, frozenset(shared)
        self.names: tuple[str, ...] = ()

    def forward(self, x: Tensor | Batch, *drawn: Tensor) -> dict[str, Tensor]:
        """Site -> log p - log q, and log p for x; shape (S, B), or (K', S, B) where it varies over the inner particles.

        Arguments:
            drawn: values of the named sites, then their log q.
        """
        count = len(self.names)
        replay, log_q = dict(zip(self.names, drawn, strict=False)), dict(zip(self.names, drawn[count:], strict=True))
        size = drawn[-1].shape[-2]
        with pyro.validation_enabled(False), Record(replay) as p, _particle_plates(size, self.inner, self.shared):
            run_program(self.model, x)
        mask_missing(p.sites["x"], x)
        log_p = {name: site_log_prob(site) for name, site in p.sites.items()}
        if (latents := {name for name, site in p.sites.items() if not site["is_observed"]}) != set(self.names):
            raise ContractError(f"in this pass the model samples {sorted(latents)}, the guide {sorted(self.names)}.")
        return {name: value if p.sites[name]["is_observed"] else value - log_q[name] for name, value in log_p.items()}


def _batch_weights(
    terms: ImportanceTerms, captured: Program, guide: Program, x: Tensor | Batch, particles: int, rows: int
) -> Weights:
    """The weights of one batch; `captured` computes `terms` for chunks of the usual length only."""
    inner = terms.inner
    guide_chunk, chunk = (max(1, count // (len(x) * inner)) for count in (GUIDE_ROWS, rows))
    usual = min(chunk, guide_chunk, particles)
    device = "cpu" if x.device.type == "mps" else x.device  # MPS has no double precision
    halves = torch.full((2, len(x)), -torch.inf, dtype=torch.float64, device=device)  # of even and of odd samples
    squares, logs = halves[0].clone(), torch.zeros_like(halves[0])
    for drawn in range(0, particles, guide_chunk):
        count = min(guide_chunk, particles - drawn)
        with pyro.validation_enabled(False), Record() as record, _particle_plates(count, inner, terms.shared):
            run_program(guide, x)
        q = record.sites
        require_density(q)
        terms.names = tuple(q)
        log_q = {name: site_log_prob(site) for name, site in q.items()}
        for begin in range(0, count, chunk):
            length = min(chunk, count - begin)
            values = [site["value"].narrow(-2 - len(site["fn"].event_shape), begin, length) for site in q.values()]
            values += [log_q[name].narrow(-2, begin, length) for name in q]
            if length == usual and captured is not terms:
                site_terms = captured(x, *(value.contiguous() for value in values))  # a graph is compiled for one layout
            else:
                site_terms = terms(x, *values)
            site_terms = [term.to(device).double() for term in site_terms.values()]
            log_w = torch.zeros(length, len(x), dtype=torch.float64, device=device)
            for term in site_terms:
                log_w = log_w + term if term.dim() == 2 else log_w
            if inner_terms := [term for term in site_terms if term.dim() == 3]:
                log_w += torch.logsumexp(torch.stack(torch.broadcast_tensors(*inner_terms)).sum(0), 0) - math.log(inner)
            odd = (drawn + begin) % 2
            both = torch.stack([torch.logsumexp(log_w[odd::2], 0), torch.logsumexp(log_w[1 - odd :: 2], 0)])
            halves = torch.logaddexp(halves, both)
            squares = torch.logaddexp(squares, torch.logsumexp(2 * log_w, 0))
            logs += log_w.sum(0)
    total = torch.logsumexp(halves, 0)
    sizes = torch.tensor([[particles - particles // 2], [max(1, particles // 2)]], dtype=torch.float64, device=device)
    half = (halves - sizes.log()).mean(0)
    return Weights(total - math.log(particles), logs / particles, (2 * total - squares).exp(), half)


def require_density(q: Mapping[str, Site]) -> None:
    """Raises `ConfigError` where a site of a guide has all its mass on a point."""
    if points := [name for name, site in q.items() if is_point(site)]:
        raise ConfigError(
            f"this guide puts all mass on a point ({', '.join(points)}), as an autoencoder does, so there are no "
            "importance weights. Evaluate its reconstructions instead of its likelihood."
        )


def _particle_plates(particles: int, inner: int, shared: frozenset[str]) -> ExitStack:
    """S particles at dim -2 for all sites, and K' inner particles at dim -3 for all but the shared sites."""
    stack = ExitStack()
    stack.enter_context(Share((), particles))
    if inner > 1:
        stack.enter_context(Share(shared, inner, dim=-3, name="inner"))
    return stack


def require_numbers(total: Tensor) -> None:
    """Raises `DivergenceError` where a log-likelihood or log sum of importance weights, one for each datum, is NaN."""
    if total.isnan().any():
        raise DivergenceError(
            f"the importance weights of {int(total.isnan().sum())} of {len(total)} data are no numbers: the networks return "
            "NaN. Evaluate another checkpoint (best), or train with a smaller learning rate."
        )
