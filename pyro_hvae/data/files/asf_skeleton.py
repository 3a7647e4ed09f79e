"""A subject's skeleton from an Acclaim .asf file, and forward kinematics: joint angles -> positions of the joints."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_hvae.errors import DataError

INCH = 0.0254  # metres; the database's lengths are inches times its unit of 0.45 (mocap.cs.cmu.edu/faqs.php)
ROOT_DOF = ("tx", "ty", "tz", "rx", "ry", "rz")
# The derivative at 0 of a rotation about x, y and z.
GENERATORS = torch.tensor(
    [
        [[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]],
        [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    ]
)


@dataclass(frozen=True)
class Bone:
    """A rod from its parent's end to its own end. The root is a point and the ancestor of all bones.

    Attributes:
        name, parent: the root is "root", its parent "".
        direction: a unit vector in the world when all angles are 0; of the root, its position in the file's units.
        length: in metres; of the root, one of the file's units.
        axis: rotation of the bone's own coordinates in the world, in degrees about x, y and z.
        order: of these three rotations, and of the bone's own, such as "XYZ".
        dof: its channels in the file's order, such as ("rx", "rz"). Those of the root include tx, ty and tz.
    """

    name: str
    parent: str
    direction: tuple[float, ...]
    length: float
    axis: tuple[float, ...]
    order: str
    dof: tuple[str, ...]


@dataclass(frozen=True)
class Skeleton:
    """Bones, the root first and every parent before its children.

    The world is right-handed with y up. With all channels at 0, a figure faces z and its left side has larger x.
    """

    bones: tuple[Bone, ...]

    @property
    def dof(self) -> dict[str, tuple[str, ...]]:
        """Bone -> its channels, without bones that have none."""
        return {bone.name: bone.dof for bone in self.bones if bone.dof}

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of all channels in order, such as "root.tx" or "lfemur.rx"."""
        return tuple(f"{name}.{dof}" for name, dofs in self.dof.items() for dof in dofs)

    def positions(self, channels: Tensor) -> Tensor:
        """Positions of the bones' ends in metres: channels (n, number of channels) -> (n, number of bones, 3).

        A bone has the rotation M = M' C R C^-1 with M' of its parent, C of its `axis` and R of its channels. Its end is its
        parent's end plus its length times M times its direction. Angles are in degrees, the root's translation is in the
        file's units. The result is differentiable, on the device and in the precision of the channels.
        """
        columns = dict(zip(self.channels, channels.T, strict=True))
        still = channels.new_zeros(len(channels))
        turns: dict[str, Tensor] = {}
        ends: dict[str, Tensor] = {}
        for bone in self.bones:
            shift, angles = (
                torch.stack([columns.get(f"{bone.name}.{kind}{axis}", still) for axis in "xyz"], 1) for kind in "tr"
            )
            own = rotation(channels.new_tensor(bone.axis), bone.order)
            turn = own @ rotation(angles, bone.order) @ own.T
            direction = channels.new_tensor(bone.direction)
            if bone.parent:
                turn = turns[bone.parent] @ turn
                ends[bone.name] = ends[bone.parent] + bone.length * (turn @ direction)
            else:
                ends[bone.name] = bone.length * (shift + direction)
            turns[bone.name] = turn
        return torch.stack(list(ends.values()), 1)


def rotation(degrees: Tensor, order: str = "XYZ") -> Tensor:
    """Rotation matrices (..., 3, 3) about the fixed axes x, y and z by angles (..., 3), in the given order.

    >>> (rotation(torch.tensor([90.0, 0.0, 90.0])) @ torch.tensor([0.0, 1.0, 0.0])).round().tolist()  # y -> z -> z
    [0.0, 0.0, 1.0]
    """
    generators = GENERATORS.to(degrees)
    angles = degrees.deg2rad()[..., None, None]
    result = identity = torch.eye(3).to(degrees)
    for axis in map("XYZ".index, order):
        about, angle = generators[axis], angles[..., axis, :, :]
        result = (identity + angle.sin() * about + (1 - angle.cos()) * (about @ about)) @ result
    return result


