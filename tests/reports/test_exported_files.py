"""Exports: a folder that answers as its run does, bit for bit, without the run and its data, and refuses what is damaged."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from exported_runs import assert_same_pair, train_tiny, write_data
from safetensors.torch import load_file, save_file

import pyro_hvae as hv
from pyro_hvae.errors import CheckpointError, ConfigError, DataError, HVAEError
from pyro_hvae.recipes import LIKELIHOODS, PRIORS
from pyro_hvae.runs import RunDirectory, add_checksum, open_run
from pyro_hvae.runs.run_lock import lock_run

pytestmark = pytest.mark.filterwarnings("ignore::pyro_hvae.errors.NoMeanWarning")  # of flows
GIVEN = "condition=kind,age labels=kind standardize=true"
PATCHES = "hidden=6 network=mlp latent=2 texture_latent=2 texture_hidden=6 patch=4 overlap=false"
CASES = {
    "vae": ("vae", "images.npy", "hidden=6"),
    "beta-vae": ("beta-vae", "real.npy", "hidden=6 posterior=isotropic"),
    "iwae": ("iwae", "images.npy", "hidden=6 upper=6 levels=2 particles=2"),
    "vampprior": ("vampprior", "images.npy", "hidden=6 upper=6 levels=2 components=7"),
    "vampprior, incomplete": ("vampprior", "holes.csv", f"hidden=6 levels=1 components=7 {GIVEN}"),
    "vhp": ("vhp", "holes.csv", f"hidden=6 upper=6 particles=2 kappa=2 {GIVEN}"),
    "hvae": ("hvae", "holes.csv", "hidden=6 upper=6 dims=3,2 labels=kind standardize=true"),
    "ar-hvae": ("ar-hvae", "images.npy", "hidden=6 upper=6 dims=3,2 features=4"),
    "lvae": ("lvae", "images.npy", "dims=3,2 widths=6,6"),
    "vlae": ("vlae", "images.npy", "dims=3,2 width=6"),
    "pro-vlae": ("pro-vlae", "images.npy", "dims=3,2 width=6"),
    "texture": ("texture", "images.npy", PATCHES),
    "texture of pixels": ("texture", "images.npy", f"{PATCHES} joint=pixels"),
    "teacher-student": ("teacher-student", "images.npy", "dims=2,2 hidden=6 features=5"),
    "points": ("teacher-student", "images.npy", "dims=2,2 hidden=6 features=5 code=point"),
    "full": ("vae", "real.npy", "hidden=6 posterior=full"),
    "flow": ("vae", "real.npy", "hidden=6 posterior=flow"),
}
DATA = {"categorical": "levels.npy", "gaussian": "real.npy", "student-t": "real.npy", "laplace": "unit.npy"}
DATA |= dict.fromkeys(("bernoulli", "continuous-bernoulli", "beta"), "unit.npy")
DATA |= dict.fromkeys(("discretised-logistic", "logistic-mixture"), "images.npy")
for name in LIKELIHOODS:
    sized = "" if name in DATA else " size_factor=total"
    CASES[f"likelihood {name}"] = ("vae", DATA.get(name, "counts.npy"), f"hidden=6 latent=2 likelihood={name}{sized}")
for name in PRIORS:
    CASES[f"prior {name}"] = ("vae", "real.npy", f"hidden=6 latent=2 prior={name} components=5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def table(folder):
    """A conditional run on an incomplete table, with a measured metric, and its export; the data are gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy("holes.csv", "private.csv")
        train_tiny("hvae", "private.csv", folder / "run", f"hidden=6 upper=6 dims=3,2 {GIVEN}")
        from pyro_hvae.reports import measure_metric

        measure_metric(open_run(folder / "run"), "likelihood", particles=10, limit=8)
        hv.export(folder / "run", folder / "out")
        os.remove("private.csv")
    return folder / "out"


@pytest.fixture
def copy(table, tmp_path):
    return shutil.copytree(table, tmp_path / "copy")


def edit(path, change):
    """Changes config.json as someone would who also writes its checksum anew."""
    values = json.loads((path / "config.json").read_text())
    del values["crc32"]
    change(values)
    (path / "config.json").write_text(json.dumps(add_checksum(values)))


