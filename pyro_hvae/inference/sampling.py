"""Latents, ancestral samples and reconstructions of any model/guide pair.

Posterior, prior and fixed latents are one program under three handlers, instead of three passes written by hand.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import Laplace, Normal

from pyro_hvae.compilation import capture
from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError, ContractError
from pyro_hvae.objectives import (
    Means,
    Record,
    Site,
    describe_untaken,
    given_for,
    inputs_for,
    require_taken,
    run_program,
    scalar_family,
    site_mean,
    take_given,
    takes_data,
)
from pyro_hvae.runtime import in_evaluation_mode

Program = Callable[..., Any]
Fixed = Mapping[str, Tensor] | None
MAX_SAMPLES = 10_000_000  # of the prior, in memory
ROWS = 4096  # rows per pass: enough for a busy core, small enough for its cache


@takes_data
@torch.no_grad()
@in_evaluation_mode
def latents(guide: Program, x: Tensor | Batch | Rows, mean: bool = False) -> dict[str, Tensor]:
    """Site -> latent values of q(z | x), shape (B, *event), in the guide's order.

    Arguments:
        mean: take the mean of every site instead of a draw. Sites that depend on others get their mean given these means, not
            an expectation over the chain. Where a distribution has none, see `site_mean`.
    """
    batches = [guide_sites(guide, batch, mean) for batch in x.split(ROWS)]
    return _concatenate([{name: site["value"] for name, site in sites.items()} for sites in batches])


def guide_sites(guide: Program, x: Tensor | Batch, mean: bool = False) -> dict[str, Site]:
    """Site -> Pyro's message in one run of the guide; arguments as for `latents`."""
    with pyro.validation_enabled(False), Record() as record, Means() if mean else nullcontext():
        run_program(guide, x)
    return record.sites


