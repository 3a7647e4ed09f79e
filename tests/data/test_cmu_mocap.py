"""Motion capture: a small skeleton's files, a tiny archive in the database's layout, every damage, and the real archive."""

import io
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_hvae.data.files.amc_motion import read_motion
from pyro_hvae.data.files.archives import read_named_members
from pyro_hvae.data.files.asf_skeleton import read_skeleton
from pyro_hvae.data.sets.cmu_mocap import FEATURES, FIVE, MOTIONS, cmu_mocap
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runtime.folders import DATA_VARIABLE

REAL = Path(os.environ.get(DATA_VARIABLE) or "absent") / "CMU_mocap/subjects.tar.xz"
LENGTH = 40  # frames of every clip
mocap = sys.modules["pyro_hvae.data.sets.cmu_mocap"]


def bones():
    """The database's skeleton, in the order of its .asf files."""
    leg = {f"{side}{bone}": dof for side in "lr" for bone, dof in mocap._LEG.items()}
    arm = {f"{side}{bone}": dof for side in "lr" for bone, dof in {**mocap._ARM, **mocap._LEFT_OUT}.items()}
    return {bone: tuple(dof.split()) for bone, dof in {**mocap._ROOT, **leg, **mocap._TRUNK, **arm}.items()}


def channels():
    return [f"{bone}.{dof}" for bone, dofs in bones().items() for dof in dofs]


def asf(skeleton):
    """All bones hang on a hip that hangs on the root, in both senses of the word."""
    text = ":version 1.10\n:units\n  length 0.45\n  angle deg\n:root\n   order TX TY TZ RX RY RZ\n   axis XYZ\n:bonedata\n"
    for bone, dof in {"lhipjoint": (), **skeleton}.items():
        if bone != "root":
            text += f"  begin\n     name {bone}\n     direction 0 -1 0\n     length 2.5\n     axis 0 0 20   XYZ\n"
            text += f"    dof {' '.join(dof)}\n    limits (-9 9)\n" * bool(dof) + "  end\n"
    others = " ".join(bone for bone in skeleton if bone != "root")
    text += f":hierarchy\n  begin\n    root lhipjoint\n    lhipjoint {others}\n  end\n"
    return text.replace("\n", "\r\n").encode()


def amc(frames, skeleton, first=1):
    """The frames (n, channels of the skeleton) with the bones in reverse, as the database has them in another order too."""
    lines = ["#!OML:ASF somewhere", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, frame in enumerate(frames, first):
        values, block = iter(frame), []
        for bone, dof in skeleton.items():
            block.append(f"{bone} {' '.join(str(next(values)) for _ in dof)}")
        lines += [str(number), *reversed(block)]
    return "\r\n".join([*lines, ""]).encode()


def frames(clip):
    """Frame t of channel c is c + t, all shifted by the clip, except a still left clavicle."""
    names = channels()
    made = np.add.outer(np.arange(LENGTH), np.arange(62.0)) + 10 * [c for clips in MOTIONS.values() for c in clips].index(clip)
    made[:, names.index("lclavicle.ry")] = 7.0
    made[:, names.index("lclavicle.rz")] = -1e-14 * np.arange(LENGTH)
    return made


def members():
    made = {}
    for clip in (clip for motion in FIVE for clip in MOTIONS[motion]):
        subject = clip.split("_")[0]
        made[f"subjects/{subject}/{subject}.asf"] = asf(bones())
        made[f"subjects/{subject}/{clip}.amc"] = amc(frames(clip), bones())
    return made


def archive(root, content):
    path = root / "CMU_mocap/subjects.tar.xz"
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:xz") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
            member.size = len(data or b"")
            tar.addfile(member, io.BytesIO(data or b""))
    return path


SMALL = {"root": ("tx", "rx"), "head": ("rx",)}
LINES = [":DEGREES", "1", "root 1 2", "head 3", "2", "root 4 5", "head 6e0"]


def test_a_motion_is_read_by_bone():
    frames = read_motion("\n".join(LINES).encode(), SMALL, "a.amc")
    assert frames.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("line", "text", "why"),
    [
        (3, "root 1", "line 3: 'root' needs 2 finite numbers, not '1'"),
        (3, "root 1 nan", "line 3: 'root' needs 2 finite numbers"),
        (3, "root 1 x", "line 3: 'root' has a value that is not a number: '1 x'"),
        (3, "toes 1", "line 3: 'toes' is not expected here"),
        (4, "root 1 2", "line 4: 'root' is not expected here"),
        (4, "", "line 5: frame 1 ends without head"),
        (5, "3", "line 5: frame 3 follows frame 1"),
        (5, "9" * 5000, "line 5: '9+' is not expected here"),  # more digits than Python takes for a number
        (5, "2 2", "line 5: '2' is not expected here"),
        (2, "", "line 3: 'root' is not expected here"),
        (7, "", "line 6: the file ends without head"),
        (1, ":RADIANS", "line 1: angles are in radians"),
        (7, "head 6\xff", "line 7: 'head' has a value that is not a number"),
    ],
)
def test_broken_lines_are_named(line, text, why):
    lines = [*LINES[: line - 1], text, *LINES[line:]]
    with pytest.raises(DataError, match=f"a.amc, {why}.*Replace the file"):
        read_motion("\n".join(lines).encode("latin-1"), SMALL, "a.amc")