def edit_weights(path, change):
    """Changes the weights, and the checksums of both files."""
    tensors = load_file(path / "model.safetensors")
    tensors = {name: value.clone() for name, value in tensors.items()}
    change(tensors)
    save_file(tensors, path / "model.safetensors")
    content = (path / "model.safetensors").read_bytes()
    edit(path, lambda v: v["weights"].update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))


@pytest.mark.parametrize("case", CASES)
def test_an_export_answers_as_its_run_bit_for_bit(folder, case, monkeypatch):
    monkeypatch.chdir(folder)
    recipe, data, options = CASES[case]
    run = train_tiny(recipe, data, folder / "runs" / case, options)
    hv.export(run, folder / "exports" / case)
    assert_same_pair(run, folder / "exports" / case)


def test_every_recipe_is_tested():
    assert {recipe for recipe, *_ in CASES.values()} == set(hv.RECIPES)


def test_textures_of_a_data_set_travel_too(tmp_path):
    options = "size=40 hidden=2,2,2,2,8 texture_hidden=8 overlap=false patch=8 texture_share=0.5"
    run = train_tiny("texture", "triangles", tmp_path / "run", options)
    hv.export(run, tmp_path / "out")
    assert_same_pair(run, tmp_path / "out")


def test_a_fresh_process_opens_it_alone(table, tmp_path):
    path = shutil.copytree(table, tmp_path / "elsewhere")
    code = f"""
import pyro_hvae as hv, torch
pair = hv.load({str(path)!r})
torch.manual_seed(3)
x = pair.prepare({str(tmp_path / "few.csv")!r})
print(repr(hv.log_likelihood(pair.model, pair.guide, x, 20).tolist()))
"""
    (tmp_path / "few.csv").write_text("kind,e,d,c,b,a,age\ncat,0.1,,1000,50,0,40\nowl,1,0.5,900,,1,33\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYRO_HVAE_DATA": str(tmp_path / "nowhere")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert not done.returncode, done.stderr
    pair = hv.load(table)
    torch.manual_seed(3)
    mine = hv.log_likelihood(pair.model, pair.guide, pair.prepare(tmp_path / "few.csv"), 20)
    assert repr(mine.tolist()) == done.stdout.strip()


def test_no_path_and_no_row_of_the_data_travels(table, folder):
    for name in ("config.json", "README.md", "model.safetensors"):
        assert str(folder).encode() not in (table / name).read_bytes()
    values = json.loads((table / "config.json").read_text())
    assert values["experiment"]["dataset"] == "private.csv" and values["evaluations"]["likelihood"]["particles"] == 10
    with pytest.raises(DataError, match="which holds no data.*--dataset NAME|PATH"):
        len(open_run(table).dataset.test)


def test_files_are_as_large_as_their_tensors_and_readable_by_others(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(folder)
    run = train_tiny("vae", "images.npy", tmp_path / "run", "hidden=256")
    hv.export(run, tmp_path / "out")
    model, guide, _ = hv.load(tmp_path / "out")
    tensors = [*model.state_dict().values(), *guide.state_dict().values()]
    size = sum(value.nbytes for value in tensors)
    assert size <= (tmp_path / "out" / "model.safetensors").stat().st_size < 1.02 * size
    reference = tmp_path / "reference"
    reference.write_text("")
    assert {(tmp_path / "out" / name).stat().st_mode for name in os.listdir(tmp_path / "out")} == {reference.stat().st_mode}


def test_shared_tensors_are_stored_once(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    run = train_tiny("vampprior", "real.npy", tmp_path / "run", "hidden=64,64 components=5")
    hv.export(run, tmp_path / "out")
    model, guide, _ = hv.load(tmp_path / "out")
    own = {id(p): p.nbytes for p in [*model.parameters(), *guide.parameters()]}
    assert len(own) < len([*model.state_dict(), *guide.state_dict()])  # the prior encodes by the guide's encoder
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 1.1 * sum(own.values()) + 4000
    assert json.loads((tmp_path / "out" / "config.json").read_text())["aliases"]


def drop(path, name):
    os.remove(path / name)


DAMAGES = {
    "a flipped bit": (lambda p: flip(p / "model.safetensors"), "its checksum does not hold"),
    "half of the weights": (lambda p: halve(p / "model.safetensors"), "it has .* bytes, not"),
    "half of the configuration": (lambda p: halve(p / "config.json"), "cannot be read"),
    "no configuration": (lambda p: drop(p, "config.json"), "has no config.json"),
    "no weights": (lambda p: drop(p, "model.safetensors"), "has no model.safetensors"),
    "an edited number": (lambda p: replace(p, '"step": 4', '"step": 5'), "its checksum does not hold"),
    "no checksum": (lambda p: replace(p, '"crc32"', '"crc"'), "its checksum does not hold"),
    "another program's file": (
        lambda p: (p / "config.json").write_text('{"model_type": "bert"}'),
        "not a model that pyro-hvae",
    ),
    "no object": (lambda p: (p / "config.json").write_text("[1]"), "not a model that pyro-hvae"),
    "a newer format": (lambda p: edit(p, lambda v: v.update(format_version=2)), "format version 2"),
    "an entry less": (lambda p: edit(p, lambda v: v.pop("aliases")), "has no 'aliases'"),
    "a huge layer": (
        lambda p: edit(p, lambda v: v["experiment"]["recipe_options"].update(hidden=[10**6])),
        "asks for a weight",
    ),
    "a huge latent": (lambda p: edit(p, lambda v: v["experiment"]["recipe_options"].update(dims=[10**13])), "does not fit its"),
    "huge data": (lambda p: edit(p, lambda v: v["data"].update(shape=[10**12], columns=[])), "does not fit|cannot be used"),
    "more data than numbers": (lambda p: edit(p, lambda v: v["data"].update(shape=[2**63], columns=[])), "do not exist"),
    "data beyond float32": (lambda p: edit(p, lambda v: v["data"].update(high=1e300)), "do not exist"),
    "null for a list": (lambda p: edit(p, lambda v: v["data"].update(columns=None)), "data.columns is null, not a list"),
    "no width": (lambda p: edit(p, lambda v: v["experiment"]["recipe_options"].update(hidden=[0])), "hidden must be positive"),
    "sigma beyond float32": (
        lambda p: edit(p, lambda v: v["experiment"]["recipe_options"].update(sigma=1e300)),
        r"sigma=1e\+300 is beyond the range of float32",
    ),
    "no classes": (
        lambda p: edit(p, lambda v: v["experiment"]["conditions"][0].update(classes=None)),
        "its classes are no list",
    ),
    "no mean": (lambda p: edit(p, lambda v: v["experiment"]["conditions"][1].update(mean="x")), "mean='x' and scale=.* are no"),
    "no latent": (lambda p: edit(p, lambda v: v["experiment"]["recipe_options"].update(dims=[])), "does not fit its weights"),
    "other data": (lambda p: edit(p, lambda v: v["data"].update(shape=[4], columns=[])), "cannot be used"),
    "no shape": (lambda p: edit(p, lambda v: v["data"].update(shape=[])), "cannot be used"),
    "no number": (lambda p: edit(p, lambda v: v["data"].update(low=float("nan"))), "cannot be used"),
    "an unknown recipe": (lambda p: edit(p, lambda v: v["experiment"].update(recipe="magic")), "no recipe called 'magic'"),
    "a path": (lambda p: edit(p, lambda v: v["experiment"].update(dataset="../../secret.csv")), "which is a path, not a name"),
    "a name that climbs": (lambda p: edit_weights(p, rename("../../evil")), "is no name of a weight"),
    "a name too many": (lambda p: edit_weights(p, rename("stages.0.model...")), "does not fit its configuration"),
    "a stage too many": (lambda p: edit_weights(p, rename("stages.7.model.x")), "is no name of a weight"),
    "an alias of nothing": (lambda p: edit(p, lambda v: v["aliases"].update({"stages.0.model.x": "y"})), "no name of a weight"),
    "another dtype": (lambda p: edit_weights(p, to_half), "torch.float16"),
    "another shape": (lambda p: edit_weights(p, shorten), "has shape"),
    "a weight less": (lambda p: edit_weights(p, lambda t: t.pop(sorted(t)[0])), "lacks"),
    "no tensors": (lambda p: edit_weights(p, lambda t: t.clear()), "has no weights"),
    "a pickle": (lambda p: pickle_weights(p), "cannot be read"),
}


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace(path, old, new):
    text = (path / "config.json").read_text()
    assert old in text
    (path / "config.json").write_text(text.replace(old, new))


def rename(name):
    return lambda tensors: tensors.update({name: tensors.pop(sorted(tensors)[0])})


def to_half(tensors):
    for name in list(tensors):
        tensors[name] = tensors[name].half()


def shorten(tensors):
    name = next(name for name in sorted(tensors) if tensors[name].dim() == 2)
    tensors[name] = tensors[name][:-1].contiguous()


def pickle_weights(path):
    torch.save({"x": torch.zeros(3)}, path / "model.safetensors")
    content = (path / "model.safetensors").read_bytes()
    edit(path, lambda v: v["weights"].update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_or_does_not_fit_is_refused(copy, damage):
    harm, message = DAMAGES[damage]
    harm(copy)
    with pytest.raises(CheckpointError, match=message) as caught:
        hv.load(copy)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


@pytest.mark.parametrize("means", [None, True, "x", ["x"], [1.0] * 6, [float("nan")] * 5])
def test_a_size_of_other_data_is_refused(folder, tmp_path, monkeypatch, means):
    monkeypatch.chdir(folder)
    case = "likelihood negative-binomial"
    recipe, data, options = CASES[case]
    if not (folder / "exports" / case).exists():
        hv.export(train_tiny(recipe, data, folder / "runs" / case, options), folder / "exports" / case)
    out = shutil.copytree(folder / "exports" / case, tmp_path / "out")
    edit(out, lambda v: v["experiment"]["conditions"][0].update(means=means))
    with pytest.raises(CheckpointError, match="no list of numbers|not those of its data"):
        hv.load(out)


def test_a_column_without_a_name_is_named(copy, folder):
    edit(copy, lambda v: v["data"]["columns"].__setitem__(0, ""))
    with pytest.raises(DataError, match="has no column '', only a, b"):
        hv.load(copy).prepare(folder / "holes.csv")


def test_weights_that_are_not_finite_are_refused(copy):
    def spoil(tensors):
        tensors[sorted(tensors)[0]].fill_(torch.nan)

    edit_weights(copy, spoil)
    with pytest.raises(HVAEError, match="are no numbers"):
        hv.load(copy)


def test_folders_that_are_taken_and_half_trained_runs(table, folder, tmp_path, copy):
    with pytest.raises(ConfigError, match="has a model.safetensors already"):
        hv.export(folder / "run", copy, dataset=str(folder / "holes.csv"))
    (copy / "notes.txt").write_text("mine")
    (copy / "README.md").write_text("old")
    hv.export(folder / "run", copy, dataset=str(folder / "holes.csv"), overwrite=True)
    assert sorted(os.listdir(copy)) == ["README.md", "config.json", "model.safetensors", "notes.txt"]
    assert (copy / "model.safetensors").read_bytes() == (table / "model.safetensors").read_bytes()
    assert hv.load(copy).config == hv.load(table).config and "How to load" in (copy / "README.md").read_text()
    with pytest.raises(ConfigError, match="is an export already"):
        hv.export(table, tmp_path / "again")
    with pytest.raises(ConfigError, match="is a run, which would no longer be one"):
        hv.export(folder / "run", folder / "run")
    with pytest.raises(ConfigError, match="is a file"):
        hv.export(folder / "run", copy / "notes.txt")
    with pytest.raises(DataError, match="are no longer at"):
        hv.export(folder / "run", tmp_path / "new")
    with pytest.raises(ConfigError, match="not of"):
        hv.export(folder / "run", tmp_path / "new", dataset=str(folder / "real.npy"))
    assert not (tmp_path / "new").exists() and not (tmp_path / "again").exists()


def test_only_files_of_an_export_are_replaced(table, folder, copy, tmp_path, command):
    how = {"dataset": str(folder / "holes.csv"), "overwrite": True}
    (tmp_path / "mine").mkdir()
    for name in ("README.md", "model.safetensors", "config.json"):
        (tmp_path / "mine" / name).write_text("mine")
        with pytest.raises(ConfigError, match=f"{name}' is not of an earlier export. Choose another folder, or move that file"):
            hv.export(folder / "run", tmp_path / "mine", **how)
        (tmp_path / "mine" / name).rename(tmp_path / "mine" / f"moved-{name}")
    hv.export(folder / "run", tmp_path / "mine", **how)
    assert {file.read_text() for file in (tmp_path / "mine").glob("moved-*")} == {"mine"}
    (copy / "README.md").rename(tmp_path / "elsewhere.md")
    for kind, make in {
        "folder": lambda: (copy / "README.md").mkdir(),
        "link": lambda: (copy / "README.md").symlink_to(tmp_path / "elsewhere.md"),
    }.items():
        make()
        before = (copy / "model.safetensors").stat().st_mtime_ns, (tmp_path / "elsewhere.md").read_bytes()
        with pytest.raises(ConfigError, match=f"README.md' is a {kind}, .* move that {kind}"):
            hv.export(folder / "run", copy, **how)
        assert before == ((copy / "model.safetensors").stat().st_mtime_ns, (tmp_path / "elsewhere.md").read_bytes())
        (copy / "README.md").rename(tmp_path / f"moved {kind}")
    hv.export(folder / "run", copy, **how)
    flip(copy / "config.json")  # a damaged export is still one, which is exported again
    hv.export(folder / "run", copy, **how)
    code, _, err = command("export", folder / "run", "", "--dataset", how["dataset"])
    assert code == 2 and "has no name. Give one, such as shared/model" in err
    assert command("export", folder / "run", "shared/model", "--dataset", how["dataset"])[0] == 0


def test_an_early_end_is_told(folder, tmp_path, command, monkeypatch):
    monkeypatch.chdir(folder)
    run = train_tiny("vae", "unit.npy", tmp_path / "run", "hidden=6 latent=2")
    code, out, _ = command("export", run, tmp_path / "out")
    assert code == 0 and len(out.splitlines()) == 2 and "Its training" not in (tmp_path / "out/README.md").read_text()
    for state, told in {
        "diverged": "Its training diverged at step 9.",
        "interrupted": "Its training was stopped at step 9.",
        "failed": "Its training ended by an error, or was killed.",
        "running": "Its training ended by an error, or was killed.",
    }.items():
        RunDirectory(run).update(status=state, step=9)
        code, out, _ = command("export", run, tmp_path / "out", "--overwrite")
        assert code == 0 and f"{told} These are its weights after 4 steps." in out
        assert f"(checkpoint last). {told}\n" in (tmp_path / "out/README.md").read_text()
    with lock_run(run):
        code, out, _ = command("export", run, tmp_path / "out", "--overwrite", "--json")
    assert code == 0 and json.loads(out)["early_end"] == "The run is still being trained." and json.loads(out)["step"] == 4


def test_a_failed_write_leaves_what_was_there(table, folder, copy, monkeypatch):
    before = {name: (copy / name).read_bytes() for name in os.listdir(copy)}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyro_hvae.reports.exported_files.card_text", fail)
    with pytest.raises(DataError, match="No space left on device"):
        hv.export(folder / "run", copy, dataset=str(folder / "holes.csv"), overwrite=True)
    assert {name: (copy / name).read_bytes() for name in os.listdir(copy)} == before


def test_training_does_not_go_on_with_an_export(table, command):
    code, _, err = command("train", "--resume", table)
    assert code == 2 and "no optimiser" in err


def test_data_that_are_handed_over_are_those_of_the_run(table, folder, monkeypatch, command, tmp_path):
    """The same file has the same split, so that the likelihood is the run's, and the export stays as it was."""
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(table))
    mine = json.loads((folder / "run" / "eval" / "likelihood.json").read_text())
    data = folder / "holes.csv"
    code, out, err = command("evaluate", table, "--dataset", data, "--particles", 10, "--limit", 8, "--json")
    assert not code, err
    values = json.loads(out)
    assert values["log_likelihood"] == mine["log_likelihood"] and values["n_bound"] == mine["n_bound"]
    assert sorted(os.listdir(table)) == before
    assert json.loads((table.parent / "out-results/eval/likelihood.json").read_text())["data"]["name"] == str(data)
    code, _, err = command("evaluate", table, "--dataset", data, "--data-option", "data_seed=3")
    assert code == 2 and "may have been training data" in err and "Leave --data-option out" in err
    code, _, err = command("evaluate", table)
    assert code == 3 and "--dataset NAME|PATH" in err and "private.csv" in err
    code, _, err = command("reconstruct", table, "--dataset", folder / "real.npy")
    assert code in (2, 3) and "Error:" in err


def test_columns_in_another_order_are_chosen_by_name(table, folder, command, tmp_path):
    """Turned, and with columns of the user's own, standardised data of a conditional run are the same data."""
    frame = [line.split(",") for line in (folder / "holes.csv").read_text().splitlines()]
    turned = [[str(number), *line[::-1]] for number, line in enumerate(frame[1:])]
    for name, rows in {"same": frame, "turned": [["own", *frame[0][::-1]], *turned]}.items():
        (tmp_path / f"{name}.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    values = {}
    for name in ("same", "turned"):
        code, out, err = command("metrics", table, "reconstruction", "--dataset", tmp_path / f"{name}.csv", "--json")
        assert not code, err
        values[name] = json.loads(out)["mse"]
    assert values["same"] == values["turned"] > 0
    run = open_run(table, dataset=str(tmp_path / "turned.csv"))
    assert run.dataset.columns == tuple("abcde") and "chosen by name" in run.dataset.note
    (tmp_path / "lacking.csv").write_text("".join(",".join(row[1:3] + row[4:]) + "\n" for row in frame))
    code, _, err = command("metrics", table, "reconstruction", "--dataset", tmp_path / "lacking.csv")
    assert code == 3 and "lacks columns that the model learned: a, d. It has b, c, e, age. Use a table like the run's." in err


def test_channels_of_motions_are_chosen_as_the_message_says(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    joints = "ROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\nJOINT Head\n{\nOFFSET 0 1 0\nCHANNELS 1 Xrotation\n}\n}\n"
    for name in ("one", "other"):
        frames = "".join(f"{10 * np.sin(i)} {len(name) * np.cos(i)}\n" for i in range(40))
        (tmp_path / f"{name}.bvh").write_text(f"HIERARCHY\n{joints}MOTION\nFrames: 40\nFrame Time: 0.1\n{frames}")
    hv.export(train_tiny("vae", "one.bvh", tmp_path / "run", "hidden=4 latent=2 columns=Hips.rx,Head.rx"), tmp_path / "out")
    typed = ["metrics", "out", "reconstruction", "--dataset", "other.bvh", "--data-option"]
    code, _, err = command(*typed, "columns=Head.rx,Hips.rx")
    assert code == 3 and "in this order: --data-option columns=Hips.rx,Head.rx." in err
    code, _, err = command(*typed, "columns=Hips.rx,Head.rx")
    assert not code, err


LACKING = "reconstruct, traverse, interpolate, interpolate --from 0 --to 1, layers --image 1, layers, gibbs, evaluate, sample, "
LACKING += "metrics mig, encode --out c.npz, score"


@pytest.mark.parametrize("typed", LACKING.split(", "))
def test_every_command_that_lacks_data_says_the_same(table, command, typed):
    name, *options = typed.split()
    code, out, err = command(name, table, *options)
    why = f"'{table}' is an exported model, which holds no data, and this takes some. Hand data over: --dataset NAME|PATH"
    assert code == 3 and not out and f"Error: {why} (it was trained on private.csv)." in err and err.count("\n") == 1, err


def test_bits_among_grey_values_are_refused(folder, tmp_path, command, monkeypatch):
    """Bytes of 0 and 1 alone are 0 and 1, 255 times brighter than among the grey values that the model learned."""
    monkeypatch.chdir(tmp_path)
    grey = np.load(folder / "images.npy")
    bits = (grey > 127).astype(np.uint8)
    np.save("grey.npy", grey)
    hv.export(train_tiny("vae", "grey.npy", tmp_path / "run", "hidden=6"), "out")
    os.remove("grey.npy")
    files = {"bits": bits, "white": bits == 1, "dark": bits / 255, "whole": bits[:, 0].astype(int), "black": 0 * bits}
    for name, values in files.items():
        np.save(f"{name}.npy", values)
    read = {}
    assert open_run("out").dataset.train.x.grey
    for name, values in files.items():
        for data in (values, f"{name}.npy"):
            if name in ("bits", "whole"):
                with pytest.raises(DataError, match="holds whole numbers of 0 and 1 only, but the model learned grey values"):
                    hv.load("out").prepare(data)
            else:
                read[name] = hv.load("out").prepare(data)
        typed = ["metrics", "out", "reconstruction", "--dataset", f"{name}.npy"]
        code, _, err = command(*typed)
        assert code == (3 if name in ("bits", "whole") else 0) and ("x == 1" in err) == (code == 3), (name, err)
    assert read["white"].max() == 1 and read["dark"].max() == pytest.approx(1 / 255) and not read["black"].any()
    np.save("bits.npy", bits)
    run = train_tiny("vae", "bits.npy", tmp_path / "of bits", "hidden=6")
    assert hv.load(run).prepare(bits).max() == 1 and not open_run(run).dataset.train.x.grey


def test_commands_without_data_work_at_once(table, command, tmp_path):
    code, _, err = command("sample", table, "--given", "kind=cat,age=40")
    assert not code, err
    assert (table.parent / "out-results/figures/samples.png").is_file()
    code, _, err = command("sample", table, "--picture", tmp_path / "samples.png")
    assert code == 3 and "--given" in err
    (tmp_path / "few.csv").write_text("kind,e,d,c,b,a,age\ncat,0.1,,1000,50,0,40\nowl,1,0.5,900,,1,33\n")
    code, _, err = command("impute", table, tmp_path / "few.csv", "--out", tmp_path / "full.csv", "--particles", 20)
    assert not code and "nan" not in (tmp_path / "full.csv").read_text(), err
    assert ",," not in (tmp_path / "full.csv").read_text()


def test_only_results_of_the_same_weights_travel(table, folder, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    file = run / "eval/likelihood.json"
    values = json.loads(file.read_text())
    del values["crc32"]
    file.write_text(json.dumps(add_checksum({**values, "step": 2})))
    hv.export(run, tmp_path / "out", dataset=str(folder / "holes.csv"))
    assert json.loads((tmp_path / "out/config.json").read_text())["evaluations"] == {}
    assert "None was measured" in (tmp_path / "out/README.md").read_text()


def test_the_best_checkpoint_and_its_name(folder, tmp_path, command, monkeypatch):
    monkeypatch.chdir(folder)
    run = train_tiny("vae", "unit.npy", tmp_path / "run", "hidden=6 latent=2")
    early = train_tiny("vae", "unit.npy", tmp_path / "early", "hidden=6 latent=2", steps=2)
    shutil.copy(early / "checkpoints/last.pt", run / "checkpoints/best.pt")
    hv.export(run, tmp_path / "out", checkpoint="best")
    best, opened, last = hv.load(run, "best"), hv.load(tmp_path / "out"), hv.load(run)
    for one, other in ((best.model, opened.model), (best.guide, opened.guide)):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert best.run.step < last.run.step
    assert hv.load(tmp_path / "out", "best").run.step == best.run.step
    hv.export(run, tmp_path / "last")
    code, _, err = command("sample", tmp_path / "last", "--checkpoint", "best")
    assert code == 2 and "holds one checkpoint, 'last'" in err


def test_names_of_data_cannot_break_the_card(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=(40, 2))
    name = "a|b `c` <img src=x> [d](javascript:e).csv".replace("/", "_")
    lines = ["<b>x</b>,y|z", *(",".join(map(repr, map(float, row))) for row in values)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    hv.export(train_tiny("vae", name, tmp_path / "run", "hidden=4"), tmp_path / "out")
    prose = (tmp_path / "out/README.md").read_text().partition("## How to load it")[0]
    assert r"\<b\>x\</b\>" in prose and r"y\|z" in prose
    assert not any(bare in prose.replace("\\" + bare[0], "") for bare in ("<b>", "<img", "`c`", "[d]"))
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load((tmp_path / "out/README.md").read_text().split("---")[1])["library_name"] == "pyro-hvae"


CARDS = {
    "images": ("vae", "images.npy", "hidden=6", "No row of the data is in these files."),
    "pseudo-inputs": ("vampprior", "images.npy", "hidden=6 levels=1 components=7", "The 7 pseudo-inputs of the prior are in"),
    "a vamp prior": ("vae", "real.npy", "hidden=6 prior=vamp components=5", "The 5 pseudo-inputs of the prior are in"),
    "a path's graph": ("vhp", "real.npy", "hidden=6 upper=6 particles=2 kappa=2", "No row of the data is in these files."),
    "conditions": ("hvae", "holes.csv", f"hidden=6 upper=6 dims=3,2 {GIVEN}", "(standardised)"),
    "classes of arrays": ("vae", "classes.npz", "hidden=6 condition=kind", "beside x the programs are given kind"),
    "sizes": ("vae", "counts.npy", "hidden=6 likelihood=poisson size_factor=total", "are given total"),
}


def follow_card(out, command, **names):
    """Runs the lines of a model card, in Python and on the command line."""
    text = (out / "README.md").read_text()
    code = re.search("```python\n(.*?)```", text, re.DOTALL)[1].replace('"DIR"', repr(str(out)))
    exec(code, names)
    for line in re.search("```sh\n(.*?)```", text, re.DOTALL)[1].splitlines():
        words = {"DIR": out, "PATH": names.get("path", names["data"]), "FILE.py:FUNCTION": "my_own.py:build"}
        code, _, err = command(*[words.get(word, word) for word in shlex.split(line)[1:]])
        assert not code, (line, err)
    return text, names


@pytest.mark.parametrize("case", CARDS)
def test_what_a_card_says_can_be_done(folder, case, monkeypatch, command):
    monkeypatch.chdir(folder)
    recipe, data, options, said = CARDS[case]
    np.savez("classes.npz", x=np.load("real.npy"), kind=np.arange(60) % 3)
    out, beside = folder / "cards" / case, np.arange(6) % 3
    hv.export(train_tiny(recipe, data, folder / "runs" / f"card {case}", options), out)
    rows = np.load("real.npy")[:6] if data == "classes.npz" else folder / data
    text, names = follow_card(out, command, data=rows, values=beside, path=folder / data)
    assert said in text and len(names["x"]) == 10 and "1 file of" in text and "files of" not in text
    assert ("resemble" in text) == ("pseudo" in case or "vamp" in case)


def test_what_the_card_of_an_own_program_says_can_be_done(folder, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own.py").write_text(
        "import pyro_hvae as hv\n\ndef build(x):\n    p = hv.Gaussian(2, x.shape[1:], scale=1.0)\n"
        "    return hv.Chain(hv.StandardNormal(2), [], p), hv.BottomUp([hv.Gaussian(x.shape[1:], 2)])\n"
    )
    options = ["--program", "my_own.py:build", "--dataset", folder / "real.npy", "--steps", 4, "--out", "run"]
    assert command("train", *options)[0] == 0
    hv.export("run", "out")
    x = torch.zeros(3, 5)
    p, q = (hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 5, scale=1.0)), hv.BottomUp([hv.Gaussian(5, 2)]))
    text, names = follow_card(tmp_path / "out", command, data=folder / "real.npy", model=p, guide=q, x=x)
    assert "--program my_own.py:build" in text and "unless the program keeps some in its weights" in text
    assert names["x"].shape == (10, 5) and names["z"]["z1"].shape == (60, 2)
    hv.fit(hv.ELBO()(p, q), torch.zeros(40, 5), hv.TrainConfig(steps=2, batch_size=8), out="script")
    hv.export("script", "shared")
    text, names = follow_card(tmp_path / "shared", command, data=folder / "real.npy", model=p, guide=q, x=x)
