"""Conditions of a run: resolved, kept with their classes, applied again, and refused where other data lack them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conditional_runs import CLASSES, write_table
from small_runs import At, assert_same_run, interrupt

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import Batch, Condition, Rows, condition_on, digits
from pyro_hvae.data.rows import bernoulli
from pyro_hvae.errors import ConfigError, Interrupted
from pyro_hvae.recipes import RECIPES
from pyro_hvae.runs import Experiment, draw_given, open_run, parse_given, read_experiment, resolve
from pyro_hvae.runtime import fixed_seed
from pyro_hvae.training import plan, train

OPTIONS = {"labels": "kind", "standardize": "true", "condition": "kind, age", "latent": 2, "hidden": "16", "lr_decay": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditional")
    write_table(folder / "holes.csv", 0.3)
    return folder


@pytest.fixture(scope="module")
def experiment(folder):
    settings = {"steps": 40, "batch_size": 16, "log_every": 5, "eval_every": 10, "save_every": 15}
    return resolve("vae", str(folder / "holes.csv"), "warmup", OPTIONS, settings)


@pytest.fixture(scope="module")
def plain(folder):
    """On data in their own units, for a run on standardised data takes no others."""
    options = {"condition": "kind, age", "latent": 2, "hidden": "16", "sigma": "100"}
    return resolve("vae", str(folder / "holes.csv"), "warmup", options, {"steps": 5})


@pytest.fixture(scope="module")
def run(folder, experiment):
    return train(experiment, folder / "run").directory.path


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_condition_as_an_option(recipe):
    assert resolve(recipe, "digits", options={"condition": "class"}).condition == ("class",)
    assert resolve(recipe, "digits").condition == ()


def test_the_names_are_those_of_the_configuration_and_its_tables_say_what_they_are(run, experiment):
    config = read_experiment(run)
    assert config.condition == experiment.condition == ("kind", "age")
    kind, age = config.conditions
    assert kind == {"name": "kind", "classes": CLASSES} and set(age) == {"name", "mean", "scale"}
    assert Experiment.from_dict(config.to_dict()).to_dict() == config.to_dict()
    assert hv.load(run).config.conditions == config.conditions
    again = resolve(None, None, config=json.loads(json.dumps(config.to_dict())))
    assert again.condition == ("kind", "age") and again.conditions is None  # another run measures its own


def test_the_scaling_of_a_condition_is_that_of_the_training_data(run):
    opened = open_run(run)
    train = opened.dataset.train
    age, values = opened.conditions[1], train.factors["age"].double()
    assert age.mean == pytest.approx(values.mean().item()) and age.scale == pytest.approx(values.std(correction=0).item())
    assert torch.allclose(train.x.given["age"][:, 0], ((values - age.mean) / age.scale).float())
    assert list(opened.dataset.columns) == list("abcde")


@pytest.mark.parametrize("stop", [3, 15, 31])
def test_a_resumed_run_is_that_without_interruption_bit_for_bit(tmp_path, run, experiment, stop):
    assert isinstance(open_run(run).dataset.train.x[:2], Batch) and open_run(run).dataset.train.x.incomplete
    with pytest.raises(Interrupted):
        train(experiment, tmp_path / "cut", trackers=[At(stop, interrupt)])
    train(read_experiment(tmp_path / "cut"), tmp_path / "cut", resume=True)
    assert_same_run(run, tmp_path / "cut")


# recipe, schedule, options: what changes its pass or its stages while it trains
LONG = {
    "vhp": ("vhp", "rewo", {"condition": "kind", "kappa": "1.5", "measure": "rmse", "upper": "8", "particles": "3"}),
    "pro-vlae": ("pro-vlae", None, {"condition": "kind", "dims": "2,2", "width": "8"}),
    "teacher-student": ("teacher-student", None, {"condition": "kind, age", "dims": "2,2", "hidden": "16", "features": "8"}),
    "lvae": ("lvae", None, {"dims": "2,2", "widths": "8,8"}),  # missing entries alone
    "vampprior": ("vampprior", None, {"condition": "age", "components": "5", "hidden": "16"}),
}


@pytest.mark.parametrize("stop", [7, 22])
@pytest.mark.parametrize("name", LONG)
def test_runs_of_several_phases_resume_bit_for_bit(tmp_path, folder, name, stop):
    recipe, schedule, options = LONG[name]
    settings = {"steps": 30, "batch_size": 16, "log_every": 5, "eval_every": 10, "save_every": 15}
    options = {"labels": "kind", "standardize": "true", "starts": 1, **options}
    asked = resolve(recipe, str(folder / "holes.csv"), schedule, options, settings)
    train(asked, tmp_path / "run")
    with pytest.raises(Interrupted):
        train(asked, tmp_path / "cut", trackers=[At(stop, interrupt)])
    train(read_experiment(tmp_path / "cut"), tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "cut")


def test_binarised_images_by_class_resume_bit_for_bit(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6), dtype=np.uint8)
    rows = Rows(torch.from_numpy(grey), bernoulli, given={"y": torch.eye(3)[torch.arange(60) % 3]})
    torch.manual_seed(0)
    stages = recipes.build("vae", rows.sample(), {"likelihood": "bernoulli", "hidden": (8,)})
    start = {key: value.clone() for key, value in stages[0].objective.state_dict().items()}

    def fit(out, **more):
        config = hv.TrainConfig(steps=20, batch_size=8, save_every=5, log_every=5, eval_every=5)
        hv.fit(stages, rows, config, out=tmp_path / out, validation=rows, **more)

    fit("run", progress=False)
    stages[0].objective.load_state_dict(start)
    with pytest.raises(Interrupted):
        fit("cut", trackers=[At(12, interrupt)])
    fit("cut", resume=True, progress=False)
    assert_same_run(tmp_path / "run", tmp_path / "cut")


def test_trial_starts_and_the_information_flow_are_under_the_conditions(tmp_path, experiment):
    settings = replace(experiment.train, steps=20, starts=2, information_every=20)
    opened = train(replace(experiment, train=settings), tmp_path / "run")
    (row,) = (row for row in opened.directory.rows() if "information.z1" in row)
    assert row["information.z1"] > 0


def test_the_configuration_of_a_run_without_conditions_opens_as_before(tmp_path, experiment):
    plain = train(resolve("vae", "digits", options={"hidden": "4"}, train={"steps": 2}), tmp_path / "run").directory.path
    file = plain / "config.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("condition")]
    file.write_text("\n".join(lines))
    assert open_run(plain).conditions == () and draw_given(open_run(plain), 3) == {}


@pytest.mark.parametrize(
    "change",
    [('    "cat",\n    "dog",', '    "dog",\n    "cat",'), ('condition = [\n    "kind",\n', "condition = [\n")],
)
def test_an_edited_condition_is_refused(tmp_path, run, command, change):
    copy = shutil.copytree(run, tmp_path / "copy")
    text = (copy / "config.toml").read_text()
    assert change[0] in text
    (copy / "config.toml").write_text(text.replace(*change))
    code, _, err = command("sample", copy)
    assert code == 3 and "condition" in err and "Put that back" in err


def test_a_damaged_condition_is_no_configuration(tmp_path, run, command):
    copy = shutil.copytree(run, tmp_path / "copy")
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("scale = ", "scale = -", text.count("scale = ")))
    code, _, err = command("sample", copy)
    assert code == 3 and "config.toml' cannot be used" in err


def test_the_plan_of_a_dry_run_shows_the_classes(experiment):
    assert plan(experiment).describe()["conditions"][0]["classes"] == CLASSES


def test_values_are_those_typed_or_those_of_random_training_data(run):
    opened = open_run(run)
    train = opened.dataset.train.x.given
    with fixed_seed(1):
        drawn = draw_given(opened, 500)
    rows = {(*kind, *age) for kind, age in zip(train["kind"].tolist(), train["age"].tolist(), strict=True)}
    found = [(*kind, *age) for kind, age in zip(drawn["kind"].tolist(), drawn["age"].tolist(), strict=True)]
    assert set(found) <= rows and len(set(found)) > 80  # whole rows: kind and age belong together
    shares, sampled = train["kind"].mean(0), drawn["kind"].mean(0)
    assert ((shares - sampled).abs() < 4 * (shares * (1 - shares) / 500).sqrt()).all()
    typed = parse_given(opened, {"age": "50"})
    mixed = draw_given(opened, 7, typed)
    age = opened.conditions[1]
    assert mixed["age"].flatten().tolist() == pytest.approx([(50 - age.mean) / age.scale] * 7)
    assert mixed["kind"].shape == (7, 3) and (mixed["kind"].sum(1) == 1).all()


def test_data_that_moved_have_the_run_s_own_encoding(tmp_path, run, folder, command):
    shutil.copy(folder / "holes.csv", tmp_path / "moved.csv")
    given = ["--dataset", tmp_path / "moved.csv", "--data-option", "labels=kind", "--data-option", "standardize=true"]
    values = [json.loads(command("evaluate", run, "--particles", 20, "--json", *more)[1]) for more in ([], given)]
    assert values[0]["log_likelihood"] == values[1]["log_likelihood"] and values[1]["given"] == ["kind", "age"]


def test_data_without_the_condition_or_with_a_new_class_are_refused(tmp_path, run, command):
    options = ["--data-option", "labels=kind", "--force", "--particles", 4]
    write_table(tmp_path / "new.csv", 0.0, classes=[*CLASSES, "eel"])
    code, _, err = command("evaluate", run, "--dataset", tmp_path / "new.csv", *options)
    assert code == 3 and "'eel' of 'kind'" in err and "cat, dog, owl" in err
    text = (tmp_path / "new.csv").read_text()
    (tmp_path / "lacks.csv").write_text(text.replace("kind", "sort"))
    code, _, err = command("evaluate", run, "--dataset", tmp_path / "lacks.csv", "--data-option", "labels=sort", *options[2:])
    assert code == 3 and "have no factor or column of that name" in err


@pytest.mark.parametrize(
    ("options", "code", "part"),
    [
        ("-o condition=knd", 2, "no condition called 'knd'. Did you mean 'kind'?"),
        ("-o condition=kind,kind", 2, "each only once"),
        ("-o condition=a", 3, "'a' is missing in"),
        ("-o conditoin=kind", 2, "called 'conditoin'. Did you mean 'condition'?"),
    ],
)
def test_a_wrong_condition_is_refused_with_the_reason(folder, command, options, code, part):
    found, _, err = command("train", "vae", "--dataset", folder / "holes.csv", "-o", "labels=kind", *options.split())
    assert found == code and part in err


PROGRAM = """
import pyro_hvae as hv
from pyro_hvae.data import given_of


