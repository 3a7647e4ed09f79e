"""Human motion: joint angles from the CMU Graphics Lab motion capture database, mocap.cs.cmu.edu (NSF EIA-0196217).

Which clips the VHP paper (Klushyn et al. 2019) used is not known; its motions were walking, jogging, balancing, punching and
waving. Ours are in `MOTIONS`, a documented choice of our own. The 50 features are the paper's number: the 62 channels of a
skeleton without the 6 of the root (where the body is) and, per side, one finger and two thumb channels.
"""

from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.amc import Skeleton, read_members, read_motion, read_skeleton
from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files import find
from pyro_hvae.errors import ConfigError, DataError, unknown_name

__all__ = ["MOTIONS", "FEATURES", "cmu_mocap"]

# Motion -> clips, as SUBJECT_TRIAL. The position in this table is the factor "motion".
MOTIONS: dict[str, tuple[str, ...]] = {
    "walking": ("02_01", "02_02", "07_05"),
    "running": ("02_03", "09_06"),
    "jumping": ("02_04",),
    "punching": ("02_05",),
    "washing": ("02_10",),
}

_LEG: Skeleton = {"femur": ("rx", "ry", "rz"), "tibia": ("rx",), "foot": ("rx", "rz"), "toes": ("rx",)}
_ARM: Skeleton = {
    "clavicle": ("ry", "rz"),
    "humerus": ("rx", "ry", "rz"),
    "radius": ("rx",),
    "wrist": ("ry",),
    "hand": ("rx", "rz"),
}
_LEFT_OUT: Skeleton = {"fingers": ("rx",), "thumb": ("rx", "rz")}
_ROOT: Skeleton = {"root": ("tx", "ty", "tz", "rx", "ry", "rz")}
_TRUNK: Skeleton = dict.fromkeys(("lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head"), ("rx", "ry", "rz"))


def _channels(bones: Skeleton, side: str = "") -> tuple[str, ...]:
    return tuple(f"{side}{bone}.{dof}" for bone, dofs in bones.items() for dof in dofs)


FEATURES: tuple[str, ...] = (
    *_channels(_LEG, "l"),
    *_channels(_LEG, "r"),
    *_channels(_TRUNK),
    *_channels(_ARM, "l"),
    *_channels(_ARM, "r"),
)
"""The 50 joint angles in their order: left leg (7), right leg (7), trunk and head (18), left arm (9), right arm (9)."""

STILL = 1e-6  # degrees; a channel that moves less is constant (the clavicles are, but for rounding of about 1e-14)


def cmu_mocap(motions: tuple[str, ...] = tuple(MOTIONS), stride: int = 4) -> Dataset:
    """Poses as 50 joint angles in [-1, 1], from clips recorded at 120 Hz.

    The files are CMU_mocap/subjects.tar.xz in the data folder with members subjects/NN/NN.asf and subjects/NN/NN_TT.amc, as
    the database publishes them, or the unpacked folder CMU_mocap/subjects. Angles are unwrapped in time and every channel is
    scaled so that the training poses just fill [-1, 1]; held-out poses may go beyond. `Dataset.inverse` is the way back to
    degrees. A channel constant in training is 0 throughout.

    Neighbouring frames are nearly equal, so a random split would test on what was trained on. Each clip is cut in time
    instead: its first 80 % are training, the next 10 % validation and the last 10 % test poses, in the order of time. The
    factor "motion" is the position in `MOTIONS`. Example: `cmu_mocap(motions=("walking", "running"))` has shape (50,).

    Arguments:
        motions: which of walking, running, jumping, punching and washing.
        stride: keep every so-many-th frame; 4 gives 30 poses per second.

    Raises:
        ConfigError: for an unknown or repeated motion, none at all, or a stride that is below one or leaves a split empty.
        DataError: when a file is missing or broken, or a skeleton has other channels.
    """
    for motion in motions:
        if motion not in MOTIONS:
            raise unknown_name("motion", motion, MOTIONS)
    if not motions or len(set(motions)) < len(motions):
        raise ConfigError(f"motions needs at least one name and each only once, got {', '.join(motions) or 'none'}.")
    if stride < 1:
        raise ConfigError(f"stride keeps every so-many-th frame and is at least 1, got {stride}.")
    poses: list[list[np.ndarray]] = [[], [], []]
    labels: list[list[int]] = [[], [], []]
    angles = _angles([clip for motion in motions for clip in MOTIONS[motion]])
    for motion in motions:
        for clip in MOTIONS[motion]:
            for part, block in enumerate(_blocks(angles[clip][::stride], clip, stride)):
                poses[part].append(block)
                labels[part] += [list(MOTIONS).index(motion)] * len(block)
    degrees = [np.concatenate(part) for part in poses]
    scale, inverse = _scaling(degrees[0])
    train, validation, test = (
        Split(scale(part), {"motion": torch.tensor(label)}) for part, label in zip(degrees, labels, strict=True)
    )
    # From the first motion to the last; the first two test poses would be neighbours.
    return Dataset("cmu-mocap", train, validation, test, ends=test.x[[0, -1]], inverse=inverse)