def read_skeleton(content: bytes, name: str) -> Skeleton:
    """The skeleton of an .asf file. Limits of the angles are ignored.

    Arguments:
        content: of the file.
        name: of the file, for errors.

    Raises:
        DataError: when some bone is not connected to the root, or a length, direction or axis is invalid.

    >>> text = b":units\\n length 0.45\\n:root\\n order TX TY TZ RX RY RZ\\n axis XYZ\\n:bonedata\\n begin\\n name head\\n"
    >>> text += b" direction 0 1 0\\n length 9\\n axis 0 0 20 XYZ\\n dof rx\\n end\\n:hierarchy\\n begin\\n root head\\n end"
    >>> read_skeleton(text, "01.asf").bones[1].dof
    ('rx',)
    """
    sections = _split_sections(content)
    units = {key: values for key, *values in sections.get(":units", [])}
    root = {"position": ["0"] * 3, "orientation": ["0"] * 3, "axis": ["XYZ"], "order": [], "length": ["1"]}
    root |= {key: values for key, *values in sections.get(":root", [])}
    fields: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    for key, *values in sections.get(":bonedata", []):
        if key == "begin":
            current = {}
        elif key == "end":
            fields[" ".join(current.get("name", []))] = current
        else:
            current[key] = values
    if not fields or sorted(word.lower() for word in root["order"]) != sorted(ROOT_DOF):
        raise DataError(f"{name} has no movable root or no bone: it is not an .asf skeleton. Replace it by the original.")
    if units.get("angle", ["deg"]) != ["deg"]:
        raise DataError(f"{name} has angles in {' '.join(units['angle'])}, where degrees are expected. Convert it.")
    unit = INCH / _parse_numbers(units.get("length", ["1"]), 1, name, "unit of length")[0]
    root |= {"direction": root["position"], "axis": [*root["orientation"], *root["axis"]], "dof": root["order"]}
    parents = _read_parents(sections.get(":hierarchy", []), fields, name)
    bones = [_make_bone("root", "", root, unit, name)]
    for parent in bones:  # the list grows in the loop, so every bone comes after its parent
        bones += [_make_bone(bone, parent.name, fields[bone], unit, name) for bone in fields if parents[bone] == parent.name]
    if len(bones) <= len(fields):
        loose = sorted({*fields}.difference(bone.name for bone in bones))
        raise DataError(f"{name}: the root has no connection to {', '.join(loose)}. Replace the file by the original.")
    return Skeleton(tuple(bones))


def _split_sections(content: bytes) -> dict[str, list[list[str]]]:
    """Keyword with its colon -> the words of each line of its section."""
    sections: dict[str, list[list[str]]] = {}
    lines: list[list[str]] = []
    for line in content.decode("ascii", errors="replace").splitlines():
        if words := line.split("#")[0].split():
            if words[0].startswith(":"):
                lines = sections.setdefault(words[0], [])
            else:
                lines.append(words)
    return sections


def _read_parents(lines: Sequence[Sequence[str]], bones: dict[str, dict[str, list[str]]], name: str) -> dict[str, str]:
    """Bone -> its parent, for exactly the given bones."""
    pairs = [(child, parent) for parent, *children in lines for child in children]
    parents = dict(pairs)
    if wrong := set(parents).symmetric_difference(bones):
        raise DataError(f"{name}: {', '.join(sorted(wrong))} is not in both bones and hierarchy. Replace it by the original.")
    if len(parents) < len(pairs):
        raise DataError(f"{name}: a bone has two places in the hierarchy. Replace the file by the original.")
    return parents


def _make_bone(bone: str, parent: str, fields: dict[str, list[str]], unit: float, name: str) -> Bone:
    *axis, order = fields.get("axis") or [""]
    dof = tuple(word.lower() for word in fields.get("dof", []))
    if sorted(order.upper()) != ["X", "Y", "Z"] or not set(dof) <= set(ROOT_DOF if not parent else ROOT_DOF[3:]):
        raise DataError(
            f"{name}: '{bone}' has the order '{order}' and the channels '{' '.join(dof)}', where turns about x, y and z are "
            "expected. Replace the file by the original."
        )
    return Bone(
        bone,
        parent,
        _parse_numbers(fields.get("direction", []), 3, name, f"direction of '{bone}'"),
        _parse_numbers(fields.get("length", []), 1, name, f"length of '{bone}'")[0] * unit,
        _parse_numbers(axis, 3, name, f"axis of '{bone}'"),
        order.upper(),
        dof,
    )


def _parse_numbers(words: Sequence[str], count: int, name: str, what: str) -> tuple[float, ...]:
    numbers: list[float] = []
    with contextlib.suppress(ValueError):
        numbers += map(float, words)
    # A single number is a length and has to be positive.
    if len(numbers) != count or not all(map(math.isfinite, numbers)) or (count == 1 and min(numbers) <= 0):
        raise DataError(f"{name}: the {what} is '{' '.join(words)}', which is invalid. Replace the file by the original.")
    return tuple(numbers)
