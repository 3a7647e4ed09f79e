"""Rendered chairs and faces: tiny trees in the layouts read, every damage, and the exact shrinking of images."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_hvae.data.files.image_reader import decode_grey_png, shrink_by_area
from pyro_hvae.data.sets.chairs3d_and_faces3d import chairs3d, faces3d
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runtime.folders import CACHE_VARIABLE

module = sys.modules["pyro_hvae.data.sets.chairs3d_and_faces3d"]
ANGLES = [("p020", "t011"), ("p020", "t102"), ("p030", "t011")]


@pytest.fixture
def tree(root, tmp_path, monkeypatch):
    """An empty data folder and an empty cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return root


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def face(identity, view):
    return np.full((64, 64), 10 * identity + view, dtype=np.uint8)


def faces(tree, identities=10, views=3):
    for identity in range(identities):
        for view in range(views):
            save(tree / f"faces3d/{identity:02d}/side{view}.png", face(identity, view))


def chair(model, view):
    """A black block of 25 x 25 pixels on white, which at 64 out of 400 is one of 4 x 4 pixels exactly."""
    pixels = np.full((600, 600, 3), 255, dtype=np.uint8)
    pixels[100 + 25 * model : 125 + 25 * model, 150 + 25 * view : 175 + 25 * view] = 0
    pixels[90, 90] = 0  # outside the central 400 pixels
    return pixels


def chairs(tree, models=4):
    for model in range(models):
        for view, (p, t) in enumerate(ANGLES):
            # The numbers run the other way, so that they cannot be mistaken for the view.
            save(tree / f"rendered_chairs/{model:x}c/renders/image_{9 - view:03d}_{p}_{t}_r096.png", chair(model, view))
    (tree / "rendered_chairs/all_chair_names.mat").write_bytes(b"of no interest")


def splits(data):
    return data.train, data.validation, data.test


def identities(split):
    return set(split.factors["identity"].tolist())


def test_shrinking_is_an_exact_mean():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 105, 105), dtype=np.uint8)
    # Repeated four times, 105 pixels are 28 blocks of 15.
    blocks = pixels.repeat(4, 1).repeat(4, 2).reshape(3, 28, 15, 28, 15).mean((2, 4))
    assert np.array_equal(shrink_by_area(pixels, 28), np.rint(blocks)) and shrink_by_area(pixels, 28).dtype == np.uint8
    assert np.array_equal(shrink_by_area(pixels, 105), pixels)
    even = pixels[:, :100, :100]
    assert np.array_equal(shrink_by_area(even, 50), np.rint(even.reshape(3, 50, 2, 50, 2).mean((2, 4))))
    assert np.array_equal(shrink_by_area(np.full((600, 600), 201, dtype=np.uint8), 64), np.full((64, 64), 201))


