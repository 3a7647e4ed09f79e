"""One's own images and arrays: every kind of file, every damage, and the same split everywhere."""

import os
import pickle
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_hvae.data.dataset import Split
from pyro_hvae.data.files import array_files as array_members
from pyro_hvae.data.files.image_reader import read_image
from pyro_hvae.data.sets import array_ranges
from pyro_hvae.data.sets import user_arrays as array_files
from pyro_hvae.data.sets import user_images as image_files
from pyro_hvae.data.sets import user_splits as parts
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.data.sets.user_splits import split_at_random
from pyro_hvae.errors import ConfigError, DataError, DeviceError

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HVAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "my photos ü 写真"
    made.mkdir()
    return made


def save(path, colour=0, mode="L", size=(6, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def first_pixel(path, **options):
    return read_image(path, **options)[:, 0, 0].tolist()


def together(data):
    return torch.cat([getattr(data, part).x[:] for part in SPLITS])


# Folders of images


def test_a_folder_becomes_a_data_set(folder):
    for index in range(20):
        save(folder / f"{index:02}.{['png', 'BMP', 'tiff', 'pgm'][index % 4]}", index * 10)
    save(folder / "._00.png", 255)  # what macOS leaves behind
    save(folder / ".hidden/a.png", 255)
    save(folder / "__MACOSX/a.png", 255)
    (folder / "read me.txt").write_text("no image")
    data = load_user_data(folder, validation=0.1, test=0.2)
    assert data.name == folder.name and data.counts == {"all": 20} and data.shape == (1, 4, 6)
    assert [len(getattr(data, part)) for part in SPLITS] == [14, 2, 4]
    order = np.random.default_rng(0).permutation(20)
    expected = torch.tensor([*order[6:], *order[:6]]) * 10 / 255
    assert torch.allclose(together(data)[:, 0, 0, 0], expected.float()) and data.train.factors == {}
    assert data.train.x.ahead and data.train.x[:].dtype == torch.float32
    assert "20 images of 6 x 4 pixels, grey" in data.note and "data_seed=0" in data.note


def test_the_split_depends_on_names_and_seed_only(folder, monkeypatch):
    for index in range(12):
        save(folder / f"{'ab'[index % 2]}/{index:02}.png", index)
    once = load_user_data(folder)
    scan = os.scandir

    class Backwards:  # another file system's order
        def __init__(self, path):
            self.entries = reversed(list(scan(path)))

        def __enter__(self):
            return self.entries

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(image_files.os, "scandir", Backwards)
    monkeypatch.setenv("PYRO_HVAE_CACHE", "elsewhere")
    again, other = load_user_data(folder), load_user_data(folder, data_seed=1)
    assert torch.equal(together(once), together(again)) and not torch.equal(together(once), together(other))
    assert torch.equal(together(once).sort(0).values, together(other).sort(0).values)
    assert (once.train.factors["class"] == (once.train.x[:][:, 0, 0, 0] * 255).round().long() % 2).all()


def test_sub_folders_are_classes(folder):
    for index in range(9):
        save(folder / ["cat", "dog/puppies", "émeu"][index % 3] / f"{index}.png", index % 3)
    data = load_user_data(folder)
    for part in SPLITS:
        split = getattr(data, part)
        assert split.factors["class"].dtype == torch.int64
        assert split.factors["class"].tolist() == (split.x[:][:, 0, 0, 0] * 255).round().tolist()
    assert "3 classes (0 cat, 1 dog, 2 émeu)" in data.note
    save(folder / "astray.png")
    with pytest.raises(DataError, match=r"both in folders, such as cat/0.png, and outside, such as astray.png"):
        load_user_data(folder)


def test_a_single_folder_is_no_class(folder):
    for index in range(5):
        save(folder / f"images/{index}.png")
    assert load_user_data(folder).train.factors == {}


def test_folders_called_train_and_test_are_these(folder):
    for part, count in (("Train", 8), ("test", 3)):
        for index in range(count):
            save(folder / part / "xy"[index % 2] / f"{index}.png", index)
    data = load_user_data(folder)
    assert [len(getattr(data, part)) for part in SPLITS] == [7, 1, 3] and data.counts == {"train": 8, "test": 3}
    assert data.test.factors["class"].tolist() == [0, 0, 1] and "validation data dealt out" in data.note
    for index in range(2):
        save(folder / f"val/x/{index}.png", 100 + index)
    data = load_user_data(folder)
    assert [len(getattr(data, part)) for part in SPLITS] == [8, 2, 3] and "split as given" in data.note
    assert torch.allclose(data.validation.x[:][:, 0, 0, 0] * 255, torch.tensor([100.0, 101.0]))
    (folder / "Train").rename(folder / "valid")
    with pytest.raises(DataError, match="has images for test, val, valid, but no folder 'train'"):
        load_user_data(folder)


def test_sizes(folder):
    for index in range(4):
        save(folder / f"{index}.png", size=(8, 8))
    save(folder / "4.png", size=(9, 8))
    with pytest.raises(DataError, match=r"0.png has 8 x 8 pixels, 4.png has 9 x 8.*-o size=64"):
        load_user_data(folder)
    assert load_user_data(folder, size=5).shape == (1, 5, 5)
    stripes = np.zeros((10, 30), dtype=np.uint8)
    stripes[:, 10:20] = 200
    Image.fromarray(stripes).save(folder / "wide.png")
    assert (read_image(folder / "wide.png", size=10) == 200).all()  # the centre, its pixels untouched
    Image.fromarray(stripes.T).save(folder / "tall.png")
    assert (read_image(folder / "tall.png", size=10) == 200).all()
    board = np.indices((64, 64)).sum(0) % 2 * 200
    Image.fromarray(board.astype(np.uint8)).save(folder / "board.png")
    assert abs(read_image(folder / "board.png", size=8).astype(int) - 100).max() <= 3  # antialiased


def test_grey_and_colour(folder):
    for index in range(4):
        save(folder / f"{index}.png", 50)
    save(folder / "4.png", (255, 0, 0), "RGB")
    with pytest.raises(DataError, match="0.png is grey, 4.png is coloured. Choose -o channels=1 or -o channels=3"):
        load_user_data(folder)
    assert load_user_data(folder, channels=3).shape == (3, 4, 6)
    grey = load_user_data(folder, channels=1)
    assert grey.shape == (1, 4, 6)
    assert sorted(set((together(grey)[:, 0, 0, 0] * 255).round().tolist())) == [50, 76]  # 0.299 of red


def test_kinds_of_pixels(folder):
    half = 128 / 255
    assert first_pixel(save(folder / "rgba.png", (255, 0, 0, 128), "RGBA")) == [255, *[round(255 * (1 - half))] * 2]
    assert first_pixel(save(folder / "clear.png", (1, 2, 3, 0), "RGBA")) == [255, 255, 255]
    assert first_pixel(save(folder / "la.png", (0, 128), "LA")) == [127]
    assert first_pixel(save(folder / "bit.png", 1, "1")) == [255]
    assert first_pixel(save(folder / "cmyk.jpg", (0, 255, 255, 0), "CMYK")) == [255, 0, 0]
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(folder / "p.png")
    assert first_pixel(folder / "p.png") == [10, 20, 30]
    palette.save(folder / "clear-p.png", transparency=bytes([255, 0]))
    assert first_pixel(folder / "clear-p.png") == [255, 255, 255]
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(folder / "grey.gif")
    assert first_pixel(folder / "grey.gif") == [9]
    deep = np.array([[65535, 0, 257, 32768]], dtype=np.uint16)
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(folder / name)
        assert read_image(folder / name).tolist() == [[[255, 0, 1, 128]]]
    (folder / "deep.pgm").write_bytes(b"P5 4 1 65535\n" + deep.astype(">u2").tobytes())
    assert read_image(folder / "deep.pgm").tolist() == [[[255, 0, 1, 128]]]
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(folder / "float.tif")
    with pytest.raises(DataError, match="float.tif: it has pixels of 32 bits"):
        read_image(folder / "float.tif")


def test_the_camera_was_held_sideways(folder):
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored top is the right side: turn clockwise
    Image.fromarray(pixels).save(folder / "a.png", exif=exif)
    upright = read_image(folder / "a.png")
    assert upright.shape == (1, 6, 4) and upright[0, 0, 3] == 255 and upright.sum() == 255


def test_nobody_is_bothered_with_decoders_warnings(folder):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + bytes(3)  # announces five entries, has a quarter of one
    save(folder / "a.jpg", 80, exif=exif)
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(folder / "a.jpg") as image:
        image.getexif()
    assert first_pixel(folder / "a.jpg") == [80]


def test_the_first_frame_of_an_animation(folder):
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])
    assert first_pixel(folder / "a.gif") == [10]