def test_empty_files():
    with pytest.raises(DataError, match="ends without any frame"):
        read_motion(b"", SMALL, "a.amc")
    assert read_skeleton(asf(bones()), "a.asf").dof == bones()


def test_features_are_the_fifty_in_five_groups():
    assert len(FEATURES) == len(set(FEATURES)) == 50
    assert FEATURES[:3] == ("lfemur.rx", "lfemur.ry", "lfemur.rz") and FEATURES[7] == "rfemur.rx"
    assert FEATURES[14] == "lowerback.rx" and FEATURES[31] == "head.rz"
    assert FEATURES[32] == "lclavicle.ry" and FEATURES[41] == "rclavicle.ry" and FEATURES[49] == "rhand.rz"
    assert not any(bone in name for name in FEATURES for bone in ("root", "finger", "thumb"))


def test_poses_from_an_archive_or_a_folder(root):
    content = members()
    path = archive(root, {"../evil": b"x", "subjects/02/notes.txt": b"x", **content})
    data = cmu_mocap(stride=1)
    assert not list(root.parent.rglob("evil")) and not (path.parent / "subjects").exists()
    clips = [clip for motion in FIVE for clip in MOTIONS[motion]]
    for split, size in ((data.train, 32), (data.validation, 4), (data.test, 4)):
        assert split.x.shape == (size * len(clips), 50) and split.x[:].dtype == torch.float32
        assert split.factors["motion"].dtype == torch.int64
        assert split.factors["motion"].bincount().tolist() == [size * len(MOTIONS[motion]) for motion in FIVE]
    still = [FEATURES.index("lclavicle.ry"), FEATURES.index("lclavicle.rz")]
    moving = [j for j in range(50) if j not in still]
    train, test = data.train.x[:], data.test.x[:]
    assert (train[:, still] == 0).all() and (test[:, still] == 0).all()
    assert (train[:, moving].min(0).values == -1).all() and (train[:, moving].max(0).values == 1).all()
    assert test.max() > 1  # the poses that end the last clip go further than any in training
    # The way back gives the angles that were written, in the order of time and of the table.
    index = [channels().index(name) for name in FEATURES]
    for split, time in ((data.train, slice(0, 32)), (data.validation, slice(32, 36)), (data.test, slice(36, 40))):
        degrees = np.concatenate([frames(clip)[time][:, index] for clip in clips])
        assert data.inverse is not None and np.allclose(data.inverse(split.x[:]), degrees, atol=1e-4)
    assert list(data.ends) == ["within walking", *(f"walking to {motion}" for motion in FIVE[1:])]
    # Of each motion the pose farthest from the mean of all, and within walking the one farthest from that.
    motion, far = data.train.factors["motion"], (train - train.mean(0)).norm(dim=1)
    begin = torch.where(motion == 0, far, -1).argmax()
    assert all(torch.equal(pair[0], train[begin]) for pair in data.ends.values())
    assert torch.equal(data.ends["walking to running"][1], train[torch.where(motion == 1, far, -1).argmax()])
    end = torch.where(motion == 0, (train - train[begin]).norm(dim=1), -1).argmax()
    assert torch.equal(data.ends["within walking"][1], train[end])
    path.unlink()
    for folder in ("subjects", "all_asfamc/subjects"):
        for name, text in content.items():
            target = path.parent / folder / Path(name).relative_to("subjects")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
        assert torch.equal(cmu_mocap(stride=1).test.x[:], test)
        shutil.rmtree(path.parent / folder)
    with zipfile.ZipFile(path.parent / "allasfamc.zip", "w") as packed:
        packed.writestr("all_asfamc/README.txt", "as the database has it")
        for name, text in content.items():
            packed.writestr(f"all_asfamc/{name}", text)
    assert torch.equal(cmu_mocap(stride=1).test.x[:], test)


