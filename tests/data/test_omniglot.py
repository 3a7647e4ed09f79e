"""OMNIGLOT: tiny archives, folders and MATLAB files in the published layouts, every damage, and the real drawings."""

import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from pyro_hvae.data.sets.omniglot import ALPHABETS, omniglot
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runtime.folders import CACHE_VARIABLE, DATA_VARIABLE

module = sys.modules["pyro_hvae.data.sets.omniglot"]  # the package may show the function of that name in its place
REAL = Path(os.environ.get(DATA_VARIABLE) or "absent")
SMALL = {"images_background": {"Greek": 3, "Latin": 2}, "images_evaluation": {"ULOG": 2}}
LETTERS = [("background", name, k) for name, count in (("Greek", 3), ("Latin", 2)) for k in range(1, count + 1)]
LETTERS += [("evaluation", "ULOG", 1), ("evaluation", "ULOG", 2)]


def png(ink, image_format="PNG"):
    """A 1-bit image of the given ink (105, 105), bool, as the drawings are stored: ink = 0."""
    stream = io.BytesIO()
    Image.fromarray(~ink).save(stream, image_format)
    return stream.getvalue()


def drawing(number, drawer):
    """Ink that tells which drawing it is: 15 x 15 old pixels are 4 x 4 new ones exactly; and one pixel in a corner."""
    ink = np.zeros((105, 105), dtype=bool)
    ink[15 * number - 15 : 15 * number, 15 * drawer : 15 * drawer + 15] = True
    ink[104, 104] = True
    return ink


def small(number, drawer):
    """What becomes of `drawing` at 28 x 28."""
    grey = np.zeros((28, 28), dtype=np.uint8)
    grey[4 * number - 4 : 4 * number, 4 * drawer : 4 * drawer + 4] = 255
    grey[27, 27] = round(255 / 3.75**2)
    return grey


def drawings():
    return {
        f"images_{part}/{alphabet}/character{k:02d}/{number:04d}_{drawer:02d}.png": png(drawing(number, drawer))
        for number, (part, alphabet, k) in enumerate(LETTERS, 1)
        for drawer in (1, 2, 3)
    }


def archives(root, made, folder="OMNIGLOT"):
    (root / folder).mkdir(exist_ok=True)
    for part in SMALL:
        with zipfile.ZipFile(root / folder / f"{part}.zip", "w") as archive:
            archive.writestr(f"{part}/", "")
            for name in sorted((name for name in made if name.startswith(part)), reverse=True):  # another order than ours
                archive.writestr(name, made[name])
            archive.writestr(f"__MACOSX/{part}/._0001_01.png", "of no interest")


def folders(root, made, folder="OMNIGLOT"):
    for name, content in made.items():
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_bytes(content)


