"""The table of recipes: each row is a system of a paper, a model and guide with a bound and a schedule.

A new recipe is a function plus an entry in `RECIPES`; its keyword arguments are its `-o key=value` options.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Batch, Dataset, cut_crops, x_of
from pyro_hvae.errors import require_known
from pyro_hvae.recipes.hvae import ar_hvae, hvae
from pyro_hvae.recipes.iwae import iwae
from pyro_hvae.recipes.lvae import lvae
from pyro_hvae.recipes.recipe import Recipe, Stage
from pyro_hvae.recipes.teacher_student import teacher_student
from pyro_hvae.recipes.texture import texture
from pyro_hvae.recipes.vae import vae
from pyro_hvae.recipes.vampprior import vampprior
from pyro_hvae.recipes.vhp import vhp
from pyro_hvae.recipes.vlae import vlae

_STAGES = "every stage holds a beta of its own (-o teacher_beta=8 -o beta=1), which this schedule would overwrite."
_SCALES = "its stages see different data, and one kappa cannot be the aim of both."
_OVERWRITES = "the beta-VAE holds beta fixed and this schedule would overwrite it. Use 'train vae' with it instead."

RECIPES: dict[str, Recipe] = {
    "vae": Recipe(vae, "Kingma and Welling 2014", "VAE with a standard normal prior"),
    "beta-vae": Recipe(
        vae,
        "Higgins et al. 2017",
        "VAE whose KL weighs beta (-o beta=4)",
        refused={"warmup": _OVERWRITES, "cyclical": _OVERWRITES, "geco": _OVERWRITES, "rewo": _OVERWRITES},
    ),
    "iwae": Recipe(iwae, "Burda et al. 2016", "importance-weighted autoencoder (-o levels=1|2, -o particles=K)"),
    "vampprior": Recipe(
        vampprior, "Tomczak and Welling 2018", "prior = mixture of posteriors at learnt pseudo-inputs (-o levels=1|2)", "warmup"
    ),
    "vhp": Recipe(vhp, "Klushyn et al. 2019", "learned two-level prior, importance-weighted inner bound", "rewo"),
    "hvae": Recipe(hvae, "Zhao et al. 2017", "Markov HVAE of any depth (-o dims=20,20,20)", "warmup"),
    "ar-hvae": Recipe(ar_hvae, "Zhao et al. 2017", "autoregressive HVAE: every layer sees all above", "warmup"),
    "lvae": Recipe(lvae, "Soenderby et al. 2016", "ladder VAE: messages fused with the top-down prior", "warmup"),
    "vlae": Recipe(vlae, "Zhao et al. 2017", "ladder of independent layers at different depths (-o dims=2,2,2)", "ramp"),
    "pro-vlae": Recipe(
        vlae, "Li et al. 2020", "the same ladder, its layers learnt one after the other from the top", "progressive"
    ),
    "texture": Recipe(
        texture,
        "Sahoo 2020",
        "Texture VAE on patches, then a Global VAE on the map of their codes",
        refused=dict.fromkeys(("geco", "rewo"), _SCALES),
        crops=True,
    ),
    "teacher-student": Recipe(
        teacher_student,
        "Lezama 2019",
        "a code that grows while a teacher holds its Jacobian (-o code=gaussian|point)",
        refused=dict.fromkeys(("warmup", "cyclical", "ramp", "geco", "rewo", "progressive"), _STAGES),
    ),
}


def build(name: str, x: Tensor | Batch, options: dict[str, Any], crops: Callable[[int], Dataset] | None = None) -> list[Stage]:
    """The stages of a recipe for training data x; raises `ConfigError` for an unknown name.

    Arguments:
        x: a `Batch` where there are conditions, columns of floats (n, width), or missing entries. The pair takes both.
        crops: side in pixels -> squares of what the images x are made of (see `Dataset`); None cuts them out of x.
    """
    require_known("recipe", name, RECIPES)
    more = [crops or partial(cut_crops, x_of(x))] if RECIPES[name].crops else []
    with torch.no_grad():
        return RECIPES[name].build(x, *more, **options)
