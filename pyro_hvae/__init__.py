"""Hierarchical variational autoencoders as Pyro model/guide pairs.

Everything public is here, loaded on first use, so that `import pyro_hvae as hv` and the command line start at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pyro_hvae.compilation.captured_loss import CaptureWarning as CaptureWarning
    from pyro_hvae.compilation.captured_loss import capture as capture
    from pyro_hvae.conditionals.gaussian import Bernoulli as Bernoulli
    from pyro_hvae.conditionals.gaussian import Gaussian as Gaussian
    from pyro_hvae.conditionals.gaussian import Laplace as Laplace
    from pyro_hvae.conditionals.gaussian import StandardNormal as StandardNormal
    from pyro_hvae.conditionals.vamp import Vamp as Vamp
    from pyro_hvae.data import DATASETS as DATASETS
    from pyro_hvae.errors import HVAEError as HVAEError
    from pyro_hvae.guides import Autoregressive as Autoregressive
    from pyro_hvae.guides import BottomUp as BottomUp
    from pyro_hvae.guides import Heads as Heads
    from pyro_hvae.guides import TopDown as TopDown
    from pyro_hvae.inference.gibbs import convergence as convergence
    from pyro_hvae.inference.gibbs import gibbs as gibbs
    from pyro_hvae.inference.graph_interpolation import interpolate as interpolate
    from pyro_hvae.inference.importance_sampling import log_likelihood as log_likelihood
    from pyro_hvae.inference.layer_effects import layer_grid as layer_grid
    from pyro_hvae.inference.layer_effects import layer_samples as layer_samples
    from pyro_hvae.inference.layer_effects import layer_shares as layer_shares
    from pyro_hvae.inference.layer_posteriors import posteriors as posteriors
    from pyro_hvae.inference.sampling import active_units as active_units
    from pyro_hvae.inference.sampling import generate as generate
    from pyro_hvae.inference.sampling import latents as latents
    from pyro_hvae.inference.sampling import reconstruct as reconstruct
    from pyro_hvae.inference.traversal import traverse as traverse
    from pyro_hvae.metrics import energy_distance as energy_distance
    from pyro_hvae.models import Chain as Chain
    from pyro_hvae.models import Ladder as Ladder
    from pyro_hvae.models import Rung as Rung
    from pyro_hvae.models.texture_map import PatchDecoder as PatchDecoder
    from pyro_hvae.models.texture_map import PatchEncoder as PatchEncoder
    from pyro_hvae.networks.patches import Patches as Patches
    from pyro_hvae.objectives.elbo import ELBO as ELBO
    from pyro_hvae.objectives.handlers import ScaleSites as ScaleSites
    from pyro_hvae.objectives.handlers import Share as Share
    from pyro_hvae.objectives.pyro_svi import for_svi as for_svi
    from pyro_hvae.objectives.supervision import Supervision as Supervision
    from pyro_hvae.recipes import RECIPES as RECIPES
    from pyro_hvae.runs.config import TrainConfig as TrainConfig
    from pyro_hvae.runs.load import load as load
    from pyro_hvae.schedules import SCHEDULES as SCHEDULES
    from pyro_hvae.schedules import Constant as Constant
    from pyro_hvae.schedules import Geco as Geco
    from pyro_hvae.schedules import Progressive as Progressive
    from pyro_hvae.schedules import Ramp as Ramp
    from pyro_hvae.schedules import Rewo as Rewo
    from pyro_hvae.schedules import WarmUp as WarmUp
    from pyro_hvae.training.loop import fit as fit

# name -> module that defines it
_PUBLIC = {
    "Autoregressive": "guides",
    "Bernoulli": "conditionals.gaussian",
    "BottomUp": "guides",
    "CaptureWarning": "compilation.captured_loss",
    "Chain": "models",
    "Constant": "schedules",
    "DATASETS": "data",
    "ELBO": "objectives.elbo",
    "Gaussian": "conditionals.gaussian",
    "Geco": "schedules",
    "HVAEError": "errors",
    "Heads": "guides",
    "Ladder": "models",
    "PatchDecoder": "models.texture_map",
    "PatchEncoder": "models.texture_map",
    "Patches": "networks.patches",
    "Progressive": "schedules",
    "Laplace": "conditionals.gaussian",
    "RECIPES": "recipes",
    "Ramp": "schedules",
    "Rewo": "schedules",
    "Rung": "models",
    "SCHEDULES": "schedules",
    "ScaleSites": "objectives.handlers",
    "Share": "objectives.handlers",
    "StandardNormal": "conditionals.gaussian",
    "Supervision": "objectives.supervision",
    "TopDown": "guides",
    "TrainConfig": "runs.config",
    "Vamp": "conditionals.vamp",
    "WarmUp": "schedules",
    "active_units": "inference.sampling",
    "capture": "compilation.captured_loss",
    "convergence": "inference.gibbs",
    "energy_distance": "metrics",
    "fit": "training.loop",
    "for_svi": "objectives.pyro_svi",
    "generate": "inference.sampling",
    "gibbs": "inference.gibbs",
    "interpolate": "inference.graph_interpolation",
    "latents": "inference.sampling",
    "layer_grid": "inference.layer_effects",
    "layer_samples": "inference.layer_effects",
    "layer_shares": "inference.layer_effects",
    "load": "runs.load",
    "log_likelihood": "inference.importance_sampling",
    "posteriors": "inference.layer_posteriors",
    "reconstruct": "inference.sampling",
    "traverse": "inference.traversal",
}

__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pyro_hvae' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"pyro_hvae.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
