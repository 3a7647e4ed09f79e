"""The log-likelihood of any pair by importance sampling, streamed: exact numbers of samples, bounded memory."""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor, nn

from pyro_hvae.compilation.captured_loss import capture
from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError, DivergenceError
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.objectives.handlers import Record, Share, Site, is_point
from pyro_hvae.runtime.random_state import fixed_seed

__all__ = ["ImportanceTerms", "Weights", "data_per_batch", "importance_weights", "log_likelihood"]

Program = Callable[..., Any]
ROWS = 2048  # (datum, sample) pairs through the model at once: enough to keep a core busy, small enough for its caches
MOST = 10_000_000  # particles
DRAWN = 32_768  # (datum, sample) pairs that the guide draws at once, for a single run of its encoder


class Weights(NamedTuple):
    r"""What S importance weights $w_s = p(x, z_s) / q(z_s \mid x)$ say of B data; each of shape (B,), float64, nats.

    Attributes:
        log_likelihood: $\log \frac1S \sum_s w_s$. bound: $\frac1S \sum_s \log w_s$, a draw of the ELBO with S-fold less noise.
        effective: $(\sum_s w_s)^2 / \sum_s w_s^2$, between 1 and S: how many samples carry the estimate.
    """

    log_likelihood: Tensor
    bound: Tensor
    effective: Tensor


def log_likelihood(
    model: Program,
    guide: Program,
    x: Tensor | Rows,
    particles: int = 5000,
    inner: int = 1,
    shared: Collection[str] = (),
    rows: int = ROWS,
    progress: Callable[[int], Any] | None = None,
    compile: bool = False,
) -> Tensor:
    r"""Importance-sampled $\log \hat p(x) = \log \frac1S \sum_s p(x, z_s) / q(z_s \mid x)$, nats, shape (N,), float64.

    Arguments and errors as for `importance_weights`, and
        progress: called with the number of data finished.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model, guide = Chain(StandardNormal(2), [], Gaussian(2, 4)), BottomUp([Gaussian(4, 2)])
    >>> log_likelihood(model, guide, torch.zeros(3, 4), particles=100).shape
    torch.Size([3])
    """
    results = []
    for weights in importance_weights(model, guide, x, particles, inner, shared, rows, compile=compile):
        results.append(weights.log_likelihood)
        if progress is not None:
            progress(len(weights.log_likelihood))
    return torch.cat(results)


@torch.no_grad()
def importance_weights(
    model: Program,
    guide: Program,
    x: Tensor | Rows,
    particles: int = 5000,
    inner: int = 1,
    shared: Collection[str] = (),
    rows: int = ROWS,
    start: int = 0,
    seed: int | None = None,
    compile: bool = False,
    warn: Callable[[str], Any] | None = None,
) -> Iterator[Weights]:
    r"""Importance weights of one batch of data after another, in order.

    With `inner` = 1 the weights are joint over all latents, unbiased for p(x) for every pair, so that E[log p^] <= log p(x).
    With K' = `inner` particles the shared sites (z1 of a VHP) are drawn S times and the others K' times for each of these,
    $w_s = p(x \mid z_s) \hat p(z_s) / q(z_s \mid x)$, $\hat p(z) = \frac1{K'} \sum_k p(z, \zeta_k) / q(\zeta_k \mid z)$:
    unbiased too, with less variance (Klushyn et al. 2019, eq. 7). A prior that is a mixture enters exactly.

    Exactly S samples are drawn per datum. The guide draws them in one run for a batch, so that its encoder sees each datum once
    (once in 32,768 samples, should there be more); the model sees them in chunks, and each datum's weights are
    summed before the logarithm, in float64.

    Arguments:
        x: data of shape (N, *event).
        particles: S; the papers use 5000 (Klushyn et al. 2019, table 2).
        inner: K'. shared: the sites drawn once for K' of the others.
        rows: how many (datum, sample) pairs go through the model at once, at least one sample of a batch's every datum; changes
            memory, not the estimator or its noise.
        start: the first datum, a multiple of `data_per_batch(particles, inner)` where the noise shall be that of a run from 0.
        seed: of the noise, different in every batch; None draws from torch's global stream.
        compile: run the model's whole chunks as one compiled graph (see `capture`), which takes seconds to make. Chunks and
            batches of another size, the last ones, run eagerly, so that one graph is all. The samples are the same, the weights
            up to rounding. warn: called instead of warning with a `CaptureWarning`.

    Raises:
        ConfigError: for fewer than one particle, inner particles without shared sites, or a guide without densities.
        DivergenceError: for weights that are no numbers.
    """
    size = data_per_batch(particles, inner)
    if not len(x):
        raise ConfigError("there are no data whose likelihood could be taken.")
    if inner > 1 and not shared:
        raise ConfigError(f"inner={inner} particles need a site that they share, as a VHP's share z1; this bound has none.")
    elbo = ELBO(particles=max(2, inner), shared=shared if inner > 1 else ())
    terms = ImportanceTerms(model, inner, shared)
    captured = capture(terms, gradient=False, warn=warn) if compile else terms
    for first in range(start, len(x), size):
        batch = x[first : first + size]
        with nullcontext() if seed is None else fixed_seed(_batch_seed(seed, first)):
            if first == start:
                with pyro.validation_enabled(False):
                    elbo.check(model, guide, batch)
            whole = captured if len(batch) == min(size, len(x) - start) else terms
            weights = _batch_weights(terms, whole, guide, batch, particles, rows)
        yield weights  # outside, where the random stream is the caller's


