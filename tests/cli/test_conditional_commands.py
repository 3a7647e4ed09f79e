"""Every command on a conditional run of digits, and on a run of a table with conditions and missing entries."""

import csv
import json

import numpy as np
import pytest
import torch
from command_line import train_once
from conditional_runs import TABLE, write_table

from pyro_hvae import generate, reconstruct
from pyro_hvae.data import Batch
from pyro_hvae.plots import plot_samples, reconstruct_test_data
from pyro_hvae.plots.image_grid import MISSING, tile_images
from pyro_hvae.runs import open_run, parse_given
from pyro_hvae.runtime import fixed_seed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditional")
    write_table(folder / "holes.csv", 0.3)
    digits = "--dataset digits -o condition=class -o dims=4,2 -o hidden=32 -o upper=8 -o lr=0.005 --steps 500"
    train_once(folder, "hvae", *digits.split(), "--out", "digits")
    train_once(folder, "vae", *TABLE.split(), "--steps", 500, "--batch-size", 32, "--out", "table")
    plain = TABLE.replace("-o condition=kind,age ", "")
    train_once(folder, "vae", *plain.split(), "--steps", 60, "--batch-size", 32, "--out", "plain")
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


QUICK = "points=100 train=100 test=50 outer=6 inner=4 graphs=2 paths=10 nodes=200 bins=5".split()

