"""SVHN, CelebA, dSprites and 3D Shapes: tiny files in the official formats, every damage."""

import io
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from pyro_hvae.data.sets import celeba as faces
from pyro_hvae.data.sets import dsprites_and_shapes3d as factor_sets
from pyro_hvae.data.sets import svhn as house_numbers
from pyro_hvae.data.sets.celeba import celeba
from pyro_hvae.data.sets.dsprites_and_shapes3d import dsprites, shapes3d, unpack_bits
from pyro_hvae.data.sets.svhn import svhn
from pyro_hvae.errors import ConfigError, DataError, DeviceError
from pyro_hvae.runtime.folders import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and published files without checksums, which ours cannot have."""
    for module, name in [(faces, "PARTITION"), (faces, "ATTRIBUTES"), (factor_sets, "DSPRITES"), (factor_sets, "SHAPES3D")]:
        monkeypatch.setattr(module, name, replace(getattr(module, name), sha256=None, md5=None))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def numbers(root, monkeypatch):
    """The folder, its arrays by part, and a function that writes a part, with other arrays in it where given."""
    monkeypatch.setattr(house_numbers, "COUNTS", {"train": 7, "extra": 90, "test": 4})
    monkeypatch.setattr(house_numbers, "HELD_OUT", 2)
    rng, folder = np.random.default_rng(0), root / "SVHN"
    folder.mkdir()
    arrays = {
        part: {
            "X": rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8),
            "y": rng.integers(1, 11, (count, 1), dtype=np.uint8),
        }
        for part, count in house_numbers.COUNTS.items()
    }
    arrays["test"]["y"][:, 0] = 10, 1, 9, 10

    def write(part, **others):
        savemat(folder / f"{part}_32x32.mat", {**arrays[part], **others}, do_compression=True)

    for part in arrays:
        write(part)
    return folder, arrays, write


@pytest.mark.parametrize("train", ["extra", "train", "both"])
def test_house_numbers(numbers, train, cache):
    folder, arrays, _ = numbers
    if train == "train":
        (folder / "extra_32x32.mat").unlink()  # which is not needed then
    data = svhn(train)
    own, extra = arrays["train"], arrays["extra"]
    wanted = {
        "extra": (extra["X"], extra["y"]),
        "train": (own["X"][..., :5], own["y"][:5]),
        "both": (np.concatenate([own["X"][..., :5], extra["X"]], 3), np.concatenate([own["y"][:5], extra["y"]])),
    }[train]
    held, last = (own["X"][..., 5:], own["y"][5:]), (arrays["test"]["X"], arrays["test"]["y"])
    for split, (images, digits) in ((data.train, wanted), (data.validation, held), (data.test, last)):
        # Row, column, colour, image in the file; image, colour, row, column here.
        assert np.array_equal(split.x[:] * 255, np.einsum("rcki->ikrc", images))
        assert split.x[:].dtype == torch.float32 and split.factors["class"].dtype == torch.int64
        assert split.factors["class"].tolist() == [digit % 10 for digit in digits[:, 0].tolist()]
    assert data.shape == (3, 32, 32) and data.test.factors["class"].tolist() == [0, 1, 9, 0]
    names = {"extra": ("extra", "train"), "train": ("train",), "both": ("train", "extra")}[train]
    assert data.counts == {f"{name} file": house_numbers.COUNTS[name] for name in (*names, "test")}
    # Once made, the images are mapped, not read again.
    made = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    again = svhn(train)
    assert torch.equal(again.train.x[:], data.train.x[:]) and made == {p: p.stat().st_mtime_ns for p in cache.iterdir()}


def test_house_numbers_where_torchvision_puts_them(numbers, root):
    folder, _, _ = numbers
    before = svhn().train.x[:]
    folder.rename(root / "moved")
    (root / "moved").rename(root / "svhn")  # in two steps, as some file systems take both names for one
    assert torch.equal(svhn().train.x[:], before)


def test_damaged_house_numbers(numbers):
    folder, arrays, write = numbers
    with pytest.raises(ConfigError, match="no train called 'extr'. Did you mean 'extra'"):
        svhn("extr")
    x, y, objects = arrays["extra"]["X"], arrays["extra"]["y"], np.empty((90, 1), dtype=object)
    objects[:] = "1"
    for others, why in [
        ({"X": x[..., :80]}, r"extra_32x32.mat should hold bytes X \(32, 32, 3, 90\) .* it has .*\(32, 32, 3, 80\)"),
        ({"X": x.astype(np.float64)}, "should hold bytes"),
        ({"X": x[:, :31]}, "should hold bytes"),
        ({"y": y.T}, r"numbers y \(90, 1\)"),
        ({"y": objects}, "should hold bytes"),
        ({"y": y * 0}, "other values than the digits"),
        ({"y": y + 0.5}, "other values than the digits"),
    ]:
        write("extra", **others)
        with pytest.raises(DataError, match=why):
            svhn()
    write("extra", y=y.astype(np.float64))
    assert svhn().train.factors["class"].tolist() == (y[:, 0] % 10).tolist()
    path = folder / "extra_32x32.mat"
    whole = path.read_bytes()
    header = bytearray(whole)
    header[124:128] = b"\0\2IM"  # version 7.3, which is HDF5
    for content, why in [
        (b"", "is not a MATLAB file"),
        (b"text" * 99, "is not a MATLAB file"),
        (bytes(header), "is not a MATLAB file of version 5"),
        (whole[:150], "is not a MATLAB file"),
        (whole[:-40], "'y' cannot be read|not a MATLAB file"),
        (whole[: len(whole) // 2], "it has {'X': .*'uint8'.}. Replace"),
        (whole[:200_000] + b"\xff" * 99 + whole[200_099:], "'X' cannot be read"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=why):
            svhn()
    path.unlink()
    with pytest.raises(DataError, match=r"no data file SVHN/extra_32x32.mat \(or svhn/extra_32x32.mat\)"):
        svhn()


def face(place):
    """A JPEG whose red grows with the column and green with the row; blue tells which image it is."""
    row, column = np.mgrid[0:218, 0:178]
    return encoded(np.stack([column, row, np.full_like(row, 20 * place)], 2).astype(np.uint8))


def encoded(pixels, kind="JPEG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    return stream.getvalue()


@pytest.fixture
def people(root, monkeypatch):
    """The folder with the archive of nine faces and the partition, and a function that writes the archive anew."""
    monkeypatch.setattr(faces, "COUNTS", {"training": 5, "validation": 3, "test": 1})
    folder = root / "celeba"
    folder.mkdir()
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{i + 1:06d}.jpg {i // 5 + i // 8}\n" for i in range(9)), newline="\r\n"
    )
    images = {f"img_align_celeba/{i + 1:06d}.jpg": face(i) for i in range(9)}

    def write(others=None, missing=()):
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            archive.writestr("img_align_celeba/", b"")
            for name, content in reversed(({**images, **(others or {})}).items()):
                if name not in missing:
                    archive.writestr(name, content)

    write()
    return folder, images, write


def test_faces(people):
    folder, images, write = people
    write({"../evil.jpg": b"x", "img_align_celeba/notes.txt": b"x"})  # of which nothing is read
    for crop, left, upper, side in (("vlae", 35, 55, 108), ("provlae", 15, 45, 148)):
        data = celeba(crop)
        assert data.shape == (3, 64, 64) and not data.train.factors and data.counts == faces.COUNTS
        # The middles of the new pixels, where a filter that is symmetric leaves a ramp as it is (but for its ends).
        centres = (np.arange(64) + 0.5) * side / 64 - 0.5
        for split, places in ((data.train, range(5)), (data.validation, range(5, 8)), (data.test, [8])):
            assert len(split) == len(places) and split.x[:].dtype == torch.float32
            for x, place in zip(split.x[:].numpy() * 255, places, strict=True):
                assert np.abs(x[0] - (left + centres)).max() < 2.5 and np.abs(x[0] - (left + centres)).mean() < 0.7
                assert np.abs(x[1] - (upper + centres)[:, None]).max() < 2.5
                assert np.abs(x[2] - 20 * place).max() < 2.5
    before = celeba().train.x[:]
    for name, content in images.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "img_align_celeba.zip").unlink()
    assert torch.equal(celeba().train.x[:], before)
    with pytest.raises(ConfigError, match="no crop called 'vla'. Did you mean 'vlae'"):
        celeba("vla")


def test_crops_shrink_by_different_filters(people):
    """A white row on grey has in each new row the weight that the filter gives it; Lanczos' is negative in some."""
    _, images, write = people
    pixels = np.full((218, 178, 3), 128, dtype=np.uint8)
    pixels[120] = 255
    write(dict.fromkeys(images, encoded(pixels)))
    for crop, upper, side, support, kernel in [
        ("vlae", 55, 108, 1, lambda t: 1 - np.abs(t)),
        ("provlae", 45, 148, 3, lambda t: np.sinc(t) * np.sinc(t / 3)),
    ]:
        scale = side / 64
        distance = (np.arange(side) + 0.5) / scale - (np.arange(64)[:, None] + 0.5)  # in new pixels, (new rows, old rows)
        weights = np.where(np.abs(distance) < support, kernel(distance), 0.0)
        wanted = 128 + 127 * (weights / weights.sum(1, keepdims=True))[:, 120 - upper]
        assert np.abs(celeba(crop).test.x[0].numpy() * 255 - wanted[:, None]).max() < 1.5
        assert (wanted.min() < 124) == (crop == "provlae")