def data_per_batch(particles: int, inner: int = 1) -> int:
    """How many data are estimated together.

    Raises:
        ConfigError: for fewer than one particle.
    """
    for name, value in (("particles", particles), ("inner", inner)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if value > MOST:
            raise ConfigError(f"{name}={value} is more than anyone can wait for; the papers take 5000. The most are {MOST}.")
    return max(1, min(ROWS, DRAWN // particles) // inner)


def _batch_seed(seed: int, first: int) -> int:
    """Different for every batch of a run: torch's CPU generator sees 32 bits, which an odd multiplier only permutes."""
    return (seed + first * 0x9E3779B1) % 2**32


class ImportanceTerms(nn.Module):
    """What the model's sites contribute to the log weights of samples, as a module that `importance_weights` captures.

    Attributes:
        names: of the guide's sites.
    """

    def __init__(self, model: Program, inner: int, shared: Collection[str]) -> None:
        super().__init__()
        self.model, self.inner, self.shared = model, inner, frozenset(shared)
        self.names: tuple[str, ...] = ()

    def forward(self, x: Tensor, *drawn: Tensor) -> dict[str, Tensor]:
        """Site -> log p - log q, at x log p; shape (S, B), or (K', S, B) where it varies over the inner particles.

        Arguments:
            drawn: values of the named sites, then their log q.
        """
        count = len(self.names)
        replay, log_q = dict(zip(self.names, drawn, strict=False)), dict(zip(self.names, drawn[count:], strict=True))
        with (
            pyro.validation_enabled(False),
            Record(replay) as p,
            _particle_plates(drawn[-1].shape[-2], self.inner, self.shared),
        ):
            self.model(x)
        log_p = {name: site["fn"].log_prob(site["value"]) for name, site in p.sites.items()}
        return {name: value if p.sites[name]["is_observed"] else value - log_q[name] for name, value in log_p.items()}


Run = Callable[..., dict[str, Tensor]]


def _batch_weights(terms: ImportanceTerms, whole: Run, guide: Program, x: Tensor, particles: int, rows: int) -> Weights:
    """The weights of one batch.

    Arguments:
        whole: does what `terms` does for chunks of the usual length, and for these alone.
    """
    inner = terms.inner
    most, chunk = (max(1, count // (len(x) * inner)) for count in (DRAWN, rows))
    usual = min(chunk, most, particles)
    where = "cpu" if x.device.type == "mps" else x.device  # MPS has no double precision
    total = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=where)
    squares, logs = total.clone(), torch.zeros_like(total)
    for drawn in range(0, particles, most):
        count = min(most, particles - drawn)
        with pyro.validation_enabled(False), Record() as record, _particle_plates(count, inner, terms.shared):
            guide(x)
        q = record.sites
        _check_densities(q)
        terms.names = tuple(q)
        log_q = {name: site["fn"].log_prob(site["value"]) for name, site in q.items()}
        for begin in range(0, count, chunk):
            length = min(chunk, count - begin)
            values = [_narrow_particles(site["value"], begin, length, site) for site in q.values()]
            values += [log_q[name].narrow(-2, begin, length) for name in q]
            if length == usual and whole is not terms:
                found = whole(x, *(value.contiguous() for value in values))  # compiled code is for one layout
            else:
                found = terms(x, *values)
            parts = [term.to(where).double() for term in found.values()]
            log_w = torch.zeros(length, len(x), dtype=torch.float64, device=where)
            for term in parts:
                log_w = log_w + term if term.dim() == 2 else log_w
            if varying := [term for term in parts if term.dim() == 3]:
                log_w += torch.logsumexp(torch.stack(torch.broadcast_tensors(*varying)).sum(0), 0) - math.log(inner)
            total = torch.logaddexp(total, torch.logsumexp(log_w, 0))
            squares = torch.logaddexp(squares, torch.logsumexp(2 * log_w, 0))
            logs += log_w.sum(0)
    if total.isnan().any():
        raise DivergenceError(
            f"the importance weights of {int(total.isnan().sum())} of {len(x)} data are no numbers: the networks return NaN. "
            "Evaluate another checkpoint (--checkpoint best), or train with a smaller --lr."
        )
    return Weights(total - math.log(particles), logs / particles, (2 * total - squares).exp())


def _check_densities(q: dict[str, Site]) -> None:
    points = [name for name, site in q.items() if is_point(site)]
    if points:
        raise ConfigError(
            f"this guide puts all mass on a point ({', '.join(points)}), as an autoencoder does: there are no importance "
            "weights. Its reconstructions can be evaluated, its likelihood cannot."
        )


def _particle_plates(particles: int, inner: int, shared: frozenset[str]) -> ExitStack:
    """S particles at dim -2 around everything, and K' inner ones at dim -3 that the shared sites stay out of."""
    stack = ExitStack()
    stack.enter_context(Share((), particles))
    if inner > 1:
        stack.enter_context(Share(shared, inner, dim=-3, name="inner"))
    return stack


def _narrow_particles(value: Tensor, begin: int, length: int, site: Site) -> Tensor:
    return value.narrow(value.dim() - len(site["fn"].event_shape) - 2, begin, length)
