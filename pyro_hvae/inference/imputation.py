"""Imputation: values for the missing entries of x, from their distribution given the observed ones."""

import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_hvae.data import Batch, Rows, x_of
from pyro_hvae.errors import ConfigError, FewEffectiveSamplesWarning
from pyro_hvae.inference.importance_sampling import FEW_EFFECTIVE, require_numbers
from pyro_hvae.inference.sampling import generate, repeat_rows
from pyro_hvae.objectives import ELBO, Estimate, find_mean, given_for, scalar_family, site_mean, takes_data
from pyro_hvae.runtime import in_evaluation_mode

Program = Callable[..., Any]
VALUES = 2**21  # numbers of E[x | z] in one pass: larger tensors cost twice the time, for their memory is new in each
MAX_DRAWS = 10_000


@takes_data
@torch.no_grad()
@in_evaluation_mode
def impute(
    model: Program,
    guide: Program,
    x: Tensor | Batch | Rows,
    particles: int = 1000,
    draws: int = 0,
    progress: Callable[[int], Any] | None = None,
) -> Tensor:
    r"""The data with values in their missing entries, shape (N, *event); observed entries stay as they are.

    A value is the mean $\sum_k \tilde w_k E[x_m \mid z_k]$ of the missing $x_m$ given the observed $x_o$, with the normalised
    importance weights of K draws $z_k \sim q(z \mid x_o)$, $\tilde w_k \propto p(x_o, z_k) / q(z_k \mid x_o)$ (Mattei and
    Frellsen 2019, eq. 12). With `draws` = M the result is M complete data sets for multiple imputation: z is one of the K
    draws, chosen by its weight, and $x_m$ is drawn from $p(x_m \mid z)$, so that the draws vary as much as is not known.

    Where x is a Categorical, a value is the most probable class instead of a mean.

    Arguments:
        x: data with NaN in missing entries, or with `observed=mask` beside them; `given=` as in every question.
        particles: K; the mean and the draws are exact for large K. draws: M; 0 gives the means.
        progress: called with the number of finished data after every batch.

    Returns:
        shape (N, *event), or (M, N, *event) with draws; on the device of x.

    Raises:
        ConfigError: for a number out of range, or p(x | z) that does not factorise over the entries of x.
        DivergenceError: for importance weights that are no numbers.

    Warns:
        FewEffectiveSamplesWarning: where the median effective sample size is below 10 of 100 particles or more.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model, guide = Chain(StandardNormal(2), [], Gaussian(2, 3)), BottomUp([Gaussian(3, 2)])
    >>> x = torch.tensor([[1.0, torch.nan, 3.0], [4.0, 5.0, 6.0]])
    >>> filled = impute(model, guide, x)
    >>> filled[0, 0].item(), filled[1].tolist(), bool(filled.isfinite().all())
    (1.0, [4.0, 5.0, 6.0], True)
    """
    if particles < 2:
        raise ConfigError(f"imputation weighs at least two particles, got particles={particles}. Take 1000.")
    if not 0 <= draws <= MAX_DRAWS:
        raise ConfigError(f"the number of draws is from 0 (means) to {MAX_DRAWS}, got {draws}.")
    size = max(1, VALUES // (max(particles, draws) * max(1, x.shape[1:].numel())))
    filled, effective = list[Tensor](), list[Tensor]()
    for batch in x.split(size):
        known = batch.observed if isinstance(batch, Batch) else None
        values = x_of(batch).expand(draws, *batch.shape) if draws else x_of(batch)
        if isinstance(batch, Batch) and known is not None and not known.all():
            with pyro.validation_enabled(False):
                estimate = ELBO(particles=particles, analytic_kl=False).estimate(model, guide, batch)
            weights = estimate.log_weights().double().softmax(0)
            require_numbers(weights.sum(0))
            effective.append(weights.square().sum(0).reciprocal()[~known.flatten(1).all(1)])
            found = _draw(model, batch, estimate, weights, draws) if draws else _average(estimate, weights)
            values = values.where(known, found.to(batch.dtype))
        filled.append(values)
        if progress is not None:
            progress(len(batch))
    if effective and particles >= 100 and (median := torch.cat(effective).quantile(0.5).item()) < FEW_EFFECTIVE:
        warnings.warn(
            f"the imputed values are uncertain: the median effective sample size is {median:.1f} of {particles}, below "
            f"{FEW_EFFECTIVE}. Take more particles, or a guide that fits the posterior better.",
            FewEffectiveSamplesWarning,
            stacklevel=5,  # the caller of the decorated function
        )
    return torch.cat(filled, 1 if draws else 0)


def _average(estimate: Estimate, weights: Tensor) -> Tensor:
    """Means of x under weights (K, B), shape (B, *event)."""
    fn, family = estimate.x["fn"], scalar_family(estimate.x["fn"])
    each = weights.reshape(*weights.shape, *[1] * len(fn.event_shape))
    if isinstance(family, torch.distributions.Categorical):  # the most probable class, for classes have no mean
        return (each[..., None] * family.probs).sum(0).argmax(-1)
    if find_mean(fn)[0] is None:
        raise ConfigError(f"p(x | z) is a {type(family).__name__} without a mean in closed form. Impute draws: draws=5.")
    everywhere = estimate.x["value"].expand(fn.batch_shape + fn.event_shape)
    return (each * site_mean({**estimate.x, "value": everywhere})).sum(0)


def _draw(model: Program, batch: Batch, estimate: Estimate, weights: Tensor, draws: int) -> Tensor:
    """Draws of x, (M, B, *event), given latents that are chosen by weights (K, B)."""
    chosen = torch.multinomial(weights.T, draws, replacement=True).T
    rows = torch.arange(len(batch), device=batch.device)
    fixed = {name: value[chosen, rows].flatten(0, 1) for name, value in estimate.latents.items()}
    given = repeat_rows(given_for(model, batch), draws)
    values = generate(model, draws * len(batch), fixed, mean=False, given=given)["x"]
    return values.reshape(draws, *batch.shape)
