"""Whether data lie where their likelihood p(x | z) has a density: values outside give numbers that mean nothing."""

import math
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.weak import WeakIdKeyDictionary

from pyro_hvae.data import Batch, Rows, x_of
from pyro_hvae.errors import DataError
from pyro_hvae.objectives.given_inputs import draw_sites
from pyro_hvae.objectives.handlers import Site, scalar_family
from pyro_hvae.objectives.site_masks import is_entry_mask, site_log_prob

Data = TypeVar("Data", bound=Tensor | Batch | Rows)
BLOCK = 2**22  # numbers that are looked at together
SOFT_BITS = (torch.distributions.Bernoulli, torch.distributions.ContinuousBernoulli)  # grey levels are a usual target
# Model -> the support of x in its last pass, for captured passes, which run no checks of their own.
_last = WeakIdKeyDictionary()


class OpenUnitInterval(constraints.Constraint):
    """Numbers between 0 and 1 without the bounds, where a Beta's density is 0 or infinite."""

    def check(self, value: Tensor) -> Tensor:
        return (value > 0) & (value < 1)

    def __str__(self) -> str:
        return "numbers strictly between 0 and 1"


class Support(NamedTuple):
    """Where a likelihood has a density.

    Attributes:
        family: its name. low, high: of the numbers, where they say all; else None and `constraint` does.
    """

    family: str
    low: float | None
    high: float | None
    constraint: constraints.Constraint

    def excludes(self, values: Tensor) -> Tensor | None:
        """Which values lie outside, in their shape or without the constraint's event dims; None where all lie inside."""
        if self.low is not None and self.high is not None and values.device.type == "cpu" and values.numel():
            least, largest = (value.item() for value in values.detach().aminmax())
            if self.low <= least and largest <= self.high and math.isfinite(largest - least):  # never so for NaN
                return None
        finite, dims = values.isfinite(), self.constraint.event_dim
        outside = ~(self.constraint.check(values) & (finite.flatten(-dims).all(-1) if dims else finite))
        return outside if outside.any() else None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return str(self.constraint)
        return "finite numbers" if math.isinf(self.high) else f"numbers in [{self.low:g}, {self.high:g}]"


NUMBERS = Support("likelihood", -math.inf, math.inf, constraints.real)


def find_support(fn: Any) -> Support:
    """The support of a distribution; that of real numbers where none is known."""
    family = scalar_family(fn)
    if isinstance(family, SOFT_BITS):
        kind = "Bernoulli" if isinstance(family, torch.distributions.Bernoulli) else "ContinuousBernoulli"
        return Support(kind, 0.0, 1.0, constraints.unit_interval)
    if isinstance(family, torch.distributions.Beta):
        return Support("Beta", None, None, OpenUnitInterval())
    constraint: Any = None
    with suppress(NotImplementedError, AttributeError):
        constraint = family.support
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    kind = type(family).__name__
    if constraint is None or constraint is constraints.real:
        return NUMBERS._replace(family=kind)
    return Support(kind, None, None, constraint)


def check_site(model: Any, site: Site) -> None:
    """Raises `DataError` where an observed value lies outside its support and its mask leaves it in.

    On other devices than the CPU nothing waits for an answer: there `observed_log_prob` gives NaN.
    """
    value = site["value"]
    if get_proxy_mode() is not None or value.device.type != "cpu":
        return
    support = find_support(site["fn"])
    with suppress(TypeError):  # a model that cannot be referred to weakly
        _last[getattr(model, "__self__", model)] = support
    outside, mask = support.excludes(value), site["mask"]
    if outside is None:
        return
    dims = support.constraint.event_dim  # of entries that are judged together
    if isinstance(mask, Tensor | bool):
        mask = torch.as_tensor(mask)
        mask = mask if is_entry_mask(site) else mask.reshape(mask.shape + (1,) * len(site["fn"].event_shape))
        outside = outside & (mask.flatten(-dims).any(-1) if dims else mask)
    while outside.dim() > value.dim() - dims:
        outside = outside.any(0)  # over the particles
    if outside.any():
        raise _describe(support, value, outside, place=" of this batch")