def attributes(folder, lines=None, names=faces.NAMES):
    """+1 where the image's number and the attribute's place have the same rest by 3."""
    signs = [[1 if i % 3 == j % 3 else -1 for j in range(40)] for i in range(9)]
    rows = lines or [f"{i + 1:06d}.jpg " + " ".join(f"{sign:2d}" for sign in row) for i, row in enumerate(signs)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), " ".join(names) + " ", *rows]) + "\n")
    return rows


def test_attributes_are_factors(people):
    folder, _, _ = people
    rows = attributes(folder)
    data = celeba()
    assert len(data.train.factors) == 40 and list(data.train.factors)[20] == "Male"
    for split, places in ((data.train, range(5)), (data.validation, range(5, 8)), (data.test, [8])):
        for j, values in enumerate(split.factors.values()):
            assert values.dtype == torch.int64 and values.tolist() == [int(i % 3 == j % 3) for i in places]
    for number, line in [
        (1, rows[0].replace("-1", "0", 1)),
        (4, rows[3] + " 1"),
        (5, rows[4].replace("000005", "000006")),
        (9, ""),
    ]:
        attributes(folder, [*rows[: number - 1], line, *rows[number:]])
        with pytest.raises(DataError, match=f"list_attr_celeba.txt, line {number + 2}: not 00000{number}.jpg and 40 times"):
            celeba()
    attributes(folder, rows[:-1])
    with pytest.raises(DataError, match="has 10 lines instead of 11"):
        celeba()
    attributes(folder, names=faces.NAMES[::-1])
    with pytest.raises(DataError, match="line 2: not the names of the 40 attributes"):
        celeba()


