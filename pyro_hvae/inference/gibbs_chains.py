"""Gibbs chains between data and latents: a hierarchy sampled through its bottom layer alone (Zhao et al. 2017, section 3.1)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_hvae.compilation.captured_loss import capture
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.sampling import ancestral, latents
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.objectives.handlers import site_mean
from pyro_hvae.objectives.site_dependencies import resolve_sites

__all__ = ["Chains", "GibbsStep", "gibbs"]

Program = Callable[..., Any]


@dataclass(frozen=True)
class Chains:
    """What was kept of C parallel chains: T draws each, after burn-in and thinning.

    Attributes:
        sites: the latents that a step hands on. x: draws of p(x | z_S), shape (T, C, *event); mean: E[x | z] there.
        z: site -> (T, C, *event), the latents that x was drawn from.
        trail: E[x | z] of the first few chains at the steps in `trail_steps` (0 is the start), shape (steps, chains, *event).
    """

    sites: tuple[str, ...]
    x: Tensor
    mean: Tensor
    z: dict[str, Tensor]
    trail: Tensor
    trail_steps: tuple[int, ...]


class GibbsStep(nn.Module):
    """One step of every chain, as a module of tensors: what `gibbs` captures.

    Arguments:
        names: of the kept sites. particles: K, of which one is kept.
    """

    def __init__(self, model: Program, guide: Program, names: Collection[str], particles: int = 1) -> None:
        super().__init__()
        self.model, self.guide, self.names = model, guide, tuple(names)
        self.elbo = ELBO(particles=particles, analytic_kl=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """From x of shape (C, *event): the next "x", its "mean" E[x | z], and "z.SITE" for every kept site."""
        drawn = latents(self.guide, x) if self.elbo.particles == 1 else self._resampled(x)
        z = {name: drawn[name] for name in self.names}
        site = ancestral(self.model, x.shape[0], z)["x"]
        return {"x": site["value"], "mean": site_mean(site), **{f"z.{name}": value for name, value in z.items()}}

    def _resampled(self, x: Tensor) -> dict[str, Tensor]:
        """Sampling importance resampling: site -> one of the guide's K draws per datum, by weight; (B, *event)."""
        with pyro.validation_enabled(False):
            estimate = self.elbo.estimate(self.model, self.guide, x)
        picked = torch.distributions.Categorical(logits=estimate.log_weights().T).sample()
        rows = torch.arange(x.shape[0], device=x.device)
        return {name: value[picked, rows] for name, value in estimate.latents.items()}


@torch.no_grad()
def gibbs(
    model: Program,
    guide: Program,
    x: Tensor,
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

    With the bottom layer of a Markov HVAE kept (S = {z1}) this is the chain of Zhao et al. 2017, proposition 1 (eq. 6); with
    all sites that of proposition 2 (eq. 16). At the optimum of the ELBO its stationary distribution is that of the data. For a
    guide that is not bottom-up, q(z_S | x) is sampled by drawing all of q(z | x) and keeping S.

    Arguments:
        x: starting points, shape (C, *event).
        steps: of every chain. burn_in: steps dropped at the start. thin: of the rest, keep every so-many-th.
        sites: names, or "all". Other latents are drawn anew from their prior, which `check_sites` must find valid.
        noise: draw x from p(x | z). False hands on E[x | z] instead, which is *not* the chain of the propositions; a guide
            trained on noise-free images may yet have seen nothing like a noisy one.
        particles: K > 1 draws K codes from the guide and keeps one of them with probability proportional to its weight
            p(x, z) / q(z | x): q(z | x) as it should be, in the limit of large K, instead of as it was learned. An addition to
            the paper, which shows how much of a chain's drift is the guide's gap to the true posterior.
        progress: called with 1 after every step.
        compile: run a step as one compiled graph (see `capture`), which takes seconds to make and pays for thousands of steps.
            Its random numbers are those of the eager step. warn: called instead of warning with a `CaptureWarning`.

    Raises:
        ConfigError: for lengths that make no sense, or sites that no valid chain can keep (naming those to add).

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
    names = resolve_sites(model, x, sites)
    marks = tuple(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if s < steps)
    xs, means, zs, trail = [], [], {name: [] for name in names}, [x[:8]]
    onwards = GibbsStep(model, guide, names, particles)
    run = capture(onwards, gradient=False, warn=warn) if compile else onwards
    for step in range(1, steps + 1):
        found = run(x)
        if step > burn_in and (step - burn_in) % thin == 0:
            xs.append(found["x"])
            means.append(found["mean"])
            for name in names:
                zs[name].append(found[f"z.{name}"])
        if step in (*marks, steps):
            trail.append(found["mean"][:8])
        x = found["x"] if noise else found["mean"]
        if progress is not None:
            progress(1)
    if not xs:
        raise ConfigError(f"thin={thin} keeps nothing of the {steps - burn_in} steps after burn-in. Use a smaller one.")
    stacked = {name: torch.stack(values) for name, values in zs.items()}
    return Chains(names, torch.stack(xs), torch.stack(means), stacked, torch.stack(trail), (0, *marks, steps))
