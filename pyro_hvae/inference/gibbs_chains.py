"""Gibbs chains between data and latents, through the bottom layer alone or all layers (Zhao et al. 2017, section 3.1)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_hvae.compilation import capture
from pyro_hvae.data import Batch, x_of
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.sampling import ancestral, latents
from pyro_hvae.objectives import ELBO, given_for, resolve_sites, site_mean, takes_data
from pyro_hvae.runtime import in_evaluation_mode

Program = Callable[..., Any]
FAR = 1000.0  # standard deviations of the data


@dataclass(frozen=True)
class Chains:
    """Draws of C parallel chains after burn-in and thinning, T of each.

    Attributes:
        sites: the latents that a step keeps. x: draws of p(x | z_S), shape (T, C, *event). mean: E[x | z] of the same z.
        z: site -> (T, C, *event), the latents from which x was drawn.
        trail: E[x | z] of the first eight chains at the steps in `trail_steps` (0 is the start, with NaN in missing entries),
            shape (steps, chains, *event).
    """

    sites: tuple[str, ...]
    x: Tensor
    mean: Tensor
    z: dict[str, Tensor]
    trail: Tensor
    trail_steps: tuple[int, ...]

    def find_diverged(self, data: Tensor) -> Tensor:
        """Chains that left the data, (C,) booleans: some kept value is not finite, or some E[x | z] is far from all data.

        Far is more than 1000 standard deviations from the mean of the data (n, *event), entry by entry; the standard deviation
        is the root mean square of those of all entries. Draws of x do not count: a heavy-tailed likelihood may have such ones.
        """
        data = data.to(self.mean)
        spread = data.var(0, correction=0).mean().sqrt()
        far = (self.mean - data.mean(0)).abs() > (FAR * spread if spread > 0 else torch.inf)
        shape = (*self.x.shape[:2], -1)
        wrong = [far, *(~values.isfinite() for values in (self.x, self.mean, *self.z.values()))]
        return torch.cat([values.reshape(shape) for values in wrong], -1).any(-1).any(0)


class GibbsStep(nn.Module):
    """One step of every chain as a module that `gibbs` captures: it keeps the sites `names` of one of K = `particles` draws."""

    def __init__(self, model: Program, guide: Program, names: Collection[str], particles: int = 1) -> None:
        super().__init__()
        self.model, self.guide, self.names = model, guide, tuple(names)
        self.elbo = ELBO(particles=particles, analytic_kl=False)

    def forward(self, x: Tensor | Batch) -> dict[str, Tensor]:
        """From x of shape (C, *event): the next "x", its "mean" E[x | z], and "z.SITE" for every kept site."""
        drawn = latents(self.guide, x) if self.elbo.particles == 1 else self._resample_latents(x)
        z = {name: drawn[name] for name in self.names}
        site = ancestral(self.model, x.shape[0], z, given_for(self.model, x))["x"]
        # The draws of a discrete distribution can be of another type than the data.
        return {
            "x": site["value"].to(x.dtype),
            "mean": site_mean(site).to(x.dtype),
            **{f"z.{k}": value for k, value in z.items()},
        }

    def _resample_latents(self, x: Tensor | Batch) -> dict[str, Tensor]:
        """Sampling importance resampling: site -> one of the guide's K draws per datum, by weight; (B, *event)."""
        with pyro.validation_enabled(False):
            estimate = self.elbo.estimate(self.model, self.guide, x)
        log_weights = estimate.log_weights().T
        log_weights = log_weights.nan_to_num(nan=torch.finfo(log_weights.dtype).min)  # of a chain that diverged: any draw
        chosen = torch.distributions.Categorical(logits=log_weights).sample()
        rows = torch.arange(x.shape[0], device=x.device)
        return {name: value[chosen, rows] for name, value in estimate.latents.items()}


