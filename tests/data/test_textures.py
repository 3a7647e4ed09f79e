"""Textures and textured triangles: closed forms of the triangle, what the labels say, where textures come from."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_hvae.data.generated.texture_sources import BUILT_IN, choose_textures, contrast
from pyro_hvae.data.generated.textures import coverage, draw_triangles, textures, triangles
from pyro_hvae.data.rows import Rows
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runtime.folders import DATA_VARIABLE

REAL = Path(os.environ.get(DATA_VARIABLE) or "absent") / "textures"
RNG = np.random.default_rng(0)
# Whole triangles: at most 0.3 in size, at least 0.3 from the frame's edges.
X, Y, SCALE = RNG.uniform(0.3, 0.7, (2, 300)).tolist() + [RNG.uniform(0.15, 0.3, 300)]
WHERE = np.arange(64) + 0.5


def stored(x):
    """The bytes behind rows."""
    assert isinstance(x, Rows) and isinstance(x.store, torch.Tensor) and x.store.dtype == torch.uint8
    return x.store.numpy()


def labels(split):
    """x, y and scale in units of the frame."""
    return [split.factors[name].numpy() / unit for name, unit in (("x", 64), ("y", 64), ("scale", 100))]


def test_area_is_the_square_of_the_scale():
    share = coverage(X, Y, SCALE)
    assert share.shape == (300, 64, 64) and share.min() == 0 and share.max() == pytest.approx(1, abs=1e-12)
    assert share.sum((1, 2)) == pytest.approx(64**2 * np.square(SCALE), rel=1e-9)


def test_the_triangle_is_regular_with_one_vertex_up():
    share = coverage(X, Y, SCALE)
    share /= share.sum((1, 2), keepdims=True)
    across, up = WHERE, 64 - WHERE[:, None]  # y points up
    x, y = (share * across).sum((1, 2)), (share * up).sum((1, 2))
    # A pixel stands for its middle: a lowest row of pixels of width a that is half covered shifts y by up to a / 8 / area.
    assert x == pytest.approx(64 * np.array(X), abs=0.005) and y == pytest.approx(64 * np.array(Y), abs=0.02)
    dx, dy = across - x[:, None, None], up - y[:, None, None]
    # The second moments of a regular triangle are a^2 / 24 along every axis; the lowest row adds up to 1 / 6.
    side = 64 * np.array(SCALE) * 2 / 3**0.25
    for moment, expected in ((dx * dx, side**2 / 24), (dy * dy, side**2 / 24), (dx * dy, 0)):
        assert (share * moment).sum((1, 2)) == pytest.approx(expected, rel=0, abs=1 / 6)
    # The third one is a^3 sqrt(3) / 360 upwards, for a vertex that is up.
    assert (share * dy**3).sum((1, 2)) == pytest.approx(side**3 * 3**0.5 / 360, rel=0.03)


def test_coverage_is_the_share_of_each_pixel_also_at_the_frame():
    fine = 16
    points = (np.arange(64 * fine) + 0.5) / (64 * fine)
    across, up = np.meshgrid(points, 1 - points)
    for x, y, scale in [(0.5, 0.4, 0.3), (0.21, 0.79, 0.6), (0.78, 0.2, 0.45), (0.0, 1.0, 1.0)]:
        top, bottom = y + scale * 2 / 27**0.25, y - scale / 27**0.25
        inside = (up >= bottom) & (abs(across - x) <= (top - up) / 3**0.5)
        exact = inside.reshape(64, fine, 64, fine).mean((1, 3))
        share = coverage([x], [y], [scale])[0]
        assert abs(share - exact).max() < 0.15 and abs(share - exact).mean() < 1e-3
        assert share.sum() == pytest.approx(exact.sum(), rel=2e-3)


def test_the_ground_is_the_mean_colour_of_the_triangle():
    fill = RNG.integers(0, 256, (300, 3, 64, 64), dtype=np.uint8)
    images, share = draw_triangles(fill, X, Y, SCALE), coverage(X, Y, SCALE)[:, None]
    ground = images[:, :, :1, :1]
    mean = (share * fill).sum((2, 3)) / share.sum((2, 3))
    assert images.dtype == np.uint8 and abs(ground[:, :, 0, 0] - mean).max() <= 0.5
    free, whole = (np.broadcast_to(part, images.shape) for part in (share == 0, share > 1 - 1e-9))
    assert (np.broadcast_to(ground, images.shape)[free] == images[free]).all() and free.mean() > 0.9
    assert (images[whole] == fill[whole]).all() and 0.01 < whole.mean() < 0.09
    # The whole image's mean colour is the triangle's too.
    assert abs(images.mean((2, 3)) - mean).max() < 0.5
    assert np.array_equal(draw_triangles(fill[:1], X[:2], Y[:2], SCALE[:2])[0], images[0])


def test_labels_say_what_the_images_show():
    data = triangles(size=200)
    assert data.shape == (3, 64, 64) and [len(s) for s in (data.train, data.validation, data.test)] == [200, 1_000, 2_000]
    names = ["checks", "stripes", "blobs"]
    means = np.array([texture.mean((0, 1)) for texture in choose_textures().values()])
    for split in (data.train, data.validation, data.test):
        x, y, scale = labels(split)
        which = split.factors["texture"].numpy()
        assert (0.2 <= x).all() and (x <= 0.8).all() and (0.2 <= y).all() and (y <= 0.8).all()
        assert (0.25 <= scale).all() and (scale <= 0.6).all() and which.dtype == np.int64
        images, share = stored(split.x), coverage(x, y, scale)
        free = share[:, None] == 0
        ground = np.where(free, images, 0).max((2, 3), keepdims=True)
        assert (np.where(free, images, ground) == ground).all()
        differs = (images != ground).any(1)
        assert differs[share > 0.99].mean() > 0.99
        distance = np.linalg.norm(ground.reshape(-1, 1, 3) - means, axis=2)
        assert (distance.argmin(1) == which).all()
        counts = np.bincount(which, minlength=3)
        assert len(counts) == len(names) and abs(counts / len(which) - 1 / 3).max() < 0.1
    assert data.note.startswith("Textures: checks, stripes, blobs.") and data.counts == {"textures": 3}


def test_triangles_are_uniform_and_reach_beyond_the_frame_as_often_as_stated():
    x, y, scale = labels(triangles(size=1).test)
    for values, low, high in ((x, 0.2, 0.8), (y, 0.2, 0.8), (scale, 0.25, 0.6)):
        assert abs(np.sort(values) - np.linspace(low, high, 2_000)).max() < 0.04 * (high - low)
    cut = coverage(x, y, scale).sum((1, 2)) < 64**2 * scale**2 - 1e-6
    assert abs(cut.mean() - 0.55) < 0.03
    x, y, scale = labels(triangles(size=1, positions=(0.25, 0.7), scales=(0.15, 0.3)).test)
    assert coverage(x, y, scale).sum((1, 2)) == pytest.approx(64**2 * scale**2, rel=1e-9)


def test_triangles_depend_on_the_seed_alone():
    a, b, c = triangles(size=40, data_seed=3), triangles(size=40, data_seed=3), triangles(size=40, data_seed=4)
    assert torch.equal(a.train.x[:], b.train.x[:]) and not torch.equal(a.train.x[:], c.train.x[:])
    assert torch.equal(a.test.x[:], triangles(size=7, data_seed=3).test.x[:])
    parts = [set(split.factors["x"].tolist()) for split in (a.train, a.validation, a.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 3_040
    # Shifted, crops differ from image to image: of one texture, the same triangle never looks the same twice. Else it does.
    for shifted, least, most in ((True, 31, 40), (False, 1, 1)):
        still = triangles(size=40, names=("blobs",), positions=(0.5, 0.5), scales=(0.4, 0.4), shifted=shifted).train
        assert least <= len({image.tobytes() for image in stored(still.x)}) <= most


def test_crops_come_from_their_textures():
    data, chosen = textures(size=50), [*choose_textures().values()]
    assert data.shape == (3, 7, 7) and [len(s) for s in (data.train, data.validation, data.test)] == [150, 6_000, 6_000]
    for split in (data.train, data.validation, data.test):
        assert split.factors["texture"].bincount().tolist() == [len(split) // 3] * 3
    views = [{v.tobytes() for v in windows(texture, 7)} for texture in chosen]
    for image, which in zip(stored(data.train.x), data.train.factors["texture"].tolist(), strict=True):
        assert [image.tobytes() in view for view in views] == [k == which for k in range(3)]
    # Every place of the texture is as likely as any other: all of the 5,476 different ones of blobs, but for chance.
    blobs = textures(size=20_000, names=("blobs",))
    seen = {image.tobytes() for image in stored(blobs.train.x)}
    possible = {v.tobytes() for v in windows(choose_textures(names=("blobs",))["blobs"], 7)}
    assert seen <= possible and len(seen) > 0.95 * len(possible)


def windows(texture, crop):
    return np.lib.stride_tricks.sliding_window_view(texture, (crop, crop), (0, 1)).reshape(-1, 3, crop, crop)


def test_crops_of_any_width():
    for crop in (1, 8, 80):
        assert textures(crop, size=2, count=2).train.x.shape == (4, 3, crop, crop)
    whole = stored(textures(80, size=1, names=("stripes",)).train.x)[0]
    assert np.array_equal(whole.transpose(1, 2, 0), choose_textures(names=("stripes",))["stripes"])
    a, b, c = (textures(size=5, data_seed=seed).train.x[:] for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize(
    ("load", "options", "why"),
    [
        (triangles, {"size": 0}, "size=0 cannot be the number of training data"),
        (textures, {"data_seed": -1}, "at least 0, got -1"),
        (textures, {"crop": 81}, "from 1 to 80 pixels.*got 81"),
        (textures, {"crop": 0}, "got 0"),
        (triangles, {"positions": (0.8, 0.2)}, "positions needs .* got 0.8, 0.2"),
        (triangles, {"positions": (0.2,)}, "got 0.2"),
        (triangles, {"scales": ()}, "scales .* between 0.01 and 1, got none"),
        (triangles, {"scales": (0.0, 0.5)}, "got 0.0, 0.5"),
        (triangles, {"scales": (0.2, float("nan"))}, "got 0.2, nan"),
        (triangles, {"count": 0}, "count above 0 .* got 0 and none"),
        (textures, {"names": ("blobs", "blobs")}, "different names, got .* blobs, blobs"),
        (textures, {"names": ("blob",)}, "among the 5 of the library called 'blob'. Did you mean 'blobs'"),
    ],
)
def test_options_that_cannot_be(load, options, why):
    with pytest.raises(ConfigError, match=why):
        load(**options)


def test_built_in_textures():
    found = choose_textures(names=tuple(BUILT_IN))
    assert list(found) == ["checks", "stripes", "blobs", "checkerboard", "faint"]
    assert all(texture.shape == (80, 80, 3) and texture.dtype == np.uint8 for texture in found.values())
    assert list(choose_textures()) == ["checks", "stripes", "blobs"] and len(choose_textures(count=9)) == 5
    assert list(choose_textures(names=("blobs", "checks"))) == ["blobs", "checks"]
    high = [found[name] for name in ("checks", "stripes", "blobs")]
    assert min(map(contrast, high)) > 60 and contrast(found["faint"]) < 6
    means = [texture.mean((0, 1)) for texture in high]
    assert min(np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]) > 60
    assert len(np.unique(found["checkerboard"].reshape(-1, 3), axis=0)) == 4


def test_contrast_is_a_standard_deviation_within_patches():
    board = np.zeros((80, 80, 3), dtype=np.uint8)
    assert contrast(board) == 0
    board[:, 40:] = 255  # an edge, which most patches do not see
    assert 0 < contrast(board) < 10
    board[:] = 0
    board[:, ::2] = 255  # of 7 columns 3 or 4 are white
    assert contrast(board) == pytest.approx(255 * (12 / 49) ** 0.5)


def board(low, high, size=90):
    """Columns of two colours in turn, as bytes (size, size, 3)."""
    pixels = np.empty((size, size, 3), dtype=np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = low, high
    return pixels


BOARDS = {  # of contrast 127 in red, 100 in red, 100 in blue and 1 in white
    "a.png": board((0, 0, 0), (255, 0, 0), 80),
    "b.png": board((0, 0, 0), (200, 0, 0), 80),
    "c.bmp": board((0, 0, 0), (0, 0, 200), 80),
    "d.PNG": board((250, 250, 250), (252, 252, 252), 80),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "t").mkdir()
    for name, pixels in BOARDS.items():
        Image.fromarray(pixels).save(tmp_path / "t" / name)
    (tmp_path / "t" / "README.txt").write_text("no texture")
    (tmp_path / "t" / "._a.png").write_bytes(b"what macOS leaves behind")
    return tmp_path / "t"


def test_a_folder_of_images(folder):
    found = choose_textures(str(folder), count=9)
    assert list(found) == list(BOARDS) and all(np.array_equal(found[name], BOARDS[name]) for name in BOARDS)
    # The second red is of higher contrast than the blue, but nearer in its mean colour to the first.
    assert list(choose_textures(str(folder), count=1)) == ["a.png"]
    assert list(choose_textures(str(folder), count=2)) == ["a.png", "c.bmp"]
    assert list(choose_textures(str(folder), ("d.PNG", "b.png"), count=1)) == ["d.PNG", "b.png"]
    (folder / "e.png").write_bytes((folder / "a.png").read_bytes())  # of the same colour: worth nothing beside a.png
    assert list(choose_textures(str(folder), count=4)) == ["a.png", "b.png", "c.bmp", "d.PNG"]
    (folder / "e.png").unlink()
    assert triangles(size=2, textures=str(folder), count=2).note.startswith("Textures: a.png, c.bmp.")
    assert textures(size=2, textures=str(folder)).counts == {"textures": 3}
    with pytest.raises(ConfigError, match="no texture among the 4 of .* called 'c.png'. Did you mean"):
        triangles(textures=str(folder), names=("c.png",))


def test_images_of_other_shapes_and_modes(tmp_path):
    wide = np.zeros((160, 400, 3), dtype=np.uint8)
    wide[:, 110:290] = (10, 20, 30)  # the middle square and what its edges are smoothed with
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(np.full((64, 64), 77, dtype=np.uint8)).save(tmp_path / "grey.png")
    found = choose_textures(str(tmp_path), least=64)
    for name, colour in {"wide.png": (10, 20, 30), "grey.png": 77}.items():
        assert found[name].shape == (80, 80, 3) and (found[name] == colour).all()
    with pytest.raises(DataError, match="image grey.png has only 64 x 64 pixels, but crops have 65 x 65"):
        choose_textures(str(tmp_path), least=65)
    with pytest.raises(DataError, match="grey.png .* crops have 70 x 70"):
        textures(crop=70, textures=str(tmp_path))
    Image.fromarray(wide[:63]).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match="wide.png has only 400 x 63 pixels, but crops have 64 x 64"):
        triangles(textures=str(tmp_path))


def test_folders_that_will_not_do(folder, tmp_path):
    with pytest.raises(DataError, match="no textures in nowhere: No such file"):
        choose_textures("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: it has no images"):
        choose_textures(str(tmp_path / "empty"))
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:-40])
    with pytest.raises(DataError, match="a.png"):
        choose_textures(str(folder))
    assert list(choose_textures(str(folder), names=("b.png",))) == ["b.png"]  # what is not asked for is not read


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_npz_files(tmp_path):
    images, path = np.stack([*BOARDS.values()]), tmp_path / "t.npz"
    np.savez_compressed(path, images=images, names=np.array(["a", "b", "c", "d"]))
    assert list(choose_textures(str(path), count=2)) == ["a", "c"]
    assert np.array_equal(choose_textures(str(path), ("d",))["d"], images[3])
    np.savez(path, images=images)
    assert list(choose_textures(str(path), count=4)) == ["0", "1", "2", "3"]
    for arrays, why in [
        ({"pictures": images}, "'images' is not among pictures"),
        ({"images": images.astype(np.float32)}, "type float32"),
        ({"images": images[..., 0]}, r"shape \(4, 80, 80\)"),
        ({"images": images[:, :0]}, r"shape \(4, 0"),
        ({"images": images, "names": np.array(["a", "b", "c"])}, r"'names' is of shape \(3,\)"),
        ({"images": images, "names": np.arange(4)}, "type int64"),
        ({"images": images, "names": np.array(["a", "b", "c", "a"])}, "has 3 different names for 4 images"),
        ({"images": images, "names": np.array([Trap()] * 4)}, "type object"),
        ({"images": np.array([Trap()])}, "type object"),
    ]:
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=why):
            choose_textures(str(path))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot read .*t.npz"):
            choose_textures(str(path))
    assert not Path("sprung").exists()
    with pytest.raises(DataError, match="cannot read"):
        choose_textures("nowhere.npz")


@pytest.mark.skipif(not REAL.exists(), reason=f"needs textures below {DATA_VARIABLE}")
def test_real_textures():
    tiles, grey = str(REAL / "ambientcg_cc0_64x128x128x3.npz"), str(REAL / "skimage_cc0")
    chosen = choose_textures(tiles)
    assert min(map(contrast, chosen.values())) > 35 and len(chosen) == 3
    data = triangles(size=50, textures=grey)
    assert data.note.startswith("Textures: brick.png, grass.png, gravel.png.")
    assert (data.train.x[:].diff(dim=1) == 0).all()  # grey
    assert textures(size=5, textures=tiles, names=("Bricks_r03c1",)).shape == (3, 7, 7)
