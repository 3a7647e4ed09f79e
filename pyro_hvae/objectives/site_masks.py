"""Masks of sites: of whole data, as `poutine.mask` has them, or of entries of a datum whose density factorises."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, ContractError
from pyro_hvae.objectives.handlers import Site, scalar_family


def fits(shape: Sequence[int], into: Sequence[int]) -> bool:
    """Whether a tensor of a shape broadcasts to another shape, which stays as it is."""
    return len(shape) <= len(into) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(into), strict=False))


def mask_missing(site: Site, x: Tensor | Batch) -> None:
    """Masks the entries of an observed site that are missing in the data, beside what a mask of the program leaves out.

    Raises:
        ContractError: for a site with other entries than the data.
    """
    if not isinstance(x, Batch) or x.observed is None:
        return
    mask, event = site["mask"], len(site["fn"].event_shape)
    if (found := site["fn"].event_shape) != x.shape[1:]:
        raise ContractError(
            f"x has missing entries and the shape {tuple(x.shape[1:])}, but the model's site 'x' has {tuple(found)}, so "
            "that it is not known which of its entries are missing. Let the site have the shape of x, or fill the entries in."
        )
    if isinstance(mask, Tensor) and not is_entry_mask(site):
        mask = mask.reshape(mask.shape + (1,) * event)
    # In full, so that its shape is not that of plates.
    known = x.observed.expand(*site["fn"].batch_shape, *site["fn"].event_shape)
    site["mask"] = known if mask is None or mask is True else known & torch.as_tensor(mask, device=known.device)


def is_entry_mask(site: Site) -> bool:
    """Whether a site's mask is one of entries, of shape (*plates, *event), and not of whole data, (*plates,).

    Raises:
        ContractError: where the mask's shape fits both.
    """
    mask, fn = site["mask"], site["fn"]
    if not isinstance(mask, Tensor) or not fn.event_shape:
        return False
    plates = tuple(fn.batch_shape)
    of_data, of_entries = fits(mask.shape, plates), fits(mask.shape, (*plates, *fn.event_shape))
    if of_data and of_entries and mask.dim() > len(fn.event_shape) and len(plates) > 1 and mask.numel() > 1:
        raise ContractError(
            f"site '{site['name']}': a mask of shape {tuple(mask.shape)} can be one of data in plates {plates} or one of "
            f"entries {tuple(fn.event_shape)}. Give it beside x, loss(x, observed=mask), or take another number of particles."
        )
    return of_entries and not of_data


def apply_mask(values: Tensor, mask: Any) -> Tensor:
    """Values with zeros where the mask of `poutine.mask` (a boolean, a tensor of booleans, or None) is false."""
    if mask is None or mask is True:
        return values
    return torch.zeros_like(values) if mask is False else values.where(mask, 0.0)


def site_log_prob(site: Site) -> Tensor:
    """The log-density of a recorded site's value under its mask, without its scale; shape (*plates,).

    Under a mask of entries it is the density of the entries that the mask leaves in: the sum of theirs, where they are
    independent given the site's parents.

    Raises:
        ConfigError: for a mask of entries of a distribution that does not factorise over them.
    """
    if not is_entry_mask(site):
        return apply_mask(site["fn"].log_prob(site["value"]), site["mask"])
    base = independent_entries(site)
    value = site["value"].where(site["mask"], neutral_value(base))
    return apply_mask(base.log_prob(value), site["mask"]).flatten(-len(site["fn"].event_shape)).sum(-1)


def independent_entries(site: Site) -> Any:
    """The distribution of the single entries of a site, (*plates, *event)."""
    fn, base = site["fn"], scalar_family(site["fn"])
    if base.event_shape or not isinstance(fn, torch.distributions.Independent):
        raise ConfigError(
            f"'{site['name']}' is a {type(base).__name__}, whose density does not factorise over entries, so that missing ones "
            "cannot be left out. Use a likelihood with independent entries, such as hv.Gaussian, or fill the entries in."
        )
    return base


def neutral_value(base: Any) -> Any:
    """A value inside the support of scalar entries, away from its bounds, to stand where none is known: 0 for real numbers."""
    try:
        support: Any = base.support
    except (NotImplementedError, AttributeError):
        return 0.0
    # Bounds can be tensors, of each entry; their values are not looked at, which a graph that is recorded does not have.
    low, high = (_detach(getattr(support, name, None)) for name in ("lower_bound", "upper_bound"))
    if low is None:
        return 0.0 if high is None else high - 1
    if support.is_discrete:
        return low
    return low + 1 if high is None else (low + high) / 2


def _detach(bound: Any) -> Any:
    return bound.detach() if isinstance(bound, Tensor) else bound
