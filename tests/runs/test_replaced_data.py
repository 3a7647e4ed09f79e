"""Data that are replaced in one process: what is read and recorded is what the files hold, whatever their names and times."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyro_hvae as hv
from pyro_hvae.data import DATASETS
from pyro_hvae.data.sets import user_data, user_images
from pyro_hvae.data.sets.user_data import identify_data, load_user_data
from pyro_hvae.errors import CheckpointError, DataError
from pyro_hvae.runs import Experiment, TrainConfig, load_dataset, require_same_settings
from pyro_hvae.training import train


def write(path, seed):
    """Data of one size in bytes, all of one value that tells the seeds apart, written at one time of the clock."""
    value = np.float32(0.25 + seed / 8)
    if path.suffix == ".npy":
        np.save(path, np.full((20, 3), value))
    elif path.suffix == ".npz":
        np.savez(path, x=np.full((20, 3), value))
    elif path.suffix == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["x"] = np.full((20, 6, 6), value * 255, dtype=np.uint8)
    else:
        path.mkdir(exist_ok=True)
        for number in range(20):
            Image.new("L", (6, 6), int(value * 255)).save(path / f"{number:02}.bmp")
    for file in path.iterdir() if path.is_dir() else [path]:
        os.utime(file, ns=(10**18, 10**18))


@pytest.fixture(params=["x.npy", "x.npz", "x.h5", "photos/"])
def path(request, tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / request.param


def experiment(path, identity=None):
    name = f"{path}/" if path.is_dir() else str(path)
    return Experiment("vae", name, "constant", TrainConfig(), data_identity=identity)


def value(data):
    return data.train.x[:].unique().item()


def test_what_is_replaced_is_read_anew(path):
    write(path, 0)
    first = load_dataset(experiment(path))
    assert load_dataset(experiment(path)) is first  # it is not read again as long as it stays
    before, size = first.train.x[:].clone(), first.identity.partition(",")[0]
    write(path, 1)
    second = load_dataset(experiment(path))
    assert value(second) == pytest.approx(0.375, abs=0.005) and before.unique().item() == pytest.approx(0.25, abs=0.005)
    assert second.identity.partition(",")[0] == size and second.identity != first.identity  # as many bytes
    with pytest.raises(DataError, match="no longer those of this run: .*, content .* instead of .*, content"):
        load_dataset(experiment(path, first.identity))
    write(path, 0)
    assert value(load_dataset(experiment(path, first.identity))) == pytest.approx(0.25, abs=0.005)


def test_what_an_older_version_recorded_is_the_beginning_of_the_identity(path):
    write(path, 0)
    old = identify_data(path).partition(",")[0]
    assert old.startswith("20 files of " if path.is_dir() else "1 file of ") and old.endswith(")")
    load_dataset(experiment(path, old))
    with pytest.raises(DataError, match="no longer those"):
        load_dataset(experiment(path, old.replace(" of ", " of 1")))


def test_an_older_version_counted_one_file_as_files(tmp_path):
    write(tmp_path / "x.npy", 0)
    now = experiment(tmp_path / "x.npy", identify_data(tmp_path / "x.npy"))
    assert now.data_identity.startswith("1 file of ")
    before = {**now.to_dict(), "data_identity": now.data_identity.replace("file", "files", 1)}
    assert Experiment.from_dict(before) == now


def test_the_identity_is_of_content_and_names(path, tmp_path):
    write(path, 0)
    identity = identify_data(path)
    moved = tmp_path / "moved"
    path.rename(moved)
    for file in moved.iterdir() if moved.is_dir() else [moved]:
        os.utime(file, ns=(1, 1))
    assert identify_data(moved) == identity
    if moved.is_dir():
        (moved / "00.bmp").rename(moved / "000.bmp")  # the split depends on the order of names
        assert identify_data(moved) != identity


def test_the_cache_on_disk_is_of_content(tmp_path, monkeypatch):
    """Two files that lie at one path, with one size and time of the clock, one after the other."""
    monkeypatch.setenv("PYRO_HVAE_CACHE", str(tmp_path / "cache"))
    real = Path.stat
    fixed = lambda self, **options: os.stat_result((*real(self, **options)[:7], 1, 1, 1))  # noqa: E731
    for name in ("x.h5", "photos"):
        for seed in (0, 1):
            write(tmp_path / name, seed)
            with monkeypatch.context() as patch:
                patch.setattr(Path, "stat", fixed)
                assert value(load_user_data(tmp_path / name)) == pytest.approx(0.25 + seed / 8, abs=0.005)


def test_another_data_folder_is_another_state(tmp_path, monkeypatch):
    states = []
    for name in ("one", "two", "two"):
        file = tmp_path / name / DATASETS["mnist-static"].files[0].path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_bytes(b"same")
        monkeypatch.setenv("PYRO_HVAE_DATA", str(tmp_path / name))
        states.append(DATASETS["mnist-static"].state())
    assert states[0] != states[1] == states[2]
    other = file.with_suffix(".new")  # what takes its place has another inode
    other.write_bytes(b"also")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert DATASETS["mnist-static"].state() != states[2]


def test_two_runs_of_one_process_keep_their_own_identities(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HVAE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "x.npy"
    for seed in (0, 1):
        write(path, seed)
        settings = TrainConfig(steps=2, batch_size=4)
        run = train(replace(experiment(path), train=settings), tmp_path / f"run{seed}")
        assert run.experiment.data_identity == identify_data(path) and value(run.dataset) == 0.25 + seed / 8
    hv.load(tmp_path / "run1")
    with pytest.raises(DataError, match="no longer those of this run"):
        hv.load(tmp_path / "run0")


def test_own_data_are_hashed_once_when_they_are_read(path, monkeypatch):
    write(path, 0)
    real, hashed = user_data.hash_files, []
    for module in (user_data, user_images):
        monkeypatch.setattr(module, "hash_files", lambda *given: hashed.append(given) or real(*given))
    first = load_dataset(experiment(path))
    assert len(hashed) == 1
    assert load_dataset(experiment(path)) is first and len(hashed) == 2  # once more, to see whether they are the same


def test_data_of_a_path_may_move_but_not_become_a_data_set():
    own = Experiment("vae", "/a/own.npy", "constant", TrainConfig(), data_identity="20 files")
    saved = {"config": own.to_dict()}
    require_same_settings(saved, replace(own, dataset="/b/own.npy"), Path("run"))
    with pytest.raises(CheckpointError, match="with dataset = '/a/own.npy', and its configuration is of dataset = 'digits'"):
        require_same_settings(saved, replace(own, dataset="digits"), Path("run"))
