"""Tools for every model/guide pair that keeps the contract: encode, generate, reconstruct, likelihood, active units.

Three passes that other code bases write by hand (posterior, prior, forced latents) are one program under three handlers.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.handlers import Means, Record, site_mean
from pyro_hvae.objectives import ELBO

__all__ = ["latents", "ancestral", "generate", "reconstruct", "bound", "log_likelihood", "active_units"]

Program = Callable[..., Any]
ROWS = 4096  # plates' rows per pass: large enough to keep a core busy, small enough for its cache


@torch.no_grad()
def latents(guide: Program, x: Tensor | Rows, mean: bool = False) -> dict[str, Tensor]:
    """Site -> latent values of q(z | x), shape (B, *event), in the guide's order.

    Arguments:
        mean: take each site's mean instead of a draw, all the way up (an encoding, not an expectation over the chain).
    """
    parts = []
    for batch in x.split(ROWS):
        with pyro.validation_enabled(False), Record() as record, Means() if mean else nullcontext():
            guide(batch)
        parts.append({name: site["value"] for name, site in record.sites.items()})
    return {name: torch.cat([p[name] for p in parts]) for name in parts[0]}


@torch.no_grad()
def ancestral(model: Program, size: int = 1, fixed: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Runs the model forwards: site -> Pyro's message (`fn`, `value`, ...), x included, with plates of `size`.

    Arguments and errors as for `generate`.
    """
    fixed = dict(fixed or {})
    for name, value in fixed.items():
        if len(value) != size:
            raise ConfigError(f"fixed['{name}'] holds {len(value)} values, but size is {size}.")
    with pyro.validation_enabled(False), Record(fixed) as record:
        model(size=size)
    if unknown := set(fixed) - (set(record.sites) - {"x"}):
        raise ConfigError(f"no latent site called {sorted(unknown)}; the model has {[n for n in record.sites if n != 'x']}.")
    return record.sites


@torch.no_grad()
def generate(model: Program, size: int = 1, fixed: Mapping[str, Tensor] | None = None, mean: bool = True) -> dict[str, Tensor]:
    """Ancestral samples: site -> values of shape (size, *event), x included.

    Arguments:
        fixed: latent sites held at given values of shape (size, *event); the sites below are drawn given them. Sites above
            a fixed one keep their prior (no inference is done).
        mean: give E[x | z] instead of a draw for x.

    Raises:
        ConfigError: when a fixed site does not exist or has another size.
    """
    sites = ancestral(model, size, fixed)
    values = {name: site["value"] for name, site in sites.items()}
    if mean:
        values["x"] = site_mean(sites["x"])
    return values


def reconstruct(model: Program, guide: Program, x: Tensor | Rows) -> Tensor:
    """E[x | z] at the posterior means, shape (B, *event): the decoder at mu_phi(x)."""
    parts = [generate(model, len(b), fixed=latents(guide, b, mean=True))["x"] for b in x.split(ROWS)]
    return torch.cat(parts)


