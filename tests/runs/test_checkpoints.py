"""Checkpoints: primitives only, whole or not at all, never executed."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from pyro_hvae.errors import CheckpointError, DataError
from pyro_hvae.runs.checkpoints import FORMAT_VERSION, load_checkpoint, save_checkpoint

CONTENT = {"a": torch.arange(3.0), "b": [1, 2.5, "x", None, True], "c": {"d": {"e": torch.zeros(2, dtype=torch.float64)}}}


class Evil:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def test_round_trip(tmp_path):
    save_checkpoint(tmp_path / "a.pt", CONTENT)
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert loaded["format_version"] == FORMAT_VERSION and loaded["b"] == CONTENT["b"]
    assert torch.equal(loaded["a"], CONTENT["a"]) and loaded["c"]["d"]["e"].dtype == torch.float64


@pytest.mark.parametrize("value", [Evil(), object(), {1, 2}, torch.device("cpu"), np.float64(0.5), np.str_("x")])
def test_only_primitives_are_saved(tmp_path, value):
    with pytest.raises(CheckpointError, match="tensors and primitives"):
        save_checkpoint(tmp_path / "a.pt", {"a": {"b": [value]}})
    assert not list(tmp_path.iterdir())


class OwnTensor(torch.Tensor):
    """A tensor for every check, which the loader of weights refuses."""


def test_what_cannot_be_opened_again_does_not_replace_what_can(tmp_path):
    save_checkpoint(tmp_path / "a.pt", CONTENT)
    with pytest.raises(CheckpointError, match="could not be opened again"):
        save_checkpoint(tmp_path / "a.pt", {"a": torch.zeros(2).as_subclass(OwnTensor)})
    assert torch.equal(load_checkpoint(tmp_path / "a.pt")["a"], CONTENT["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("writer", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))])
def test_pickled_objects_are_refused_and_not_executed(tmp_path, writer):
    writer({"format_version": 1, "a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="could run code. It was not loaded"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not os.path.exists("executed")


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_files_are_named(tmp_path, keep):
    path = tmp_path / "a.pt"
    save_checkpoint(path, CONTENT)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(CheckpointError, match="a.pt"):
        load_checkpoint(path)


def test_newer_format_foreign_content_and_absence(tmp_path):
    torch.save({"format_version": FORMAT_VERSION + 1}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="format version 2.*Upgrade"):
        load_checkpoint(tmp_path / "new.pt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="not a pyro-hvae checkpoint"):
        load_checkpoint(tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.pt"
    save_checkpoint(path, CONTENT)
    before = path.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(DataError, match="No space left"):
        save_checkpoint(path, {"a": torch.zeros(1000)})
    assert path.read_bytes() == before


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_bit_flip_is_noticed(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"weights": torch.randn(5), "b": 1})
    whole, weights = path.read_bytes(), load_checkpoint(path)["weights"]
    mark = range(8 * (len(whole) - 64 - 17), 8 * (len(whole) - 64))  # without the mark the archive's own checksums count
    for bit in (*range(0, 8 * len(whole), 7), *mark):
        flip(path, bit)
        if bit in mark:
            assert torch.equal(load_checkpoint(path)["weights"], weights)
        else:
            with pytest.raises(CheckpointError, match="a.pt"):
                load_checkpoint(path)
        path.write_bytes(whole)


def test_a_checkpoint_of_an_older_version_has_the_checksums_of_its_archive(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"format_version": 1, "weights": torch.zeros(1000)}, path)
    assert load_checkpoint(path)["weights"].shape == (1000,)
    data = path.read_bytes()
    flip(path, 8 * (data.index(bytes(4000)) + 2000))
    with pytest.raises(CheckpointError, match="damaged: the checksum of '.*data/0' does not hold"):
        load_checkpoint(path)


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    path, packed = tmp_path / "a.pt", tmp_path / "packed.pt"
    torch.save({"format_version": 1, "weights": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as copy:
        for member in archive.namelist():
            copy.writestr(member, archive.read(member))
    with pytest.raises(CheckpointError, match="is compressed, which torch never does"):
        load_checkpoint(packed)


def test_a_damaged_pickle_of_an_unsealed_archive_is_refused(tmp_path):
    """torch ends some with an IndexError or struct.error; the archive's own checksums hold."""
    torch.save({"format_version": 1, "x": torch.ones(2)}, whole := tmp_path / "whole.pt")
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))
    for content in (members[pickled][:20], b"\x80\x02.", b"\x80\x02}r\x01", b"\x80\x02X\x01"):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            for name, held in members.items():
                archive.writestr(name, content if name == pickled else held)
        with pytest.raises(CheckpointError, match="a.pt' is (truncated or not a checkpoint|damaged)"):
            load_checkpoint(tmp_path / "a.pt")
