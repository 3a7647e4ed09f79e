"""Presets of the ladders, the beta-VAE beside them, and teacher and student; `presets` has those of the other recipes."""

from typing import Any

Preset = dict[str, Any]

# Both ladders where no other preset changes it: fully connected, three layers of two dimensions.
_ANY: Preset = {"dims": (2, 2, 2), "network": "dense", "width": 128, "steps": 6_000, "lr_decay": 0.4, "ramp": 0.1, "threads": 1}
_GAUSSIAN: Preset = {"likelihood": "gaussian", "sigma": 0.2, "binarize": "none"}
_BERNOULLI: Preset = {"likelihood": "bernoulli"}
_STROKES: Preset = _ANY | {"batch_size": 100, "eval_every": 1_000}
_SHAPES = _ANY | _BERNOULLI | {"network": "pro-shapes", "width": 16, "std": "exp", "batch_size": 64, "eval_every": 1_000}
_ROOMS: Preset = _SHAPES | {"dims": (3, 3, 3)}
_PHOTOS: Preset = _ANY | _GAUSSIAN | {"width": 8, "batch_size": 64, "steps": 3_000, "eval_every": 1_000}

# The VLAE authors' standard deviation, sigmoid + 0.001, and their networks where they have some.
_VLAE_STROKES = _STROKES | _GAUSSIAN | {"network": "vlae-mnist", "width": 16, "std": "sigmoid", "steps": 8_000}
_VLAE_SVHN = _PHOTOS | {"network": "vlae-svhn", "dims": (5, 5, 5, 10), "std": "sigmoid", "sigma": 0.1}
_VLAE_CELEBA = _PHOTOS | {"network": "vlae-celeba", "dims": (10,) * 4, "std": "sigmoid", "sigma": 0.25}
# The pro-VLAE authors' networks, on MNIST padded to 32 x 32.
_PRO_STROKES = _STROKES | _BERNOULLI | {"network": "pro-shapes", "dims": (3, 3, 3), "width": 16, "steps": 9_000}
_PRO_CELEBA = _PHOTOS | {"network": "pro-celeba", "dims": (7,) * 4}

# Baselines of the same width: beta-VAE with pro-VLAE's deepest branch alone, and a teacher whose students grow to equal codes.
_SPRITES_BETA: Preset = {"conv-dense.hidden": (16, 16, 16, 16, 128), "conv-dense.activation": "elu", "network": "conv-dense"}
_SPRITES_BETA |= _BERNOULLI | {"latent": 6, "beta": 4.0, "batch_size": 64, "steps": 6_000, "eval_every": 1_000, "threads": 1}
_ROOMS_BETA = _SPRITES_BETA | {"latent": 9, "beta": 8.0}
_SPRITES_TEACHER = _SPRITES_BETA | {"steps": 4_500, "dims": (2, 2, 2), "features": 128, "teacher_beta": 4.0, "beta": 1.0}
_ROOMS_TEACHER = _SPRITES_TEACHER | {"dims": (3, 3, 3), "teacher_beta": 8.0}
_STROKES_TEACHER: Preset = {"code": "point", "dims": (1,) * 6 + (2,), "hidden": (256, 128), "features": 64} | _GAUSSIAN
_STROKES_TEACHER |= {"sigma": 0.7071, "activation": "relu", "batch_size": 100}
_STROKES_TEACHER |= {"steps": 7_000, "eval_every": 1_000, "threads": 1}
_OWN_TEACHER: Preset = {"hidden": (128,), "features": 64, "dims": (3, 3, 3), "steps": 6_000, "threads": 1} | _GAUSSIAN