def test_counts_and_note(root):
    archive(root, members())
    data = cmu_mocap(motions=("jumping", "walking"))
    assert data.counts == {"jumping clips": 1, "walking clips": 3, "jumping frames": LENGTH, "walking frames": 3 * LENGTH}
    assert "02_04, 02_01, 02_02, 07_05 at 30 Hz" in data.note


def test_options(root):
    archive(root, members())
    data = cmu_mocap(motions=("punching", "jumping"), stride=2)
    assert len(data.train) == 32 and data.train.factors["motion"].tolist() == [3] * 16 + [2] * 16
    for options, why in [
        ({"motions": ("walkin",)}, "no motion called 'walkin'. Did you mean 'walking'"),
        ({"motions": ()}, "at least one name and each only once, got none"),
        ({"motions": ("running", "running")}, "got running, running"),
        ({"stride": 0}, "at least 1, got 0"),
        ({"stride": 20}, "a stride of 20 leaves 2 frames of clip 02_01"),
    ]:
        with pytest.raises(ConfigError, match=why):
            cmu_mocap(**options)


def test_angles_that_go_round_do_not_jump(root):
    turning = np.ones((LENGTH, 62))
    turning[:, channels().index("lhand.rx")] = (np.arange(LENGTH) * 20 + 180) % 360 - 180
    archive(root, {**members(), "subjects/02/02_04.amc": amc(turning, bones(), first=17)})
    data = cmu_mocap(motions=("jumping",), stride=1)
    assert data.inverse is not None
    assert np.allclose(data.inverse(data.train.x[:])[:, FEATURES.index("lhand.rx")], np.arange(32) * 20, atol=1e-3)


def test_equal_poses_are_equal_whatever_full_turns_the_file_adds(root):
    """As the hands of clip 135_06, which lie a full turn away between two jumps by half a turn."""
    still, turned = np.ones((LENGTH, 62)), np.ones((LENGTH, 62))
    hand = channels().index("lhand.rz")
    still[:, hand] = turned[:, hand] = np.arange(LENGTH)
    turned[10:30, hand] += 360
    turned[[9, 30], hand] = 180 + np.array([9, 30])  # half-way, so that no step exceeds half a turn
    poses = []
    for made in (still, turned):
        archive(root, {**members(), "subjects/02/02_04.amc": amc(made, bones())})
        data = cmu_mocap(motions=("jumping",), stride=1)
        assert data.inverse is not None
        poses.append(data.inverse(data.train.x[:]))
        assert ("Jumps of 90 degrees or more between frames, kept as published: lhand.rz of 02_04 (4)." in data.note) == (
            made is turned
        )
    kept = [t for t in range(32) if t not in (9, 30)]
    assert np.allclose(poses[0][kept], poses[1][kept], atol=1e-4)


def test_frames_that_are_no_measured_pose_are_left_out(root):
    """As the first 50 frames of clip 03_02, of which most angles are exactly 0."""
    made = frames("02_04")
    made[:5, 6:60] = 0
    archive(root, {**members(), "subjects/02/02_04.amc": amc(made, bones())})
    data = cmu_mocap(motions=("jumping",), stride=1)
    assert data.counts["jumping frames"] == LENGTH - 5 and len(data.train) == 28
    assert "Left out: 5 of 40 frames of 02_04, which are no measured pose" in data.note
    index = [channels().index(name) for name in FEATURES]
    assert data.inverse is not None and np.allclose(data.inverse(data.train.x[:]), made[5:33, index], atol=1e-4)
    archive(root, {**members(), "subjects/02/02_04.amc": amc(made * 0, bones())})
    with pytest.raises(DataError, match="02_04.amc has no measured pose: in all its 40 frames most angles are exactly 0"):
        cmu_mocap(motions=("jumping",))