@pytest.fixture
def tiny(root, tmp_path, monkeypatch):
    """A data folder still empty, where OMNIGLOT has 7 characters of 3 alphabets by 3 drawers: 21 images."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    numbers = {"DRAWERS": 3, "TRAIN": 13, "TEST": 6, "HELD_OUT": 4, "HELD_CHARACTERS": 2}
    for name, value in {"ALPHABETS": SMALL, **numbers}.items():
        monkeypatch.setattr(module, name, value)
    return root


def splits(data):
    return data.train, data.validation, data.test


def test_the_alphabets_are_the_published_ones():
    assert [len(alphabets) for alphabets in ALPHABETS.values()] == [30, 20]
    assert [sum(alphabets.values()) for alphabets in ALPHABETS.values()] == [964, 659]
    background, evaluation = (module._list_drawings(part) for part in ALPHABETS)
    assert (len(background), len(evaluation)) == (19_280, 13_180) and len({*background, *evaluation}) == 32_460
    assert "images_background/Alphabet_of_the_Magi/character01/0709_01.png" in background
    assert evaluation[0] == "images_evaluation/Angelic/character01/0965_01.png"
    assert evaluation[-1] == "images_evaluation/ULOG/character26/1623_20.png"


@pytest.mark.parametrize("write", [archives, folders])
@pytest.mark.parametrize("folder", ["OMNIGLOT", "omniglot-py"])
def test_drawings_become_splits(tiny, write, folder):
    write(tiny, drawings(), folder)
    data = omniglot(binarize="none")
    assert data.shape == (1, 28, 28) and data.name == "omniglot"
    assert data.counts == {"images_background": 15, "images_evaluation": 6}
    assert "not the chardata.mat" in data.note and "digit for digit" in data.note
    assert [len(split) for split in splits(data)] == [9, 4, 6]  # two of the 21 are left out
    seen = []
    for split in splits(data):
        assert split.x[:].dtype == torch.float32
        for i, image in enumerate(split.x[:]):
            alphabet, character, drawer = (split.factors[name][i].item() for name in ("alphabet", "character", "drawer"))
            assert np.array_equal((image[0] * 255).round().numpy(), small(character + 1, drawer + 1))
            assert ["Greek", "Latin", "ULOG"][alphabet] == LETTERS[character][1]
            seen.append((character, drawer))
    order = np.random.RandomState(123).permutation(21)[:19]
    assert seen == [divmod(int(i), 3) for i in order]
    assert all(values.dtype == torch.int64 for values in data.train.factors.values())


def test_new_alphabets_for_testing(tiny):
    archives(tiny, drawings())
    data = omniglot(split="characters", binarize="none")
    train, validation, test = (set(split.factors["character"].tolist()) for split in splits(data))
    assert [len(split) for split in splits(data)] == [9, 6, 6]
    assert test == {5, 6} and len(train) == 3 and len(validation) == 2 and train | validation == {0, 1, 2, 3, 4}
    for split in splits(data):
        for image, character, drawer in zip(split.x[:], split.factors["character"], split.factors["drawer"], strict=True):
            assert np.array_equal((image[0] * 255).round().numpy(), small(character + 1, drawer + 1))
    assert omniglot(split="characters", source="auto").note == omniglot(split="characters", source="images").note


def test_binarisation(tiny):
    archives(tiny, drawings())
    grey, dynamic, again, other = omniglot(binarize="none"), omniglot(), omniglot(), omniglot(data_seed=3)
    corner = torch.stack([dynamic.train.x[:][:, 0, 27, 27] for _ in range(200)])
    assert (
        not torch.equal(dynamic.train.x[:], dynamic.train.x[:]) and abs(corner.mean() - 18 / 255) < 0.025
    )  # 4 standard errors
    random = np.random.RandomState(777)
    for name in ("validation", "test"):
        x, g = getattr(dynamic, name).x[:], getattr(grey, name).x[:]
        assert torch.equal(x, torch.from_numpy(random.binomial(1, g.numpy())).float())
        assert torch.equal(x, getattr(again, name).x[:])
        assert torch.equal(getattr(other, name).factors["character"], getattr(grey, name).factors["character"])
    fixed = omniglot(binarize="fixed").train.x
    assert torch.equal(fixed[:], fixed[:]) and set(fixed[:].unique().tolist()) <= {0.0, 1.0}


def test_drawings_are_read_once(tiny, monkeypatch):
    archives(tiny, drawings())
    before = omniglot(binarize="none").test.x[:]
    with monkeypatch.context() as patch:
        patch.delattr(module, "decode_grey_png")
        assert torch.equal(omniglot(binarize="none").test.x[:], before)
    archives(tiny, dict.fromkeys(drawings(), png(np.ones((105, 105), dtype=bool))))
    assert (omniglot(binarize="none").test.x[:] == 1).all()


def test_options_come_before_files(root):
    for options, why in [
        ({"source": "chardat"}, "no source called 'chardat'. Did you mean 'chardata'"),
        ({"split": "charakters"}, "no split called 'charakters'. Did you mean 'characters'"),
        ({"binarize": "static"}, "no binarize called 'static'"),
        ({"data_seed": -1}, "at least 0.*-1"),
        ({"source": "chardata", "split": "characters"}, "chardata.mat has one split only"),
    ]:
        with pytest.raises(ConfigError, match=why):
            omniglot(**options)
    for options, missing in [
        ({}, r"images_background.zip \(or OMNIGLOT/images_background or omniglot-py/images_background.zip or omniglot-py/"),
        ({"source": "chardata"}, r"no data file OMNIGLOT/chardata.mat\. "),
        (
            {"source": "images"},
            "no data file OMNIGLOT/images_background.zip .*SHA-256 ad41ab679c8b5d90b271ef46be6987cc",
        ),
        ({"split": "characters"}, "no data file OMNIGLOT/images_background.zip"),
    ]:
        with pytest.raises(DataError, match=missing):
            omniglot(**options)


NAME = "images_background/Latin/character01/0004_02.png"


def test_damaged_drawings(tiny):
    good = drawings()
    huge = bytearray(good[NAME])
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    for content, why in [
        (good[NAME][:70], "cannot be read as a PNG image"),
        (b"", "cannot be read as a PNG image"),
        (b"text", "cannot be read as a PNG image"),
        (png(drawing(1, 1), "BMP"), "cannot be read as a PNG image"),
        (bytes(huge), "cannot be read as a PNG image|60000 x 60000"),
        (png(np.zeros((104, 105), dtype=bool)), "105 x 104 pixels instead of 105 x 105"),
        (bytes(2**17), "exceeds the limit of 65,536 decompressed"),
    ]:
        archives(tiny, {**good, NAME: content})
        with pytest.raises(DataError, match=f"images_background.zip.*{NAME}.*({why})"):
            omniglot()
    del good[NAME]
    archives(tiny, good)
    with pytest.raises(DataError, match=f"images_background.zip lacks 1 of 15 files, such as {NAME}"):
        omniglot()
    path = tiny / "OMNIGLOT/images_background.zip"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="images_background.zip cannot be read as a zip archive"):
        omniglot()
    (tiny / "OMNIGLOT/images_evaluation.zip").unlink()
    with pytest.raises(DataError, match="no data file OMNIGLOT/images_evaluation.zip"):
        omniglot()
    assert not list((tiny.parent / "cache").iterdir())  # nothing half-made is left


def test_damaged_folders(tiny):
    folders(tiny, drawings())
    (path := tiny / "OMNIGLOT" / NAME).write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=f"{NAME} cannot be read as a PNG image"):
        omniglot()
    path.unlink()
    with pytest.raises(DataError, match=f"1 images are missing, the first of them .*{NAME}"):
        omniglot()


def mat(root, **others):
    """A file like the literature's: 13 + 6 images, alphabet i mod 3, character i mod 2 + 1 of it; others replace arrays."""
    (root / "OMNIGLOT").mkdir(exist_ok=True)
    rng, arrays = np.random.default_rng(0), {}
    for start, count in (("", 13), ("test", 6)):
        arrays[f"{start}data"] = rng.integers(0, 256, (784, count)) / 255
        arrays[f"{start}target"] = np.eye(50)[:, np.arange(count) % 3]
        arrays[f"{start}targetchar"] = np.arange(count)[None] % 2 + 1
    arrays = {name: array for name, array in {**arrays, **others}.items() if array is not None}
    savemat(root / "OMNIGLOT/chardata.mat", arrays, do_compression=True)
    return arrays


