"""Human motion: joint angles from the CMU Graphics Lab motion capture database, mocap.cs.cmu.edu (NSF EIA-0196217).

The VHP paper (Klushyn et al. 2019) says only that its clips are "five different motions" with 50 features. Our choice is
documented here: the clips of `FIVE` in `MOTIONS`, and the 62 channels of a skeleton without the 6 of the root (position and
direction of the body) and without, per side, one finger and two thumb channels.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.data.files.amc_motion import read_motion
from pyro_hvae.data.files.archives import read_named_members
from pyro_hvae.data.files.asf_skeleton import Skeleton, read_skeleton
from pyro_hvae.data.files.data_file import File, find
from pyro_hvae.data.option_checks import check_names
from pyro_hvae.data.sets.joint_angles import SPIKE, fit_scaling, is_measured, put_on_one_turn
from pyro_hvae.data.sets.stick_figures import make_picture
from pyro_hvae.errors import ConfigError, DataError

# Motion -> clips, as SUBJECT_TRIAL. The position in this table is the factor "motion": append new motions at the end.
MOTIONS: dict[str, tuple[str, ...]] = {
    "walking": ("02_01", "02_02", "07_05"),
    "running": ("02_03", "09_06"),
    "jumping": ("02_04",),
    "punching": ("02_05",),
    "washing": ("02_10",),
    "bending": ("02_06",),
    "swordplay": ("02_07", "02_08", "02_09"),
    "uneven-terrain": ("03_01", "03_02", "03_03", "03_04"),
    "dancing": ("131_04",),
    "martial-arts": ("135_06",),
}
FIVE = ("walking", "running", "jumping", "punching", "washing")

# Bone -> its channels.
_LEG = {"femur": "rx ry rz", "tibia": "rx", "foot": "rx rz", "toes": "rx"}
_TRUNK: dict[str, str] = dict.fromkeys(("lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head"), "rx ry rz")
_ARM = {"clavicle": "ry rz", "humerus": "rx ry rz", "radius": "rx", "wrist": "ry", "hand": "rx rz"}
_LEFT_OUT = {"fingers": "rx", "thumb": "rx rz"}
_ROOT = {"root": "tx ty tz rx ry rz"}


def _list_channels(bones: Mapping[str, str], side: str = "") -> tuple[str, ...]:
    return tuple(f"{side}{bone}.{channel}" for bone, channels in bones.items() for channel in channels.split())


FEATURES: tuple[str, ...] = tuple(
    channel
    for bones, side in ((_LEG, "l"), (_LEG, "r"), (_TRUNK, ""), (_ARM, "l"), (_ARM, "r"))
    for channel in _list_channels(bones, side)
)
"""The 50 joint angles in their order: left leg (7), right leg (7), trunk and head (18), left arm (9), right arm (9)."""

ARCHIVE = File(
    "CMU_mocap/allasfamc.zip",
    how="The database links it on mocap.cs.cmu.edu/faqs.php.",
    instead=("CMU_mocap/subjects.tar.xz", "CMU_mocap/subjects", "CMU_mocap/all_asfamc/subjects"),
)


def cmu_mocap(motions: tuple[str, ...] = FIVE, stride: int = 4) -> Dataset:
    """Poses as 50 joint angles in [-1, 1], from clips recorded at 120 Hz.

    The files are subjects/NN/NN.asf and subjects/NN/NN_TT.amc as the database publishes them, in the data folder's
    CMU_mocap: in its allasfamc.zip, in a subjects.tar.xz, or unpacked as all_asfamc/subjects or subjects. Every channel is
    scaled so that the training poses fill [-1, 1]; other poses may leave that range. A channel that is constant in training is
    0. `Dataset.inverse` converts features to degrees.

    Angles lie in (-180, 180], so that equal poses are equal features however many full turns a file adds; an angle that moves
    across the cut leaves this range instead of jumping. Frames that are no measured pose, because most of their angles are
    exactly 0, are left out: the first 50 of clip 03_02. The note says so, and names channels with jumps by about half a turn.

    Neighbouring frames are nearly equal, so with a random split the test poses would be known from training. Each clip is cut
    in time instead: its first 80 % are training, the next 10 % validation and the last 10 % test poses. The factor "motion" is
    the position in `MOTIONS`. Example: `cmu_mocap(motions=("walking", "running"))` has shape (50,).

    `Dataset.picture` draws poses as stick figures of 96 x 96 pixels with the bones of the first clip's subject. The pelvis is
    upright and in place, fingers and thumbs are stretched out, because the features do not contain them.

    Arguments:
        motions: names from walking, running, jumping, punching, washing, bending, swordplay, uneven-terrain, dancing and
            martial-arts.
        stride: keeps every stride-th frame; 4 gives 30 poses per second.

    Raises:
        ConfigError: for an unknown or repeated motion, none at all, or a stride that is below 1 or leaves a split empty.
        DataError: when a file is missing or broken, or a skeleton has other channels.
    """
    check_names("motion", motions, MOTIONS)
    if stride < 1:
        raise ConfigError(f"stride keeps every stride-th frame, so it is at least 1, got {stride}. Example: -o stride=4.")
    clips = {clip: list(MOTIONS).index(motion) for motion in motions for clip in MOTIONS[motion]}
    poses, skeleton = _read_clips([*clips])
    angles = {clip: _take_measured(frames, clip) for clip, frames in poses.items()}
    blocks = zip(*(_cut_clip(angles[clip][::stride], clip, stride) for clip in clips), strict=True)
    parts = [(np.concatenate(part), np.repeat([*clips.values()], [*map(len, part)])) for part in blocks]
    scale, inverse = fit_scaling(parts[0][0])
    train, validation, test = (Split(scale(degrees), {"motion": torch.from_numpy(label)}) for degrees, label in parts)
    frames = {f"{motion} frames": sum(len(angles[clip]) for clip in MOTIONS[motion]) for motion in motions}
    return Dataset(
        "cmu-mocap",
        train,
        validation,
        test,
        counts={f"{motion} clips": len(MOTIONS[motion]) for motion in motions} | frames,
        note=f"Clips {', '.join(clips)} at {120 / stride:g} Hz, each cut in time 80/10/10; which the papers used is not known."
        + _describe_left_out(poses)
        + _describe_spikes(angles),
        labels={"motion": tuple(MOTIONS)},
        picture=make_picture(skeleton, FEATURES, inverse, train.x[:]),
        ends=_choose_ends(train, motions),
        inverse=inverse,
        columns=FEATURES,
    )


def _read_clips(clips: list[str]) -> tuple[dict[str, np.ndarray], Skeleton]:
    """Clip -> `FEATURES` of all its frames in degrees, on one turn; and the first clip's skeleton."""
    folder = PurePosixPath("subjects")
    subjects = {clip: clip.split("_")[0] for clip in clips}
    asf = {clip: str(folder / subject / f"{subject}.asf") for clip, subject in subjects.items()}
    amc = {clip: str(folder / subject / f"{clip}.amc") for clip, subject in subjects.items()}
    path = find(ARCHIVE)
    # "subjects" may lie in other folders, such as "all_asfamc".
    content = dict(
        read_named_members(path, [*asf.values(), *amc.values()], shorten=lambda name: "/".join(name.split("/")[-3:]))
    )
    skeletons = {name: read_skeleton(content[name], name) for name in dict.fromkeys(asf.values())}
    angles = {}
    for clip in clips:
        skeleton = skeletons[asf[clip]]
        index = _find_features(skeleton, asf[clip])
        frames = read_motion(content[amc[clip]], skeleton.dof, amc[clip])[:, index]
        angles[clip] = put_on_one_turn(frames)  # before subsampling, because its steps are the smallest
    return angles, skeletons[asf[clips[0]]]


