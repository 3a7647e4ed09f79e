"""Checks a pair against the program contract, with one error that lists all faults and the remedy."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pyro_hvae.errors import ContractError
from pyro_hvae.objectives.handlers import equal_values

REMEDY = (
    'A pair needs: a plate "data" of size len(x) at dim -1 without subsampling around every site; the observed site "x" in '
    "the model; and the same latent sites (by convention z1 next to x ... zL at the top) in model and guide, each with "
    ".to_event(n) so that its batch shape is the plates'."
)

Sites = Mapping[str, dict[str, Any]]


def check_contract(model: Sites | None, guide: Sites, x: Tensor, particles: int = 1, shared: Collection[str] = ()) -> None:
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
        f"guide site '{name}' has no reparameterised sampler (use a continuous distribution)"
        for name, site in guide.items()
        if torch.is_grad_enabled() and not getattr(site["fn"], "has_rsample", False)
    ]
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
        if "x" not in observed:
            faults.append("the model has no observed site 'x'")
        if more := [name for name in observed if name != "x"]:
            faults.append(f"the model observes {more} besides 'x' (join them into one site)")
        if missing := [name for name in latents if name not in guide]:
            faults.append(f"the guide does not sample {missing}")
        if extra := [name for name in guide if name not in latents]:
            faults.append(f"the model has no latent {extra} of the guide")
        faults += [
            f"site '{name}' has the weight {_number(model[name]['scale'])} in the model and {_number(guide[name]['scale'])} in "
            "the guide; put poutine.scale or ScaleSites around both"
            for name in latents
            if name in guide and not equal_values(model[name]["scale"], guide[name]["scale"])
        ]
        found += f", model {list(model)}"
    if faults:
        raise ContractError(f"{'; '.join(faults)}. {found}. {REMEDY}")


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
    return faults
