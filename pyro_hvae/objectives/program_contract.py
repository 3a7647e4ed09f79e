"""Checks a pair against the program contract, with one error that lists all faults and the remedy."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pyro_hvae.data import Batch, given_of
from pyro_hvae.errors import ContractError, HVAEError
from pyro_hvae.objectives.data_support import check_data
from pyro_hvae.objectives.given_inputs import describe_untaken, draw_sites
from pyro_hvae.objectives.site_masks import fits

REMEDY = (
    'A pair needs: model(x=None, size=1) and guide(x), with given inputs as further arguments; a plate "data" at dim -1 of '
    'size len(x), or `size` without x, without subsampling around every site; the observed site "x" in the model; and the same '
    "latent sites (by convention z1 next to x ... zL at the top) in model and guide, each with .to_event(n) so that its batch "
    "shape is the plates'."
)

NO_X = "the model has no observed site 'x'"
Sites = Mapping[str, dict[str, Any]]


def check_contract(
    model: Sites | None, guide: Sites, x: Tensor | Batch, particles: int = 1, shared: Collection[str] = ()
) -> None:
    """Raises one `ContractError` when the recorded sites of a pair break the contract.

    Arguments:
        model, guide: messages by site name, as `Record` collects them; without a model the guide alone is checked.
        x: the batch, shape (B, *event).
        particles: size of the particle plate at dim -2, if there is one. shared: sites outside that plate.

    Raises:
        ContractError: naming every fault, the sites found and the remedy.
    """
    if get_proxy_mode() is not None:
        return  # a graph is recorded, with symbols for sizes; the eager pass that it is compared with is checked
    faults = [f"guide {fault}" for name, site in guide.items() for fault in _site_faults(name, site, len(x), particles)]
    faults += [
        f"guide site '{name}' has no reparameterised sampler, so that no gradient reaches what it depends on (use a continuous "
        "distribution; a finished pair answers questions with it)"
        for name, site in guide.items()
        if torch.is_grad_enabled() and not getattr(site["fn"], "has_rsample", False)
    ]
    if given := [name for name, site in guide.items() if site["is_observed"]]:
        faults.append(f"the guide observes {given}, but it has to sample every latent; use a Delta for a fixed value")
    if unknown := sorted(set(shared) - set(guide)):
        faults.append(f"the guide has no site {unknown} to share among the particles")
    faults += [
        f"guide site '{name}' cannot be shared: it depends on a latent that varies over the particles; share that one too"
        for name in sorted(set(shared) & set(guide))
        if len(guide[name]["fn"].batch_shape) > 1
    ]
    found = f"Sites found: guide {list(guide)}"
    if model is not None:
        faults += [f"model {fault}" for name, site in model.items() for fault in _site_faults(name, site, len(x), particles)]
        observed = [name for name, site in model.items() if site["is_observed"]]
        latents = [name for name in model if name not in observed]
        more = [name for name in observed if name != "x"]
        if "x" not in observed:
            faults.append(f"the observed site is called '{more[0]}', not 'x'" if len(more) == 1 else NO_X)
        elif more:
            faults.append(f"the model observes {more} besides 'x' (join them into one site)")
        faults += [
            _other_event(name, tuple(guide[name]["fn"].event_shape), tuple(model[name]["fn"].event_shape))
            for name in latents
            if name in guide and guide[name]["fn"].event_shape != model[name]["fn"].event_shape
        ]
        if missing := [name for name in latents if name not in guide]:
            faults.append(f"the guide does not sample {missing}")
        if extra := [name for name in guide if name not in latents]:
            faults.append(f"the model has no latent {extra} of the guide")
        faults += [
            f"site '{name}' has the weight {_number(model[name]['scale'])} in the model and {_number(guide[name]['scale'])} in "
            "the guide; put poutine.scale or ScaleSites around both"
            for name in latents
            if name in guide and not _equal(model[name]["scale"], guide[name]["scale"])
        ]
        found += f", model {list(model)}"
    if faults:
        raise ContractError(f"{'; '.join(faults)}. {found}. {REMEDY}")


def _equal(one: float | Tensor, two: float | Tensor) -> bool:
    return one is two or torch.equal(*(torch.as_tensor(scale).double().cpu() for scale in (one, two)))


def _number(scale: float | Tensor) -> str:
    return f"{scale:.4g}" if not isinstance(scale, Tensor) or scale.dim() == 0 else "a tensor"


def _site_faults(name: str, site: Mapping[str, Any], size: int, particles: int) -> list[str]:
    frame = next((f for f in site["cond_indep_stack"] if f.name == "data"), None)
    if frame is None:
        return [f"site '{name}' is outside the plate \"data\""]
    faults, plate = [], f"site '{name}': its plate \"data\""
    if frame.dim != -1 or frame.size != size:
        faults.append(f"{plate} has dim {frame.dim} and size {frame.size}, expected dim -1 and size {size}")
    if frame.full_size != frame.size:
        faults.append(f"{plate} subsamples {frame.size} of {frame.full_size} (this would rescale every bound)")
    shape = tuple(site["fn"].batch_shape)
    if shape not in {(size,), (particles, size)}:
        faults.append(f"site '{name}': its batch shape is {shape}, expected ({size},); call .to_event(n) on its distribution")
    event, value = tuple(site["fn"].event_shape), tuple(site["value"].shape)
    split = len(value) - len(event)
    if split < 0 or value[split:] != event or not fits(value[:split], shape):
        faults.append(f"site '{name}': its value has the shape {value}, its distribution {(*shape, *event)}")
    for what, wanted in (("mask", (shape, (*shape, *event))), ("scale", (shape,))):
        if isinstance(site[what], Tensor) and not any(fits(site[what].shape, into) for into in wanted):
            into = " or ".join(map(str, dict.fromkeys(wanted)))
            faults.append(
                f"site '{name}': its {what} has the shape {tuple(site[what].shape)}, which does not broadcast to {into}"
            )
    return faults


@contextmanager
def explain_errors(
    program: Callable[..., Any], model: Callable[..., Any], x: Tensor | Batch, guide: Sites | None = None
) -> Iterator[None]:
    """Turns an error of a program into a `ContractError` where shapes or rows differ from those that the model draws itself.

    Numbers that are not finite are a `DataError`.

    Arguments:
        program: that runs. x: the batch. guide: the guide's sites, while the model runs.
    """
    try:
        yield
    except (TypeError, AttributeError) as error:
        if untaken := describe_untaken(program, given_of(x), error):
            raise ContractError(untaken) from error
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        if (isinstance(error, HVAEError) and not isinstance(error, ContractError)) or get_proxy_mode() is not None:
            raise
        check_data(x)
        own, found = _event_shapes(model, x), tuple(x.shape[1:])
        if own.get("x", found) != found:
            raise ContractError(f"x has the shape {own['x']} in the model, but {found} in the data given.") from error
        for name, site in (guide or {}).items():
            if own.get(name, event := tuple(site["fn"].event_shape)) != event:
                raise ContractError(_other_event(name, event, own[name])) from error
        if "inside plate('data')" in str(error):
            raise ContractError(
                f"a program has another number of rows than the {len(x)} of this batch: {error}. Each row of a program belongs "
                "to the row of x at the same place, so a guide with parameters for every datum needs all data in one batch."
            ) from error
        raise


def _event_shapes(model: Callable[..., Any], x: Tensor | Batch) -> dict[str, tuple[int, ...]]:
    """Site -> shape of one value, of the sites that the model draws without data; none if it cannot."""
    return {name: tuple(site["fn"].event_shape) for name, site in draw_sites(model, x).items()}


def _other_event(name: str, guide: tuple[int, ...], model: tuple[int, ...]) -> str:
    return f"site '{name}' has the event shape {guide} in the guide, but {model} in the model"
