"""What `hv.load` gives: the pair, and the units of its data for arrays, DataFrames, files and images."""

import os

import numpy as np
import pytest
import torch
from exported_runs import ARRAYS, train_tiny, write_data
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runs import open_run

pd = pytest.importorskip("pandas")
GIVEN = "condition=kind,age labels=kind standardize=true hidden=6 upper=6 dims=3,2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train_tiny("hvae", "holes.csv", folder / "table", GIVEN)
        train_tiny("vae", "images.npy", folder / "images", "hidden=6 latent=3")
        train_tiny("vae", "counts.npy", folder / "counts", "hidden=6 latent=3 likelihood=poisson size_factor=total")
        for name in ("table", "images", "counts"):
            hv.export(folder / name, folder / f"{name}-out")
    return folder


@pytest.fixture(scope="module")
def pair(folder):
    return hv.load(folder / "table-out")


def same(one, other):
    assert torch.equal(one.x, other.x) and torch.equal(one.observed, other.observed)
    assert one.given.keys() == other.given.keys() and all(torch.equal(one.given[key], other.given[key]) for key in one.given)


def test_it_unpacks_and_says_what_it_is(folder, pair):
    model, guide, config = pair
    assert model is pair.model and guide is pair.guide and config is pair.config
    assert repr(pair) == "LoadedPair(hvae on holes.csv: x (5,), z2 (2,), z1 (3,), given kind, age, step 4)"
    assert repr(hv.load(folder / "images-out")) == "LoadedPair(vae on images.npy: x (1, 8, 8), z1 (3,), step 4)"
    assert "<td>(5,)</td><td>(2,)</td><td>(3,)</td><td>kind, age</td><td>4</td>" in pair._repr_html_()
    state = torch.random.get_rng_state()
    repr(pair)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_frame_a_file_and_the_data_of_the_run_are_alike(folder, pair):
    """Columns in any order, missing entries, classes by name: all as the run itself reads its training data."""
    frame = pd.read_csv(folder / "holes.csv")
    from_file = pair.prepare(folder / "holes.csv")
    same(pair.prepare(frame[["kind", "e", "age", "c", "a", "b", "d"]]), from_file)
    same(pair.prepare(str(folder / "holes.csv")), from_file)
    same(pair.prepare(frame.assign(kind=frame["kind"].astype("category"), extra="text")), from_file)
    same(pair.prepare(frame.assign(a=frame["a"].astype("Float64"))), from_file)
    x = frame[list("abcde")].to_numpy()
    same(pair.prepare(x, {"age": frame["age"], "kind": frame["kind"].to_numpy()}), from_file)
    train = open_run(folder / "table").dataset.train.x[:]
    rows = (from_file.x[:, None] - train.x[None]).abs().amax(-1).min(0).values
    assert rows.max() == 0  # every row of training data is among those of the file, bit for bit


def test_columns_are_standardised_by_hand(folder, pair):
    frame = pd.read_csv(folder / "holes.csv")
    by = pair.config.standardization
    wanted = (frame[list("abcde")].to_numpy() - by["mean"]) / by["scale"]
    batch = pair.prepare(frame)
    known = batch.observed.numpy()
    assert (known == ~np.isnan(wanted)).all() and (batch.x.numpy()[~known] == 0).all()
    assert_close(batch.x.numpy()[known], wanted[known].astype(np.float32))
    ages = next(condition for condition in pair.config.conditions if condition["name"] == "age")
    assert_close(
        batch.given["age"][:, 0].double().numpy(), ((frame["age"] - ages["mean"]) / ages["scale"]).to_numpy(), atol=1e-6, rtol=0
    )
    assert_close(pair.restore(batch.x).numpy()[known], frame[list("abcde")].to_numpy()[known], atol=1e-3, rtol=1e-6)
    assert pair.restore(batch.x.numpy()).dtype == torch.float64


def test_images_are_bytes_or_floats_with_channels_anywhere(folder):
    pair = hv.load(folder / "images-out")
    images = ARRAYS["images"][:7]
    wanted = torch.from_numpy(images).float() / 255
    for form in (images, images[:, 0], images.transpose(0, 2, 3, 1), images.astype(np.float64) / 255, torch.from_numpy(images)):
        assert torch.equal(pair.prepare(form), wanted)
    assert torch.equal(pair.restore(wanted), wanted)
    assert torch.equal(pair.prepare(folder / "images.npy")[:7], wanted)


def test_a_size_is_the_total_of_what_is_handed_over(folder):
    pair = hv.load(folder / "counts-out")
    batch = pair.prepare(ARRAYS["counts"][:5])
    condition = pair.config.conditions[0]
    wanted = ARRAYS["counts"][:5].sum(1) / sum(condition["means"])
    assert_close(batch.given["size_factor"][:, 0].numpy(), wanted.astype(np.float32))


