"""Joint angles from a user's own motions: BVH files, or Acclaim's .amc files with their .asf skeletons."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from pyro_hvae.data.dataset import Split
from pyro_hvae.data.files.amc_motion import read_motion
from pyro_hvae.data.files.asf_skeleton import read_skeleton
from pyro_hvae.data.files.bvh_motion import JointTree, read_bvh
from pyro_hvae.data.files.data_file import read_checked
from pyro_hvae.data.option_checks import check_names
from pyro_hvae.data.sets.joint_angles import SPIKE, STILL, fit_scaling, is_measured, put_on_one_turn
from pyro_hvae.data.sets.stick_figures import Figure, make_picture
from pyro_hvae.data.sets.user_parts import UserParts
from pyro_hvae.errors import ConfigError, DataError

FEW = 5  # so few angles of a pose may be exactly 0 by chance
MOTION_SUFFIXES = (".amc", ".bvh")


def list_motions(path: Path) -> list[str]:
    """Sorted relative names of the motions and skeletons in a folder; of a single motion, its own and its skeleton's.

    A folder without motions has none. Names and folders that begin with "." are skipped.
    """
    if not path.is_dir():
        return [*([_find_skeleton(path).name] if path.suffix.lower() == ".amc" else []), path.name]
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    found = [name for name in names if Path(name).suffix.lower() in (*MOTION_SUFFIXES, ".asf") and "/." not in f"/{name}"]
    return found if any(not name.lower().endswith(".asf") for name in found) else []


def _find_skeleton(motion: Path) -> Path:
    """The .asf beside an .amc: the one whose name begins the motion's, as 02.asf does that of 02_01.amc, or the only one."""
    found = sorted(file for file in motion.parent.iterdir() if file.suffix.lower() == ".asf")
    named = [file for file in found if motion.stem.startswith(file.stem)]
    if chosen := max(named, key=lambda file: len(file.stem), default=None):
        return chosen
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} skeletons, none of which begins its name" if found else "no skeleton"
    raise DataError(f"{motion} has {what} beside it. Put the .asf file that it was recorded with into its folder.")


def read_motions(
    path: Path, columns: Sequence[str] = (), stride: int = 1, validation: float = 0.1, test: float = 0.1
) -> UserParts:
    """Poses as joint angles, each channel scaled so that the training poses fill [-1, 1], as `cmu_mocap` has them.

    Every motion is cut in time into training, validation and test poses, because neighbouring frames are nearly equal. Its
    file, or where all lie in folders its folder, is the factor "motion". Angles are on one turn (see `put_on_one_turn`).
    Frames of which most moving channels, and at least five, are exactly 0 are no measured pose and are left out, such as the
    T-pose that begins many BVH files. `UserParts.picture` draws stick figures with the bones of the first motion.

    Arguments:
        columns: names of the channels, such as "LeftArm.rx"; empty for all that move, but those of the root, which say where
            the body is and which way it faces.
        stride: keeps every stride-th frame.
        validation, test: fractions of each motion.

    Raises:
        ConfigError: for an unknown channel, or a stride that is below 1 or leaves a part of a motion empty.
        DataError: when a file is missing or broken, no channel moves, or the motions have different channels, or joints that
            turn in different orders.
    """
    if stride < 1:
        raise ConfigError(f"stride keeps every stride-th frame, so it is at least 1, got {stride}.")
    folder = path if path.is_dir() else path.parent
    names = [name for name in list_motions(path) if not name.lower().endswith(".asf")]
    clips = {name: _read_clip(folder / name) for name in names}
    figure = clips[names[0]][0]
    for name, (other, _) in clips.items():
        if wrong := set(figure.channels).symmetric_difference(other.channels):
            raise DataError(
                f"{names[0]} and {name} in {folder} have different channels, such as {min(wrong)}: they need skeletons of the "
                "same joints. Move one elsewhere."
            )
        if joint := next((joint for joint, order in _orders(figure).items() if _orders(other)[joint] != order), None):
            both = " and ".join("".join(dof[1] for dof in _orders(each)[joint]).upper() for each in (figure, other))
            raise DataError(
                f"'{joint}' turns in another order in {names[0]} and in {name} ({both}) in {folder}, so that equal angles are "
                "other poses. Export both in one order, or move one elsewhere."
            )
    chosen, still = _choose_channels(figure, clips, columns)
    angles: dict[str, np.ndarray] = {}
    measured: dict[str, np.ndarray] = {}
    turned = [channel.rpartition(".")[2][0] == "r" for channel in chosen]
    for name, (other, frames) in clips.items():
        taken = frames[:, [other.channels.index(channel) for channel in chosen]]
        taken[:, turned] = put_on_one_turn(taken[:, turned])  # before subsampling, because its steps are the smallest
        moving = frames[:, [channel not in still for channel in other.channels]]
        angles[name], measured[name] = taken, is_measured(moving) | ((moving == 0).sum(1) < FEW)
    if empty := next((name for name, kept in measured.items() if not kept.any()), None):
        raise DataError(f"{folder / empty} has no measured pose: most angles are exactly 0 in every frame. Remove it.")
    kept = {name: _cut(np.flatnonzero(measured[name])[::stride], name, stride, validation, test) for name in names}
    blocks = {name: [angles[name][frames] for frames in parts] for name, parts in kept.items()}
    lengths = [len(measured[name]) for name in names]
    starts = np.cumsum([0, *lengths])
    motions, numbers = _number_motions(names)
    scale, inverse = fit_scaling(np.concatenate([parts[0] for parts in blocks.values()]))
    parts = {}
    for place, part in enumerate(("train", "validation", "test")):
        held = [blocks[name][place] for name in names]
        label = torch.from_numpy(np.repeat(numbers, [*map(len, held)]))
        rows = torch.from_numpy(np.concatenate([start + kept[name][place] for start, name in zip(starts, names, strict=False)]))
        parts[part] = Split(scale(np.concatenate(held)), {"motion": label} if len(motions) > 1 else {}, rows)
    return UserParts(
        parts,
        _describe(path, angles, measured, chosen, still, columns, stride),
        {"motion": motions} if len(motions) > 1 else {},
        chosen,
        make_picture(figure, chosen, inverse, parts["train"].x[:]),
        inverse,
        "each motion cut in time into training, validation and test poses",
        beside=lambda _: {"file": np.repeat(names, lengths), "frame": np.concatenate([np.arange(n) for n in lengths])},
    )