def _angles(clips: list[str]) -> dict[str, np.ndarray]:
    """Clip -> the `FEATURES` of all its frames in degrees, without jumps by full turns."""
    folder = PurePosixPath("subjects")
    subjects = {clip: clip.split("_")[0] for clip in clips}
    skeletons = {clip: str(folder / subject / f"{subject}.asf") for clip, subject in subjects.items()}
    motions = {clip: str(folder / subject / f"{clip}.amc") for clip, subject in subjects.items()}
    path = find("CMU_mocap/subjects.tar.xz", "CMU_mocap/subjects")
    content = read_members(path, [*skeletons.values(), *motions.values()])
    angles = {}
    for clip in clips:
        skeleton = read_skeleton(content[skeletons[clip]], skeletons[clip])
        index = _index(skeleton, skeletons[clip])
        frames = read_motion(content[motions[clip]], skeleton, motions[clip])[:, index]
        angles[clip] = np.unwrap(frames, period=360, axis=0)  # before subsampling, while steps are smallest
    return angles


def _index(skeleton: Skeleton, name: str) -> list[int]:
    """Where the `FEATURES` are among a skeleton's channels, which have to be the database's 62."""
    channels = _channels(skeleton)
    expected = {*FEATURES, *_channels(_ROOT), *_channels(_LEFT_OUT, "l"), *_channels(_LEFT_OUT, "r")}
    if wrong := expected.symmetric_difference(channels):
        signed = ", ".join(f"{'lacks' if channel in expected else 'adds'} {channel}" for channel in sorted(wrong))
        raise DataError(
            f"{name} has {len(channels)} channels instead of the database's {len(expected)}: it {signed}. Replace it by the "
            "original."
        )
    return [channels.index(channel) for channel in FEATURES]


def _blocks(frames: np.ndarray, clip: str, stride: int) -> list[np.ndarray]:
    """80, 10 and 10 % of a clip in the order of time."""
    blocks = np.split(frames, [len(frames) * 8 // 10, len(frames) * 9 // 10])
    if not all(map(len, blocks)):
        raise ConfigError(
            f"a stride of {stride} leaves {len(frames)} frames of clip {clip}, too few for three splits. Lower it."
        )
    return blocks


def _scaling(degrees: np.ndarray) -> tuple[Callable[[np.ndarray], Tensor], Callable[[Tensor], Tensor]]:
    """Degrees -> features and back, each channel of the given poses filling [-1, 1]."""
    low, high = degrees.min(0), degrees.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    moves = half > STILL / 2

    def scale(angles: np.ndarray) -> Tensor:
        scaled = np.where(moves, (angles - middle) / np.where(moves, half, 1.0), 0.0)
        return torch.from_numpy(scaled.astype(np.float32))

    def inverse(features: Tensor) -> Tensor:
        return features * torch.from_numpy(half * moves).to(features) + torch.from_numpy(middle).to(features)

    return scale, inverse