GREY = ("mnist", "fashion-mnist", "omniglot")
OTHER_DATA = ("pendulum", "digits", "cmu-mocap", "svhn", "celeba", "textures", "own")
LADDER_PRESETS: dict[tuple[str, str], Preset] = {
    **{("vlae", name): _VLAE_STROKES for name in GREY},
    ("vlae", "mnist-static"): _VLAE_STROKES | _BERNOULLI,
    **{("pro-vlae", name): _PRO_STROKES for name in (*GREY, "mnist-static")},
    **{(r, name): _SHAPES for r in ("vlae", "pro-vlae") for name in ("sprites", "dsprites", "chairs3d")},
    **{(r, name): _ROOMS for r in ("vlae", "pro-vlae") for name in ("rooms", "shapes3d", "faces3d", "triangles")},
    ("vlae", "svhn"): _VLAE_SVHN,
    ("vlae", "celeba"): _VLAE_CELEBA,
    ("pro-vlae", "svhn"): _PHOTOS | {"network": "pro-shapes", "dims": (5, 5, 5), "width": 16},
    ("pro-vlae", "celeba"): _PRO_CELEBA,
    **{(r, "pendulum"): _ANY | {"sigma": 0.5} for r in ("vlae", "pro-vlae")},
    **{(r, "digits"): _ANY | _GAUSSIAN | {"steps": 3_000} for r in ("vlae", "pro-vlae")},
    **{(r, "cmu-mocap"): _ANY | {"sigma": 0.1, "batch_size": 128} for r in ("vlae", "pro-vlae")},
    **{(r, "textures"): _ANY | {"dims": (8, 8), "sigma": 0.7071, "batch_size": 256} for r in ("vlae", "pro-vlae")},
    **{("beta-vae", name): _SPRITES_BETA for name in ("sprites", "dsprites", "chairs3d")},
    **{("beta-vae", name): _ROOMS_BETA for name in ("rooms", "shapes3d", "faces3d", "triangles")},
    **{("teacher-student", name): _SPRITES_TEACHER for name in ("sprites", "dsprites", "chairs3d")},
    **{("teacher-student", name): _ROOMS_TEACHER for name in ("rooms", "shapes3d", "faces3d", "triangles")},
    **{("teacher-student", name): _STROKES_TEACHER for name in (*GREY, "mnist-static")},
    **{("teacher-student", name): _OWN_TEACHER for name in OTHER_DATA},
    **{(r, "own"): _ANY | _GAUSSIAN | {"dims": (4, 3, 3)} for r in ("vlae", "pro-vlae")},
}

# As in the papers or, where they are silent, their code; hours to days on a processor. 3D Shapes: 4,800 iterations an epoch,
# 15 epochs a step; dSprites: 5,760 and 30; CelebA: 1,582 and 5.
_VLAE_PAPER: Preset = {"width": 64, "lr": 2e-4, "batch_size": 100, "lr_decay": 0.0, "ramp": 2_000}
_PRO_PAPER: Preset = {"lr": 5e-4, "lr_decay": 0.0, "fade": 5_000, "gamma": 0.5, "width": 32}
# 15 stages of 100 epochs.
_LEZAMA: Preset = {"dims": (1,) * 14 + (2,), "lr": 3e-4, "batch_size": 128, "lr_decay": 0.0, "steps": 585_000}
# The comparison of the pro-VLAE paper: as many iterations for all. Its baselines' networks are not given; these are as wide.
_DSPRITES: Preset = {"lr": 5e-4, "lr_decay": 0.0, "batch_size": 128, "steps": 518_400}
_DSPRITES |= {"conv-dense.hidden": (32, 32, 32, 32, 256)}
_3DSHAPES = _DSPRITES | {"batch_size": 100, "steps": 216_000}
LADDER_PAPER: dict[tuple[str, str], Preset] = {
    **{(r, name): _DSPRITES for r in ("beta-vae", "teacher-student") for name in ("sprites", "dsprites")},
    **{(r, name): _3DSHAPES for r in ("beta-vae", "teacher-student") for name in ("rooms", "shapes3d")},
    **{("vlae", name): _VLAE_PAPER | {"steps": 50_000} for name in (*GREY, "mnist-static", "svhn", "celeba")},
    **{("pro-vlae", name): _PRO_PAPER | {"batch_size": 100, "steps": 27_000} for name in (*GREY, "mnist-static")},
    **{("pro-vlae", name): _PRO_PAPER | {"batch_size": 128, "steps": 518_400, "beta": 1.0} for name in ("sprites", "dsprites")},
    **{("pro-vlae", name): _PRO_PAPER | {"batch_size": 100, "steps": 216_000, "beta": 8.0} for name in ("rooms", "shapes3d")},
    **{("vlae", name): _DSPRITES | {"width": 32, "schedule": "constant", "beta": 1.0} for name in ("sprites", "dsprites")},
    **{("vlae", name): _3DSHAPES | {"width": 32, "schedule": "constant", "beta": 10.0} for name in ("rooms", "shapes3d")},
    **{("teacher-student", name): _LEZAMA for name in (*GREY, "mnist-static")},
    ("pro-vlae", "celeba"): _PRO_PAPER | {"batch_size": 128, "width": 64, "steps": 31_640},
}