def test_grey_of_colours():
    def stored(pixels, kind="PNG"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        return stream.getvalue()

    colours = np.zeros((2, 2, 3), dtype=np.uint8)
    colours[0, 0], colours[0, 1], colours[1, 0], colours[1, 1] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    # 0.299, 0.587 and 0.114 of 255.
    assert decode_grey_png(stored(colours), "a.png", 2).tolist() == [[76, 150], [29, 255]]
    assert decode_grey_png(stored(np.array([[True, False], [False, True]])), "a.png", 2).tolist() == [[255, 0], [0, 255]]
    with pytest.raises(DataError, match="a.png has 2 x 2 pixels instead of 3 x 3"):
        decode_grey_png(stored(colours), "a.png", 3)
    with pytest.raises(DataError, match="a.png cannot be read as a PNG image"):
        decode_grey_png(stored(colours, "JPEG"), "a.png", 2)


def test_faces(tree):
    faces(tree)
    (tree / "faces3d/.thumbnails").mkdir()
    save(tree / "faces3d/.thumbnails/side0.png", face(0, 0))
    (tree / "faces3d/00/._side0.png").write_bytes(b"of no interest")
    (tree / "faces3d/00/notes.txt").write_text("of no interest")
    data = faces3d()
    assert data.shape == (1, 64, 64) and data.counts == {"images": 30} and "10 identities x 3 views" in data.note
    assert [len(split) for split in splits(data)] == [24, 3, 3]
    for split in splits(data):
        for x, identity, view in zip(split.x[:], split.factors["identity"], split.factors["view"], strict=True):
            assert np.array_equal((x[0] * 255).round(), face(identity.item(), view.item()))
        assert split.factors["view"].bincount().tolist() == [len(split) // 3] * 3
        assert split.factors["identity"].dtype == split.factors["view"].dtype == torch.int64
    assert set.union(*map(identities, splits(data))) == set(range(10))  # 8 + 1 + 1, so that none is in two
    order = np.random.default_rng(0).permutation(10).tolist()
    assert identities(data.validation) == {order[8]} and identities(data.test) == {order[9]}
    assert identities(faces3d(data_seed=1).train) != identities(data.train)
    assert dict(data.grid.sizes) == {"identity": 10, "view": 3}
    assert (data.grid.x[data.grid.index(torch.tensor([[7, 2]]))] * 255).round().unique().tolist() == [72]


def test_chairs(tree):
    chairs(tree)
    data = chairs3d()
    assert data.shape == (1, 64, 64) and [len(split) for split in splits(data)] == [6, 3, 3]
    assert data.note.startswith("Not the published 1,393 x 62 but 4 models x 3 views, the central 400 pixels")
    for split in splits(data):
        for x, model, view in zip(split.x[:], split.factors["identity"], split.factors["view"], strict=True):
            expected = torch.zeros(64, 64)
            expected[4 * model : 4 * model + 4, 8 + 4 * view : 12 + 4 * view] = 1
            assert torch.equal(x[0], expected)
    whole, cut = chairs3d(crop=600).grid.x[:], chairs3d(crop=64).grid.x[:]
    # Block and pixel are black; they touch fewer than 25 new pixels, each of which is rounded by half a level at most.
    black = (25 * 25 + 1) / 600**2
    assert (abs(whole.mean((1, 2, 3)) - black) < 25 * 0.5 / 255 / 64**2).all()
    assert (cut == 0).all()  # all blocks lie outside
    assert chairs3d(data_seed=2).grid.x[:].equal(data.grid.x[:])


def test_all_chairs_are_the_published_ones(tree, monkeypatch):
    chairs(tree)
    monkeypatch.setattr(module, "MODELS", 4)
    monkeypatch.setattr(module, "VIEWS", 3)
    assert chairs3d().note == "All 4 models x 3 views, the central 400 pixels of 600; split by model."


def test_images_are_read_once(tree, monkeypatch):
    faces(tree)
    before = faces3d().test.x[:]
    with monkeypatch.context() as patch:
        patch.delattr(module, "decode_grey_png")
        assert torch.equal(faces3d(data_seed=0).test.x[:], before)
    for path in (tree / "faces3d").rglob("*.png"):
        save(path, np.full((64, 64), 255, dtype=np.uint8))
    assert (faces3d().test.x[:] == 1).all()


def test_options_come_before_files(root):
    for load, options, why in [
        (chairs3d, {"crop": 63}, "from 64 to 600, got 63"),
        (chairs3d, {"crop": 601}, "from 64 to 600, got 601"),
        (chairs3d, {"data_seed": -1}, "at least 0, got -1"),
        (faces3d, {"data_seed": -2}, "at least 0, got -2"),
    ]:
        with pytest.raises(ConfigError, match=why):
            load(**options)
    with pytest.raises(DataError, match=r"no data file rendered_chairs\..*rendered_chairs.tar, unpacked.*folder that contains"):
        chairs3d()
    with pytest.raises(DataError, match=r"no data file faces3d\..*licence.*<identity>/<view>.png.*folder that contains"):
        faces3d()


def test_trees_that_are_no_grid(tree):
    (tree / "faces3d").mkdir()
    with pytest.raises(DataError, match="of 0 identities; at least three"):
        faces3d()
    faces(tree, identities=2)
    with pytest.raises(DataError, match="of 2 identities"):
        faces3d()
    faces(tree, identities=3)
    assert [len(split) for split in splits(faces3d())] == [3, 3, 3]
    (tree / "faces3d/01/side2.png").unlink()
    with pytest.raises(DataError, match=r"01 lacks 1 of the 3 views that others have, such as side2\."):
        faces3d()
    chairs(tree)
    renders = tree / "rendered_chairs/1c/renders"
    (renders / "image_009_p020_t011_r096.png").rename(renders / "image_009_p020_t012_r096.png")
    with pytest.raises(DataError, match="0c lacks 1 of the 4 views that others have, such as p020_t012"):
        chairs3d()
    save(renders / "image_001_p020_t102_r090.png", chair(0, 0))
    with pytest.raises(DataError, match="image_001_p020_t102_r090.png and image_008_p020_t102_r096.png are of the same view"):
        chairs3d()


def test_damaged_images(tree):
    faces(tree)
    path = tree / "faces3d/04/side1.png"
    whole = path.read_bytes()
    for content in (whole[:-20], whole[:40], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path.name} cannot be read as a PNG image"):
            faces3d()
    save(path, np.zeros((65, 64), dtype=np.uint8))
    with pytest.raises(DataError, match=f"{path.name} has 64 x 65 pixels instead of 64 x 64"):
        faces3d()
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=f"cannot read .*{path.name}"):
        faces3d()
    chairs(tree)
    path = next((tree / "rendered_chairs/2c/renders").iterdir())
    save(path, np.zeros((64, 64), dtype=np.uint8))
    with pytest.raises(DataError, match=f"{path.name} has 64 x 64 pixels instead of 600 x 600"):
        chairs3d()
    assert not list((tree.parent / "cache").iterdir())