def test_damaged_images(folder, monkeypatch):
    for index in range(4):
        save(folder / f"{index}.png")
    bad = folder / "bad.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    Image.fromarray(noise).save(bad)
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot read the image .*bad.png: .*truncated"):
        load_user_data(folder, size=8)
    assert not [*(folder.parent / "cache").iterdir()]  # nothing half-made
    for content in (b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"):
        bad.write_bytes(content)
        with pytest.raises(DataError, match="bad.png is not an image of a known kind"):
            load_user_data(folder, size=8)
    bad.write_bytes(whole)
    for limit in (2000, 1000):  # Pillow warns above the limit and refuses above twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match="bad.png has suspiciously many pixels"):
            load_user_data(folder, size=8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2400)
    assert load_user_data(folder, size=8).shape == (1, 8, 8)


def test_unreadable_images_and_folders(folder):
    for index in range(4):
        save(folder / f"a/{index}.png")
    (folder / "a/3.png").chmod(0)
    if os.access(folder / "a/3.png", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match="3.png: Permission denied"):
        load_user_data(folder)
    (folder / "a").chmod(0)
    with pytest.raises(DataError, match="cannot read the folder"):
        load_user_data(folder)
    (folder / "a").chmod(0o700)


def test_links_are_followed_but_in_no_circle(folder, tmp_path):
    for index in range(3):
        save(tmp_path / f"store/{index}.png", index)
    (folder / "a").mkdir()
    (folder / "b").symlink_to(tmp_path / "store", target_is_directory=True)
    (folder / "a/linked.png").symlink_to(tmp_path / "store/0.png")
    (tmp_path / "store/back").symlink_to(folder, target_is_directory=True)
    (folder / "a/self").symlink_to(folder / "a", target_is_directory=True)
    data = load_user_data(folder)
    assert data.counts == {"all": 4}  # b/back leads nowhere
    assert "2 classes (0 a, 1 b)" in data.note
    (folder / "a/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="gone.png is not a file that can be read, such as a broken link"):
        load_user_data(folder)


def test_the_cache_follows_the_files(folder):
    for index in range(5):
        save(folder / f"{index}.png", 10)
    load_user_data(folder)
    cached = [*(folder.parent / "cache").glob("own-*.npy")]
    assert len(cached) == 1
    before = cached[0].stat().st_mtime_ns
    load_user_data(folder)
    assert [*(folder.parent / "cache").iterdir()] == cached and cached[0].stat().st_mtime_ns == before
    save(folder / "0.png", 200, size=(6, 4), pnginfo=None, compress_level=0)
    assert together(load_user_data(folder)).max() * 255 == 200
    for index in range(5):  # the same names, sizes and times in another folder
        save(folder.parent / f"other/{index}.bmp", index)
        save(folder.parent / f"others/{index}.bmp", 100)
        for name in ("other", "others"):
            os.utime(folder.parent / f"{name}/{index}.bmp", (0, 0))
    other, others = (together(load_user_data(folder.parent / name)) for name in ("other", "others"))
    assert other.max() * 255 < 5 and others.min() * 255 > 99


def test_folders_without_images(folder):
    with pytest.raises(DataError, match="holds no images: it is empty"):
        load_user_data(folder)
    for name in "abcd":
        (folder / f"{name}.csv").write_text("1,2")
    with pytest.raises(DataError, match="holds no images, but only 4 other files such as a.csv, b.csv, c.csv. Images are .bmp"):
        load_user_data(folder)
    for index in range(2):
        save(folder / f"{index}.png")
    with pytest.raises(ConfigError, match="2 data are too few to take 1 for validation and 1 for test"):
        load_user_data(folder)
    save(folder / "2.png")
    assert [len(getattr(load_user_data(folder), part)) for part in SPLITS] == [1, 1, 1]


# Arrays


def npy(folder, array, name="a.npy"):
    np.save(folder / name, array)
    return folder / name


def test_a_npy_is_mapped_and_not_read(folder, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5), dtype=np.uint8)
    path = npy(folder, images)
    monkeypatch.setattr(array_ranges, "PIECE", 20)  # one image at a time
    checked = []
    pieces = array_files.iterate_pieces
    monkeypatch.setattr(array_files, "iterate_pieces", lambda array: (checked.append(1) or piece for piece in pieces(array)))
    data = load_user_data(path)
    assert data.name == "a.npy" and data.shape == (1, 4, 5) and len(checked) == 1 and data.train.x.ahead
    order = np.random.default_rng(0).permutation(10)
    assert torch.equal(together(data), torch.from_numpy(images[[*order[2:], *order[:2]], None]).float() / 255)
    # What is changed in the file shows: no copy was made.
    with path.open("r+b") as file:
        file.seek(-20 * 10, os.SEEK_END)
        file.write(bytes([7]) * 200)
    assert (together(data) * 255 == 7).all()
    data.train.x.store[0] = 3  # and nothing goes back into it
    assert (np.load(path) == 7).all()


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 1, 4, 5), (6, 3, 4, 5), (6, 4, 5, 1), (6, 4, 5, 3), (6, 3, 5, 3)])
def test_layouts_of_images(folder, shape):
    grey = np.random.default_rng(0).random(shape)
    data = load_user_data(npy(folder, grey))
    if len(shape) == 3:
        expected = grey[:, None]
    else:
        expected = grey if shape[1] in (1, 3) else grey.transpose(0, 3, 1, 2)
    order = np.random.default_rng(0).permutation(6)
    x = together(data)
    assert torch.equal(x, torch.from_numpy(expected[[*order[2:], *order[:2]]]).float()) and x.dtype == torch.float32
    assert data.train.x[:2].is_contiguous()