def test_damaged_archives(root):
    with pytest.raises(DataError, match=r"CMU_mocap/allasfamc.zip \(or CMU_mocap/subjects.tar.xz or CMU_mocap/subjects or"):
        cmu_mocap()
    good, clip = members(), "subjects/02/02_04.amc"
    archive(root, {name: text for name, text in good.items() if name != clip})
    with pytest.raises(DataError, match=f"lacks 1 of .. files, such as {clip}"):
        cmu_mocap()
    archive(root, {**good, clip: None})  # a link is no clip, wherever it points
    with pytest.raises(DataError, match=f"{clip}' is a link"):
        cmu_mocap()
    archive(root, {**good, clip: good[clip].replace(b"\r\n2\r\n", b"\r\nhead 1\r\n", 1)})
    with pytest.raises(DataError, match="02_04.amc, line 34: 'head' is not expected here"):
        cmu_mocap()
    fewer = {bone: dof for bone, dof in bones().items() if bone != "lthumb"}
    archive(root, {**good, "subjects/09/09.asf": asf({**fewer, "tail": ("rx",)})})
    with pytest.raises(
        DataError, match="09.asf has 61 channels instead of the database's 62: it lacks lthumb.rx, .* adds tail.rx"
    ):
        cmu_mocap()
    archive(root, {**good, "subjects/09/09.asf": asf({**bones(), "tail": ("rx",)})})
    with pytest.raises(DataError, match="it adds tail.rx"):
        cmu_mocap()
    path = archive(root, good)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no archive", whole[:200] + b"\xff" * 50 + whole[250:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a tar archive"):
            dict(read_named_members(path, good))
    path.unlink()
    (root / "CMU_mocap/subjects").mkdir()
    with pytest.raises(DataError, match="cannot read .*02.asf"):
        cmu_mocap()
    (root / "CMU_mocap/allasfamc.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="allasfamc.zip cannot be read as a zip archive"):
        cmu_mocap()


@pytest.mark.skipif(not REAL.exists(), reason=f"needs CMU_mocap/subjects.tar.xz below {DATA_VARIABLE}")
def test_real_poses():
    data = cmu_mocap()
    assert data.shape == (50,) and [len(s) for s in (data.train, data.validation, data.test)] == [1_291, 161, 166]
    train = data.train.x[:]
    assert train.min() == -1 and train.max() == 1
    still = {name for name, x in zip(FEATURES, train.T, strict=True) if (x == 0).all()}
    assert still == {f"{side}clavicle.{dof}" for side in "lr" for dof in ("ry", "rz")}
    for split in (data.train, data.validation, data.test):
        assert split.factors["motion"].unique().tolist() == [0, 1, 2, 3, 4]
        # Held-out poses look like the training ones: few go beyond their range, none far.
        x = split.x[:]
        assert x.isfinite().all() and x.abs().max() < 2 and (x.abs() > 1).float().mean() < 0.02
        assert data.inverse is not None and data.inverse(x).abs().max() < 180
    # Successive training poses of a clip are neighbours: 30 per second.
    assert (train[1:] - train[:-1]).abs().mean() < 0.1


@pytest.mark.skipif(not REAL.exists(), reason=f"needs CMU_mocap/subjects.tar.xz below {DATA_VARIABLE}")
def test_every_real_clip():
    data = cmu_mocap(motions=tuple(MOTIONS), stride=12)
    assert sum(count for name, count in data.counts.items() if name.endswith("frames")) == 27_902 - 50
    assert "Left out: 50 of 365 frames of 03_02" in data.note and "lhand.rz of 135_06 (4), rhand.rz of 135_06 (1)" in data.note
    assert data.inverse is not None and 180 < data.inverse(data.train.x[:]).abs().max() < 220
    assert sum(count for name, count in data.counts.items() if name.endswith("clips")) == 18
    assert data.train.factors["motion"].unique().tolist() == list(range(10))
