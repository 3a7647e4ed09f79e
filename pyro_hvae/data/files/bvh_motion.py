"""Reads motions from BVH files: a tree of joints with its channels, and their values frame by frame."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data.files.asf_skeleton import rotation
from pyro_hvae.errors import DataError

# Words of a file in small letters -> the names that an .asf skeleton has for its channels.
CHANNELS = {f"{axis}{kind}": f"{short}{axis}" for axis in "xyz" for kind, short in (("position", "t"), ("rotation", "r"))}
MOST_JOINTS = 1_000


@dataclass(frozen=True)
class Joint:
    """A joint, or the end of a limb: a point that is fixed in its parent's coordinates, and turns those of its children.

    Attributes:
        name, parent: the root's parent is "".
        offset: from the parent, in the parent's coordinates.
        dof: its channels in the file's order, such as ("rz", "rx", "ry"). Each turn is one about the axes that the turns
            before it have moved.
    """

    name: str
    parent: str
    offset: tuple[float, ...]
    dof: tuple[str, ...]


@dataclass(frozen=True)
class JointTree:
    """Joints, the root first and every parent before its children."""

    bones: tuple[Joint, ...]

    @property
    def root(self) -> str:
        return self.bones[0].name

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of all channels in the file's order, such as "Hips.tx" or "LeftArm.rz"."""
        return tuple(f"{joint.name}.{dof}" for joint in self.bones for dof in joint.dof)

    def positions(self, channels: Tensor) -> Tensor:
        """Positions of the joints in the file's unit: channels (n, number of channels) -> (n, number of joints, 3).

        A joint has the rotation M = M' R1 R2 ... with M' of its parent and R of its channels in their order. It lies at its
        parent's position plus M' (offset + translation). Angles are in degrees.
        """
        columns = dict(zip(self.channels, channels.T, strict=True))
        still = channels.new_zeros(len(channels))
        turns: dict[str, Tensor] = {"": torch.eye(3).to(channels).expand(len(channels), 3, 3)}
        places: dict[str, Tensor] = {"": channels.new_zeros(len(channels), 3)}
        for joint in self.bones:
            shift = torch.stack([columns.get(f"{joint.name}.t{axis}", still) for axis in "xyz"], 1)
            moved = (channels.new_tensor(joint.offset) + shift)[..., None]
            places[joint.name] = places[joint.parent] + (turns[joint.parent] @ moved)[..., 0]
            turn = turns[joint.parent]
            for dof in joint.dof:
                if dof[0] == "r":
                    angles = [columns[f"{joint.name}.{dof}"] if axis == dof[1] else still for axis in "xyz"]
                    turn = turn @ rotation(torch.stack(angles, 1))
            turns[joint.name] = turn
        return torch.stack([places[joint.name] for joint in self.bones], 1)


def read_bvh(content: bytes, name: str) -> tuple[JointTree, np.ndarray]:
    """The joints of a BVH file, and its frames (n, channels); angles are in degrees.

    The end of a limb ("End Site") is called after its joint, such as "Head end".

    Arguments:
        content: of the file.
        name: of the file, for errors.

    Raises:
        DataError: naming the file and the broken line.

    >>> text = b"HIERARCHY\\nROOT Hips\\n{\\nOFFSET 0 0 0\\nCHANNELS 1 Xrotation\\nEnd Site\\n{\\nOFFSET 0 2 0\\n}\\n}\\n"
    >>> tree, frames = read_bvh(text + b"MOTION\\nFrames: 2\\nFrame Time: 0.01\\n0\\n90\\n", "a.bvh")
    >>> tree.channels, frames.tolist(), tree.positions(torch.from_numpy(frames))[1, 1].round().tolist()
    (('Hips.rx',), [[0.0], [90.0]], [0.0, 0.0, 2.0])
    """
    text = content.decode("utf-8-sig", errors="replace").splitlines()
    lines = iter([(number, words) for number, line in enumerate(text, 1) if (words := line.split())])
    tree = JointTree(tuple(_read_joints(lines, name)))
    count = _read_heading(lines, name)
    width, rows = len(tree.channels), []
    for number, words in lines:
        if len(words) != width or (row := _to_floats(words)) is None:
            raise _broken(name, number, f"a frame has {width} finite numbers, this has {len(words)} cells: '{_cut(words)}'")
        rows.append(row)
    if len(rows) != count or not rows:
        raise DataError(f"{name} announces {count:,} frames, {len(rows):,} follow. It is damaged; export it again.")
    return tree, np.array(rows, dtype=np.float64)


