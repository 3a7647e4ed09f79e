"""Presets: defaults of a recipe on a data set, for options of recipe, schedule and data set and fields of `TrainConfig`.

`cpu` presets train in minutes on two cores and are the default; `-o preset=paper` has the sizes of the papers.
"""

from typing import Any

from pyro_hvae.errors import require_known
from pyro_hvae.recipes.ladder_presets import LADDER_PAPER, LADDER_PRESETS

Preset = dict[str, Any]
IMAGES = ("mnist", "mnist-static", "fashion-mnist", "omniglot")
BINARY = ("sprites", "dsprites")
GREY = ("faces3d", "chairs3d")
COLOUR = ("rooms", "shapes3d", "svhn", "celeba", "triangles")

# The pendulum's constants were chosen on seeds >= 100 (benchmarks/pendulum.py); the paper does not give its own.
_PENDULUM: Preset = {
    # An axis-aligned posterior makes the ring of angles square; an isotropic one makes every seed round.
    "posterior": "isotropic",
    # Three narrow layers learn the steep map that keeps prior samples out of the ring's hole.
    "upper": (64, 64, 64),
    # A start can lose a direction of z2 in its first steps, for good (2 of 8 seeds did): the prior becomes two bars and the
    # ring flat. Its bound lags by half a nat after a tenth of the run.
    "starts": 3,
    "kappa": 1.095,  # kappa^2 = 1.2 nats; C settles at 0.57 once beta is 1
}
_PENDULUM |= {"nu": 1.6e-3, "rewo.beta0": 0.05, "steps": 10_000, "lr_decay": 0.3, "threads": 1}

# 28 x 28 binary images: the gated 784-300-300 networks of the VampPrior's authors, 30 epochs; kappa is an error on pixels.
_IMAGE: Preset = {"binarize": "dynamic", "likelihood": "bernoulli", "latent": 40, "latent2": 40}
_IMAGE |= {"vamp.components": 500, "hidden": (300, 300), "upper": (300, 300), "activation": "gated"}
_IMAGE |= {"conv.hidden": (32, 64), "conv.activation": "relu", "gated-conv.hidden": (32, 64)}
_IMAGE |= {"steps": 12_000, "batch_size": 128, "lr_decay": 0.6, "warmup": 0.15, "eval_every": 1_000, "threads": 1}
_STACK = _IMAGE | {"dims": (20, 20, 20), "upper": (128, 128), "activation": "relu"}
_VHP_IMAGE = _IMAGE | {"latent": 32, "latent2": 32, "measure": "rmse", "nu": 1.0, "beta0": 1e-3, "geco.beta0": 1.0}
_IMAGE_RECIPES: dict[str, Preset] = {
    "vae": _IMAGE | {"schedule": "warmup"},
    "beta-vae": _IMAGE | {"beta": 4.0},
    "iwae": _IMAGE | {"particles": 5, "upper": (100, 100)},
    "vampprior": _IMAGE | {"components": 500},
    # kappa is the root mean squared error per pixel, 1.15 times the error of the same networks at beta = 1.
    "vhp": _VHP_IMAGE | {"kappa": 0.18},
    "hvae": _STACK,
    "ar-hvae": _STACK | {"features": 300},
    "lvae": _STACK | {"dims": (64, 32, 16), "widths": (256, 128, 64), "activation": "leaky-relu"},
}
# Real numbers in [0, 1] under the Gaussian of Zhao et al. 2017, B.1, who do not give their sigma.
_GREY: Preset = {"binarize": "none", "likelihood": "gaussian", "sigma": 0.2}

# 8 x 8 digits, 1,297 of them: seconds to a minute each.
_DIGITS: Preset = {"latent": 8, "latent2": 8, "dims": (8, 8, 8), "widths": (128, 64, 32), "particles": 8}
# Pseudo-inputs of a VampPrior, and clusters of a Gaussian mixture.
_DIGITS |= {"components": 100, "gmm.components": 10}
_DIGITS |= {"conv.hidden": (16, 32), "conv.activation": "relu", "gated-conv.hidden": (16, 32), "sigma": 0.2}
_DIGITS |= {"measure": "rmse", "kappa": 0.16, "nu": 1.0, "rewo.beta0": 1e-3, "steps": 4_000, "lr_decay": 0.6, "threads": 1}

