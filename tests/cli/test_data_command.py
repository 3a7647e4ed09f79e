"""The data commands, one's own data in training, and several graph paths in one picture."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import sparse

from pyro_hvae.data import DATASETS, Dataset, Source, Split
from pyro_hvae.data.files.data_file import File
from pyro_hvae.evaluation import discontinuities


@pytest.fixture
def images(tmp_path):
    """Thirty pictures of 8 x 8 in two classes."""
    rng = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "my photos" / ("cats" if number % 3 else "dogs") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / "my photos"


def test_list(command, root):
    code, out, _ = command("data", "list")
    assert code == 0 and str(root) in out
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert set(DATASETS) <= set(lines)
    assert "built in" in lines["sprites"] and "download, not here" in lines["mnist"] and "by hand, not here" in lines["celeba"]
    values = json.loads(command("data", "list", "--json")[1])
    assert values["datasets"].keys() == DATASETS.keys() and values["datasets"]["mnist"]["status"] == "download, not here"


def test_info(command):
    code, out, _ = command("data", "info", "rooms", "-o", "scales=2", "-o", "shapes=cube,sphere", "--json")
    assert code == 0
    values = json.loads(out)
    assert values["factors"]["shape"] == "2 values: cube, sphere" and values["factors"]["scale"] == "2 values"
    assert sum(values["splits"].values()) == values["source"]["all"] == 10 * 10 * 10 * 2 * 2 * 15
    assert values["shape"] == [3, 64, 64] and 0 <= values["range"][0] < values["range"][1] <= 1
    assert values["range_of"] == 2**22 // (3 * 64 * 64) == 341 < values["splits"]["training"]
    text = command("data", "info", "rooms", "-o", "scales=2", "-o", "shapes=cube,sphere")[1]
    assert "(of 341 random training data)" in text
    text = command("data", "info", "pendulum")[1]
    assert "random training data" not in text
    assert "training 15,000, validation 1,000, test 3,000" in text and "angle (" in text and "1 x 16 x 16" in text


@pytest.mark.parametrize(
    ("arguments", "wanted", "what"),
    [
        (["info", "pendulm"], 2, "no dataset called 'pendulm'. Did you mean 'pendulum'?"),
        (["info", "pendulum", "-o", "sise=3"], 2, "no option of data set pendulum called 'sise'. Did you mean 'size'?"),
        (["info", "sprites", "-o", "scales=many"], 2, "scales=many is not a whole number"),
        (["info", "./nowhere"], 3, "there is no file or folder './nowhere'"),
        (["info", "mnist"], 3, "data download"),
        (["info", "mnist"], 3, "Fetch it by 'pyro-hvae data download mnist'"),
        (["download", "faces3d"], 3, "cannot be downloaded by a program"),
        (["download", "mnst"], 2, "Did you mean 'mnist'?"),
        (["preview", "digits", "--n", "0"], 2, "--n must be from 1 to 2500, got 0"),
        (["preview", "digits", "--out", "sheet.jpg"], 2, "--out is the name of a .png, .pdf, .svg file, got 'sheet.jpg'"),
        (["preview", "digits", "--seed", "-1"], 2, "--seed"),
        (["info", "pendulum", "-o", "size=100000000000"], 2, "would need 95,367 GiB"),
        (["preview", "digits", "--split", "train"], 2, "no split called 'train'. Did you mean 'training'?"),
        (["lst"], 2, "lst"),
    ],
)
def test_errors(command, root, arguments, wanted, what):
    code, out, err = command("data", *arguments)
    assert code == wanted and what in err and "Traceback" not in err and out == ""


def test_preview(command, images):
    code, out, err = command("data", "preview", images, "--n", "9", "--out", "sheet.png")
    assert code == 0, err
    with Image.open("sheet.png") as sheet:
        assert "Picture: sheet.png" in out and sheet.size[0] > 200
    assert command("data", "preview", "digits", "--out", "absent/../no/x.png")[0] == 0  # folders are made
    (images.parent / "file").touch()
    code, _, err = command("data", "preview", "digits", "--out", images.parent / "file" / "x.png")
    assert code == 3 and "cannot write" in err


def test_verify_and_download_what_is_here(command, root, monkeypatch):
    import hashlib

    def load():
        return Dataset("own", *[Split(torch.zeros(3, 2))] * 3, note="Nothing but zeros.")

    published = File("own/a.bin", 3, hashlib.sha256(b"abc").hexdigest(), instead=("own/a.txt",))
    monkeypatch.setitem(DATASETS, "own", Source(load, (published,)))
    (root / "own").mkdir()
    (root / "own" / "a.txt").write_bytes(b"other")
    out = command("data", "verify", "own")[1]
    assert "own: loads as 3 + 3 + 3 data. Nothing but zeros." in out and "a.txt instead" in out
    assert json.loads(command("data", "download", "own", "--json")[1])["files"]["own"] == [str(root / "own/a.txt")]
    (root / "own" / "a.bin").write_bytes(b"abc")
    assert "own/a.bin: verified" in command("data", "verify", "own")[1]
    assert command("data", "download", "own")[1] == f"own: {root / 'own/a.bin'}\n"
    (root / "own" / "a.bin").write_bytes(b"abd")
    code, _, err = command("data", "download", "own")
    assert code == 3 and "not the expected file" in err and (root / "own" / "a.bin").read_bytes() == b"abd"
    # All sets are looked at, whatever is wrong with the first.
    code, out, err = command("data", "verify", "own", "mnist", "digits", "--json")
    values = json.loads(out)
    assert code == 3 and values["verified"].keys() == {"own", "digits"} and values["wrong"].keys() == {"own", "mnist"}
    assert "own/a.bin have not the published bytes" in err and "data download mnist" in err
    assert values["verified"]["own"]["files"] == {"own/a.bin": "wrong checksum"}


def test_the_data_folder_may_be_named(command, tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_HVAE_DATA", str(tmp_path / "first"))
    other = tmp_path / "second"
    for arguments in (
        ["data", "info", "mnist", "--data-dir", other],
        ["train", "vae", "--dataset", "mnist", "--data-dir", other],
    ):
        monkeypatch.setenv("PYRO_HVAE_DATA", str(tmp_path / "first"))
        code, _, err = command(*arguments)
        assert code == 3 and str(other) in err


SMALL = ["-o", "hidden=8", "-o", "latent=2", "--batch-size", "5", "--steps", "20"]


def test_training_on_ones_own_images(command, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command("train", "vae", "--dataset", "./my photos", *SMALL, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["run"] == "runs/vae-my_photos-warmup-seed0"
    # Its run is opened from anywhere, as it knows the whole path.
    monkeypatch.chdir(images)
    code, _, err = command("reconstruct", tmp_path / report["run"])
    assert code == 0, err
    code, out, err = command("train", "vae", "--dataset", "../my photos/", *SMALL, "-o", "likelihood=bernoulli", "--dry-run")
    assert code == 0 and 'dataset = "' + str(images) in out, err
    images.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    code, _, err = command("reconstruct", report["run"])
    assert code == 3 and "the data of this run are no longer at" in err
    (tmp_path / "elsewhere").rename(tmp_path / "vae-data")
    code, _, err = command("train", "vae", "--dataset", "vae-data", *SMALL)
    assert code == 2 and "use a path: --dataset ./vae-data" in err


def test_a_run_notices_that_ones_own_data_have_changed(command, images):
    assert command("train", "vae", "--dataset", "./my photos", *SMALL, "--out", "run")[0] == 0
    next((images / "cats").iterdir()).unlink()
    for arguments in (["reconstruct", "run"], ["train", "--resume", "run", "--steps", "30"]):
        code, _, err = command(*arguments)
        assert code == 3 and "are no longer those of this run: 29 files" in err and "instead of 30 files" in err
    code, _, err = command("train", "--config", "run/config.toml", "--out", "again")  # another run may use them
    assert code == 0, err


def test_three_images_and_names_in_any_script(command, images, tmp_path):
    folder = tmp_path / "few"
    for number, name in enumerate(("größe 猫", "dogs", "größe 猫")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        next((images / "cats").iterdir()).rename(folder / name / f"{number}.png")
    code, _, err = command("train", "vae", "--dataset", "./few", *SMALL[:-4], "--batch-size", "1", "--steps", "5")
    assert code == 0 and "Warning" not in err, err


def test_numbers_outside_the_unit_range_are_no_probabilities(command, tmp_path):
    np.save(tmp_path / "codes.npy", np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32))
    code, _, err = command("train", "vae", "--dataset", "codes.npy", *SMALL, "-o", "likelihood=bernoulli")
    assert code == 2 and "a Bernoulli likelihood needs data in [0, 1], but these lie in [-" in err
    assert command("train", "vae", "--dataset", "codes.npy", *SMALL)[0] == 0


def test_several_paths_in_one_picture(command, monkeypatch):
    x = torch.rand(60, 4)

    def load():
        ends = {"there": x[:2], "and back": x[[1, 0]]}
        pictures = Dataset("toy", Split(x), Split(x), Split(x), ends=ends, picture=lambda x: x.reshape(-1, 1, 2, 2))
        return pictures

    monkeypatch.setitem(DATASETS, "toy", Source(load))
    assert command("train", "vae", "--dataset", "toy", *SMALL)[0] == 0
    code, out, err = command("interpolate", "last", "--nodes", "200", "--json")
    assert code == 0, err
    there, back = json.loads(out)["paths"]
    assert (there["path"], back["path"]) == ("there", "and back") and there["length"] == pytest.approx(back["length"])
    text = command("interpolate", "last", "--nodes", "200")[1]
    assert (
        f"\nthere: {there['points']} points of the 10-NN graph, length {there['length']:.4g} in latent space; largest" in text
    )
    assert f"of 200 points {there['max_pixel_change']:.2g} (RMS per value); {there['discontinuities']} discontin" in text
    alone = json.loads(command("interpolate", "last", "--nodes", "200", "--from", "0", "--to", "1", "--json")[1])["paths"]
    assert [row["path"] for row in alone] == ["test datum 0 to 1"] and alone[0]["length"] == pytest.approx(there["length"])


def test_discontinuities():
    smooth = torch.linspace(0, 1, 200)[:, None]
    assert discontinuities(smooth) == []
    jump = smooth + 0.5 * (torch.arange(200)[:, None] > 120)
    assert discontinuities(jump) == [120]
    assert discontinuities(torch.zeros(9, 2)) == []


def test_the_new_users_day_with_a_table(command, tmp_path):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 60)
    size = rng.normal(1000 * kind, 50.0)
    lines = [f"{i},{s:.3f},{-s / 7:.4f},{'red green blue'.split()[k]}" for i, (s, k) in enumerate(zip(size, kind, strict=True))]
    path = tmp_path / "plants.csv"
    path.write_text("\n".join(["id,size in mm,weight,colour", *lines]))
    values = json.loads(command("data", "info", str(path), "--json")[1])
    assert values["columns"] == ["size in mm", "weight"] and values["factors"] == {"colour": "3 values: blue, green, red"}
    assert command("data", "preview", str(path), "--out", str(tmp_path / "p.png"))[0] == 0 and (tmp_path / "p.png").exists()
    run = tmp_path / "run"
    options = [*SMALL, "-o", "standardize=true", "--out", str(run)]
    code, _, err = command("train", "vae", "--dataset", str(path), "-o", "columns=weight", "-o", "labels=colour", *options)
    assert code == 0, err
    code, _, err = command("reconstruct", str(run))
    assert code == 0, err
    code, _, err = command("train", "vae", "--dataset", str(path), "-o", "columns=wheight", *options)
    assert code == 2 and "Did you mean 'weight'?" in err


def test_a_motion_and_a_table_of_cells_from_the_command_line(command, tmp_path):
    frames = "".join(f"0 {i} {i * i % 7}\n" for i in range(40))
    leg = "JOINT Leg\n{\nOFFSET 0 -1 0\nCHANNELS 2 Xrotation Zrotation\n}\n"
    tree = f"ROOT Hips\n{{\nOFFSET 0 0 0\nCHANNELS 1 Xposition\n{leg}}}\n"
    (tmp_path / "walk.bvh").write_text(f"HIERARCHY\n{tree}MOTION\nFrames: 40\nFrame Time: 0.01\n{frames}")
    code, out, _ = command("data", "info", "walk.bvh")
    assert code == 0 and "columns  Leg.rx, Leg.rz" in out and "training 32, validation 4, test 4" in out
    assert command("train", "vae", "--dataset", "walk.bvh", "--steps", 2, "--out", "r")[0] == 0
    code, out, _ = command("evaluate", "r", "--particles", 2)
    assert code == 0 and "log-likelihood" in out
    code, _, err = command("data", "info", "walk.bvh", "-o", "layer=a")
    assert code == 2 and "layer is an option of an AnnData file, but walk.bvh is a recorded motion" in err
    anndata = pytest.importorskip("anndata")
    x = np.random.default_rng(0).poisson(3.0, (40, 5)).astype(np.float32)
    anndata.AnnData(sparse.csr_matrix(x)).write_h5ad("cells.h5ad")
    code, out, _ = command("data", "info", "cells.h5ad")
    assert code == 0 and "counts, which are taken as real numbers" in out
    assert command("train", "vae", "--dataset", "cells.h5ad", "-o", "standardize=true", "--steps", 2, "--out", "s")[0] == 0
    code, out, _ = command("evaluate", "s", "--particles", 2)
    assert code == 0 and "own units" in out