def _read_clip(path: Path) -> tuple[Figure, np.ndarray]:
    if path.suffix.lower() == ".bvh":
        return read_bvh(read_checked(path), str(path))
    skeleton = read_skeleton(read_checked(asf := _find_skeleton(path)), str(asf))
    return skeleton, read_motion(read_checked(path), skeleton.dof, str(path))


def _orders(figure: Figure) -> dict[str, list[str]]:
    """Joint -> its turns in the order of a BVH file's channels. Those of a skeleton say nothing: its axes give the order."""
    orders: dict[str, list[str]] = {}
    for channel in figure.channels if isinstance(figure, JointTree) else ():
        joint, _, dof = channel.rpartition(".")
        if dof[0] == "r":
            orders.setdefault(joint, []).append(dof)
    return orders


def _choose_channels(
    figure: Figure, clips: Mapping[str, tuple[Figure, np.ndarray]], columns: Sequence[str]
) -> tuple[tuple[str, ...], set[str]]:
    """The channels that are columns of x, and those that do not move in any motion."""
    low = {channel: np.inf for channel in figure.channels}
    high = {channel: -np.inf for channel in figure.channels}
    for other, frames in clips.values():
        for channel, least, most in zip(other.channels, frames.min(0), frames.max(0), strict=True):
            low[channel], high[channel] = min(low[channel], least), max(high[channel], most)
    still = {channel for channel in figure.channels if high[channel] - low[channel] <= STILL}
    if columns:
        check_names("column", columns, figure.channels)
        return tuple(columns), still
    root = f"{figure.root if isinstance(figure, JointTree) else 'root'}."
    moving = tuple(channel for channel in figure.channels if channel not in still and not channel.startswith(root))
    if not moving:
        raise DataError(f"no joint moves in {', '.join(clips)}. Name other motions, or channels of the root by columns=.")
    return moving, still


def _number_motions(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """The names of the motions and the number of each file's: its folder where all are in folders and these differ."""
    tops = [name.partition("/")[0] for name in names]
    own = tops if all("/" in name for name in names) and len(set(tops)) > 1 else [name.rpartition(".")[0] for name in names]
    motions = sorted(set(own))
    return motions, [motions.index(name) for name in own]


def _cut(frames: np.ndarray, name: str, stride: int, validation: float, test: float) -> list[np.ndarray]:
    """Cuts the frames of a motion in time into training, validation and test poses."""
    ends = [int(len(frames) * share + 1e-9) for share in (1 - validation - test, 1 - test)]
    blocks = np.split(frames, ends)
    if not all(map(len, blocks)):
        raise ConfigError(
            f"stride={stride} leaves {len(frames)} frames of {name}, too few for three parts. Lower it, or move the file away."
        )
    return blocks


def _describe(
    path: Path,
    angles: Mapping[str, np.ndarray],
    measured: Mapping[str, np.ndarray],
    chosen: Sequence[str],
    still: set[str],
    columns: Sequence[str],
    stride: int,
) -> str:
    frames = sum(int(kept.sum()) for kept in measured.values())
    left_out = sum(map(len, measured.values())) - frames
    jumps = sum(int((np.abs(np.diff(taken, axis=0)) >= SPIKE).sum()) for taken in angles.values())
    clips = f"{len(angles)} motion{'s' * (len(angles) > 1)} from {path.name}"
    what = f"{frames:,} frames of {clips}, {len(chosen)} channels scaled to [-1, 1]"
    what += f", every {stride}. frame" if stride > 1 else ""
    what += "" if columns else "; the root is left out"
    rest = "1 channel that does not move" if len(still) == 1 else f"{len(still)} channels that do not move"
    what += f", and {rest}" if still and not columns else ""
    what += f"; {left_out} frames left out, which are no measured pose (most angles are exactly 0)" if left_out else ""
    what += f"; {jumps} jumps of {SPIKE:g} degrees or more, kept" if jumps else ""
    return what
