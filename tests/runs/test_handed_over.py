"""Programs and data that are handed over to open a run are compared with what the run recorded."""

import json

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runs import open_run, read_toml

pytestmark = pytest.mark.filterwarnings("ignore:The run ends collapsed")

PROGRAM = """
import pyro_hvae as hv

def pair(x, std):
    shape = tuple(x.shape[1:])
    return hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, shape, std=std)), hv.BottomUp([hv.Gaussian(shape, 2)])

def build(x):
    return pair(x, "exp")

def other(x):
    return pair(x, "softplus")
"""


def pair(std="exp", width=5):
    return hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, width, std=std)), hv.BottomUp([hv.Gaussian(width, 2)])


def make_data(width=5, seed=0):
    return torch.randn(40, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An own program, and data in files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(PROGRAM)
    np.save("x.npy", make_data().numpy())
    np.save("wide.npy", make_data(7).numpy())
    return tmp_path


@pytest.fixture
def run(folder, command):
    """A run of `train --program own.py:build`, with a kept result."""
    code, _, err = command("train", "--program", "own.py:build", *"--dataset x.npy --steps 3 --batch-size 10 --out run".split())
    assert code == 0, err
    assert command(*EVALUATE, "--program", "own.py:build")[0] == 0
    return folder / "run"


@pytest.fixture
def fitted(folder):
    """A run of `hv.fit(out=)`."""
    hv.fit(hv.ELBO()(*pair()), make_data(), hv.TrainConfig(steps=3, batch_size=10), out="fitted", progress=False)
    return folder / "fitted"


EVALUATE = "evaluate run --particles 4 --json".split()


@pytest.mark.parametrize(
    "arguments",
    [
        EVALUATE,
        "metrics run likelihood -o particles=4".split(),
        "sample run".split(),
        "reconstruct run".split(),
        "traverse run".split(),
        "interpolate run".split(),
        "gibbs run".split(),
        "layers run".split(),
        "train --resume run --steps 6".split(),
    ],
    ids=" ".join,
)
def test_every_command_refuses_another_function_and_keeps_the_result(run, command, arguments):
    before = (run / "eval/likelihood.json").read_bytes()
    code, _, err = command(*arguments, "--program", "own.py:other")
    assert code == 2 and "it was trained with own.py:build, not with own.py:other" in err and "--force" in err
    assert (run / "eval/likelihood.json").read_bytes() == before


def test_force_takes_another_function_and_the_result_names_it(run, command):
    before = json.loads((run / "eval/likelihood.json").read_text())
    assert before["program"] == "own.py:build"
    code, out, err = command(*EVALUATE, "--program", "own.py:other", "--force")
    assert code == 0, err
    forced = json.loads(out)
    assert forced["program"] == "own.py:other" and forced["log_likelihood"] != before["log_likelihood"]
    code, out, _ = command(*EVALUATE, "--program", "own.py:build")
    assert code == 0 and json.loads(out)["log_likelihood"] == before["log_likelihood"]


def test_a_changed_source_is_refused_and_a_moved_file_is_not(run, folder, command):
    (folder / "elsewhere").mkdir()
    commented = PROGRAM.replace("    return", "    # a comment\n\n    return").replace("(x):", "(x):  # and another")
    (folder / "elsewhere/renamed.py").write_bytes(commented.replace("\n", "\r\n").encode())
    assert command(*EVALUATE, "--program", "elsewhere/renamed.py:build")[0] == 0
    (folder / "own.py").write_text(PROGRAM.replace('"exp"', '"sigmoid"'))
    code, _, err = command(*EVALUATE, "--program", "own.py:build")
    assert code == 2 and "the source of own.py:build is not what own.py:build was when it was trained" in err
    code, _, err = command("train", "--resume", "run", "--steps", "6", "--program", "own.py:build", "--force")
    assert code == 0, err
    assert command(*EVALUATE, "--program", "own.py:build")[0] == 0  # the run is of this source now


def test_an_older_run_has_only_a_name_to_compare(run, folder, command):
    (run / "program.json").unlink()
    (folder / "own.py").write_text(PROGRAM + "\n# another source, which nothing recorded\n")
    assert command(*EVALUATE, "--program", "own.py:build")[0] == 0
    code, _, err = command(*EVALUATE, "--program", "own.py:other")
    assert code == 2 and "own.py:build, not with own.py:other" in err and "source" not in err


def test_a_pair_with_other_settings_is_refused_in_python(fitted):
    with pytest.raises(ConfigError, match=r"model.likelihood.std is 'softplus' instead of 'exp'"):
        hv.load(fitted, program=pair("softplus"))
    assert hv.load(fitted, program=pair()).model.likelihood.std == "exp"
    assert hv.load(fitted, program=pair("softplus"), force=True).model.likelihood.std == "softplus"
    (fitted / "program.json").unlink()
    hv.load(fitted, program=pair("softplus"))  # an older run recorded nothing to compare


def test_a_pair_is_compared_with_a_run_of_a_file(run):
    with pytest.raises(ConfigError, match="softplus"):
        hv.load(run, program=pair("softplus"))
    hv.load(run, program=pair())


def test_training_does_not_make_another_pair_of_it(folder):
    """The gates of a ladder are state, which the schedule moves; batch normalisation counts its batches."""
    from pyro_hvae import recipes

    def ladder():
        return recipes.build("pro-vlae", make_data(), {"dims": (2, 2), "width": 8, "norm": "batch"})[0].objective

    hv.fit(ladder(), make_data(), hv.TrainConfig(steps=3, batch_size=10), hv.Progressive(2), out="ladder", progress=False)
    fresh = ladder()
    hv.load("ladder", program=(fresh.model, fresh.guide))


def test_other_data_are_refused_and_named(run, command):
    before = (run / "eval/likelihood.json").read_bytes()
    code, _, err = command(*EVALUATE, "--program", "own.py:build", "--dataset", "wide.npy")
    assert code == 2 and "x.npy" in err and "not of wide.npy" in err and "--force" in err
    assert "data_seed" not in err  # options that are alike do not tell them apart
    code, _, err = command(*EVALUATE, "--program", "own.py:build", "--dataset", "wide.npy", "--force")
    assert code == 3 and "do not fit a pair for data of shape (7,)" in err
    split = ("--dataset", "x.npy", "--data-option", "data_seed=1")
    code, _, err = command(*EVALUATE, "--program", "own.py:build", *split)
    assert code == 2 and "data_seed=1" in err
    assert (run / "eval/likelihood.json").read_bytes() == before
    code, out, _ = command(*EVALUATE, "--program", "own.py:build", *split, "--force")
    assert code == 0 and json.loads(out)["data"]["data_seed"] == 1


def test_moved_data_are_the_same_data(run, folder, command):
    (folder / "x.npy").rename(folder / "moved.npy")
    code, out, err = command(*EVALUATE, "--program", "own.py:build", "--dataset", "moved.npy")
    assert code == 0 and json.loads(out)["data"]["name"].endswith("moved.npy"), err


def test_a_run_of_a_recipe_takes_no_program(folder, command):
    options = "vhp --dataset x.npy --steps 3 --batch-size 10 -o hidden=4 -o upper=4 -o starts=1 --out recipe".split()
    code, _, err = command("train", *options)
    assert code == 0, err
    code, _, err = command("sample", "recipe", "--program", "own.py:build")
    assert code == 2 and "of the recipe vhp" in err


def test_a_run_of_a_script_leads_to_program_and_dataset_in_one_try(fitted, command):
    for given in ([], ["--program", "own.py:build"]):
        code, _, err = command("evaluate", "fitted", *given)
        assert code == 2 and "--program FILE.py:FUNCTION --dataset NAME|PATH" in err
    both = "--program own.py:build --dataset x.npy".split()
    code, out, err = command("evaluate", "fitted", "--particles", "4", "--json", *both)
    assert code == 0 and json.loads(out)["data"]["name"].endswith("x.npy"), err
    assert command("metrics", "fitted", "reconstruction", *both)[0] == 0
    assert command("sample", "fitted", *both)[0] == 0
    assert command("reconstruct", "fitted", *both)[0] == 0
    code, _, err = command("evaluate", "fitted", "--program", "own.py:other", "--dataset", "x.npy")
    assert code == 2 and "model.likelihood.std is 'softplus' instead of 'exp'" in err
    code, _, err = command("evaluate", "fitted", "--program", "own.py:build", "--dataset", "wide.npy")
    assert code == 3 and "(7,)" in err
    code, _, err = command("train", "--resume", "fitted")
    assert code == 2 and "hv.fit(..., out='fitted', resume=True)" in err
    assert read_toml(fitted / "config.toml")["dataset"] == "own data"  # the run keeps what it was


def test_a_pair_with_a_shape_of_its_own_refuses_data_of_another(fitted):
    opened = open_run(fitted, program=pair(), dataset="wide.npy")
    with pytest.raises((ConfigError, DataError, hv.errors.ContractError), match="7"):
        hv.log_likelihood(opened.model, opened.guide, opened.dataset.test.x[:], particles=2)


class Decoder(torch.nn.Module):
    """A model whose mean is named by a method."""

    def __init__(self, sign=1.0):
        super().__init__()
        self.net, self.sign = torch.nn.Linear(2, 5), sign

    def mean(self, z):
        return self.sign * self.net(z)

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.mean(z), 1.0).to_event(1), obs=x)