def test_prepared_data_enter_every_question(pair, folder):
    x = pair.prepare(folder / "holes.csv")[:4]
    assert hv.reconstruct(pair.model, pair.guide, x).shape == (4, 5)
    assert hv.impute(pair.model, pair.guide, x, particles=5).isfinite().all()


FRAME = {name: [0.0, 1.0] for name in "abcde"} | {"age": [30.0, 40.0], "kind": ["cat", "owl"]}
BAD = {
    "a column less": (lambda p: p.prepare(pd.DataFrame(FRAME).drop(columns="c")), DataError, "has no column 'c'"),
    "a condition less": (lambda p: p.prepare(pd.DataFrame(FRAME).drop(columns="age")), DataError, "has no column 'age'"),
    "an unknown class": (lambda p: p.prepare(pd.DataFrame(FRAME | {"kind": ["cat", "elk"]})), DataError, "the class 'elk'"),
    "a missing condition": (
        lambda p: p.prepare(pd.DataFrame(FRAME | {"kind": ["cat", None]})),
        DataError,
        "no 'kind' in row 2",
    ),
    "no table": (lambda p: p.prepare(pd.DataFrame()), DataError, "the DataFrame has no rows. Give at least one row"),
    "no rows": (lambda p: p.prepare(pd.DataFrame(FRAME)[:0]), DataError, "the DataFrame has no rows"),
    "no data": (lambda p: p.prepare(np.zeros((0, 5))), DataError, r"shape \(0, 5\), which are no data. Give at least one"),
    "a text among numbers": (
        lambda p: p.prepare(pd.DataFrame(FRAME | {"b": ["1.5", "?x"]})),
        DataError,
        "has '.x' in column 'b', row 2, where a number is needed",
    ),
    "texts": (lambda p: p.prepare(pd.DataFrame(FRAME | {"b": ["x", "y"]})), DataError, "the column 'b' of the DataFrame holds"),
    "infinity": (lambda p: p.prepare(pd.DataFrame(FRAME | {"b": [np.inf, 0]})), DataError, "the value inf in column 'b'"),
    "two of a name": (
        lambda p: p.prepare(pd.concat([pd.DataFrame(FRAME), pd.DataFrame({"a": [1, 2]})], axis=1)),
        DataError,
        "two columns 'a'",
    ),
    "another width": (lambda p: p.prepare(np.zeros((3, 4))), DataError, r"has the shape \(3, 4\), but .* arrays \(n, 5\)"),
    "one datum": (lambda p: p.prepare(np.zeros(5)), DataError, r"x\[None\]"),
    "no condition": (lambda p: p.prepare(np.zeros((3, 5))), ConfigError, "is given kind, age beside x"),
    "an unknown condition": (lambda p: p.prepare(np.zeros((3, 5)), {"kin": [1]}), ConfigError, "Did you mean 'kind'"),
    "too few": (lambda p: p.prepare(np.zeros((3, 5)), {"kind": ["cat"], "age": [1]}), ConfigError, "has 1 values, but x has 3"),
    "no such class": (
        lambda p: p.prepare(np.zeros((1, 5)), {"kind": ["elk"], "age": [1]}),
        ConfigError,
        "no class of 'kind' called 'elk'",
    ),
    "no finite age": (
        lambda p: p.prepare(np.zeros((1, 5)), {"kind": ["cat"], "age": [np.nan]}),
        DataError,
        "missing or infinite",
    ),
    "given beside a frame": (lambda p: p.prepare(pd.DataFrame(FRAME), {"age": [1, 2]}), ConfigError, "Leave it out"),
    "infinite array": (
        lambda p: p.prepare(np.full((1, 5), np.inf), {"kind": ["cat"], "age": [1]}),
        DataError,
        "holds infinity",
    ),
    "no file": (lambda p: p.prepare("nowhere.csv"), DataError, "there is no file"),
    "texts in an array": (lambda p: p.prepare(np.array([["a"] * 5]), {"kind": ["cat"], "age": [1]}), DataError, "are numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_named(pair, case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call(pair)


def test_arrays_have_no_names_of_columns(folder):
    with pytest.raises(DataError, match="frame.to_numpy"):
        hv.load(folder / "images-out").prepare(pd.DataFrame(FRAME))


OWN = """
import torch
import pyro_hvae as hv

def build(x, width=8):
    event = x.shape[1:]
    return (
        hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, event, (width,), scale=0.3)),
        hv.BottomUp([hv.Gaussian(event, 2, (width,))]),
    )
"""


def test_a_program_of_ones_own_is_asked_for_and_compared(folder, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "other.py").write_text(OWN.replace("width=8", "width=9"))
    options = "--steps 4 --batch-size 10 -o log_every=2 --no-compile -o eval_every=2".split()
    code, _, err = command("train", "--program", "own.py:build", "--dataset", folder / "real.npy", *options, "--out", "run")
    assert not code, err
    marker = OWN + "\nopen('was_run', 'w').close()\n"
    (tmp_path / "own.py").rename(tmp_path / "moved.py")
    code, _, err = command("export", "run", "out")  # neither runs nor needs the program
    assert not code, err
    assert str(tmp_path) not in (tmp_path / "out/config.json").read_text() + (tmp_path / "out/README.md").read_text()
    code, _, err = command("sample", "out")
    assert code == 2 and "--program FILE.py:FUNCTION" in err and "own.py:build" in err
    (tmp_path / "own.py").write_text(marker)
    assert command("sample", "out", "--program", "own.py:build")[0] == 2 and not (tmp_path / "was_run").exists()
    (tmp_path / "moved.py").rename(tmp_path / "own.py")
    code, _, err = command("sample", "out", "--program", "own.py:build")
    assert not code, err
    assert command("sample", "out", "--program", "other.py:build")[0] == 2
    namespace = {}
    exec(OWN, namespace)
    x = torch.from_numpy(ARRAYS["real"]).float()
    one, two = hv.load("run", program=namespace["build"](x)), hv.load("out", program=namespace["build"](x))
    torch.manual_seed(1)
    first = hv.log_likelihood(one.model, one.guide, x[:5], 10)
    torch.manual_seed(1)
    assert torch.equal(first, hv.log_likelihood(two.model, two.guide, two.prepare(ARRAYS["real"][:5]), 10))
    with pytest.raises(ConfigError, match="is not the program"):
        hv.load("out", program=(hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 5, (8,), scale=0.4)), two.guide))