def _estimates(elbo: ELBO, model: Program, guide: Program, x: Tensor | Rows, rows: int) -> Iterator[Any]:
    for batch in x.split(max(1, rows // elbo.particles)):
        with pyro.validation_enabled(False):
            yield elbo.estimate(model, guide, batch)


@torch.no_grad()
def bound(elbo: ELBO, model: Program, guide: Program, x: Tensor | Rows, rows: int = ROWS) -> dict[str, Any]:
    """The unweighted bound and its parts over a whole set, in nats per datum.

    Returns:
        `elbo` (the bound), `distortion` = -E log p(x|z), `rate_total` = -elbo - distortion (for the VHP this is F of eq. 8)
        and `rate`: site -> E[log q - log p]. For particles with nothing shared (IWAE) `rate_total` is no KL.
    """
    sums: dict[str, Tensor] = {}
    for e in _estimates(elbo, model, guide, x, rows):
        values = e.bound_unweighted()
        parts = {"elbo": values.mean(), "distortion": e.distortion()}
        parts |= {f"rate.{name}": rate for name, rate in e.rates().items()}
        for name, value in parts.items():
            sums[name] = sums.get(name, torch.zeros_like(value, dtype=torch.float64)) + value.double() * len(values)
    values = {name: (value / len(x)).item() for name, value in sums.items()}
    rates = {name.removeprefix("rate."): value for name, value in values.items() if name.startswith("rate.")}
    elbo_value, distortion = values["elbo"], values["distortion"]
    return {"elbo": elbo_value, "distortion": distortion, "rate_total": -elbo_value - distortion, "rate": rates}


@torch.no_grad()
def log_likelihood(
    model: Program,
    guide: Program,
    x: Tensor | Rows,
    particles: int = 5000,
    rows: int = ROWS,
    progress: Callable[[int], Any] | None = None,
) -> Tensor:
    r"""Importance-sampled $\log \hat p(x) = \log \frac1S \sum_s p(x, z_s) / q(z_s \mid x)$, nats, shape (N,), float64.

    The weights are joint over all latents, which is unbiased for p(x) for every pair; E[log p^] <= log p(x).
    Exactly `particles` samples are drawn per datum; they are streamed in chunks, each datum's weights being averaged
    before the logarithm, with float64 accumulators.

    Arguments:
        x: data of shape (N, *event).
        particles: S; the papers use 5000 (Klushyn et al. 2019, table 2).
        rows: how many (datum, sample) pairs go through the networks at once; changes memory, not the estimator.
        progress: called with the number of data finished.

    Raises:
        ConfigError: for fewer than one particle.
    """
    if not isinstance(particles, int) or particles < 1:
        raise ConfigError(f"particles must be a whole number of at least 1, got {particles!r}.")
    chunk = min(particles, max(1, rows // 8))
    sizes = [min(chunk, particles - start) for start in range(0, particles, chunk)]
    elbos = {size: ELBO(particles=size, analytic_kl=False) for size in set(sizes)}
    results = []
    for batch in x.split(max(1, rows // chunk)):
        total = torch.full((len(batch),), -torch.inf, dtype=torch.float64, device=x.device)
        for size in sizes:
            with pyro.validation_enabled(False):
                log_w = elbos[size].estimate(model, guide, batch).log_weights().double()
            total = torch.logaddexp(total, torch.logsumexp(log_w, 0))
        results.append(total - torch.log(torch.tensor(float(particles), dtype=torch.float64, device=x.device)))
        if progress is not None:
            progress(len(batch))
    return torch.cat(results)


@torch.no_grad()
def active_units(guide: Program, x: Tensor | Rows, samples: int = 50, threshold: float = 1e-2) -> dict[str, int]:
    r"""Site -> number of units with $\mathrm{Var}_x(E_q[u]) > 0.01$ (Burda et al. 2016).

    The guide's first site has an exact mean; a later site's is averaged over `samples` draws of the sites before it *before*
    the variance over x is taken, and what sampling variance is left in that average is subtracted (a mean of 50 draws with
    unit variance would vary by 0.02, twice the threshold, in a layer that knows nothing of x).

    Raises:
        ConfigError: for fewer than two samples of a guide with several sites.
    """
    sums: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    if len(latents(guide, x[:1])) == 1:
        samples = 1
    elif samples < 2:
        raise ConfigError(f"active units of several layers need at least two samples, got {samples}.")
    for _ in range(samples):
        parts = []
        for batch in x.split(ROWS):
            with pyro.validation_enabled(False), Record() as record:
                guide(batch)
            parts.append({name: site["fn"].mean for name, site in record.sites.items()})
        for name in parts[0]:
            value = torch.cat([p[name] for p in parts]).double().flatten(1)
            sums[name] = sums.get(name, 0) + value
            squares[name] = squares.get(name, 0) + value.square()

    def active(name: str) -> int:
        means = sums[name] / samples
        of_a_mean = (squares[name] / samples - means.square()) / max(1, samples - 1)
        return int((means.var(0, correction=0) - of_a_mean.mean(0) > threshold).sum())

    return {name: active(name) for name in sums}