def _take_measured(frames: np.ndarray, clip: str) -> np.ndarray:
    if not (measured := is_measured(frames)).any():
        raise DataError(
            f"{clip}.amc has no measured pose: in all its {len(frames)} frames most angles are exactly 0. Replace the file by "
            "the original."
        )
    return frames[measured]


def _describe_left_out(poses: Mapping[str, np.ndarray]) -> str:
    counts = {clip: int((~is_measured(frames)).sum()) for clip, frames in poses.items()}
    return "".join(
        f" Left out: {count} of {len(poses[clip])} frames of {clip}, which are no measured pose (most angles are exactly 0)."
        for clip, count in counts.items()
        if count
    )


def _describe_spikes(angles: Mapping[str, np.ndarray]) -> str:
    """Names the channels that jump by `SPIKE` or more between two frames, which stay as the files have them."""
    jumps = {clip: (np.abs(np.diff(frames, axis=0)) >= SPIKE).sum(0) for clip, frames in angles.items()}
    named = [
        f"{name} of {clip} ({count})"
        for clip, counts in jumps.items()
        for name, count in zip(FEATURES, counts.tolist(), strict=True)
        if count
    ]
    return f" Jumps of {SPIKE:g} degrees or more between frames, kept as published: {', '.join(named)}." if named else ""


def _find_features(skeleton: Skeleton, name: str) -> list[int]:
    """Positions of the `FEATURES` among a skeleton's channels, which have to be the 62 of the database."""
    channels = skeleton.channels
    expected = {*FEATURES, *_list_channels(_ROOT), *_list_channels(_LEFT_OUT, "l"), *_list_channels(_LEFT_OUT, "r")}
    if wrong := expected.symmetric_difference(channels):
        signed = ", ".join(f"{'lacks' if channel in expected else 'adds'} {channel}" for channel in sorted(wrong))
        raise DataError(
            f"{name} has {len(channels)} channels instead of the database's {len(expected)}: it {signed}. Replace it by the "
            "original."
        )
    return [channels.index(channel) for channel in FEATURES]


def _choose_ends(train: Split, motions: tuple[str, ...]) -> dict[str, Tensor]:
    """End points of interpolations as in the paper: two poses of the first motion, and one pose of each of two motions.

    The paper does not say which poses it took. Ours are training poses, because a motion's last poses may show a person
    standing still: of each motion the pose farthest from the mean of all poses, and the pose of the first motion that is
    farthest from that motion's first end point.
    """
    poses = {motion: train.x[(train.factors["motion"] == list(MOTIONS).index(motion)).nonzero()[:, 0]] for motion in motions}
    mean = train.x[:].mean(0)

    def farthest(motion: str, point: Tensor) -> Tensor:
        return poses[motion][(poses[motion] - point).norm(dim=1).argmax()]

    first, *others = motions
    begin = farthest(first, mean)
    ends = {f"within {first}": farthest(first, begin)} | {f"{first} to {other}": farthest(other, mean) for other in others}
    return {name: torch.stack([begin, end]) for name, end in ends.items()}


def _cut_clip(frames: np.ndarray, clip: str, stride: int) -> list[np.ndarray]:
    """Cuts a clip in time into 80, 10 and 10 %."""
    blocks = np.split(frames, [len(frames) * 8 // 10, len(frames) * 9 // 10])
    if not all(map(len, blocks)):
        raise ConfigError(
            f"a stride of {stride} leaves {len(frames)} frames of clip {clip}, too few for three splits. Lower it."
        )
    return blocks