def test_a_pair_of_a_script_keeps_its_weights(tmp_path, command):
    def pair():
        return hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4, scale=0.5)), hv.BottomUp([hv.Gaussian(4, 2)])

    objective = hv.ELBO()(*pair())
    config = hv.TrainConfig(steps=3, batch_size=10, compile=False)
    hv.fit(objective, torch.randn(40, 4), config, out=tmp_path / "run", progress=False)
    hv.export(tmp_path / "run", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["README.md", "config.json", "model.safetensors"]
    loaded = hv.load(tmp_path / "out", program=pair())
    assert all(map(torch.equal, loaded.model.state_dict().values(), objective.model.state_dict().values()))
    assert repr(loaded.run) == "OpenRun(program on own data: x (4,), z1 (2,), step 3)"
    with pytest.raises(ConfigError, match="Hand x over as the script did"):
        loaded.prepare(torch.randn(3, 4))
    with pytest.raises(ConfigError, match="hv.load"):
        hv.load(tmp_path / "out")
    (tmp_path / "own.py").write_text(OWN.replace("(width,), scale=0.3", "scale=0.5").replace(", (width,))])", ")])"))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32))
    measure = ["metrics", tmp_path / "out", "reconstruction", "--program", f"{tmp_path / 'own.py'}:build"]
    assert command(*measure)[0] == 2
    code, _, err = command(*measure, "--dataset", tmp_path / "x.npy")
    assert not code, err


def test_states_that_safetensors_cannot_hold_are_refused_before_anything_is_written(tmp_path):
    def pair(dtype=torch.complex128):
        model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4, scale=0.5))
        model.register_buffer("phase", torch.zeros(2, dtype=dtype))
        return model, hv.BottomUp([hv.Gaussian(4, 2)])

    config = hv.TrainConfig(steps=2, batch_size=10, compile=False)
    hv.fit(hv.ELBO()(*pair()), torch.randn(40, 4), config, out=tmp_path / "run", progress=False)
    with pytest.raises(hv.HVAEError, match="'model.phase' is a tensor of torch.complex128"):
        hv.export(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_views_and_shared_tensors_of_ones_own_come_back(tmp_path):
    """A parameter under two names is stored once; a buffer that is a part of another is a whole tensor of its own."""

    def pair():
        model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4, scale=0.5))
        model.register_buffer("whole", torch.arange(6.0).reshape(2, 3))
        model.register_buffer("part", model.whole[1])
        model.register_buffer("turned", model.whole.t())
        guide = hv.BottomUp([hv.Gaussian(4, 2)])
        guide.again = guide.conditionals if hasattr(guide, "conditionals") else next(guide.children())
        return model, guide

    config = hv.TrainConfig(steps=2, batch_size=10, compile=False)
    objective = hv.ELBO()(*pair())
    hv.fit(objective, torch.randn(40, 4), config, out=tmp_path / "run", progress=False)
    objective.model.whole.add_(0)
    hv.export(tmp_path / "run", tmp_path / "out")
    model, guide, _ = hv.load(tmp_path / "out", program=pair())
    assert torch.equal(model.part, torch.arange(3.0, 6.0)) and torch.equal(model.turned, torch.arange(6.0).reshape(2, 3).t())
    wanted = objective.guide.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in guide.state_dict().items())