def _concatenate(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


@torch.no_grad()
@in_evaluation_mode
def ancestral(model: Program, size: int = 1, fixed: Fixed = None, given: Fixed = None) -> dict[str, Any]:
    """Runs the model: site -> Pyro's message (`fn`, `value`, ...), with x; arguments and errors as for `generate`."""
    fixed, given = dict(fixed or {}), expand_given(given, size, model)
    _check_sizes(fixed, size)
    require_taken([model], given)
    with _explain_signature(model, given), pyro.validation_enabled(False), Record(fixed) as record:
        model(size=size, **inputs_for(model, given))
    if "x" not in record.sites:
        raise ContractError(f"the model draws {list(record.sites)}, but no site 'x'. Call what it observes 'x'.")
    if unknown := set(fixed) - (set(record.sites) - {"x"}):
        raise ConfigError(f"no latent site called {sorted(unknown)}; the model has {[n for n in record.sites if n != 'x']}.")
    return record.sites


@contextmanager
def _explain_signature(model: Program, given: Mapping[str, Tensor]) -> Iterator[None]:
    """Turns an error about the arguments of a model into a `ContractError`."""
    try:
        yield
    except (TypeError, AttributeError) as error:
        if untaken := describe_untaken(model, given, error):
            raise ContractError(untaken) from error
        if not any(word in str(error) for word in ("'size'", "positional argument", "NoneType")):
            raise
        raise ContractError(
            f"a model draws `size` data when it is given no x, but this one stops: {error}. It begins with: "
            'def forward(self, x=None, size=1), with pyro.plate("data", size if x is None else len(x)).'
        ) from error


def expand_given(given: Mapping[str, Any] | None, size: int, *programs: Any) -> dict[str, Tensor]:
    """Given inputs of `size` rows, as the programs compute in; a single row is that of all.

    Raises:
        ConfigError: for values of another number of rows. DataError: for what is not finite.
    """
    values = {name: take_given(name, value, *programs) for name, value in (given or {}).items()}
    for name, value in values.items():
        if not value.dim() or len(value) not in (1, size):
            rows = f"{len(value)} rows" if value.dim() else "no rows"
            raise ConfigError(f"the given input '{name}' has {rows}, but the size is {size}. Give one row, or one for each.")
    return {name: value.expand(size, *value.shape[1:]) for name, value in values.items()}


def first_row(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The given inputs of the first datum, or of all where one row is that of all."""
    return {name: value[:1] for name, value in (given or {}).items()}


def repeat_rows(given: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    """All rows of the given inputs, as often as asked for, one round after the other: (n, ...) -> (times * n, ...)."""
    return {name: value.repeat(times, *[1] * (value.dim() - 1)) for name, value in given.items()}


def require_continuous(model: Program, sites: Collection[str], given: Fixed = None) -> None:
    """Raises `ConfigError` where one of the sites has discrete values."""
    found = ancestral(model, 1, given=first_row(given))
    families = {name: scalar_family(site["fn"]) for name, site in found.items() if name in sites}
    for name, family in families.items():
        if family.support.is_discrete:
            raise ConfigError(
                f"'{name}' is a {type(family).__name__}, whose discrete values have no values in between. Use samples instead."
            )


def _check_sizes(fixed: Mapping[str, Tensor], size: int) -> None:
    for name, value in fixed.items():
        if len(value) != size:
            raise ConfigError(f"fixed['{name}'] holds {len(value)} values, but size is {size}.")


@torch.no_grad()
@in_evaluation_mode
def generate(
    model: Program, size: int = 1, fixed: Fixed = None, mean: bool = True, compile: bool = False, *, given: Fixed = None
) -> dict[str, Tensor]:
    """Ancestral samples: site -> values of shape (size, *event), with x.

    Arguments:
        fixed: latent site -> values of shape (size, *event). Sites below are drawn given them; sites above keep their prior.
        mean: give E[x | z] instead of a draw for x, or what `site_mean` gives where there is none.
        compile: run chunks of 4096 rows as one compiled graph (see `capture`); compiling takes seconds. The draws of a chunk
            are those of `generate(model, 4096)`, which differ from those of a single pass of all rows.
        given: inputs of the model, name -> values of shape (size, ...), or of one row for all: draws of p(x | y).

    Raises:
        ConfigError: when a fixed site does not exist or has another size.
    """
    if compile:
        return _generate_in_chunks(model, size, fixed or {}, mean, compile=True, given=given)
    sites = ancestral(model, size, fixed, given)
    values = {name: site["value"] for name, site in sites.items()}
    if mean:
        values["x"] = site_mean(sites["x"])
    return values


class AncestralDraws(nn.Module):
    """`generate` of a given size as a module of tensors (fixed sites, then given inputs), which `generate` captures."""

    def __init__(self, model: Program, size: int, fixed: Collection[str], mean: bool, given: Collection[str] = ()) -> None:
        super().__init__()
        self.model, self.size, self.fixed, self.mean, self.given = model, size, tuple(fixed), mean, tuple(given)

    def forward(self, *values: Tensor) -> dict[str, Tensor]:
        count = len(self.fixed)
        fixed, given = dict(zip(self.fixed, values[:count], strict=True)), dict(zip(self.given, values[count:], strict=True))
        return generate(self.model, self.size, fixed, self.mean, given=given)


@torch.no_grad()
def _generate_in_chunks(
    model: Program,
    size: int,
    fixed: Mapping[str, Tensor],
    mean: bool,
    compile: bool,
    without: str = "",
    given: Fixed = None,
) -> dict[str, Tensor]:
    """`generate` of 4096 rows at a time without one of the sites; compiled where there are two full chunks or more."""
    _check_sizes(fixed, size)
    given = expand_given(given, size, model)
    draws = AncestralDraws(model, ROWS, fixed, mean, given)
    captured = capture(draws, gradient=False) if compile and size >= 2 * ROWS else None
    chunks = []
    for start in range(0, size, ROWS):
        rows, beside = ({n: value[start : start + ROWS] for n, value in held.items()} for held in (fixed, given))
        if captured is not None and start + ROWS <= size:
            values = captured(*rows.values(), *beside.values())
        else:
            values = generate(model, min(ROWS, size - start), rows, mean, given=beside)
        chunks.append({name: value for name, value in values.items() if name != without})
    return _concatenate(chunks)


@in_evaluation_mode
def prior_latents(model: Program, size: int, compile: bool = False, given: Fixed = None) -> dict[str, Tensor]:
    """Ancestral samples of the latents in chunks of 4096, site -> (size, *event); `compile` as in `generate`, same draws."""
    if not 1 <= size <= MAX_SAMPLES:
        raise ConfigError(f"the number of samples of the prior must be from 1 to {MAX_SAMPLES}, got {size}.")
    return _generate_in_chunks(model, size, {}, False, compile, without="x", given=given)


@takes_data
@in_evaluation_mode
def reconstruct(model: Program, guide: Program, x: Tensor | Batch | Rows, *, under: Fixed = None) -> Tensor:
    """E[x | z] at the posterior means, shape (B, *event): the decoder at mu_phi(x).

    Arguments:
        under: given inputs to decode under, instead of those beside x: the same code under another class. One row is for all.
    """
    batches, start = [], 0
    other = expand_given(under, len(x), model)
    for batch in x.split(ROWS):
        given = given_for(model, batch) | {name: value[start : start + len(batch)] for name, value in other.items()}
        batches.append(generate(model, len(batch), fixed=latents(guide, batch, mean=True), given=given)["x"])
        start += len(batch)
    return torch.cat(batches)


@torch.no_grad()
@in_evaluation_mode
def likelihood_name(model: Program, given: Fixed = None) -> str:
    """Readable name of p(x | z): "Bernoulli", "Gaussian, sigma 0.2", "Gaussian, sigma by pixel", "Laplace, scale 0.125"."""
    fn = ancestral(model, given=first_row(given))["x"]["fn"]
    base = scalar_family(fn)
    if isinstance(base, Normal | Laplace):
        name = "Gaussian, sigma" if isinstance(base, Normal) else "Laplace, scale"
        low, high = base.scale.aminmax()
        return f"{name} {low.item():.4g}" if low == high else f"{name} by pixel"
    return type(base).__name__
