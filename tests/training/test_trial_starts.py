"""Trial starts: the best of several initialisations is trained."""

import re

import pytest
from small_runs import equal

from pyro_hvae.runs.checkpoints import load_checkpoint


def test_the_best_of_several_starts_is_trained_from_scratch(tmp_path):
    from pyro_hvae.runs.resolution import resolve
    from pyro_hvae.training.experiment_plan import plan
    from pyro_hvae.training.experiment_training import train
    from pyro_hvae.training.trial_starts import pick_start, trial_bound

    options = {"hidden": "8", "upper": "8", "particles": "2", "size": "200", "starts": "3", "kappa": "4", "alpha": "0.5"}
    experiment = resolve("vhp", "pendulum", options=options, train={"steps": "50", "batch_size": "20", "lr": "0.01"})
    told = []
    made = pick_start(experiment, told.append)
    bounds = [float(v) for v in re.findall(r"-\d+\.\d+", told[0])]
    chosen = bounds.index(max(bounds))
    assert len(set(bounds)) == 3 and f"training number {chosen + 1}" in told[0]
    expected = plan(experiment, chosen).stages[0].objective.state_dict()
    assert equal(dict(made.stages[0].objective.state_dict()), dict(expected))
    assert not equal(dict(expected), dict(plan(experiment, (chosen + 1) % 3).stages[0].objective.state_dict()))
    run = train(experiment, tmp_path / "run")
    first = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert first["step"] == 50 and run.step == 50
    # A trial takes the very steps of the run it tries: a tenth of it, on the same noise and order.
    again = plan(experiment, chosen)
    x, validation = again.dataset.train.x, again.dataset.validation.x
    assert trial_bound(again.stages[0], x, experiment.train, again.schedules[0], validation) == pytest.approx(
        max(bounds), abs=0.006
    )