class Other(Decoder):
    """Another method with the same weights."""

    def mean(self, z):
        return -self.net(z)


def test_settings_and_methods_of_own_modules_are_compared(folder):
    guide = pair()[1]
    hv.fit(hv.ELBO()(Decoder(), guide), make_data(), hv.TrainConfig(steps=2, batch_size=10), out="mine", progress=False)
    hv.load("mine", program=(Decoder(), guide))
    with pytest.raises(ConfigError, match="model.sign is '2.0' instead of '1.0'"):
        hv.load("mine", program=(Decoder(2.0), guide))
    with pytest.raises(ConfigError, match="model is 'Other' instead of 'Decoder'"):
        hv.load("mine", program=(Other(), guide))
    Other.__qualname__ = "Decoder"  # a class of the same name, as after an edit
    with pytest.raises(ConfigError, match=r"model.mean\(\) has another source"):
        hv.load("mine", program=(Other(), guide))


def test_resuming_in_python_warns_of_another_pair(fitted):
    settings = hv.TrainConfig(steps=5, batch_size=10)
    with pytest.warns(UserWarning, match="model.likelihood.std is 'softplus' instead of 'exp'"):
        hv.fit(hv.ELBO()(*pair("softplus")), make_data(), settings, out="fitted", resume=True, progress=False)
    hv.fit(hv.ELBO()(*pair()), make_data(), settings, out="fitted", resume=True, progress=False)