# Larger images: small convolutions, minutes each.
_LARGE: Preset = {"binarize": "none", "latent": 10, "latent2": 10, "dims": (10, 10, 10), "components": 200}
_LARGE |= {"vamp.components": 200, "gmm.components": 10}
_LARGE |= {"network": "conv", "hidden": (300, 300), "upper": (128, 128), "activation": "relu"}
_LARGE |= {"conv.hidden": (16, 32, 32, 64), "conv-dense.hidden": (16, 16, 16, 128), "conv-dense.activation": "elu"}
_LARGE |= {"batch_size": 64, "steps": 6_000}
_LARGE_BINARY = _LARGE | {"likelihood": "bernoulli"}
# Pixels that are not binary are no probabilities: a Gaussian.
_LARGE_REAL = _LARGE | {"likelihood": "gaussian", "sigma": 0.2}
# Crops of textures (Sahoo et al. 2020): -log p(x|z) is the sum of squares where sigma^2 = 1/2.
_TEXTURES: Preset = _LARGE_REAL | {"network": "mlp", "hidden": (128, 64), "latent": 16, "sigma": 0.7071, "batch_size": 256}
# Sahoo's two sides: the Standard VAE has the network, code and likelihood of the Global VAE of `texture`.
_STANDARD: Preset = {"latent": 16, "likelihood": "gaussian", "sigma": 0.70710678, "squash": True, "network": "conv-4x4"}
_STANDARD |= {"conv-4x4.hidden": (16, 32, 32, 64, 256), "hidden": (16, 32, 32, 64, 256), "activation": "relu"}
_STANDARD |= {"size": 4_000, "schedule": "constant", "batch_size": 64, "steps": 1_500, "eval_every": 500}
# At most 12,000 steps for the textures, most of which are not needed, and 1,500 as above.
_TEXTURE = _STANDARD | {"steps": 13_500, "texture_share": 0.888889}
# Other images have no textures of known sizes: crops of the images are their textures.
_TEXTURE_OF = {k: v for k, v in _TEXTURE.items() if k != "size"} | {"binarize": "none"}
_TEXTURE_28 = _TEXTURE_OF | {"network": "conv-dense", "hidden": (32, 64, 256)}
_TEXTURE_SMALL = _TEXTURE_OF | {"hidden": (32, 64, 128), "patch": 3, "texture_hidden": (32, 32)}
# A user's own images or vectors, of any size.
_OWN: Preset = _LARGE_REAL | {"network": "mlp"}

# Motion capture: 50 joint angles scaled to [-1, 1] (Klushyn et al. 2019, section 4.2: two latents in both layers). kappa is the
# root mean squared error per scaled angle, which falls below it in the first fifth of the run and ends at 0.06.
_MOCAP: Preset = {"measure": "rmse", "kappa": 0.1, "nu": 1.0, "rewo.beta0": 1e-3, "sigma": 0.1}
_MOCAP |= {"hidden": (256, 256), "activation": "relu", "dims": (8, 4, 2), "widths": (128, 64, 32)}
_MOCAP |= {"particles": 32, "components": 200, "gmm.components": 10, "batch_size": 128, "steps": 10_000, "threads": 1}

PRESETS: dict[tuple[str, str], Preset] = {
    **{(recipe, "pendulum"): _PENDULUM for recipe in _IMAGE_RECIPES},
    ("beta-vae", "pendulum"): _PENDULUM | {"beta": 4.0},
    **{(recipe, name): values for name in IMAGES for recipe, values in _IMAGE_RECIPES.items()},
    **{(r, name): _IMAGE_RECIPES[r] | _GREY for name in ("mnist", "fashion-mnist", "omniglot") for r in ("hvae", "ar-hvae")},
    **{(recipe, "digits"): _DIGITS for recipe in _IMAGE_RECIPES},
    **{(recipe, "cmu-mocap"): _MOCAP for recipe in _IMAGE_RECIPES},
    **{(recipe, name): values | _LARGE_BINARY for name in BINARY for recipe, values in _IMAGE_RECIPES.items()},
    **{(recipe, name): values | _LARGE_REAL for name in (*COLOUR, *GREY) for recipe, values in _IMAGE_RECIPES.items()},
    **{(recipe, "textures"): values | _TEXTURES for recipe, values in _IMAGE_RECIPES.items()},
    **{(recipe, "own"): values | _OWN for recipe, values in _IMAGE_RECIPES.items()},
    ("beta-vae", "digits"): _DIGITS | {"beta": 4.0},
    ("beta-vae", "cmu-mocap"): _MOCAP | {"beta": 4.0},
    ("vhp", "fashion-mnist"): _VHP_IMAGE | {"kappa": 0.31},
    ("vhp", "omniglot"): _VHP_IMAGE | {"kappa": 0.162},
    ("vae", "triangles"): _STANDARD,
    ("texture", "triangles"): _TEXTURE,
    **{("texture", name): _TEXTURE_OF for name in ("rooms", "shapes3d", "svhn", "celeba", *BINARY, *GREY, "own")},
    **{("texture", name): _TEXTURE_28 for name in IMAGES},
    **{("texture", name): _TEXTURE_SMALL for name in ("digits", "pendulum")},
    **LADDER_PRESETS,
}