@takes_data
@torch.no_grad()
@in_evaluation_mode
def gibbs(
    model: Program,
    guide: Program,
    x: Tensor | Batch,
    steps: int = 100,
    sites: Collection[str] | str = ("z1",),
    *,
    noise: bool = True,
    particles: int = 1,
    burn_in: int = 0,
    thin: int = 1,
    progress: Callable[[int], Any] | None = None,
    compile: bool = False,
    warn: Callable[[str], Any] | None = None,
) -> Chains:
    r"""Runs chains $z_S^{(t)} \sim q(z_S \mid x^{(t)})$, $x^{(t+1)} \sim p(x \mid z_S^{(t)})$, one per row of x.

    With the bottom layer of a Markov HVAE (S = {z1}) this is the chain of Zhao et al. 2017, proposition 1 (eq. 6); with all
    sites that of proposition 2 (eq. 16). At the optimum of the ELBO its stationary distribution is that of the data. q(z_S | x)
    is sampled by drawing all of q(z | x) and keeping S.

    Arguments:
        x: starting points, shape (C, *event). Where entries are missing the observed ones stay as they are: at the optimum the
            stationary distribution of a chain is p(x_missing | x_observed). Given inputs stay as they are, too.
        steps: length of every chain. burn_in: steps dropped at the start. thin: keep each thin-th of the other steps.
        sites: names, or "all". Other latents are drawn from their prior, which must give a valid chain (`check_sites`).
        noise: draw x from p(x | z). False passes E[x | z] on, which is *not* the chain of the propositions, for guides trained
            on noise-free images.
        particles: K > 1 draws K codes from the guide and keeps one, by its weight p(x, z) / q(z | x): for large K a draw from
            the true posterior. This addition to the paper shows how much of a chain's drift comes from the guide.
        progress: called with 1 after every step.
        compile: run a step as one compiled graph with the same random numbers (see `capture`). Compiling takes seconds and pays
            for thousands of steps. warn: called instead of warning with a `CaptureWarning`.

    Raises:
        ConfigError: for impossible lengths, or sites that give no valid chain (the message names the sites to add).

    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model, guide = Chain(StandardNormal(2), [], Gaussian(2, 4)), BottomUp([Gaussian(4, 2)])
    >>> gibbs(model, guide, torch.zeros(8, 4), steps=10, burn_in=4, thin=2).x.shape
    torch.Size([3, 8, 4])
    """
    if steps < 1 or thin < 1 or not 0 <= burn_in < steps:
        raise ConfigError(
            f"a chain needs steps >= 1, thin >= 1 and 0 <= burn-in < steps; got steps {steps}, thin {thin}, burn-in {burn_in}."
        )
    names, start = resolve_sites(model, x, sites), x
    known = x.observed if isinstance(x, Batch) else None
    trail_steps = (*(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if s < steps), steps)
    states, first = [], x[:8]
    trail = [first.with_nan() if isinstance(first, Batch) else first]
    module = GibbsStep(model, guide, names, particles)
    gibbs_step = capture(module, gradient=False, warn=warn) if compile else module
    lost = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for step in range(1, steps + 1):
        state = gibbs_step(x)
        if known is not None:
            state |= {name: x_of(start).where(known, state[name]) for name in ("x", "mean")}
        values = state["x"] if noise else state["mean"]
        # A chain that is lost begins anew, so that the programs go on with the others, but its states are NaN from then on.
        lost = lost | ~values.reshape(len(values), -1).isfinite().all(1)
        state = {name: _without_lost(value, lost) for name, value in state.items()}
        values = values.where(_align(~lost, values), x_of(start))
        if step > burn_in and (step - burn_in) % thin == 0:
            states.append(state)
        if step in trail_steps:
            trail.append(state["mean"][:8])
        x = start.with_x(values) if isinstance(start, Batch) else values
        if progress is not None:
            progress(1)
    if not states:
        raise ConfigError(f"thin={thin} keeps nothing of the {steps - burn_in} steps after burn-in. Use a smaller one.")
    draws = {key: torch.stack([state[key] for state in states]) for key in states[0]}
    z = {name: draws[f"z.{name}"] for name in names}
    return Chains(names, draws["x"], draws["mean"], z, torch.stack(trail), (0, *trail_steps))


def _align(chains: Tensor, values: Tensor) -> Tensor:
    """(C,) -> (C, 1, ...), as many dims as values have."""
    return chains.reshape(-1, *[1] * (values.dim() - 1))


def _without_lost(values: Tensor, lost: Tensor) -> Tensor:
    return values.masked_fill(_align(lost, values), torch.nan) if values.is_floating_point() else values