@pytest.mark.parametrize(
    ("shape", "last", "what"),
    [
        ((6, 2, 4, 5), False, "5 x 4 images of 2 channels"),
        ((6, 4, 5, 2), True, "5 x 4 images of 2 channels"),
        ((6, 8, 9, 4), True, "9 x 8 images of 4 channels"),
        ((6, 5, 8, 9), False, "9 x 8 images of 5 channels"),
        ((6, 13, 26, 32), False, "32 x 26 images of 13 channels"),
    ],
)
def test_any_number_of_channels(folder, shape, last, what):
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data, order = load_user_data(npy(folder, grey)), np.random.default_rng(0).permutation(6)
    expected = grey.transpose(0, 3, 1, 2) if last else grey
    assert torch.equal(together(data), torch.from_numpy(expected[[*order[2:], *order[:2]]].copy()).float() / 255)
    assert what in data.note and data.train.x[:2].is_contiguous()


@pytest.mark.parametrize("shape", [(6, 50, 1), (6, 1, 50), (6, 9, 8, 7), (6, 2, 4, 4, 4), (6, 1, 1, 4, 4)])
def test_series_and_volumes_are_vectors(folder, shape):
    values = np.arange(np.prod(shape)).reshape(shape) - 7  # no grey values
    data, order = load_user_data(npy(folder, values)), np.random.default_rng(0).permutation(6)
    assert together(data).tolist() == values.reshape(6, -1)[[*order[2:], *order[:2]]].tolist()
    sides = " x ".join(map(str, shape[1:]))
    assert ("series of 50 values" if 50 in shape else f"arrays of {sides}, flattened to vectors of") in data.note
    assert load_user_data(npy(folder, values), standardize=True).standardization is not None
    grey = load_user_data(npy(folder, np.full(shape, 51, np.uint8)))
    assert together(grey).unique().tolist() == [torch.tensor(0.2).item()]