def test_damaged_faces(people, root):
    folder, images, write = people
    name = "img_align_celeba/000004.jpg"
    grey = encoded(np.zeros((218, 178), dtype=np.uint8))
    for content, why in [
        (images[name][:-2000], "cannot be read as an aligned face: .*truncated"),
        (b"", "cannot be read as an aligned face"),
        (b"no image", "cannot be read as an aligned face"),
        (grey, "178 x 218 pixels of mode L"),
        (encoded(np.zeros((178, 218, 3), dtype=np.uint8)), "218 x 178 pixels"),
        (encoded(np.zeros((218, 178, 3), dtype=np.uint8), "PNG"), "cannot be read as an aligned face"),
        (images[name] + bytes(faces.LARGEST), "exceeds the limit of 1,048,576 decompressed"),
    ]:
        write({name: content})
        with pytest.raises(DataError, match=why) as caught:
            celeba()
        assert name in str(caught.value)
    write(missing=(name, "img_align_celeba/000002.jpg"))
    with pytest.raises(DataError, match="lacks 2 of . files, such as img_align_celeba/000002.jpg"):
        celeba()
    path = folder / "img_align_celeba.zip"
    for content in (b"", path.read_bytes()[:-300]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a .* archive"):
            celeba()
    path.unlink()
    (folder / "img_align_celeba").mkdir()
    with pytest.raises(DataError, match="cannot read .*000001.jpg"):
        celeba()
    (folder / "img_align_celeba").rmdir()
    with pytest.raises(DataError, match=r"img_align_celeba.zip \(or celeba/img_align_celeba\)"):
        celeba()


def test_damaged_partition(people):
    folder, _, _ = people
    path = folder / "list_eval_partition.txt"
    lines = path.read_text().splitlines()
    for changed, why in [
        (lines[:-1], "has 8 lines instead of 9"),
        ([*lines[:-1], "000009.jpg 1"], "has 5, 4, 0 images in its parts"),
        ([*lines[:-1], "000009.jpg 3"], "line 9: not 000009.jpg and 1 times one of 0, 1, 2"),
        ([lines[1], lines[0], *lines[2:]], "line 1"),
        ([*lines[:2], "../003.jpg 0", *lines[3:]], "line 3"),
    ]:
        path.write_text("\n".join(changed))
        with pytest.raises(DataError, match=why):
            celeba()
    path.unlink()
    with pytest.raises(DataError, match="no data file celeba/list_eval_partition.txt"):
        celeba()


class Evil:
    """What creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def sprites(root, monkeypatch):
    """The images, the factor values, and a function that writes the file with others in it where given."""
    monkeypatch.setattr(factor_sets, "SPRITES", {"shape": 3, "scale": 2, "orientation": 4, "x": 2, "y": 2})
    monkeypatch.setattr(factor_sets, "VALIDATION", 7)
    monkeypatch.setattr(factor_sets, "TEST", 9)
    monkeypatch.setattr(factor_sets, "SLAB", 40)
    images = np.random.default_rng(0).integers(0, 2, (96, 64, 64), dtype=np.uint8)
    values = np.array([[0, *where] for where in np.ndindex(3, 2, 4, 2, 2)])
    path = root / factor_sets.DSPRITES.path
    path.parent.mkdir()

    def write(**others):
        metadata = np.array(Evil(root / "evil"), dtype=object)
        arrays = {"metadata": metadata, "imgs": images, "latents_classes": values, "latents_values": values / 2, **others}
        np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    write()
    return images, values, write


def check_grid(data, images, names):
    """Images (n, channels, height, width) in the grid's order; the splits are disjoint and together the grid."""
    grid, count = data.grid, len(images)
    assert list(grid.sizes) == names and np.array_equal(grid.x[:] * (255 if images.max() > 1 else 1), images)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [count - 16, 7, 9]
    places = []
    for split in (data.train, data.validation, data.test):
        values = torch.stack(list(split.factors.values()), 1)
        assert list(split.factors) == names and values.dtype == torch.int64
        assert torch.equal(split.x[:], grid.x[grid.index(values)])
        places.append(grid.index(values))
    assert torch.cat(places).sort().values.tolist() == list(range(count))
    assert data.counts == {"images": count} and "16 random images are held out" in data.note
    return places


def test_sprites(sprites, root, cache):
    images, _, _ = sprites
    data = dsprites()
    places = check_grid(data, images[:, None], ["shape", "scale", "orientation", "x", "y"])
    assert data.shape == (1, 64, 64) and data.train.x[:5].dtype == torch.float32
    assert torch.equal(dsprites(0).test.x[:], data.test.x[:])
    assert not torch.equal(torch.stack(list(dsprites(1).test.factors.values()), 1), data.grid.values(places[2]))
    # Eight pixels a byte, and what is pickled in the file stays so.
    assert sum(path.stat().st_size for path in cache.iterdir()) == 128 + 96 * 512 + 4  # with a checksum
    assert not (root / "evil").exists()
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        dsprites(-1)


def test_the_evil_file_is_evil(sprites, root):
    with np.load(root / factor_sets.DSPRITES.path, allow_pickle=True) as arrays:
        assert arrays["metadata"].shape == ()
    assert (root / "evil").exists()


def test_unpacking_is_numpys():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (5, 4096), dtype=np.uint8))
    assert torch.equal(unpack_bits(torch.from_numpy(np.packbits(pixels, 1))), pixels.float().view(5, 1, 64, 64))


