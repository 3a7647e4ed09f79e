"""Numbers from NumPy and torch become plain numbers where they enter a run, so that what is saved can be opened."""

import numpy as np
import pytest
import torch
from small_runs import CONFIG, SMALL, data, vhp

import pyro_hvae as hv
from pyro_hvae.errors import CheckpointError, ConfigError
from pyro_hvae.runs import Experiment, OpenRun, RunDirectory, load_checkpoint, resolve
from pyro_hvae.training import train

NUMBERS = {
    "numpy": {"lr": np.float64(1e-4), "seed": np.int64(3), "steps": np.int32(4), "batch_size": np.uint8(20)},
    "array": {"lr": np.array(1e-4), "seed": np.array(3), "steps": np.array(4), "batch_size": np.array(20)},
    "torch": {
        "lr": torch.tensor(1e-4, dtype=torch.float64),
        "seed": torch.tensor(3),
        "steps": torch.tensor(4),
        "batch_size": torch.tensor(20),
    },
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_run_of_such_numbers_is_that_of_plain_numbers(tmp_path, kind):
    config = hv.TrainConfig(**NUMBERS[kind], compile=np.bool_(False), eval_every=2)
    plain = hv.TrainConfig(lr=1e-4, seed=3, steps=4, batch_size=20, compile=False, eval_every=2)
    assert [(type(v), v) for v in vars(config).values()] == [(type(v), v) for v in vars(plain).values()]
    hv.fit(vhp(), data(), config, out=tmp_path / "run", validation=data(50))
    for which in ("last", "best"):
        assert load_checkpoint(tmp_path / f"run/checkpoints/{which}.pt")["step"] <= 4
    hv.fit(vhp(), data(), hv.TrainConfig(**{**NUMBERS[kind], "steps": 6}), out=tmp_path / "run", resume=True)


def test_options_of_recipes_from_python(tmp_path):
    options = {
        **SMALL,
        "hidden": np.array([16]),
        "upper": torch.tensor([8]),
        "particles": np.int64(3),
        "kappa": np.float64(30),
    }
    experiment = resolve("vhp", "pendulum", options=options, train={"steps": np.int64(2), "starts": 1})
    assert experiment.recipe_options["hidden"] == (16,) and type(experiment.schedule_options["kappa"]) is float
    run = train(experiment, tmp_path / "run")
    assert isinstance(run, OpenRun) and hv.load(tmp_path / "run").config.recipe_options["upper"] == (8,)


@pytest.mark.parametrize("setting", [{"lr": np.array([1e-3, 1e-2])}, {"steps": np.float64(1.5)}, {"lr": object()}])
def test_what_is_no_number_is_named(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        hv.TrainConfig(**setting)


class Remembers(torch.nn.Module):
    """A module whose state holds an object of its own."""

    def get_extra_state(self):
        return {1, 2}

    def set_extra_state(self, state):
        pass


def test_a_call_that_failed_before_its_first_step_can_be_corrected(tmp_path):
    objective = vhp()
    objective.guide.extra = Remembers()
    with pytest.raises(CheckpointError, match="holds a set"):
        hv.fit(objective, data(), CONFIG, out=tmp_path / "run")
    del objective.guide.extra
    hv.fit(objective, data(), hv.TrainConfig(steps=2, batch_size=20), out=tmp_path / "run")
    with pytest.raises(ConfigError, match="not empty"):
        hv.fit(objective, data(), CONFIG, out=tmp_path / "run")


def test_a_configuration_that_cannot_be_written_makes_no_directory(tmp_path):
    experiment = Experiment("vhp", "pendulum", "rewo", recipe_options={"hidden": object()})
    with pytest.raises(ConfigError, match="cannot be written"):
        RunDirectory(tmp_path / "run").create(experiment)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_other_files_is_no_run_to_start_again(tmp_path):
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="not empty"):
        RunDirectory(tmp_path).require_empty()
