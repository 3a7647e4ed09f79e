"""The program contract, checked at first use with one error that lists what was found and the remedy."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pyro_hvae.errors import ContractError

__all__ = ["check_contract"]

REMEDY = (
    'A pair needs: a plate "data" of size len(x) at dim -1 without subsampling around every site; the observed site "x" in '
    "the model; and the same latent sites (by convention z1 next to x ... zL at the top) in model and guide, each with "
    ".to_event(n) so that its batch shape is the plates'."
)


def check_contract(
    model_sites: Mapping[str, dict[str, Any]], guide_sites: Mapping[str, dict[str, Any]], x: Tensor, particles: int = 1
) -> None:
    """Raises one `ContractError` when the recorded sites of a pair break the contract.

    Arguments:
        model_sites, guide_sites: messages by site name, as `Record` collects them.
        x: the batch, shape (B, *event).
        particles: size of the particle plate at dim -2, if there is one.

    Raises:
        ContractError: naming every fault, the sites found and the remedy.
    """
    faults = []
    latents = [n for n, s in model_sites.items() if not s["is_observed"]]
    if "x" not in model_sites or not model_sites["x"]["is_observed"]:
        faults.append("the model has no observed site 'x'")
    if missing := [n for n in latents if n not in guide_sites]:
        faults.append(f"the guide does not sample {missing}")
    if extra := [n for n in guide_sites if n not in latents]:
        faults.append(f"the model has no latent {extra} of the guide")
    for where, sites in (("model", model_sites), ("guide", guide_sites)):
        for name, site in sites.items():
            faults += [f"{where} site '{name}': {fault}" for fault in _site_faults(site, len(x), particles)]
            if where == "guide" and not getattr(site["fn"], "has_rsample", False):
                faults.append(f"guide site '{name}' has no reparameterised sampler (use a continuous distribution)")
    if faults:
        found = f"Sites found: model {list(model_sites)}, guide {list(guide_sites)}."
        raise ContractError("; ".join(faults) + f". {found} {REMEDY}")


def _site_faults(site: Mapping[str, Any], size: int, particles: int) -> list[str]:
    frame = next((f for f in site["cond_indep_stack"] if f.name == "data"), None)
    if frame is None:
        return ['is outside the plate "data"']
    faults = []
    if frame.dim != -1 or frame.size != size:
        faults.append(f'its plate "data" has dim {frame.dim} and size {frame.size}, expected dim -1 and size {size}')
    if frame.full_size != frame.size:
        faults.append(f'its plate "data" subsamples {frame.size} of {frame.full_size} (this would rescale every bound)')
    shape = tuple(site["fn"].batch_shape)
    if shape not in {(size,), (particles, size)}:
        faults.append(f"its batch shape is {shape}, expected ({size},); call .to_event(n) on its distribution")
    return faults
