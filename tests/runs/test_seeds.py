"""A seed governs the streams of torch, NumPy and Python, all of its bits count, and a resumed run goes on with them."""

from pathlib import Path

import pytest
from command_line import TINY
from small_runs import checkpoint, equal

from pyro_hvae.errors import ConfigError
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.train_config import TrainConfig

OWN = """
import random
import numpy as np
import torch
import pyro_hvae as hv

class Noisy(hv.BottomUp):
    def forward(self, x):
        noise = 0.1 * np.random.rand() + 0.1 * random.random()
        return super().forward(x + noise)

def build(x):
    shift = np.random.rand() + random.random()
    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, x.shape[1:]))
    guide = Noisy([hv.Gaussian(x.shape[1:], 2)])
    with torch.no_grad():
        next(guide.parameters()).add_(shift)
    return model, guide
"""
TRAIN = [
    "train",
    "--program",
    "own.py:build",
    "--dataset",
    "pendulum",
    "-o",
    "size=200",
    "-o",
    "log_every=5",
    "-o",
    "eval_every=5",
    "-o",
    "threads=1",
]


@pytest.mark.filterwarnings("ignore")
def test_a_program_that_draws_from_numpy_and_python_is_reproducible_and_goes_on(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    for out, steps, seed in (("whole", 40, 3), ("again", 40, 3), ("cut", 20, 3), ("other", 40, 4)):
        more = ["-o", "lr_decay=0", "--save-every", 10]
        code, _, err = command(*TRAIN, *more, "--steps", steps, "--seed", seed, "--out", out, "--no-compile")
        assert code == 0, err
    code, _, err = command("train", "--resume", "cut", "--steps", 40, "--program", "own.py:build")
    assert code == 0, err
    rows = {out: Path(out, "metrics.jsonl").read_bytes() for out in ("whole", "again", "cut", "other")}
    assert rows["whole"] == rows["again"] and rows["whole"] != rows["other"]
    assert rows["cut"] == rows["whole"]
    whole, cut = checkpoint(Path("whole")), checkpoint(Path("cut"))
    assert equal(whole["programs"], cut["programs"]) and equal(whole["rng"], cut["rng"])


@pytest.mark.parametrize("seed", [2**32, 2**32 + 1, 2**53 - 1])
def test_a_seed_whose_bits_do_not_count_is_refused(seed, command):
    with pytest.raises(ConfigError, match="at most 4294967295"):
        TrainConfig(seed=seed)
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, "--seed", seed)
    assert code == 2 and "4294967295" in err


def test_an_older_run_with_a_larger_seed_is_what_torch_made_of_it():
    values = Experiment("vhp", "pendulum", "rewo", TrainConfig(seed=1)).to_dict()
    values["train"]["seed"] = 2**32 + 1
    assert Experiment.from_dict(values).train.seed == 1
