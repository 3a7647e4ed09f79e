"""Forward kinematics against closed forms, damaged skeletons, stick figures, and real people who stand on their feet."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pyro_hvae.data.files.amc_motion import read_motion
from pyro_hvae.data.files.archives import read_named_members
from pyro_hvae.data.files.asf_skeleton import read_skeleton, rotation
from pyro_hvae.data.sets.cmu_mocap import FEATURES, MOTIONS, cmu_mocap
from pyro_hvae.data.sets.stick_figures import HEAD, LEFT, LINE, RIGHT, TRUNK, draw_figures, fit_frame
from pyro_hvae.errors import DataError
from pyro_hvae.runtime.folders import DATA_VARIABLE

REAL = Path(os.environ.get(DATA_VARIABLE) or "absent") / "CMU_mocap/subjects.tar.xz"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"needs CMU_mocap/subjects.tar.xz below {DATA_VARIABLE}")

# A figure of the fewest bones; its upper arm's own x is the world's y, its forearm's own y is the world's z.
ASF = """# a comment
:version 1.10
:units
  mass 1.0
  length 0.5
  angle deg
:documentation
   no bone here
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 2
     name lfore
     direction 1 0 0
     length 2
     axis 90 0 0 XYZ
    dof ry
    limits (-70.0 70.0)
  end
  begin
     name larm
     direction 1 0 0
     length 3
     axis 0 0 90 XYZ
    dof rx rz
    limits (-160.0 20.0)
           (-70.0 70.0)
  end
  begin
     name trunk
     direction 0 1 0
     length 5
     axis 0 0 0 XYZ
    dof rx ry rz
  end
  begin
     name rleg
     direction 0 -1 0
     length 6
     axis 0 0 0 XYZ
  end
  begin
     name head
     direction 0 1 0
     length 1
     axis 0 0 0 XYZ
  end
:hierarchy
  begin
    larm lfore
    root trunk rleg
    trunk head larm
  end