# command -> parts of what it prints
COMMANDS = {
    "evaluate digits --particles 20 --limit 40": ["which is      log p(x | class)\n", "corrected to all 300"],
    "evaluate table --particles 20": ["which is      log p(x | kind, age), of the observed entries, ", "in own units"],
    "evaluate plain --particles 20": ["which is      log p(x), of the observed entries, "],
    "sample digits": ["Samples given class of random training data", "Picture: digits/figures/samples.png"],
    "sample digits --given class=3": ["Samples given class=3\n"],
    "sample table --given age=40 --n 5": ["Samples given age=40 and kind of random training data"],
    "sample table --given kind=1,age=40 --n 5": ["Samples given kind=dog, age=40\n"],
    "sample table --given kind=owl --given age=40 --n 5": ["Samples given kind=owl, age=40\n"],
    "reconstruct digits --given class=5": ["decoded under class=5"],
    "reconstruct table": ["RMS error per observed value of standardised data"],
    "reconstruct plain": ["RMS error per observed value of standardised data"],
    "traverse digits --image 3 --given class=7": ["Latent dimensions by"],
    "traverse table": ["over 12 test data"],
    "traverse plain --image 2": ["over 12 test data"],
    "layers digits --n 6 --outer 8 --inner 4": ["(given class of random training data, which does not vary within a draw)"],
    "layers digits --n 6 --image 2 --given class=4": ["(given class=4, which"],
    "layers digits --grid --cells 3 --given class=4": ["layer_grid.png"],
    "layers digits --grid --cells 3 --image 1 --site z2": ["layer_grid_z2_image1.png"],
    "layers table --n 5 --outer 8 --inner 4": ["(given kind, age of random"],
    "layers plain --n 5 --outer 8 --inner 4 --image 1": ["z1  1.0000"],
    "interpolate digits --nodes 200": ["test datum 0 to ", " under class="],
    "interpolate digits --nodes 200 --from 0 --to 1 --given class=3": ["test datum 0 to 1 under class=3: "],
    "interpolate table --nodes 200": ["the first two test data under kind="],
    "interpolate plain --nodes 200 --from 1 --to 4": ["test datum 1 to 4: "],
    "gibbs digits --steps 40 --burn-in 20 --chains 5 --samples 50": ["Energy distance to 50 test data"],
    "gibbs digits --steps 40 --burn-in 20 --chains 5 --samples 50 --init noise": ["5 chains from noise"],
    "gibbs digits --steps 40 --burn-in 20 --chains 5 --samples 50 --init prior --sites all": ["(Proposition 2)"],
    "metrics table classes -o factor=kind": ["given=kind,age", "observed=0."],
    "metrics plain classes -o factor=kind": ["observed=0."],
    "metrics digits regression -o factors=class -o train=50": ["mean_colour", "given=class"],
    "compare digits table plain --metric reconstruction": [
        "condition=kind,age",
        "given=kind, age, observed=",
        "given=nothing, observed=",
        "reconstruction was measured with different options on holes.csv",
    ],
    **{
        f"metrics {run} {name} " + " ".join(f"-o {option}" for option in QUICK if option.split("=")[0] in options): [
            f"{name}: "
        ]
        for run in ("digits", "table", "plain")
        for name, options in {
            "reconstruction": (),
            "smoothness": ("graphs", "paths", "nodes"),
            "mutual-information": ("points",),
            **({"layer-factors": ("points", "train", "outer", "inner")} if run == "digits" else {}),
        }.items()
    },
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_works(here, command, line):
    code, out, err = command(*line.split())
    assert code == 0, err
    for part in COMMANDS[line]:
        assert part in out + err, out + err


# command -> exit code and part of the message
WRONG = {
    "sample plain --given kind=cat": (2, "given nothing beside x, so kind=cat would change nothing. Leave it out"),
    "sample table --given knd=cat": (2, "no condition of the run called 'knd'. Did you mean 'kind'? Known: age, kind."),
    "sample table --given kind=cow": (2, "no class of 'kind' called 'cow'. Did you mean 'owl'? Known: cat, dog, owl."),
    "traverse digits --given class=10": (2, "Known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."),
    "layers table --given age=old": (2, "age=old is no number."),
    "sample table --given age": (2, "--given takes name=value, got 'age'."),
    "sample table --given age=": (2, "--given takes name=value, got 'age='."),
    "sample table --given age=40 --given age=41": (2, "--given has two values of 'age', 40 and 41. Give one."),
    "reconstruct digits --given kind=cat": (2, "Known: class."),
    "interpolate digits --from 0 --to 1": (2, "the ends of the path have different conditions, class="),
    "interpolate table --from 0 --to 1 --given kind=cat": (2, "Say which: --given age="),
    "gibbs table": (2, "needs whole data, but 11 of the 12 test data of 'holes.csv' have missing"),
    "gibbs plain": (2, "needs whole data, but 11 of the 12 test data of 'holes.csv' have missing"),
    "reconstruct table plain": (2, "has other data"),
    "metrics digits mig": (2, "not used: class: given beside x"),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_is_refused_with_the_reason(here, command, line):
    code, _, err = command(*line.split())
    expected, part = WRONG[line]
    assert code == expected and part in err, err


def test_a_value_may_have_a_comma(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "holes.csv", 0.0, classes=["a b", '"red, blue"', "x=y"])
    code, _, err = command("train", "vae", *TABLE.split(), "--steps", 2, "--out", "run")
    assert code == 0, err
    code, out, err = command("sample", "run", "--given", "kind=red, blue,age=40")
    assert code == 0 and "Samples given kind=red, blue, age=40\n" in out, err
    code, out, err = command("sample", "run", "--given", "age=40", "--given", "kind=x=y")
    assert code == 0 and "Samples given kind=x=y, age=40\n" in out, err


def test_samples_are_of_the_given_class(here):
    run = open_run("digits")
    figure = plot_samples(run, 4, seed=5, given=parse_given(run, {"class": "3"}))
    with fixed_seed(5):
        expected = generate(run.model, 4, given={"class_": torch.eye(10)[[3]]})["x"]
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert np.array_equal(shown, tile_images(expected, 2)[0], equal_nan=True)


def test_reconstructions_are_the_same_codes_under_another_class(here):
    run = open_run("digits")
    under = parse_given(run, {"class": "5"})
    (own,), (other,) = reconstruct_test_data([run], 6), reconstruct_test_data([run], 6, [under])
    data = run.dataset.test.x[own.indices]
    assert torch.equal(other.rows["reconstructions"], reconstruct(run.model, run.guide, data, under=under))
    assert torch.equal(own.rows["reconstructions"], reconstruct(run.model, run.guide, data))
    assert other.under == "class=5" and not own.under and other.rmse["reconstructions"] > own.rmse["reconstructions"]


def test_errors_and_shares_are_of_the_observed_entries(here, command):
    values = json.loads(command("metrics", "table", "reconstruction", "--json")[1])
    run = open_run("table")
    test = run.dataset.test.x[:]
    means = reconstruct(run.model, run.guide, test)
    squares = [
        (means[i, j] - test.x[i, j]).item() ** 2 for i in range(len(test)) for j in range(5) if bool(test.observed[i, j])
    ]
    assert values["mse"] == pytest.approx(np.mean(squares)) and values["observed"] == pytest.approx(len(squares) / 60)
    (one,) = reconstruct_test_data([run], 100)
    assert one.rmse["reconstructions"] == pytest.approx(np.mean(squares) ** 0.5)


def test_a_likelihood_in_own_units_counts_the_scales_of_observed_entries(here, command):
    for name in ("table", "plain"):
        values = json.loads(command("evaluate", name, "--particles", 10, "--json")[1])
        run = open_run(name)
        scales, observed = run.dataset.standardization.scale, run.dataset.test.x[:].observed
        jacobian = sum(np.log(scales[j]) for row in observed for j, known in enumerate(row[:5]) if known) / len(observed)
        if name == "table":  # its columns are those of the file
            with open("holes.csv") as file:
                known = np.array([[bool(row[key]) for key in "abcde"] for row in csv.DictReader(file)])
            assert known.mean() == pytest.approx(values["observed"], abs=0.15)
        else:  # age is a column of x here
            jacobian += np.log(scales[5])
        assert values["log_likelihood_own_units"] == pytest.approx(values["log_likelihood"] - jacobian, abs=1e-6)
        assert values["bits_per_dim"] is None


def test_results_say_what_is_given(here, command):
    values = json.loads(command("evaluate", "table", "--particles", 10, "--json")[1])
    assert values["given"] == ["kind", "age"] and 0 < values["observed"] < 1
    stored = json.loads((here / "table/eval/likelihood.json").read_text())
    assert stored["given"] == ["kind", "age"] and stored["observed"] == values["observed"]
    values = json.loads(command("evaluate", "digits", "--particles", 10, "--json")[1])
    assert values["given"] == ["class"] and "observed" not in values


def test_missing_pixels_are_drawn_in_a_colour(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((60, 1, 6, 6), dtype=np.float32)
    x[:, 0, 2, 3] = np.nan
    x[:3, 0, 2, 3] = 0.5
    np.savez("x.npz", x=x)
    code, _, err = command(
        "train", "vae", "--dataset", "./x.npz", "-o", "hidden=8", "-o", "sigma=1", "--steps", 3, "--out", "run"
    )
    assert code == 0, err
    run = open_run("run")
    from pyro_hvae.plots import plot_reconstructions

    (one,) = reconstruct_test_data([run], 3)
    figure = plot_reconstructions([run], [one])
    array = np.asarray(figure.axes[0].get_images()[0].get_array())
    coloured = np.isclose(array, MISSING, atol=1e-5).all(-1)
    assert coloured.sum() == int(one.data.isnan().sum()) > 0
    assert isinstance(run.dataset.test.x[:], Batch) and "orange: missing" in figure.get_suptitle()
    # What is filled in are grey values, too, so the copy is data again: many draws of so wide a Gaussian are negative.
    code, _, err = command("impute", "run", "x.npz", "--out", "filled.npz", "--draws", 2, "--particles", 10)
    assert code == 0, err
    drawn = np.load("filled-1.npz")["x"][3:, 0, 2, 3]
    assert 5 < (drawn == 0).sum() < 57 and command("data", "info", "filled-1.npz")[0] == 0


def test_all_recipes_are_listed_with_the_option(command):
    code, out, _ = command("list", "recipes", "--json")
    assert code == 0 and all(entry["options"]["condition"] == [] for entry in json.loads(out).values())
    assert "condition=NAME,... are factors or columns" in command("list", "recipes")[1]


def test_a_run_on_features_is_given_the_condition_of_whole_images(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    sprites = "--dataset sprites -o side=16 -o scales=2 -o orientations=2 -o positions=4 -o condition=shape"
    small = "-o patch=3 -o latent=2 -o texture_latent=2 -o hidden=8 -o texture_hidden=8 -o network=mlp --steps 4"
    code, _, err = command("train", "texture", *sprites.split(), *small.split(), "--out", "run")
    assert code == 0, err
    code, out, err = command("sample", "run", "--given", "shape=heart")
    assert code == 0 and "Samples given shape=heart\n" in out, err
    code, out, err = command("reconstruct", "run", "--given", "shape=0")
    assert code == 0 and "decoded under shape=square" in out, err
    code, out, err = command("evaluate", "run", "--particles", 4)
    assert code == 0 and "which is      log p(x | shape)\n" in out, err
    code, out, err = command("metrics", "run", "mig", "-o", "points=60", "--json")
    assert code == 0 and json.loads(out)["excluded"]["shape"] == "given beside x", err
    code, _, err = command("train", "--resume", "run")
    assert code == 0, err


def test_a_run_does_not_lose_its_own_data_by_imputation(here, command):
    before = (here / "holes.csv").read_bytes()
    code, _, err = command("impute", "table", "holes.csv", "--out", "./holes.csv", "--overwrite")
    assert code == 2 and "holes.csv holds the data of the run" in err and (here / "holes.csv").read_bytes() == before


def test_where_a_copy_cannot_be_written_is_known_before_the_run_is_opened(here, command):
    code, _, err = command("impute", "no-run", "holes.csv", "--out", "nowhere/filled.csv")
    assert code == 3 and "Choose a folder that exists and that you may write to" in err


def test_a_table_is_no_data_of_a_run_of_images(here, command):
    code, _, err = command("impute", "digits", "holes.csv", "--out", "filled.csv")
    assert code == 3 and "holes.csv is a table, but the run is of arrays of shape (1, 8, 8)" in err


def test_a_column_called_self_is_a_condition(tmp_path, command):
    write_table(tmp_path / "self.csv", 0.0)
    text = (tmp_path / "self.csv").read_text().replace("kind", "self", 1)
    (tmp_path / "self.csv").write_text(text)
    code, _, err = command("train", "vae", *"--dataset self.csv -o condition=self -o hidden=4 --steps 2 --out self".split())
    assert code == 0, err
    code, out, err = command("sample", "self", "--given", "self=dog", "--n", 2)
    assert code == 0 and "Samples given self=dog" in out, err