def observed_log_prob(site: Site) -> Tensor:
    """log p(x | z) under the site's mask, shape (*plates,); NaN outside the support where `check_site` does not look."""
    log_prob = site_log_prob(site)
    return log_prob if site["value"].device.type == "cpu" else spoil_outside(site, log_prob)


def spoil_outside(site: Site, log_prob: Tensor) -> Tensor:
    """log p(x | z) under the site's mask, with NaN for each datum that the mask leaves in and that is outside the support."""
    mask, constraint = site["mask"], find_support(site["fn"]).constraint
    inside = constraint.check(site["value"])  # of every particle where the support depends on z
    if event := len(site["fn"].event_shape) - constraint.event_dim:
        if is_entry_mask(site):
            inside, mask = inside | ~mask, None
        inside = inside.flatten(-event).all(-1)
    return log_prob.where(inside if mask is None else inside | ~torch.as_tensor(mask, device=inside.device), math.nan)


def check_batch(data: Tensor | Batch, model: Any) -> None:
    """Checks a batch for a captured pass: by the support that x had in the model's last pass in Python, if there was one."""
    support, x = _last.get(getattr(model, "__self__", model)), x_of(data)
    if not support or x.device.type != "cpu" or get_proxy_mode() is not None:
        return
    outside = _without_missing(support.excludes(x), data)
    if outside is not None and outside.any():
        raise _describe(support, x, outside, place=" of this batch")


def _without_missing(outside: Tensor | None, data: Tensor | Batch) -> Tensor | None:
    """Which values lie outside among those that are observed."""
    if outside is None or not isinstance(data, Batch) or data.observed is None:
        return outside
    return outside & data.observed.reshape(*outside.shape, -1).any(-1)


def check_data(x: Data, model: Any = None) -> Data:
    """Reads all data once, and returns them.

    Bytes, which become numbers in [0, 1], are not read for a likelihood that has a density there. Data that are drawn when
    they are read are checked in the passes.

    Arguments:
        model: draws one datum, whose likelihood tells the support; None looks for numbers that are not finite.

    Raises:
        DataError: for numbers that are not finite, or where the likelihood has no density; it names the first.
    """
    if get_proxy_mode() is not None or (isinstance(x, Rows) and not isinstance(x.store, Tensor)):
        return x
    sites = {} if model is None else draw_sites(model, x)
    support = find_support(sites["x"]["fn"]) if "x" in sites else NUMBERS
    if any(isinstance(bound, Tensor) for bound in vars(support.constraint).values()):
        support = NUMBERS  # it depends on z: the passes check it
    if isinstance(x, Rows) and isinstance(x.store, Tensor) and x.store.dtype == torch.uint8 and support.low is not None:
        return x
    done = 0
    for piece in x.split(max(1, BLOCK // max(1, math.prod(x.shape[1:])))):
        outside = _without_missing(support.excludes(x_of(piece)), piece)
        if outside is not None and outside.any():
            raise _describe(support, x_of(piece), outside, done)
        done += len(piece)
    return x


def _describe(support: Support, values: Tensor, outside: Tensor, first: int = 0, place: str = "") -> DataError:
    where = [int(i) for i in np.unravel_index(int(outside.flatten().int().argmax()), outside.shape)]
    value, others = values[tuple(where)], int(outside.sum()) - 1
    text = f"{value.item():.6g}" if not value.dim() else f"{[round(v, 4) for v in value.flatten().tolist()]}"
    index = first + where[0] if len(where) == 1 else (first + where[0], *where[1:])
    found = f"x has the value {text} at index {index}{place}" + (f" and {others:,} more such values" if others else "")
    if not value.isfinite().all():
        return DataError(f"{found}. Replace values that are not finite, or leave such data out.")
    advice = "Scale the data to them" if support.low == 0 else "Change the data"
    return DataError(
        f"{found}, but the likelihood of x, a {support.family}, has a density at {support} only. {advice}, or use another "
        "likelihood, such as hv.Gaussian."
    )
