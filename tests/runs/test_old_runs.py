"""Runs of checkpoint format 1 still open, give the numbers they gave, and go on. pyro-hvae 0.1.0 wrote them.

`format_1/` holds what these commands wrote, without figures and without the values datum by datum:

    pyro-hvae train vhp --dataset pendulum --steps 60 --seed 3 -o hidden=8 -o upper=8 -o starts=1 -o size=200 -o particles=4 \
        --save-every 60 -o eval_every=30 -o log_every=10
    pyro-hvae train hvae --dataset digits --steps 40 --seed 3 -o hidden=8 -o upper=8 -o dims=3,2 -o log_every=10
    pyro-hvae evaluate RUN --particles 20 --limit 20
"""

import json
import shutil
from pathlib import Path

import pytest

import pyro_hvae as hv

OLD = Path(__file__).parent / "format_1"
# Last row of `train --resume RUN --steps 80` in pyro-hvae 0.1.0.
RESUMED = {
    "vhp-pendulum-rewo-seed3": {"elbo": -77.69124603271484, "beta": 0.05, "constraint": 15.224253895490184},
    "hvae-digits-warmup-seed3": {"elbo": -18.756479263305664, "rate.z2": 0.735426664352417, "beta": 1.0},
}


@pytest.fixture(params=RESUMED)
def run(request, tmp_path):
    return Path(shutil.copytree(OLD / request.param, tmp_path / request.param))


def test_it_opens_as_a_pair(run):
    model, guide, experiment = hv.load(run)
    assert experiment.train.seed == 3
    assert {"z1", "z2"} == set(hv.latents(guide, hv.generate(model, 5)["x"]))


def test_it_is_evaluated_to_the_same_numbers(run, command):
    old = json.loads((run / "eval" / "likelihood.json").read_text())
    code, out, _ = command("evaluate", run, "--particles", 20, "--limit", 20, "--json")
    new = json.loads(out)
    assert code == 0
    for key in ("log_likelihood", "stderr", "elbo", "distortion", "rate_total"):
        assert new[key] == pytest.approx(old[key], rel=1e-5)


def test_it_goes_on(run, command):
    code, _, _ = command("train", "--resume", run, "--steps", 80)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert code == 0 and rows[-1]["step"] == 80
    for key, value in RESUMED[run.name].items():
        assert rows[-1][key] == pytest.approx(value, rel=1e-4)
