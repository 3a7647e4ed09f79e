"""Scores of single data: the importance-sampled log-likelihood, and the bound with what it is made of."""

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor
from tqdm import tqdm

from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError, FewEffectiveSamplesWarning
from pyro_hvae.inference.draw_memory import require_memory
from pyro_hvae.inference.importance_sampling import (
    MAX_PARTICLES,
    describe_few_effective_samples,
    importance_weights,
    require_density,
    require_numbers,
)
from pyro_hvae.inference.sampling import ROWS, guide_sites
from pyro_hvae.objectives import ELBO, takes_data
from pyro_hvae.runtime import fixed_seed, in_evaluation_mode

Program = Callable[..., Any]


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    r"""Scores of N data in nats per datum, float64 arrays (N,); indexed along the data, `scores[:10]`.

    Attributes:
        elbo: the bound with one particle, $-D - \sum_l R_l$. Missing entries of x are left out of all of these.
        distortion: $D = -E_q \log p(x \mid z)$.
        rates: layer -> $R_l = E_q[\log q(z_l \mid \cdot) - \log p(z_l \mid \cdot)]$. Their sum is KL(q(z | x) || p(z)); that of
            a layer is a KL only where all its parents in the model precede it in the guide, and else can be negative.
        log_likelihood: $\log \frac1S \sum_s w_s$ of S importance samples, None without any.
        effective: the effective sample sizes of these weights, between 1 and S.
        half: what S / 2 of the samples give, as in `Weights`.

    A datum for which the networks return no number has NaN.
    """

    elbo: np.ndarray
    distortion: np.ndarray
    rates: dict[str, np.ndarray]
    log_likelihood: np.ndarray | None = None
    effective: np.ndarray | None = None
    half: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """What data are ordered by, (N,): log p(x), or the bound on it where there are no importance samples. The lower it is,
        the less the model expects the datum: the lowest are outliers, and so are those of NaN, which NumPy sorts to the end."""
        return self.elbo if self.log_likelihood is None else self.log_likelihood

    def __len__(self) -> int:
        return len(self.elbo)

    def __getitem__(self, index: Any) -> "Scores":
        places = np.arange(len(self))[index].reshape(-1)
        taken = {name: values[places] for name, values in self.columns().items()}
        rates = {name: taken[f"rate_{name}"] for name in self.rates}
        half = None if self.half is None else self.half[places]
        return Scores(taken["elbo"], taken["distortion"], rates, taken.get("log_likelihood"), taken.get("effective"), half)

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {values.mean():.4g}" for name, values in self.columns().items() if len(values))
        return f"Scores of {len(self):,} data, means: {means}"

    def columns(self) -> dict[str, np.ndarray]:
        """All of it by name, as files have it: `pandas.DataFrame(scores.columns())`."""
        weights = {"log_likelihood": self.log_likelihood, "effective": self.effective}
        found = {name: values for name, values in weights.items() if values is not None}
        rates = {f"rate_{name}": values for name, values in self.rates.items()}
        return {**found, "elbo": self.elbo, "distortion": self.distortion, **rates}


@takes_data
@torch.no_grad()
@in_evaluation_mode
def score(
    model: Program,
    guide: Program,
    x: Tensor | Batch | Rows,
    *,
    particles: int = 100,
    inner: int = 1,
    shared: Collection[str] = (),
    draws: int = 16,
    seed: int = 0,
    compile: bool = False,
    progress: bool = False,
) -> Scores:
    r"""Scores of every datum: log p(x) by importance sampling, and the bound with its distortion and rates, in nats.

    Outliers have low values: `scores.values.argsort()[:10]` are the ten data that the model expects least.

    The bound is that of one particle whatever bound was trained, so that it is the sum of its parts. Each is a mean over
    `draws` draws of q, with a KL in closed form where `ELBO` takes one. With `particles` = K the log-likelihood is the bound of
    an IWAE with K particles, and with one particle, `inner` = K and `shared={"z1"}` it is that of a VHP. The density is one of
    x as it is given: of standardised data, where x are standardised.

    Arguments:
        x: data (N, *event) of any type; `given=` and `observed=` as in every question.
        particles: S, importance samples of each datum; 0 gives the bound alone.
        inner, shared, compile: as for `importance_weights`. draws: for the bound and its parts.
        seed: of all draws. progress: show a bar.

    Raises:
        ConfigError: as `importance_weights`, for a guide without densities, less than one draw or more than 10 million, and for
            inner particles of more than 1 GiB. DivergenceError: where the weights of all data are NaN.

    Warns:
        FewEffectiveSamplesWarning: where the median effective sample size is below 10 of 100 samples or more.

    >>> import pyro_hvae as hv
    >>> model, guide = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4)), hv.BottomUp([hv.Gaussian(4, 2)])
    >>> scores = score(model, guide, np.zeros((3, 4)), particles=10)
    >>> list(scores.columns()), scores.values.shape
    (['log_likelihood', 'effective', 'elbo', 'distortion', 'rate_z1'], (3,))
    """
    if not 1 <= draws <= MAX_PARTICLES:
        raise ConfigError(f"draws={draws}: the bound is a mean over one draw or more, up to {MAX_PARTICLES}, such as draws=16.")
    x = x.draw_once() if isinstance(x, Rows) else x  # all scores are of the same x
    parts = list[dict[str, Tensor]]()
    weights: list[tuple[Tensor, ...]] = []
    count = len(x) * (2 if particles else 1)
    with tqdm(total=count, unit="datum", desc="scoring", disable=None if progress else True) as bar:
        with fixed_seed(seed):
            require_density(sites := guide_sites(guide, x[:1]))
        require_memory(sum(site["fn"].event_shape.numel() for site in sites.values()), 1, inner)
        # Before the bound: its arguments are checked with the first batch.
        samples = importance_weights(model, guide, x, particles, inner, shared, seed=seed, compile=compile, keep_nan=True)
        for found in samples if particles else ():
            weights.append((found.log_likelihood, found.effective, found.half))
            bar.update(len(found.bound))
        with fixed_seed(seed):
            for batch in x.split(ROWS):
                parts.append(_bound_terms(model, guide, batch, draws))
                bar.update(len(batch))
    terms = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    distortion, rates = -terms.pop("x"), {name: -values for name, values in terms.items()}
    scores = Scores(-distortion - np.sum([*rates.values()], axis=0), distortion, rates)
    if not weights:
        return scores
    values, effective, half = (torch.cat(column).cpu() for column in zip(*weights, strict=True))
    if values.isnan().all():
        require_numbers(values)
    if particles >= 100 and (few := describe_few_effective_samples(values, half, effective, particles)):
        warnings.warn(few, FewEffectiveSamplesWarning, stacklevel=5)  # the caller of the decorated function
    return Scores(scores.elbo, distortion, rates, values.numpy(), effective.numpy(), half.numpy())


def _bound_terms(model: Program, guide: Program, x: Tensor | Batch, draws: int) -> dict[str, Tensor]:
    """Site -> log p - log q of one particle, log p at x, in the mean over draws, (B,), float64."""
    sums: dict[str, Tensor] = {}
    for _ in range(draws):
        with pyro.validation_enabled(False):
            estimate = ELBO().estimate(model, guide, x)
        for name, term in estimate.terms.items():
            sums[name] = sums.get(name, 0.0) + term.cpu().double()
    return {name: total / draws for name, total in sums.items()}