def _read_joints(lines: Iterator[tuple[int, list[str]]], name: str) -> list[Joint]:
    """The joints up to the closing brace of the root."""
    number, words = next(lines, (1, []))
    if [word.upper() for word in words] != ["HIERARCHY"]:
        raise _broken(name, number, f"a BVH file begins with HIERARCHY, this with '{_cut(words)}'")
    found: dict[str, Joint] = {}
    above: list[str] = []  # the open joints
    for number, words in lines:
        key = words[0].upper()
        if key in ("ROOT", "JOINT", "END"):
            if (key == "ROOT") != (not above) or (len(words) < 2 and key != "END") or len(found) == MOST_JOINTS:
                raise _broken(name, number, f"'{_cut(words)}' cannot stand here: one ROOT holds all, at most 1,000 joints")
            joint = f"{above[-1]} end" if key == "END" else " ".join(words[1:])
            if joint in found:
                raise _broken(name, number, f"there are two joints called '{joint}'. Rename one")
            found[joint] = Joint(joint, above[-1] if above else "", (), ())
            above.append(joint)
        elif not above:
            raise _broken(name, number, f"'{_cut(words)}' stands outside of the joints")
        elif key == "OFFSET":
            offset = _to_floats(words[1:])
            if offset is None or len(offset) != 3:
                raise _broken(name, number, f"an offset has three finite numbers, this is '{_cut(words)}'")
            found[above[-1]] = Joint(above[-1], found[above[-1]].parent, tuple(offset), found[above[-1]].dof)
        elif key == "CHANNELS":
            dof = tuple(CHANNELS.get(word.lower(), "") for word in words[2:])
            if words[1:2] != [str(len(dof))] or "" in dof or len(set(dof)) < len(dof):
                raise _broken(name, number, f"'{_cut(words)}' is no count with so many of {', '.join(CHANNELS)}")
            found[above[-1]] = Joint(above[-1], found[above[-1]].parent, found[above[-1]].offset, dof)
        elif words == ["}"]:
            if not found[above[-1]].offset:
                raise _broken(name, number, f"'{above[-1]}' has no OFFSET")
            above.pop()
            if not above:
                return [*found.values()]
        elif words != ["{"]:
            raise _broken(name, number, f"'{_cut(words)}' is not expected here")
    raise _broken(name, number, "the joints do not end: a closing brace is missing")


def _read_heading(lines: Iterator[tuple[int, list[str]]], name: str) -> int:
    """The number of frames that the lines before them announce."""
    heading = [next(lines, (0, [])) for _ in range(3)]
    (at, motion), (_, frames), (_, time) = heading
    known = [[word.upper() for word in words] for words in (motion, frames[:-1], time[:-1])]
    if known != [["MOTION"], ["FRAMES:"], ["FRAME", "TIME:"]] or not frames[-1].isdecimal() or len(frames[-1]) > 19:
        raise _broken(name, at, "after the joints a BVH file has the lines MOTION, Frames: N and Frame Time: SECONDS")
    return int(frames[-1])


def _to_floats(words: list[str]) -> list[float] | None:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _cut(words: list[str]) -> str:
    text = " ".join(words)
    return text if len(text) < 60 else f"{text[:60]}..."


def _broken(name: str, number: int, why: str) -> DataError:
    return DataError(f"{name}, line {number}: {why}. Export the file again.")