def test_the_file_of_the_literature(tiny):
    arrays = mat(tiny)
    archives(tiny, drawings())
    data = omniglot(binarize="none")  # prefers it
    assert [len(split) for split in splits(data)] == [9, 4, 6] and data.counts == {"training file": 13, "test file": 6}
    assert "chardata.mat of Burda" in data.note and "images" in omniglot("images").counts.popitem()[0]
    order = np.random.RandomState(123).permutation(13)
    parts = [("data", order[:9]), ("data", order[9:]), ("testdata", np.arange(6))]
    for split, (name, index) in zip(splits(data), parts, strict=True):
        for i, image in zip(index, split.x[:], strict=True):
            # MATLAB counts down the columns first.
            assert np.allclose(image[0], arrays[name][:, i].reshape(28, 28, order="F"), atol=1e-6)
        assert split.factors["alphabet"].tolist() == (index % 3).tolist()
        # Six pairs of alphabet and character, numbered in their order.
        assert split.factors["character"].tolist() == (2 * (index % 3) + index % 2).tolist()
        assert all(values.dtype == torch.int64 for values in split.factors.values())
    random, dynamic = np.random.RandomState(777), omniglot("chardata")
    assert torch.equal(dynamic.validation.x[:], torch.from_numpy(random.binomial(1, data.validation.x[:].numpy())).float())
    assert torch.equal(dynamic.test.x[:], torch.from_numpy(random.binomial(1, data.test.x[:].numpy())).float())
    assert omniglot(split="characters").counts == {"images_background": 15, "images_evaluation": 6}


