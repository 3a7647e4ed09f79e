"""Tools for every model/guide pair that keeps the contract: encode, generate, reconstruct, bound, active units.

Three passes that other code bases write by hand (posterior, prior, forced latents) are one program under three handlers.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import Laplace, Normal

from pyro_hvae.compilation.captured_loss import capture
from pyro_hvae.data import Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.handlers import Means, Record, site_mean

__all__ = [
    "AncestralDraws",
    "latents",
    "ancestral",
    "generate",
    "prior_latents",
    "reconstruct",
    "likelihood_name",
]

Program = Callable[..., Any]
MOST = 10_000_000  # prior samples in memory
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
    _check_sizes(fixed, size)
    with pyro.validation_enabled(False), Record(fixed) as record:
        model(size=size)
    if unknown := set(fixed) - (set(record.sites) - {"x"}):
        raise ConfigError(f"no latent site called {sorted(unknown)}; the model has {[n for n in record.sites if n != 'x']}.")
    return record.sites


def _check_sizes(fixed: Mapping[str, Tensor], size: int) -> None:
    for name, value in fixed.items():
        if len(value) != size:
            raise ConfigError(f"fixed['{name}'] holds {len(value)} values, but size is {size}.")


@torch.no_grad()
def generate(
    model: Program,
    size: int = 1,
    fixed: Mapping[str, Tensor] | None = None,
    mean: bool = True,
    compile: bool = False,
) -> dict[str, Tensor]:
    """Ancestral samples: site -> values of shape (size, *event), x included.

    Arguments:
        fixed: latent sites held at given values of shape (size, *event); the sites below are drawn given them. Sites above
            a fixed one keep their prior (no inference is done).
        mean: give E[x | z] instead of a draw for x.
        compile: go in pieces of 4096 through one compiled graph (see `capture`), which takes seconds to make. The draws of a
            piece are those of `generate(model, 4096)`: other ones than a single pass of that size draws.

    Raises:
        ConfigError: when a fixed site does not exist or has another size.
    """
    if compile:
        return _generate_in_chunks(model, size, fixed or {}, mean, compile=True)
    sites = ancestral(model, size, fixed)
    values = {name: site["value"] for name, site in sites.items()}
    if mean:
        values["x"] = site_mean(sites["x"])
    return values


class AncestralDraws(nn.Module):
    """`generate` of a given size as a module of tensors, the values of the fixed sites: what it captures."""

    def __init__(self, model: Program, size: int, fixed: Collection[str], mean: bool) -> None:
        super().__init__()
        self.model, self.size, self.fixed, self.mean = model, size, tuple(fixed), mean

    def forward(self, *values: Tensor) -> dict[str, Tensor]:
        return generate(self.model, self.size, dict(zip(self.fixed, values, strict=True)), self.mean)


@torch.no_grad()
def _generate_in_chunks(
    model: Program, size: int, fixed: Mapping[str, Tensor], mean: bool, compile: bool, without: str = ""
) -> dict[str, Tensor]:
    """`generate` of 4096 rows at a time, one of the sites left out; a graph is made where it serves several pieces."""
    _check_sizes(fixed, size)
    draws = AncestralDraws(model, ROWS, fixed, mean)
    captured = capture(draws, gradient=False) if compile and size >= 2 * ROWS else None
    parts = []
    for start in range(0, size, ROWS):
        piece = {name: value[start : start + ROWS] for name, value in fixed.items()}
        if captured is not None and start + ROWS <= size:
            found = captured(*piece.values())
        else:
            found = generate(model, min(ROWS, size - start), piece, mean)
        parts.append({name: value for name, value in found.items() if name != without})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def prior_latents(model: Program, size: int, compile: bool = False) -> dict[str, Tensor]:
    """Ancestral samples of the latents alone, in pieces: site -> values of shape (size, *event), size at least 1.

    Arguments:
        compile: as in `generate`; the draws are the same.
    """
    if not 1 <= size <= MOST:
        raise ConfigError(f"{size} samples of the prior were asked for; it is at least one and at most {MOST}.")
    return _generate_in_chunks(model, size, {}, False, compile, without="x")


def reconstruct(model: Program, guide: Program, x: Tensor | Rows) -> Tensor:
    """E[x | z] at the posterior means, shape (B, *event): the decoder at mu_phi(x)."""
    parts = [generate(model, len(b), fixed=latents(guide, b, mean=True))["x"] for b in x.split(ROWS)]
    return torch.cat(parts)


@torch.no_grad()
def likelihood_name(model: Program) -> str:
    """What p(x | z) is, for people: "Bernoulli", "Gaussian, sigma 0.2", "Gaussian, sigma by pixel", "Laplace, scale 0.125"."""
    fn = ancestral(model)["x"]["fn"]
    base = getattr(fn, "base_dist", fn)
    if isinstance(base, Normal | Laplace):
        name = "Gaussian, sigma" if isinstance(base, Normal) else "Laplace, scale"
        low, high = base.scale.aminmax()
        return f"{name} {low.item():.4g}" if low == high else f"{name} by pixel"
    return type(base).__name__
