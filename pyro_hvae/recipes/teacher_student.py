"""Teacher and student: a code that grows by a block a stage, under supervision by the stage before."""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from pyro_hvae.conditionals import Gaussian, Point, StandardNormal
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.guides import Heads
from pyro_hvae.models import Ladder, Rung
from pyro_hvae.networks import FlattenPlates, linear, mlp
from pyro_hvae.objectives import ELBO, Objective, Supervision
from pyro_hvae.recipes.building_blocks import BuildingBlocks, check_dims
from pyro_hvae.recipes.recipe import Stage

CODES = ("gaussian", "point")


def teacher_student(
    x: Tensor | Batch,
    *,
    dims: tuple[int, ...] = (3, 3, 3),
    code: str = "gaussian",
    teacher_beta: float = 8.0,
    beta: float = 1.0,
    likelihood: str = "gaussian",
    sigma: float = 0.2,
    learn_sigma: bool = False,
    hidden: tuple[int, ...] = (256, 128),
    features: int = 64,
    activation: str = "relu",
    network: str = "mlp",
    code_weight: float = 0.25,
    cross_weight: float = 1e-3,
    difference_weight: float = 0.1,
) -> list[Stage]:
    r"""A teacher, then students that each add a block of latents under Jacobian supervision (Lezama 2019; see `Supervision`).

    `dims` are the blocks from z1 upwards, born in the opposite order, one a stage. With three blocks the teacher has z3, its
    student z3 and z2, and the student of this student z3, z2 and z1. All blocks read the same features of x and enter the same
    layer of the decoder, so that only supervision tells them apart. A student starts with all parameters of its teacher.

    `code=gaussian` is the variational form, with which Li et al. 2020 compare without its details: a VAE whose KL weighs
    `teacher_beta` for the teacher and `beta` for its students. `code=point` is Lezama's autoencoder, which has no KL; its
    teacher's code passes batch normalisation. His networks are hidden=256,128 and features=64, the decoder their mirror image;
    sigma=0.7071 makes the distortion the sum of squares, so that the weights are his. Deviation: his output is a tanh, of which
    data in [0, 1] use half the range; ours is a sigmoid.
    """
    sizes = check_dims(dims)[::-1]  # in the order of their birth
    if len(sizes) < 2:
        raise ConfigError(
            f"a teacher and a student need two blocks of latents or more, got dims={dims[0]}. Example: -o dims=3,3."
        )
    require_known("code", code, CODES)
    more: dict[str, Any] = {"learn_sigma": learn_sigma, "squash": True}
    up = BuildingBlocks(x, likelihood, sigma, hidden, activation=activation, network=network, **more)
    # A fully connected decoder mirrors the encoder; the convolutional ones do so themselves.
    down = replace(up, hidden=hidden[::-1]) if network == "mlp" else up
    supervise = partial(Supervision, code=code_weight, cross=cross_weight, difference=difference_weight)
    stages: list[Stage] = []
    for number in range(len(sizes)):
        latents = {f"z{len(sizes) - birth}": size for birth, size in enumerate(sizes[: number + 1])}
        model, guide = _model(down, latents, features), _guide(up, latents, features, code, norm=number == 0)
        options = {"beta": 1.0 if code == "point" else beta if number else teacher_beta}
        if number == 0:
            stages.append(Stage("teacher", ELBO()(model, guide), schedule=options))
            continue
        teacher = stages[-1].objective
        student = supervise((teacher.model, teacher.guide))(model, guide)
        stages.append(Stage(f"student-{number}", student, before=partial(_inherit, teacher, student), schedule=options))
    return stages


def _model(blocks: BuildingBlocks, latents: dict[str, int], features: int) -> Ladder:
    """All latents (site -> size), the eldest first, through one linear layer over the joined code, then the decoder."""
    eldest, youngest = list(latents)[0], list(latents)[-1]
    sizes = {**latents, eldest: latents[eldest] + blocks.width}
    branches = {site: linear(size, features, 2.0) for site, size in sizes.items()}
    nets = {site: nn.ReLU() if site == youngest else nn.Identity() for site in latents}
    rungs = {site: Rung(branches[site], nets[site], features, join="sum") for site in latents}
    priors = {site: StandardNormal(size) for site, size in latents.items()}
    return Ladder(priors, rungs, blocks.decoder(features), blocks.given)


def _guide(blocks: BuildingBlocks, latents: dict[str, int], features: int, code: str, norm: bool) -> Heads:
    """One linear head for each latent, the youngest first, on features that all share."""

    def head(size: int) -> nn.Module:
        if code == "gaussian":
            return Gaussian(features, size, (), init_log_scale=-3.0)
        after = [FlattenPlates(nn.BatchNorm1d(size, affine=False), [size])] if norm else []
        return Point(Gaussian(features, size, scale=1.0, net=nn.Sequential(*mlp(features, size, ()), *after)))

    return Heads({site: head(latents[site]) for site in reversed(latents)}, trunk=blocks.trunk(features), **blocks.reads)


def _inherit(teacher: Objective, student: Objective) -> None:
    """Copies every parameter that the teacher has into the student; the student's other parameters keep their start."""
    own = student.state_dict()
    student.load_state_dict({name: value for name, value in teacher.state_dict().items() if name in own}, strict=False)