def test_damaged_file_of_the_literature(tiny):
    arrays = mat(tiny)
    objects = np.full((784, 13), 1.0, dtype=object)
    wrong = np.where(np.arange(13) == 3, np.nan, arrays["data"])
    for others, why in [
        ({"testdata": None}, r"'testdata' should hold 784 x 6 numbers, its shape is None"),
        ({"data": arrays["data"][:, :-1]}, r"'data' should hold 784 x 13 numbers, its shape is \(784, 12\)"),
        ({"data": arrays["data"].T}, r"its shape is \(13, 784\)"),
        ({"data": objects}, "'data' should hold"),
        ({"targetchar": None}, "'targetchar' should hold 1 x 13"),
        ({"target": arrays["target"][:26]}, "'target' should hold 50 x 13"),
        ({"data": wrong}, "grey values outside"),
        ({"data": 255 * arrays["data"]}, "grey values outside"),
        ({"testdata": -arrays["testdata"]}, "grey values outside"),
    ]:
        mat(tiny, **others)
        with pytest.raises(DataError, match=f"chardata.mat cannot be read as 28 x 28 characters: .*{why}"):
            omniglot()
    mat(tiny)
    path = tiny / "OMNIGLOT/chardata.mat"
    whole = path.read_bytes()
    assert loadmat(io.BytesIO(whole))["data"].shape == (784, 13)
    for content in (b"", b"text", whole[:100], whole[:300], whole[:-100], whole[:400] + b"\xff" * 50 + whole[450:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="chardata.mat cannot be read as 28 x 28 characters"):
            omniglot()


@pytest.mark.skipif(not (REAL / "OMNIGLOT/images_evaluation.zip").exists(), reason=f"needs OMNIGLOT below {DATA_VARIABLE}")
def test_real_drawings(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    data, new = omniglot("images", binarize="none"), omniglot("images", "characters", "none")
    assert data.counts == {"images_background": 19_280, "images_evaluation": 13_180}
    assert [len(split) for split in splits(data)] == [23_000, 1_345, 8_070]
    assert [len(split) for split in splits(new)] == [17_360, 1_920, 13_180]
    for split in splits(data):
        x = split.x[:]
        assert x.min() == 0 and x.max() == 1 and abs(x.mean() - 0.0805) < 0.001 and (x.flatten(1).amax(1) > 0.4).all()
        assert split.factors["alphabet"].unique().numel() == 50
    assert new.test.factors["alphabet"].unique().tolist() == list(range(30, 50))
    assert "Left out: 45 of 32,460 images" in data.note and "Left out" not in new.note
    for one, where in ((data, [(0, 18), (1, 2)]), (new, [(0, 2), (0, 18)])):  # the note names the twins
        images = torch.cat([split.x[:] for split in splits(one)])
        _, which, count = images.flatten(1).unique(dim=0, return_inverse=True, return_counts=True)
        twins = (count[which] > 1).nonzero()[:, 0]
        part = torch.arange(3).repeat_interleave(torch.tensor([len(split) for split in splits(one)]))[twins]
        factors = {name: torch.cat([split.factors[name] for split in splits(one)])[twins] for name in ("character", "drawer")}
        assert factors["character"].tolist() == [191, 191]
        assert sorted(zip(part.tolist(), factors["drawer"].tolist(), strict=True)) == where
        assert "occurs twice" in one.note and "character 191" in one.note
    assert new.test.factors["character"].bincount()[964:].tolist() == [20] * 659
    # Without the library's resize: repeated four times, 105 pixels are 28 blocks of 15.
    with zipfile.ZipFile(REAL / "OMNIGLOT/images_evaluation.zip") as archive:
        for i, name in [(0, "Angelic/character01/0965_01"), (13_179, "ULOG/character26/1623_20")]:
            ink = 1 - np.asarray(Image.open(archive.open(f"images_evaluation/{name}.png"))).astype(float)
            blocks = ink.repeat(4, 0).repeat(4, 1).reshape(28, 15, 28, 15).mean((1, 3))
            assert np.abs(new.test.x[i][0].numpy() - blocks).max() < 0.5 / 255 + 1e-6