def test_damaged_sprites(sprites, root, cache):
    images, values, write = sprites
    x_before_orientation = values.copy()
    x_before_orientation[:, [3, 4]] = x_before_orientation[:, [4, 3]]
    for others, why in [
        ({"latents_classes": values[::-1]}, "in another order than that of their factors"),
        ({"latents_classes": x_before_orientation}, "in another order"),
        ({"latents_classes": values[:, 1:]}, "its array 'latents_classes' has the header"),
        ({"latents_classes": values.astype(np.float64)}, "'latents_classes' has the header"),
        ({"latents_classes": None}, "latents_classes.npy"),
        ({"imgs": images[:95]}, "its array 'imgs' has the header"),
        ({"imgs": np.asfortranarray(images)}, "'imgs' has the header"),
        ({"imgs": images.astype(np.int8)}, "'imgs' has the header"),
        ({"imgs": np.array(Evil(root / "evil"), dtype=object)}, "'imgs' has the header"),
        ({"imgs": images * 255}, "its pixels are not 0 or 1"),
        ({"imgs": None}, "imgs.npy"),
    ]:
        path = write(**others)
        with pytest.raises(DataError, match=f"is not the published file: .*{why}"):
            dsprites()
        assert not (root / "evil").exists() and not list(cache.iterdir())
    whole = write().read_bytes()
    for content in (b"", b"text", whole[:-30], whole[:9000] + b"\xff" * 99 + whole[9099:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not the published file"):
            dsprites()
    # Arrays shorter or longer than they announce.
    npy = io.BytesIO()
    np.save(npy, images)
    for content in (npy.getvalue()[:-1], npy.getvalue()[:-4096], npy.getvalue() + b"\0", npy.getvalue()[:50]):
        write(imgs=None)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("imgs.npy", content)
        with pytest.raises(DataError, match="is not the published file"):
            dsprites()
    path.unlink()
    with pytest.raises(DataError, match="no data file dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"):
        dsprites()


@pytest.fixture
def rooms(root, monkeypatch):
    """The images, the labels, and a function that writes the file with others in it where given."""
    h5py = pytest.importorskip("h5py")
    sizes = {"floor_hue": 2, "wall_hue": 3, "object_hue": 2, "scale": 2, "shape": 2, "orientation": 3}
    monkeypatch.setattr(factor_sets, "SHAPES", sizes)
    monkeypatch.setattr(factor_sets, "VALIDATION", 7)
    monkeypatch.setattr(factor_sets, "TEST", 9)
    monkeypatch.setattr(factor_sets, "SLAB", 50)
    images = np.random.default_rng(0).integers(0, 256, (144, 64, 64, 3), dtype=np.uint8)
    hues = [np.arange(n) / 10 for n in (2, 3, 2)]
    axes = (*hues, np.array([0.75, 1.25]), np.arange(2.0), np.array([-30.0, 0.0, 30.0]))
    labels = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1)
    path = root / factor_sets.SHAPES3D.path
    path.parent.mkdir()

    def write(chunks=(20, 4, 4, 1), **others):
        arrays = {"images": images, "labels": labels, **others}
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                if isinstance(array, np.ndarray):
                    layout = {"chunks": chunks, "compression": "gzip"} if name == "images" and chunks else {}
                    file.create_dataset(name, data=array, **layout)
                elif array is not None:
                    file[name] = array
        return path

    write()
    return images, labels, write


@pytest.mark.parametrize("chunks", [(20, 4, 4, 1), (144, 64, 64, 3), None])
def test_rooms(rooms, chunks):
    images, _, write = rooms
    write(chunks)
    data = shapes3d()
    check_grid(data, np.moveaxis(images, 3, 1), ["floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"])
    assert data.shape == (3, 64, 64) and data.train.x[:5].dtype == torch.float32
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        shapes3d(-1)


def test_rooms_need_h5py_only_once(rooms, monkeypatch):
    with monkeypatch.context() as without, pytest.raises(DeviceError, match=r"pip install -e '\.\[data\]'"):
        without.setitem(sys.modules, "h5py", None)
        shapes3d()
    test = shapes3d().test.x[:]
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert torch.equal(shapes3d().test.x[:], test)


def test_damaged_rooms(rooms, root, tmp_path):
    import h5py

    images, labels, write = rooms
    swapped = labels[:, [1, 0, 2, 3, 4, 5]]
    unknown = labels.copy()
    unknown[5, 3] = np.nan
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["images"] = images
    for others, why in [
        ({"labels": labels[::-1]}, "in another order than that of the factor floor_hue"),
        ({"labels": swapped}, "in another order than that of the factor floor_hue"),
        ({"labels": unknown}, "of the factor scale"),
        ({"labels": labels[:, :5]}, "its /labels is float64 of shape .144, 5. instead of float64 of shape .144, 6."),
        ({"labels": labels.astype(np.float32)}, "its /labels is float32"),
        ({"labels": None}, "'labels'"),
        ({"images": images[:100]}, "its /images is uint8 of shape .100, 64, 64, 3."),
        ({"images": images.astype(np.int16)}, "its /images is int16"),
        ({"images": h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "/images")}, "its 'images' is kept in another file"),
        ({"images": h5py.SoftLink("/labels")}, "its 'images' is kept in another file"),
    ]:
        write(**others)
        with pytest.raises(DataError, match=f"is not the published file: .*{why}"):
            shapes3d()
    path = write()
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not the published file"):
            shapes3d()
    path.unlink()
    with pytest.raises(DataError, match="no data file 3dshapes/3dshapes.h5"):
        shapes3d()