def build(x):
    given = given_of(x)
    widths = [value.shape[1:] for value in given.values()]
    p, q = hv.Gaussian([(2,), *widths], x.shape[1:], scale=1.0), hv.Gaussian([x.shape[1:], *widths], 2)
    return hv.Chain(hv.StandardNormal(2), [], p, given=list(given)), hv.BottomUp([q], given=list(given))
"""


def test_a_program_of_one_s_own_is_given_the_condition(tmp_path, command):
    (tmp_path / "own.py").write_text(PROGRAM)
    own = ["--program", "own.py:build"]
    code, _, err = command("train", *own, "--dataset", "digits", "-o", "condition=class", "--steps", 300, "--out", "own")
    assert code == 0, err
    code, out, err = command("evaluate", "own", *own, "--particles", 100, "--json")
    assert code == 0 and json.loads(out)["given"] == ["class"], err
    code, _, err = command("reconstruct", "own", *own, "--given", "class=3")
    assert code == 0, err
    opened = open_run("own", program="own.py:build")
    x = opened.dataset.test.x[:]
    means = [hv.generate(opened.model, 1, {"z1": torch.zeros(1, 2)}, given={"class_": row[None]})["x"] for row in torch.eye(10)]
    nearest = torch.cdist(x.x.flatten(1), torch.cat(means).flatten(1)).argmin(1)
    assert (nearest == opened.dataset.test.factors["class"]).double().mean() > 0.6  # of chance 0.1: each class has its mean


def test_a_run_of_a_script_is_told_its_condition_with_its_data(tmp_path, run, command):
    (tmp_path / "own.py").write_text(PROGRAM)
    data, _ = condition_on(digits(), ["class"])
    scope: dict = {}
    exec(PROGRAM, scope)
    model, guide = scope["build"](data.train.x.sample())
    hv.fit(hv.ELBO()(model, guide), data.train.x, hv.TrainConfig(steps=9), out="fitted", progress=False)
    own = ["--program", "own.py:build", "--dataset", "digits"]
    code, _, err = command("evaluate", "fitted", *own, "--particles", 9)
    assert code == 3 and "do not fit a pair for data" in err
    code, out, err = command("evaluate", "fitted", *own, "--particles", 9, "--data-option", "condition=class", "--json")
    assert code == 0 and json.loads(out)["given"] == ["class"], err
    code, out, err = command("sample", "fitted", *own, "--data-option", "condition=class", "--given", "class=4")
    assert code == 0 and "given class=4" in out, err
    code, _, err = command("sample", run, "--dataset", "digits", "--data-option", "condition=class")
    assert code == 2 and "knows its own conditions (kind, age), so condition= is no option" in err


def test_a_run_on_data_with_or_without_missing_entries_which_its_own_had_not_or_had(folder, plain):
    write_table(folder / "whole.csv", 0.0)
    whole = train(replace(plain, dataset=str(folder / "whole.csv")), folder / "trained-whole").directory.path
    holes = train(plain, folder / "trained-holes").directory.path
    for path, other in ((holes, "whole.csv"), (whole, "holes.csv")):
        opened, own = open_run(path, dataset=str(folder / other), force=True), open_run(path)
        assert opened.dataset.test.x.incomplete == (other == "holes.csv") != own.dataset.test.x.incomplete
        x = opened.dataset.test.x[:]
        with fixed_seed(0):
            values = hv.log_likelihood(opened.model, opened.guide, x, particles=50)
        with fixed_seed(0):  # the pair of the run itself
            assert torch.equal(values, hv.log_likelihood(own.model, own.guide, x, particles=50)) and values.isfinite().all()


def test_other_data_whose_condition_has_an_empty_cell_or_other_classes(folder, plain, command):
    run = train(plain, folder / "trained-plain").directory.path
    text = (folder / "holes.csv").read_text()
    for cell, wanted in (
        ("", "'kind' is missing in some rows"),
        ("cow", "have the class 'cow' of 'kind', but the programs know only"),
    ):
        (folder / "other.csv").write_text(text.replace("dog", cell, 1))
        code, _, err = command("evaluate", run, "--dataset", folder / "other.csv", "--force")
        assert code == 3 and wanted in err


def test_a_condition_is_parsed_by_the_run_s_own_classes(run):
    opened = open_run(run)
    assert parse_given(opened, {"kind": "dog"})["kind"].tolist() == [[0.0, 1.0, 0.0]]
    assert parse_given(opened, {"kind": "2"})["kind"].tolist() == [[0.0, 0.0, 1.0]]
    with pytest.raises(ConfigError, match="Known: cat, dog, owl"):
        parse_given(opened, {"kind": "cow"})
    assert opened.conditions[0] == Condition("kind", tuple(CLASSES))