@pytest.mark.parametrize("kind", ["u1", "i8", "<u2", ">i4", ">f4", "f2", "f8", "?"])
def test_kinds_of_values(folder, kind):
    top = 1 if kind in (">f4", "f2", "f8", "?") else 255
    values = (np.arange(24) % 2 * top).reshape(6, 2, 2).astype(kind)
    assert together(load_user_data(npy(folder, values))).unique().tolist() == [0, 1]
    if top == 255:  # whole numbers that are at most 1 are black and white, not nearly black
        assert together(load_user_data(npy(folder, values // 255))).unique().tolist() == [0, 1]
        assert together(load_user_data(npy(folder, values // 255 * 2))).max() == torch.tensor(2 / 255)


def test_vectors(folder):
    values = np.random.default_rng(0).normal(size=(20, 7)) * 1e3
    data = load_user_data(npy(folder, values))
    order = np.random.default_rng(0).permutation(20)
    assert data.shape == (7,)
    assert torch.equal(together(data), torch.from_numpy(values[[*order[4:], *order[:4]]]).float())
    assert together(load_user_data(npy(folder, np.full((4, 2), -300)))).unique().tolist() == [-300]
    assert together(load_user_data(npy(folder, np.full((4, 2), 51, np.uint8)))).unique().tolist() == [torch.tensor(0.2).item()]


def test_values_out_of_range(folder):
    good = np.full((6, 4, 5), 0.5, dtype=np.float32)
    for value, why in [
        (np.inf, r"has the value inf at index \(3, 2, 1\)"),
        (-np.inf, r"has the value -inf at index \(3, 2, 1\)"),
        (255, "go from 0.5 to 255, but images are floats from 0 to 1. Divide by 255, or save as uint8"),
        (-1, "go from -1 to 0.5, but images are floats from 0 to 1. Scale them"),
        (1.001, "go from 0.5 to 1.001"),
    ]:
        bad = good.copy()
        bad[3, 2, 1] = value
        with pytest.raises(DataError, match=why):
            load_user_data(npy(folder, bad))
    for value in (256, -1):
        with pytest.raises(DataError, match="images are integers from 0 to 255"):
            load_user_data(npy(folder, np.full((6, 4, 5), value)))
    with pytest.raises(DataError, match=r"1e\+300 at index \(0, 0\), beyond the largest .* 3.403e\+38. Scale"):
        load_user_data(npy(folder, np.full((6, 4), 1e300)))


def test_the_place_is_right_in_later_pieces(folder, monkeypatch):
    monkeypatch.setattr(array_ranges, "PIECE", 8)
    bad = np.zeros((10, 4))
    bad[2, 1], bad[7, 3], bad[9, 0] = np.nan, np.inf, np.inf
    with pytest.raises(DataError, match=r"index \(7, 3\)"):
        load_user_data(npy(folder, bad))


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.float64(3), r"has shape \(\)"),
        (np.zeros(9), r"has shape \(9,\). Known are vectors"),
        (np.zeros((5, 1, 0, 4, 4)), "is empty"),
        (np.zeros((0, 4)), r"is empty: its shape is \(0, 4\)"),
        (np.zeros((5, 0, 4)), "is empty"),
        (np.zeros((5, 4), complex), "is an array of complex128"),
        (np.full((5, 4), "a"), "is an array of <U1"),
        (np.zeros((5, 4), "M8[s]"), "is an array of datetime64"),
        (np.zeros(5, [("a", "f4")]), "is an array of"),
    ],
)
def test_arrays_that_are_no_data(folder, array, why):
    with pytest.raises(DataError, match=why):
        load_user_data(npy(folder, array))


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_pickles_are_never_opened(folder):
    objects = np.array([Trap(), Trap(), Trap()], dtype=object)
    np.save(folder / "o.npy", objects, allow_pickle=True)
    np.savez(folder / "o.npz", x=objects)
    payload = pickle.dumps(Trap())
    for name in ("bare.npy", "bare.npz", "bare.h5", "bare.pkl", "bare.PT", "bare.pth"):
        (folder / name).write_bytes(payload)
    with zipfile.ZipFile(folder / "inner.npz", "w") as archive:
        archive.writestr("x.npy", payload)
    with pytest.raises(DataError, match="cannot read"):  # even if it were asked for
        array_members.ARRAY_READERS[".npz"](folder / "o.npz")["x"].read()
    for name in ("o.npy", "o.npz"):
        with pytest.raises(DataError, match="holds pickled objects, which can run any program"):
            load_user_data(folder / name)
    for name in ("bare.pkl", "bare.PT", "bare.pth"):
        with pytest.raises(DataError, match="is not opened: .* is a pickle, which can run any program"):
            load_user_data(folder / name)
    for name in ("bare.npy", "bare.npz", "inner.npz"):
        with pytest.raises(DataError, match="cannot read"):
            load_user_data(folder / name)
    pytest.importorskip("h5py")
    with pytest.raises(DataError, match="cannot read"):
        load_user_data(folder / "bare.h5")
    assert not os.path.exists("sprung")
    pickle.loads(payload)
    assert os.path.exists("sprung")  # so the trap was set


def test_damaged_arrays(folder):
    path = npy(folder, np.zeros((10, 4)))
    whole = path.read_bytes()
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"
    huge = header % b"4611686018427387904, 8"
    for content in (b"", whole[:5], whole[:40], whole[:-1], whole[:128], b"PK\3\4" + whole, whole.replace(b"<f8", b"<x8")):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot read .*a.npy"):
            load_user_data(path)
    path.write_bytes(whole[:8] + (len(huge) + 1).to_bytes(2, "little") + huge + b"\n" + bytes(64))
    with warnings.catch_warnings(record=True) as heard, pytest.raises(DataError, match="cannot read .*a.npy"):
        warnings.simplefilter("always")
        load_user_data(path)
    assert not heard  # of the overflow
    np.savez_compressed(folder / "a.npz", x=np.random.default_rng(0).random((50, 4)))
    whole = (folder / "a.npz").read_bytes()
    for content in (b"", whole[:-30], whole[:300] + b"\0" * 9 + whole[309:]):
        (folder / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match="cannot read .*a.npz"):
            load_user_data(folder / "a.npz")


def npz(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def test_which_array_of_several(folder):
    images, codes = np.full((9, 2, 2), 9, np.uint8), np.random.default_rng(0).random((9, 40))
    for name in ("x", "images", "imgs", "data", "Images"):
        assert load_user_data(npz(folder, **{name: images, "codes": codes})).shape == (1, 2, 2)
    assert load_user_data(npz(folder, anything=images, y=np.arange(9), k=np.arange(9)[:, None])).shape == (1, 2, 2)
    assert load_user_data(npz(folder, x=images, images=codes)).shape == (1, 2, 2)
    assert load_user_data(npz(folder, x=images, codes=codes), key="codes").shape == (40,)
    with pytest.raises(
        DataError,
        match=r"not clear .*: a \(9, 2, 2\) uint8, b \(9, 40\) float64. Call it x in the file",
    ):
        load_user_data(npz(folder, a=images, b=codes))
    with pytest.raises(ConfigError, match="no array called 'code'. Did you mean 'codes'"):
        load_user_data(npz(folder, x=images, codes=codes), key="code")
    with pytest.raises(DataError, match="there is none"):
        load_user_data(npz(folder))


def test_other_arrays_become_factors(folder):
    x = np.arange(20.0)[:, None] @ np.ones((1, 3))
    objects = np.empty(20, dtype=object)
    path = npz(
        folder,
        x=x,
        labels=np.arange(20, dtype=np.uint8),
        angle=np.arange(20) / 2,
        y=np.arange(20)[:, None],
        latents=np.stack([np.arange(20), -np.arange(20)], 1),
        metadata=objects,
        names=np.array([f"name {i}" for i in range(20)]),
        kind=np.array(["b", "a"] * 10),
        mean=np.zeros(3),
        features=np.random.default_rng(0).random((20, 2)),
    )
    data = load_user_data(path, key="x")
    assert set(data.test.factors) == {"labels", "angle", "y", "latents_0", "latents_1", "features_0", "features_1", "kind"}
    assert data.labels == {"kind": ["a", "b"]}
    for words in ("metadata (pickled objects)", "names (text)", "mean (3 values for 20 data)"):
        assert words in data.note
    for part in SPLITS:
        split = getattr(data, part)
        index = split.x[:][:, 0]
        assert torch.equal(split.factors["labels"], index.long()) and torch.equal(split.factors["y"], index.long())
        assert torch.equal(split.factors["latents_1"], -index.long())
        assert torch.equal(split.factors["angle"], index.double() / 2)
    with pytest.raises(DataError, match=r"angle of a.npz has the value inf at index \(2, 0\)"):
        load_user_data(npz(folder, x=x, angle=np.where(np.arange(20) == 2, np.inf, 0.0)))
    data = load_user_data(npz(folder, x=x, angle=np.where(np.arange(20) == 2, np.nan, 0.0)))
    assert not data.train.factors and "not used: angle (missing values)" in data.note


@pytest.mark.parametrize("names", ["{}", "x_{}", "{}_images"])
def test_arrays_named_after_the_parts(folder, names):
    made = {part: np.full((count, 2, 2), count * 10, np.uint8) for part, count in (("train", 8), ("val", 3), ("test", 4))}
    arrays = {names.format(part): array for part, array in made.items()}
    labels = {f"{part}_labels": np.full((len(array), 1), len(array)) for part, array in made.items()}
    data = load_user_data(npz(folder, **arrays, **labels))
    assert data.counts == {"train": 8, "validation": 3, "test": 4}
    for part, count in zip(SPLITS, (8, 3, 4), strict=True):
        split = getattr(data, part)
        assert len(split) == count and (split.x[:] * 255 == count * 10).all()
        assert split.factors["labels"].tolist() == [count] * count
    del arrays[names.format("val")]
    data = load_user_data(npz(folder, **arrays, **labels))
    assert [len(getattr(data, part)) for part in SPLITS] == [7, 1, 4] and (data.validation.x[:] * 255 == 80).all()
    arrays[names.format("test")] = made["test"][:, :1]
    with pytest.raises(DataError, match="differ in shape"):
        load_user_data(npz(folder, **arrays))


def test_bytes_mean_the_same_in_every_part(folder):
    train, test = np.full((5, 2, 2), 200, np.uint8), np.ones((5, 2, 2), np.uint8)
    assert load_user_data(npz(folder, train=train, test=test)).test.x[:].max() == torch.tensor(1 / 255)


def test_names_in_archives_lead_nowhere(folder):
    inside = folder / "x.npy"
    np.save(inside, np.zeros((5, 2)))
    with zipfile.ZipFile(folder / "slip.npz", "w") as archive:
        archive.write(inside, "../../x.npy")
        archive.writestr("../../run.py", "boo")
    inside.unlink()
    assert load_user_data(folder / "slip.npz").shape == (2,)
    assert [path.name for path in folder.iterdir()] == ["slip.npz"] and not (folder.parent / "x.npy").exists()


def test_hdf5(folder, monkeypatch, tmp_path):
    h5py = pytest.importorskip("h5py")
    images, path = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8), folder / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("group/images", data=images, chunks=(3, 4, 5, 3), compression="gzip")
        file["group/labels"] = np.arange(20)
        file["note"] = "text"
        file["far"] = h5py.ExternalLink(str(tmp_path / "b.h5"), "x")
    monkeypatch.setattr(array_members, "PIECE", 300)
    data = load_user_data(path, key="group/images")
    order = data.test.factors["group/labels"]
    assert torch.equal(data.test.x[:] * 255, torch.from_numpy(images[order.numpy()]).permute(0, 3, 1, 2).float())
    assert data.train.x.ahead and len([*(tmp_path / "cache").glob("own-*.npy")]) == 1
    assert torch.equal(together(load_user_data(path)), together(data))
    with h5py.File(path, "w") as file:
        file["train/data"] = np.full((6, 3), -2.5)
        file["test/data"] = np.full((4, 3), 7, dtype=">i4")
    data = load_user_data(path)
    assert len(data.test) == 4 and data.test.x[:].unique().tolist() == [7] and data.train.x[:].unique().tolist() == [-2.5]
    (tmp_path / "secret").write_bytes(bytes(100))
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (5, 4), "u1", external=[(str(tmp_path / "secret"), 0, 100)])
    with pytest.raises(DataError, match="x of .*a.h5 is stored in other files"):
        load_user_data(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(DataError, match="cannot read"):
        load_user_data(path)


def test_hdf5_without_its_extra(folder, monkeypatch):
    (folder / "a.hdf5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DeviceError, match=r"needs the extra 'data'. Install it .*: pip install -e '\.\[data\]'"):
        load_user_data(folder / "a.hdf5")


# Options


def test_options(folder):
    path = npy(folder, np.zeros((9, 2)))
    for options, why in [
        ({"size": -1}, "size is the width and height"),
        ({"channels": 2}, "channels is 1 for grey, 3 for colour"),
        ({"data_seed": -1}, "data_seed.* is at least 0"),
        ({"validation": 0.0}, "each above 0"),
        ({"test": -0.1}, "each above 0"),
        ({"validation": 0.5, "test": 0.5}, "together below 1"),
        ({"size": 8}, "is an option of a folder of images, but .*a.npy is a file of arrays"),
        ({"channels": 1}, "is an option of a folder of images, but .*a.npy is a file of arrays"),
    ]:
        with pytest.raises(ConfigError, match=why):
            load_user_data(path, **options)
    with pytest.raises(ConfigError, match="key is an option of a file of arrays, but .* is a folder of images"):
        load_user_data(folder, key="x")


def test_paths_that_are_no_data(folder, monkeypatch):
    for name, why in [
        ("a.xlsx", "of no kind that tables are read from. Save it as .csv"),
        ("a.docx", "of no kind that data are"),
        ("a.idl.gz", "is compressed. Unpack it: gunzip"),
        ("a.zip", "is an archive"),
        ("a.tar.gz", "is an archive"),
        ("a.png", "is a single image"),
    ]:
        (folder / name).write_bytes(b"")
        with pytest.raises(DataError, match=why):
            load_user_data(folder / name)
    with pytest.raises(DataError, match="there is no file or folder .*nowhere"):
        load_user_data("nowhere")
    np.save(folder / "b.npy", np.zeros((5, 2)))
    monkeypatch.setenv("HOME", str(folder))
    assert len(load_user_data("~/b.npy").train) == 3


def test_dealing_keeps_factors_beside_their_data():
    x = torch.arange(40.0)[:, None]
    made = parts.split_at_random({"train": parts.Split(x, {"k": torch.arange(40)})}, 3, 0.25, 0.1)
    assert [len(split) for split in made] == [26, 10, 4]
    assert all(torch.equal(split.x[:][:, 0].long(), split.factors["k"]) for split in made)
    assert torch.cat([split.factors["k"] for split in made]).sort().values.tolist() == list(range(40))


def test_the_split_is_the_documented_permutation():
    train, validation, test = split_at_random({"train": Split(torch.arange(26.0)[:, None])}, 5, 0.1, 0.06)
    order = np.random.default_rng(5).permutation(26)
    sizes = (round(2.6), round(26 * 0.06))  # 3 and 2: rounded, not cut
    assert sizes == (3, 2)
    for split, wanted in ((validation, order[:3]), (test, order[3:5]), (train, order[5:])):
        assert split.x[:].flatten().tolist() == wanted.tolist()


def test_a_transparent_colour_does_not_make_grey_images_coloured(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(np.array([[0, 100], [200, 255]], dtype=np.uint8)).save(path, transparency=0)
    assert read_image(path).tolist() == [[[255, 100], [200, 255]]]


def test_a_pipe_is_no_data_file(tmp_path):
    """Reading one would wait for ever."""
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(DataError, match="a.npy is neither a file nor a folder"):
        load_user_data(tmp_path / "a.npy")
