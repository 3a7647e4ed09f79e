"""Rows of a user's own data lead back to the source: places, and what stands beside x there."""

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_hvae.data import condition_on, list_splits, write_rows
from pyro_hvae.data.sets.user_data import load_user_data
from tests.data.test_own_motions import motion, write

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(50, 3)).astype(np.float32)
IDS, KIND = np.array([f"s{7 * i % 50:02}" for i in range(50)]), np.array(["a", "b"])[np.arange(50) % 2]


def check(data, x, beside, part_of=lambda part: slice(None)):
    """Every datum is the row of the source that it names, and so is what stands beside it; returns the rows."""
    for part, split in list_splits(data).items():
        rows = split.places.numpy()
        mine = data.inverse(split.x[:]) if data.inverse else split.x[:]
        assert np.allclose(mine, x[part_of(part)][rows], atol=1e-5)
        held = data.beside(part)
        assert list(held) == list(beside)
        for name, values in beside.items():
            assert held[name][rows].tolist() == values[part_of(part)][rows].tolist(), (part, name)
    return torch.cat([split.places for split in list_splits(data).values()]).tolist()


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".h5ad", ".npz", ".h5"])
@pytest.mark.parametrize("standardize", [False, True])
def test_rows_of_a_file_that_is_split_at_random(kind, standardize, tmp_path):
    path = tmp_path / f"data{kind}"
    names = "obs_names" if kind == ".h5ad" else "ids"
    if kind == ".h5ad":
        anndata, pandas = pytest.importorskip("anndata"), pytest.importorskip("pandas")
        anndata.AnnData(X, pandas.DataFrame({"kind": KIND}, index=IDS)).write_h5ad(path)
    elif kind == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["x"], file["ids"], file["kind"] = X, IDS.astype(object), KIND.astype("S")
    elif kind == ".npz":
        np.savez(path, x=X, ids=IDS, kind=KIND, unrelated=np.zeros(9))
    else:
        if kind == ".parquet":
            pytest.importorskip("pyarrow")
        write_rows(path, {"ids": IDS, "x": X, "kind": KIND})
    data = load_user_data(path, standardize=standardize)
    rows = check(data, X, {names: IDS, "kind": KIND})
    assert sorted(rows) == list(range(50)) and rows != sorted(rows)


def test_columns_that_are_given_beside_x_and_missing_entries_keep_the_rows(tmp_path):
    x = X.copy()
    x[::7, 1] = np.nan
    write_rows(path := tmp_path / "t.csv", {"ids": IDS, "x": x, "kind": KIND})
    data, _ = condition_on(load_user_data(path, standardize=True), ["x_0", "kind"])
    for part, split in list_splits(data).items():
        assert np.allclose(data.inverse(split.x.alone[:]), x[split.places][:, 1:], atol=1e-5, equal_nan=True)
        assert list(data.beside(part)) == ["ids", "kind"]
        assert np.allclose(split.factors["x_0"], x[split.places, 0])


def test_rows_of_parts_are_those_of_their_arrays(tmp_path):
    """Validation data are taken from the training data, so their rows are there."""
    np.savez(tmp_path / "d.npz", x_train=X[:40], x_test=X[40:], ids_train=IDS[:40], ids_test=IDS[40:])
    data = load_user_data(tmp_path / "d.npz")
    check(data, X, {"ids": IDS}, lambda part: slice(40, None) if part == "test" else slice(0, 40))
    assert data.test.places.tolist() == list(range(10))
    assert sorted([*data.train.places.tolist(), *data.validation.places.tolist()]) == list(range(40))


@pytest.mark.parametrize("in_parts", [False, True])
def test_images_have_the_names_of_their_files(in_parts, tmp_path):
    images = RANDOM.integers(0, 256, (40, 1, 4, 4)).astype("uint8")
    folders = [f"{'test' if i % 4 == 0 else 'train'}/" if in_parts else "" for i in range(40)]
    names = sorted(f"{folder}{'uv'[i % 2]}/{i}.png" for i, folder in enumerate(folders))
    for image, name in zip(images, names, strict=True):
        (file := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(file)
    data, files = load_user_data(tmp_path), np.array(names)
    in_test = np.array([name.startswith("test/") for name in names])
    check(data, images / 255, {"file": files}, lambda part: in_test == (in_parts and part == "test"))


def test_pages_of_stacks_have_file_and_page(tmp_path):
    images = RANDOM.integers(0, 256, (30, 1, 4, 4)).astype("uint8")
    for place, name in enumerate(("a.tif", "b.tiff")):
        pages = [Image.fromarray(image[0]) for image in images[10 * place : 10 + 20 * place]]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    page = np.array([*range(10), *range(20)])
    check(load_user_data(tmp_path), images / 255, {"file": np.repeat(["a.tif", "b.tiff"], [10, 20]), "page": page})


def test_frames_of_motions(tmp_path):
    """The first frame of each is no measured pose, and every second of the others is kept."""
    for number, name in enumerate(("run", "walk")):
        write(tmp_path / f"{name}.bvh", motion(41, number))
    data = load_user_data(tmp_path, columns=("Hips.ty",), stride=2)
    frames = np.concatenate([motion(41, 0), motion(41, 1)])[:, 1:2]
    rows = check(data, frames, {"file": np.repeat(["run.bvh", "walk.bvh"], 41), "frame": np.tile(np.arange(41), 2)})
    assert sorted(rows) == [*range(1, 41, 2), *range(42, 82, 2)]


def test_a_named_data_set_has_no_places():
    from pyro_hvae.data import digits

    data = digits()
    assert data.beside is None and data.train.places is None and data.train.take(np.arange(3)).places is None