# What the papers (or, where they are silent, their code) use beyond the cpu preset. Hours to days on a processor.
_CONSTANT_LR: Preset = {"batch_size": 100, "lr_decay": 0.0}
_TOMCZAK = _CONSTANT_LR | {"lr": 5e-4, "steps": 1_000_000, "warmup": 50_000}
# With levels=2 the paper has 100 (-o latent=100) and 50 latents. A cosine stands for eight steps of lr from 1e-3 to 1e-4.
_BURDA: Preset = {"latent": 50, "latent2": 50, "hidden": (200, 200), "activation": "tanh", "particles": 50}
_BURDA |= {"batch_size": 20, "steps": 8_200_000, "lr_decay": 1.0}
_ZHAO = _CONSTANT_LR | {"network": "conv", "conv.hidden": (64, 128), "upper": (512, 512), "lr": 1e-4, "steps": 50_000}
_SOENDERBY: Preset = {"dims": (64, 32, 16, 8, 4), "widths": (512, 256, 128, 64, 32), "warmup": 39_000, "grad_clip": 4.0}
_PAPER_RECIPES: dict[str, Preset] = {
    "vae": _TOMCZAK,
    "iwae": _BURDA,
    "vampprior": _TOMCZAK,
    "vhp": _CONSTANT_LR | {"network": "gated-conv", "upper": (256, 256), "particles": 16, "lr": 5e-4, "steps": 500_000},
    "hvae": _ZHAO,
    "ar-hvae": _ZHAO | {"features": 512},
    "lvae": _SOENDERBY | {"lr": 2e-4, "batch_size": 256, "steps": 390_000, "lr_decay": 0.0},
}
_PAPER_MOCAP: Preset = {"hidden": (256,) * 4, "upper": (256,) * 4, "activation": "relu"}
_PAPER_MOCAP |= {"steps": 50_000, "lr": 1e-4, "lr_decay": 0.0}
# 40 epochs, which Sahoo gives, of the 10,000 images and with the widths that are ours; at most 12,000 steps for the textures.
_PAPER_TRIANGLES: Preset = {"conv-4x4.hidden": (32, 32, 64, 64, 256), "size": 10_000, "lr": 5e-4}
PAPER: dict[tuple[str, str], Preset] = {
    **{(recipe, name): values for name in IMAGES for recipe, values in _PAPER_RECIPES.items()},
    **{(recipe, "cmu-mocap"): _PAPER_MOCAP for recipe in ("vae", "iwae", "vampprior", "vhp")},
    ("texture", "triangles"): _PAPER_TRIANGLES | {"steps": 18_250, "texture_share": 0.657534},
    ("vae", "triangles"): _PAPER_TRIANGLES | {"steps": 6_250},
    **LADDER_PAPER,
}


def preset(recipe: str, dataset: str, name: str = "cpu") -> Preset:
    """The defaults of a recipe on a data set ("own" for data at a path); empty where none were chosen.

    Raises:
        ConfigError: for a preset that this recipe does not have on this data set.
    """
    cpu = PRESETS.get((recipe, dataset), {})
    known = {"cpu": cpu} | ({"paper": cpu | PAPER[recipe, dataset]} if (recipe, dataset) in PAPER else {})
    require_known(f"preset of {recipe} on {dataset}", name, known)
    return known[name]