"""
UNIT = 0.0254 / 0.5  # metres


def small():
    return read_skeleton(ASF.encode(), "a.asf")


def pose(**channels):
    """The small figure's joints by name, in the file's units, with root__ty=2 and so on and all other channels 0."""
    skeleton = small()
    given = torch.zeros(1, len(skeleton.channels), dtype=torch.float64)
    for name, value in channels.items():
        given[0, skeleton.channels.index(name.replace("__", "."))] = value
    found = skeleton.positions(given)[0] / UNIT
    return {bone.name: end for bone, end in zip(skeleton.bones, found.tolist(), strict=True)}


def near(found, expected):
    return np.allclose(found, expected, atol=1e-12)


def test_a_skeleton_is_read():
    skeleton = small()
    assert [bone.name for bone in skeleton.bones] == ["root", "trunk", "rleg", "larm", "head", "lfore"]
    assert [bone.parent for bone in skeleton.bones] == ["", "root", "root", "trunk", "trunk", "larm"]
    assert skeleton.channels[6:] == ("trunk.rx", "trunk.ry", "trunk.rz", "larm.rx", "larm.rz", "lfore.ry")
    arm = skeleton.bones[3]
    assert arm.length == 3 * UNIT and arm.direction == (1, 0, 0) and arm.axis == (0, 0, 90) and arm.order == "XYZ"


def test_rotations():
    angles = torch.rand(20, 3, dtype=torch.float64) * 360 - 180
    for order in ("XYZ", "ZXY", "YXZ"):  # lower case means about fixed axes
        permuted = angles[:, ["XYZ".index(axis) for axis in order]].numpy()
        expected = Rotation.from_euler(order.lower(), permuted, degrees=True).as_matrix()
        assert np.allclose(rotation(angles, order), expected, atol=1e-12)


def test_joints_by_hand():
    still = pose()
    assert near(still["trunk"], (0, 5, 0)) and near(still["head"], (0, 6, 0)) and near(still["rleg"], (0, -6, 0))
    assert near(still["larm"], (3, 5, 0)) and near(still["lfore"], (5, 5, 0)) and near(still["root"], (0, 0, 0))
    # The upper arm's x is the world's y: a quarter turn takes x to -z, the forearm with it and nothing else.
    turned = pose(larm__rx=90)
    assert near(turned["larm"], (0, 5, -3)) and near(turned["lfore"], (0, 5, -5))
    assert all(near(turned[name], still[name]) for name in ("root", "trunk", "head", "rleg"))
    # The forearm's y is the world's z, after the upper arm's turn it is x: the forearm points up both times.
    assert near(pose(lfore__ry=90)["lfore"], (3, 7, 0))
    assert near(pose(lfore__ry=90, larm__rx=90)["lfore"], (0, 7, -3))
    # x before z: x takes the trunk to z, where z leaves it; the arm stays at x first and goes to y then.
    both = pose(trunk__rx=90, trunk__rz=90)
    assert near(both["trunk"], (0, 0, 5)) and near(both["larm"], (0, 3, 5))
    # The root takes all along, turned first and moved afterwards.
    moved = pose(root__tx=1, root__ty=2, root__rz=90)
    assert near(moved["root"], (1, 2, 0)) and near(moved["head"], (-5, 2, 0)) and near(moved["rleg"], (7, 2, 0))


def test_bones_keep_their_lengths():
    skeleton = small()
    positions = skeleton.positions(torch.randn(50, len(skeleton.channels), dtype=torch.float64) * 200)
    names = [bone.name for bone in skeleton.bones]
    for i, bone in enumerate(skeleton.bones[1:], 1):
        lengths = (positions[:, i] - positions[:, names.index(bone.parent)]).norm(dim=1)
        assert torch.allclose(lengths, torch.full_like(lengths, bone.length), rtol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (ASF, "", "has no movable root or no bone"),
        ("TX TY TZ RX RY RZ", "RX RY RZ", "has no movable root or no bone"),
        ("angle deg", "angle rad", "has angles in rad, where degrees"),
        ("length 0.5", "length 0", "unit of length is '0'"),
        ("length 3", "length -3", "length of 'larm' is '-3'"),
        ("     length 6\n", "", "length of 'rleg' is ''"),
        ("direction 1 0 0\n     length 3", "direction 1 0\n     length 3", "direction of 'larm' is '1 0'"),
        ("direction 0 -1 0", "direction 0 nan 0", "direction of 'rleg' is '0 nan 0'"),
        ("axis 90 0 0 XYZ", "axis 90 x 0 XYZ", "axis of 'lfore' is '90 x 0'"),
        ("axis 90 0 0 XYZ", "axis 90 0 0 XXZ", "'lfore' has the order 'XXZ'"),
        ("     axis 90 0 0 XYZ\n", "", "'lfore' has the order ''"),
        ("dof rx rz", "dof rx l", "'larm' has the order 'XYZ' and the channels 'rx l'"),
        ("trunk head larm", "trunk head", "larm is not in both bones and hierarchy"),
        ("trunk head larm", "trunk head larm tail", "tail is not in both"),
        ("larm lfore", "larm lfore head", "a bone has two places"),
        (
            "root trunk rleg\n    trunk head larm",
            "root rleg\n    trunk head larm\n    head trunk",
            "no connection to head, larm, lfore, trunk",
        ),
        ("direction 0 -1 0", "direction 0 -\xff1 0", "direction of 'rleg'"),
    ],
)
def test_damaged_skeletons(old, new, why):
    assert ASF.count(old) == 1
    with pytest.raises(DataError, match=f"a.asf.*{why}.*(Replace|Convert)"):
        read_skeleton(ASF.replace(old, new).encode("latin-1"), "a.asf")


def colour_of(picture, colour):
    """Where a picture is of that colour, through and through, (size, size)."""
    return ((picture - torch.tensor(colour)[:, None, None]).abs() < 1e-5).all(0)


def test_a_line_has_its_width_and_a_ball_its_area():
    skeleton = small()
    names = [bone.name for bone in skeleton.bones]
    frame = torch.tensor([0.0, 0.0, 1.0])
    # Upwards the trunk, downwards the head, which is a ball in the middle of its bone; all else are points.
    positions = torch.zeros(2, 6, 3)
    positions[0, 1:] = positions[1, names.index("head")] = torch.tensor([0.0, 1.0, 0.0])
    positions[0, names.index("rleg")] = 0
    trunk, head = (1 - draw_figures(skeleton, positions, frame)[:, 0]) / (1 - TRUNK[0])
    # Seen from above a little, it ends 41 pixels over the middle; there the margins begin and the head is drawn.
    assert torch.allclose(trunk[14:46].sum(1), torch.tensor(2 * LINE * 96), atol=1e-4) and (trunk[50:] == 0).all()
    length = (48 - 1 - HEAD * 96) * np.cos(np.radians(10))
    rows = torch.arange(96.0) + 0.5
    assert abs(head[:40].sum() - np.pi * ((HEAD * 96) ** 2 + 1 / 12)) < 0.3
    assert abs((head[:40].sum(1) * rows[:40]).sum() / head[:40].sum() - (48 - length / 2)) < 0.01


def test_figures_look_right():
    skeleton = small()
    channels = torch.zeros(2, 12)
    channels[1, skeleton.channels.index("larm.rz")] = -60.0  # the arm hangs down instead of pointing to the left
    poses = skeleton.positions(channels)
    first, second = draw_figures(skeleton, poses, fit_frame(poses))
    assert first.shape == (3, 96, 96) and first.min() >= 0 and first.max() == 1
    drawn = (first[0] < 0.9).nonzero()
    assert drawn[:, 0].min() < 10 and drawn[:, 0].max() > 85  # it stands as high as the picture, but for the margins
    # The viewer sees the figure's left on the picture's right; what did not move is drawn as it was.
    arms = [(1 - picture[0])[:, 46:] for picture in (first, second)]
    heights = [(arm.sum(1) * torch.arange(96.0)).sum() / arm.sum() for arm in arms]
    assert heights[0] < 30 and heights[1] > heights[0] + 15
    assert torch.equal(first[:, 58:], second[:, 58:]) and first[:, 58:].min() < 0.3  # the leg


def test_sides_have_colours_and_nearer_bones_hide_farther_ones():
    text = ASF.replace("lfore", "rarm").replace("larm rarm", "").replace("trunk head larm", "trunk head larm rarm")
    skeleton = read_skeleton(text.encode(), "a.asf")
    names = [bone.name for bone in skeleton.bones]
    positions = torch.zeros(2, 6, 3)
    # Both arms up from the root, the left one's end nearer to the viewer (who is in front and to the right), then farther.
    towards = torch.tensor([-np.sin(np.radians(50)), 0.0, np.cos(np.radians(50))], dtype=torch.float32)
    for figure, sign in enumerate((1, -1)):
        positions[figure, names.index("larm")] = torch.tensor([0.0, 1.0, 0.0]) + 0.1 * sign * towards
        positions[figure, names.index("rarm")] = torch.tensor([0.0, 1.0, 0.0]) - 0.1 * sign * towards
    positions[:, names.index("rleg")] = torch.tensor([0.0, -1.0, 0.0])
    near_left, near_right = draw_figures(skeleton, positions, fit_frame(positions))
    assert colour_of(near_left, LEFT).sum() > 50 and not colour_of(near_left, RIGHT).sum() > 10
    assert colour_of(near_right, RIGHT).sum() > 50 and not colour_of(near_right, LEFT).sum() > 10


def test_every_pose_is_inside():
    skeleton = small()
    frame = fit_frame(skeleton.positions(torch.zeros(1, 12)) * 0.3)
    wild = draw_figures(skeleton, skeleton.positions(torch.randn(70, 12) * 100), frame, size=48)
    assert wild.shape == (70, 3, 48, 48)
    for edge in (wild[..., 0], wild[..., -1], wild[..., 0, :], wild[..., -1, :]):
        assert (edge == 1).all()
    assert (wild.flatten(1).min(1).values < 0.3).all()  # and there


@needs_real
def test_real_people_stand_on_their_feet():
    for clip in MOTIONS["walking"]:
        subject = clip.split("_")[0]
        names = [f"subjects/{subject}/{subject}.asf", f"subjects/{subject}/{clip}.amc"]
        content = dict(read_named_members(REAL, names))
        skeleton = read_skeleton(content[names[0]], clip)
        assert all(abs(np.linalg.norm(bone.direction) - 1) < 1e-5 for bone in skeleton.bones[1:])
        channels = torch.from_numpy(read_motion(content[names[1]], skeleton.dof, clip))
        joints = dict(zip((bone.name for bone in skeleton.bones), skeleton.positions(channels).unbind(1), strict=True))
        toes = torch.stack([joints["ltoes"], joints["rtoes"]], 1)
        lowest, which = toes[..., 1].min(1)
        assert 1.4 < (joints["head"][:, 1] - lowest).median() < 1.9
        # Whichever foot carries stays where it is while the body goes on at walking speed.
        speed = (toes[1:] - toes[:-1])[torch.arange(len(toes) - 1), which[1:]].norm(dim=1) * 120
        body = (joints["root"][1:] - joints["root"][:-1]).norm(dim=1) * 120
        assert 0.8 < body.median() < 1.8 and speed.median() < 0.25 * body.median()
        # Toes before the ankle and the left foot to the left, as the figure sees it.
        channels[:, :6] = 0
        joints = dict(zip((bone.name for bone in skeleton.bones), skeleton.positions(channels).unbind(1), strict=True))
        assert ((joints["ltoes"] - joints["ltibia"])[:, 2] > 0).float().mean() > 0.7
        assert (joints["lfemur"] - joints["rfemur"])[:, 0].min() > 0


@needs_real
def test_real_pictures():
    data = cmu_mocap()
    assert data.picture is not None
    walking = data.picture(data.train.x[:40:4])
    assert walking.shape == (10, 3, 96, 96) and walking.min() >= 0 and walking.max() == 1
    for picture in walking:
        assert colour_of(picture, LEFT).sum() > 40 and colour_of(picture, RIGHT).sum() > 40
        dark, rows = colour_of(picture, TRUNK), torch.arange(96.0)
        assert (dark * rows[:, None]).sum() / dark.sum() < 40  # head and trunk are above
    wild = data.picture(3 * torch.randn(64, 50))
    assert (wild[..., 0] == 1).all() and (wild[..., 0, :] == 1).all() and wild.isfinite().all()


@needs_real
def test_features_are_drawn_as_what_was_recorded():
    data = cmu_mocap(motions=("jumping",))
    names = ["subjects/02/02.asf", "subjects/02/02_04.amc"]
    content = dict(read_named_members(REAL, names))
    skeleton = read_skeleton(content[names[0]], "02.asf")
    recorded = torch.from_numpy(read_motion(content[names[1]], skeleton.dof, "02_04.amc"))[::4][: len(data.train)]
    recorded[:, [channel not in FEATURES for channel in skeleton.channels]] = 0
    poses = skeleton.positions(recorded.float())
    assert data.picture is not None
    assert torch.allclose(data.picture(data.train.x[:]), draw_figures(skeleton, poses, fit_frame(poses)), atol=1e-3)
