"""One's own motions: kinematics by hand and by another way, the database's clips as the built-in set reads them, damage."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pyro_hvae.data import find_source
from pyro_hvae.data.files.bvh_motion import read_bvh
from pyro_hvae.data.sets.cmu_mocap import FEATURES, cmu_mocap
from pyro_hvae.data.sets.stick_figures import HEAD, LEFT, RIGHT
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runtime.folders import DATA_VARIABLE

REAL = Path(os.environ.get(DATA_VARIABLE) or "absent") / "CMU_mocap/subjects.tar.xz"

ROTATIONS = "Zrotation Xrotation Yrotation"
# Any order of turns, one turn only, a joint that moves, ends, tabs and small letters.
BVH = f"""HIERARCHY
ROOT Hips
{{
\tOFFSET 0.0 1.0 0.0
\tCHANNELS 6 Xposition Yposition Zposition {ROTATIONS}
\tJOINT Spine
\t{{
\t\tOFFSET 0 2 0
\t\tCHANNELS 3 {ROTATIONS}
\t\tJOINT Head
\t\t{{
\t\t\tOFFSET 0 1 0
\t\t\tChannels 1 xrotation
\t\t\tEnd Site
\t\t\t{{
\t\t\t\tOFFSET 0 0.5 0
\t\t\t}}
\t\t}}
\t\tJOINT LeftArm
\t\t{{
\t\t\tOFFSET 1 0 0
\t\t\tCHANNELS 3 Yrotation Zrotation Xrotation
\t\t\tEnd Site
\t\t\t{{
\t\t\t\tOFFSET 3 0 0
\t\t\t}}
\t\t}}
\t\tJOINT RightArm
\t\t{{
\t\t\tOFFSET -1 0 0
\t\t\tCHANNELS 1 Zposition
\t\t\tEnd Site
\t\t\t{{
\t\t\t\tOFFSET -3 0 0
\t\t\t}}
\t\t}}
\t}}
}}
MOTION
Frames: {{count}}
Frame Time: 0.0083333
"""
NAMES = [
    *(f"Hips.{dof}" for dof in ("tx", "ty", "tz", "rz", "rx", "ry")),
    *(f"Spine.{dof}" for dof in ("rz", "rx", "ry")),
    "Head.rx",
    *(f"LeftArm.{dof}" for dof in ("ry", "rz", "rx")),
    "RightArm.tz",
]


def write(path, frames):
    rows = "".join(" ".join(map(str, row)) + "\n" for row in frames)
    path.write_text(BVH.replace("{count}", str(len(frames))) + rows)
    return path


def pose(**channels):
    tree, _ = read_bvh((BVH.replace("{count}", "1") + " ".join("0" * 14)).encode(), "a.bvh")
    given = torch.zeros(1, 14, dtype=torch.float64)
    for name, value in channels.items():
        given[0, NAMES.index(name.replace("__", "."))] = value
    return dict(zip((joint.name for joint in tree.bones), tree.positions(given)[0].tolist(), strict=True))


def near(found, expected):
    return np.allclose(found, expected, atol=1e-12)


def test_joints_by_hand():
    still = pose()
    assert list(still) == ["Hips", "Spine", "Head", "Head end", "LeftArm", "LeftArm end", "RightArm", "RightArm end"]
    assert near(still["Hips"], (0, 1, 0)) and near(still["Head end"], (0, 4.5, 0)) and near(still["LeftArm end"], (4, 3, 0))
    # A joint turns what hangs on it, not itself.
    nod = pose(Head__rx=90)
    assert near(nod["Head"], (0, 4, 0)) and near(nod["Head end"], (0, 4, 0.5)) and near(nod["LeftArm end"], (4, 3, 0))
    # z first, then the x that z has moved: the head goes to -x and stays there; the arm goes up, and x keeps what is on it.
    both = pose(Spine__rz=90, Spine__rx=90)
    assert near(both["Head"], (0, 3, 1)) and near(both["LeftArm"], (0, 4, 0))
    # y first, then z about the axis that stays: forearm to -z, then up.
    assert near(pose(LeftArm__ry=90)["LeftArm end"], (1, 3, -3)) and near(pose(LeftArm__rz=90)["LeftArm end"], (1, 6, 0))
    assert near(pose(LeftArm__ry=90, LeftArm__rz=90)["LeftArm end"], (1, 6, 0))
    moved = pose(Hips__tx=5, Hips__rz=180, RightArm__tz=2)
    assert near(moved["Hips"], (5, 1, 0)) and near(moved["RightArm"], (6, -1, 2)) and near(moved["RightArm end"], (9, -1, 2))


def test_joints_by_rotations_of_scipy():
    tree, frames = read_bvh((BVH.replace("{count}", "1") + " ".join("0" * 14)).encode(), "a.bvh")
    assert tree.channels == tuple(NAMES) and frames.shape == (1, 14)
    channels = torch.from_numpy(np.random.default_rng(0).uniform(-180, 180, (20, 14)))
    found = dict(zip((joint.name for joint in tree.bones), tree.positions(channels).numpy().transpose(1, 0, 2), strict=True))
    for i, values in enumerate(channels.numpy()):
        at = dict(zip(NAMES, values, strict=True))
        hips = Rotation.from_euler("ZXY", [at["Hips.rz"], at["Hips.rx"], at["Hips.ry"]], degrees=True)  # large: axes that move
        spine = hips * Rotation.from_euler("ZXY", [at["Spine.rz"], at["Spine.rx"], at["Spine.ry"]], degrees=True)
        arm = spine * Rotation.from_euler("YZX", [at["LeftArm.ry"], at["LeftArm.rz"], at["LeftArm.rx"]], degrees=True)
        place = np.array([0, 1, 0]) + values[:3] + hips.apply([0, 2, 0]) + spine.apply([1, 0, 0]) + arm.apply([3, 0, 0])
        assert np.allclose(found["LeftArm end"][i], place, atol=1e-9)
        place = np.array([0, 1, 0]) + values[:3] + hips.apply([0, 2, 0]) + spine.apply([-4, 0, at["RightArm.tz"]])
        assert np.allclose(found["RightArm end"][i], place, atol=1e-9)


def motion(count, seed=0):
    """Frames with a T-pose first, a still joint, and an arm that goes round."""
    frames = np.random.default_rng(seed).uniform(-20, 20, (count, 14))
    frames[:, NAMES.index("Head.rx")] = 7.0
    frames[:, NAMES.index("LeftArm.rz")] = (np.arange(count) * 20 + 180) % 360 - 180
    frames[0] = 0
    frames[0, NAMES.index("Head.rx")] = 7.0
    return frames


def test_a_folder_of_bvh_files(tmp_path):
    for number, name in enumerate(("walk", "run")):
        write(tmp_path / f"{name}.bvh", motion(41, number))
    (tmp_path / "notes.txt").write_text("x")
    data = find_source(str(tmp_path)).load()
    assert data.columns == tuple(name for name in NAMES[6:] if name != "Head.rx") and data.labels == {"motion": ["run", "walk"]}
    assert [len(part) for part in (data.train, data.validation, data.test)] == [64, 8, 8]
    assert data.train.factors["motion"].tolist() == [0] * 32 + [1] * 32
    train = data.train.x[:]
    assert torch.allclose(train.min(0).values, torch.tensor(-1.0)) and torch.allclose(train.max(0).values, torch.tensor(1.0))
    assert data.inverse is not None and data.picture is not None
    wanted = np.concatenate([motion(41, seed)[1:33, 6:] for seed in (1, 0)])
    wanted = np.delete(wanted, NAMES[6:].index("Head.rx"), 1)
    turning = data.columns.index("LeftArm.rz")
    found = data.inverse(train).numpy()
    turns = (found - wanted)[:, turning] / 360
    assert np.allclose(turns, turns.round(), atol=1e-5) and np.abs(np.diff(found[:32, turning])).max() < 21
    assert np.allclose(np.delete(found, turning, 1), np.delete(wanted, turning, 1), atol=1e-4)
    for text in (
        "80 frames of 2 motions from ",
        "7 channels scaled to [-1, 1]; the root is left out, and 1 channel that does not move; 2 frames left out",
        "; each motion cut in time into training, validation and test poses.",
    ):
        assert text in data.note
    assert "as given" not in data.note
    pictures = data.picture(train[:20])
    assert pictures.shape == (20, 3, 96, 96)
    for colour in (LEFT, RIGHT):
        assert ((pictures - torch.tensor(colour)[:, None, None]).abs() < 1e-4).all(1).sum() > 30
    dark = (pictures[0] < 0.3).all(0)
    assert HEAD * 96 > 2 and dark.sum() > 20  # trunk and head


def test_options_of_motions(tmp_path):
    path = write(tmp_path / "walk.bvh", motion(41))
    data = load_user_data(path, columns=("Hips.ty", "Head.rx"), stride=2, validation=0.2, test=0.3)
    assert data.columns == ("Hips.ty", "Head.rx") and not data.train.factors
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 4, 6]
    assert (data.train.x[:][:, 1] == 0).all() and data.inverse is not None and data.inverse(data.train.x[:])[:, 1].unique() == 7
    before = find_source(str(path)).state()
    for options, why in [
        ({"columns": ("Head.ry",)}, "no column called 'Head.ry'"),
        ({"stride": -1}, "at least 1, got -1"),
        ({"stride": 20}, "stride=20 leaves 2 frames of walk.bvh, too few for three parts"),
        ({"standardize": True}, "scaled to .-1, 1. already"),
        ({"labels": ("a",)}, "labels is an option of a table or an AnnData file, but .* is a recorded motion"),
    ]:
        with pytest.raises(ConfigError, match=why):
            load_user_data(path, **options)
    write(path, motion(42))
    assert find_source(str(path)).state() != before


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("HIERARCHY", "HIERACHY", "line 1: a BVH file begins with HIERARCHY, this with 'HIERACHY'"),
        ("ROOT", "JOINT", "line 2: 'JOINT Hips' cannot stand here"),
        ("\t\tOFFSET 0 2 0\n", "", "'Spine' has no OFFSET"),
        ("OFFSET 0 2 0", "OFFSET 0 nan 0", "line 8: an offset has three finite numbers, this is 'OFFSET 0 nan 0'"),
        ("Channels 1 xrotation", "Channels 2 xrotation", "line 13: 'Channels 2 xrotation' is no count"),
        ("Channels 1 xrotation", "Channels 1 turn", "line 13: 'Channels 1 turn' is no count"),
        ("RightArm", "LeftArm", "there are two joints called 'LeftArm'"),
        ("\t}\n}\nMOTION", "MOTION", "'MOTION' is not expected here"),
        ("MOTION", "", "after the joints a BVH file has the lines MOTION"),
        ("Frames: 3", "Frames: x", "after the joints"),
        ("Frames: 3", "Frames: " + "9" * 5000, "after the joints"),
        ("Frames: 3", "Frames: 4", "announces 4 frames, 3 follow"),
        ("Frames: 3", "Frames: 99999999999999", "announces 99,999,999,999,999 frames, 3 follow"),
        ("7.0 \n", "7.0 8\n", "a frame has 14 finite numbers, this has 15 cells"),
        ("7.0 \n", "x\n", "a frame has 14 finite numbers, this has 14 cells"),
    ],
)
def test_damaged_files(tmp_path, old, new, why):
    text = BVH.replace("{count}", "3") + ("0 " * 13 + "7.0 \n") + ("0 " * 14 + "\n") * 2
    assert text.count(old) == 1
    (tmp_path / "a.bvh").write_text(text.replace(old, new))
    with pytest.raises(DataError, match=f"a.bvh.*{why}.*export|a.bvh.*{why}.*Export"):
        load_user_data(tmp_path / "a.bvh")


def test_skeletons_beside_motions(tmp_path):
    motion_file = tmp_path / "02_01.amc"
    motion_file.write_text(":DEGREES\n1\nroot 0 0 0 0 0 0\n")
    with pytest.raises(DataError, match="has no skeleton beside it. Put the .asf"):
        load_user_data(motion_file)
    for name in ("03.asf", "04.asf"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="has 2 skeletons, none of which begins its name"):
        load_user_data(motion_file)
    write(tmp_path / "b.bvh", motion(41))
    shutil.copy(tmp_path / "b.bvh", tmp_path / "c.bvh")
    (tmp_path / "c.bvh").write_text((tmp_path / "c.bvh").read_text().replace("Spine", "Chest"))
    motion_file.unlink()
    with pytest.raises(DataError, match="b.bvh and c.bvh in .* have different channels, such as Chest.rx"):
        load_user_data(tmp_path)


def test_joints_that_turn_in_another_order_are_no_equal_columns(tmp_path):
    write(tmp_path / "b.bvh", motion(41))
    text = (tmp_path / "b.bvh").read_text()
    (tmp_path / "c.bvh").write_text(text.replace(ROTATIONS, "Xrotation Yrotation Zrotation"))
    with pytest.raises(DataError, match="'Hips' turns in another order in b.bvh and in c.bvh .ZXY and XYZ. in "):
        load_user_data(tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="needs the real archive")
def test_the_clips_of_the_database_are_what_the_built_in_set_reads(tmp_path):
    with tarfile.open(REAL) as archive:
        archive.extractall(tmp_path, filter="data")
    built_in = cmu_mocap(motions=("jumping", "punching"), stride=4)
    for clip, motion_name in (("02_04", "a jumping"), ("02_05", "b punching")):
        folder = tmp_path / "own" / motion_name
        folder.mkdir(parents=True)
        for name in ("02.asf", f"{clip}.amc"):
            shutil.copy(next(tmp_path.glob(f"**/02/{name}")), folder)
    own = load_user_data(tmp_path / "own", columns=FEATURES, stride=4)
    for mine, theirs in ((own.train, built_in.train), (own.validation, built_in.validation), (own.test, built_in.test)):
        assert torch.equal(mine.x[:], theirs.x[:])
    assert own.labels == {"motion": ["a jumping", "b punching"]} and own.columns == built_in.columns
    assert own.train.factors["motion"].tolist() == (built_in.train.factors["motion"] - 2).tolist()
    assert own.inverse is not None and built_in.inverse is not None and own.picture is not None and built_in.picture is not None
    assert torch.equal(own.inverse(own.test.x[:]), built_in.inverse(built_in.test.x[:]))
    assert torch.equal(own.picture(own.test.x[:5]), built_in.picture(built_in.test.x[:5]))
    alone = load_user_data(tmp_path / "own/a jumping/02_04.amc")
    still = {"lfingers.rx", "rfingers.rx"} | {f"{side}clavicle.{dof}" for side in "lr" for dof in ("ry", "rz")}
    assert alone.shape == (50,) and not still & {*alone.columns} and not any(name.startswith("root") for name in alone.columns)
