"""The recipe of teacher and students: what every stage is, what it inherits, and what supervision does to it."""

import math
import os
import signal

import pytest
import torch
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.data import digits
from pyro_hvae.errors import ConfigError, Interrupted
from pyro_hvae.inference.sampling import ancestral, latents
from pyro_hvae.objectives.supervision import Supervision
from pyro_hvae.recipes.teacher_student import teacher_student
from pyro_hvae.runs.checkpoints import load_checkpoint
from pyro_hvae.runs.trackers import Tracker
from pyro_hvae.runs.train_config import TrainConfig

SMALL = {"hidden": (16,), "features": 8}


def data(size=200):
    return digits().train.x[:size]


def build(x, seed=0, **options):
    torch.manual_seed(seed)
    with torch.no_grad():
        return teacher_student(x, **{**SMALL, **options})


def schedules(stages):
    return [hv.Constant(**stage.schedule) for stage in stages]


def sizes(program):
    return {name: site["value"].shape[1] for name, site in ancestral(program, 2).items() if name != "x"}


@pytest.mark.parametrize("code", ["gaussian", "point"])
def test_every_stage_adds_a_block_below_the_others_and_learns_from_the_stage_before(code):
    x = data(20)
    stages = build(x, dims=(1, 3, 2), code=code)
    assert [sizes(s.objective.model) for s in stages] == [{"z3": 2}, {"z3": 2, "z2": 3}, {"z3": 2, "z2": 3, "z1": 1}]
    assert [set(latents(s.objective.guide, x)) for s in stages] == [{"z3"}, {"z3", "z2"}, {"z3", "z2", "z1"}]
    assert [s.name for s in stages] == ["teacher", "student-1", "student-2"]
    assert [s.share for s in stages] == [1.0, 1.0, 1.0]
    first, *students = stages
    assert first.before is None and not isinstance(first.objective.elbo, Supervision)
    for teacher, student in zip(stages, students, strict=False):
        assert student.objective.elbo.teacher == (teacher.objective.model, teacher.objective.guide)
        assert student.objective.elbo.weights == {"code": 0.25, "cross": 1e-3, "difference": 0.1}
    betas = [s.schedule["beta"] for s in stages]
    assert betas == ([8.0, 1.0, 1.0] if code == "gaussian" else [1.0, 1.0, 1.0])


def test_the_weights_and_betas_are_those_asked_for():
    stages = build(data(20), dims=(2, 2), teacher_beta=6.0, beta=2.0, code_weight=0.5, cross_weight=0.01, difference_weight=0.3)
    assert stages[1].objective.elbo.weights == {"code": 0.5, "cross": 0.01, "difference": 0.3}
    assert [s.schedule for s in stages] == [{"beta": 6.0}, {"beta": 2.0}]


def test_the_networks_are_lezamas_with_one_linear_map_from_code_to_decoder():
    x = data(20)
    stages = build(x, dims=(1, 2), code="point", hidden=(32, 16), features=8)
    shapes = [[tuple(p.shape) for name, p in stage.objective.named_parameters() if name.endswith("weight")] for stage in stages]
    # Decoder: code - 8 - 16 - 32 - 64 pixels; encoder: 64 - 32 - 16 - 8 - code.
    assert shapes[0] == [(8, 2), (16, 8), (32, 16), (64, 32), (2, 8), (32, 64), (16, 32), (8, 16)]
    assert shapes[1] == [(8, 2), (8, 1), (16, 8), (32, 16), (64, 32), (1, 8), (2, 8), (32, 64), (16, 32), (8, 16)]
    model = stages[1].objective.model
    z = ancestral(model, 5)
    code = torch.cat([z["z2"]["value"], z["z1"]["value"]], 1)
    weight = torch.cat([model.rungs[site].branch.weight for site in ("z2", "z1")], 1)
    bias = model.rungs["z2"].branch.bias + model.rungs["z1"].branch.bias
    expected = model.likelihood((code @ weight.T + bias).relu()).mean
    assert_close(z["x"]["fn"].mean, expected)
    assert 0 < expected.min() and expected.max() < 1


def test_the_autoencoders_teacher_alone_has_batch_normalisation_and_its_loss_is_the_sum_of_squares():
    x = data(50)
    teacher, student = build(x, dims=(2, 2), code="point", sigma=math.sqrt(0.5))
    code = teacher.objective.guide(x)
    assert_close(code.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert_close(code.var(0, correction=0), torch.ones(2), atol=1e-3, rtol=0)
    own = latents(student.objective.guide, x)
    assert own["z2"].var(0, correction=0).max() < 0.9 and not list(student.objective.guide.buffers())[2:]
    loss = student.objective.estimate(x)
    error = (x - hv.reconstruct(student.objective.model, student.objective.guide, x)).square().flatten(1).sum(1).mean()
    assert_close(loss.loss() - sum(loss.penalties.values()), error + 32 * math.log(math.pi))


def test_a_student_starts_with_everything_its_teacher_has():
    x = data(50)
    stages = build(x, dims=(1, 3, 2))
    for before, after in zip(stages, stages[1:], strict=False):
        own = set(after.objective.state_dict()) - set(before.objective.state_dict())
        start = {name: after.objective.state_dict()[name].clone() for name in own}
        assert not torch.equal(before.objective.guide.trunk[1][0].weight, after.objective.guide.trunk[1][0].weight)
        after.before()
        assert all(torch.equal(after.objective.state_dict()[n], value) for n, value in before.objective.state_dict().items())
        assert own and all(torch.equal(after.objective.state_dict()[n], value) for n, value in start.items())
        assert after.objective.estimate(x).penalties["code"] == 0  # the same code, so far
        theirs = {p.data_ptr() for p in before.objective.parameters()}
        assert not theirs & {p.data_ptr() for p in after.objective.parameters()}


def test_a_stage_begins_from_the_trained_teacher_and_leaves_it_as_it_was():
    x = data()
    stages = build(x, dims=(2, 2), code="point")
    seen = []

    class Watch(Tracker):
        def start(self, steps, done):
            pass

        def stage(self, name, steps):
            pass

        def step(self, row):
            if len(seen) in (14, 29):
                teacher = {n: v.clone() for n, v in stages[0].objective.state_dict().items()}
                seen.append(teacher)
            else:
                seen.append(None)

        def close(self):
            pass

    fresh = {n: v.clone() for n, v in stages[0].objective.state_dict().items()}
    rows = hv.fit(stages, x, TrainConfig(steps=30, batch_size=32, log_every=1), schedules(stages), trackers=[Watch()])
    assert not torch.equal(fresh["model.rungs.z2.branch.weight"], seen[14]["model.rungs.z2.branch.weight"])
    assert all(torch.equal(seen[14][n], seen[29][n]) for n in fresh)
    assert [row["stage"] for row in rows] == [0] * 15 + [1] * 15
    assert "penalty.code" not in rows[0] and rows[-1]["penalty.code"] > 0
    total = sum(rows[-1][f"penalty.{name}"] for name in ("code", "cross", "difference"))
    assert_close(rows[-1]["loss"], rows[-1]["distortion"] + total)


@pytest.mark.parametrize("code, stop", [("gaussian", 15), ("gaussian", 22), ("point", 22)])
def test_interrupted_in_a_students_stage_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, code, stop):
    x = data()
    config = TrainConfig(steps=30, batch_size=32, log_every=4, save_every=10, eval_every=10, seed=3)

    def run(out, seed=0, **more):
        stages = build(x, seed, dims=(2, 2), code=code)
        hv.fit(stages, x, config, schedules(stages), tmp_path / out, validation=x[:50], **more)

    class Stop(Tracker):
        def __init__(self):
            self.done = 0

        def start(self, steps, done):
            pass

        def stage(self, name, steps):
            pass

        def step(self, row):
            self.done += 1
            if self.done == stop:
                os.kill(os.getpid(), signal.SIGINT)

        def close(self):
            pass

    run("whole")
    with pytest.raises(Interrupted):
        run("cut", trackers=[Stop()])
    run("cut", seed=99, resume=True)
    whole, cut = (load_checkpoint(tmp_path / name / "checkpoints/last.pt") for name in ("whole", "cut"))
    assert whole["stage"] == cut["stage"] == 1
    for ours, theirs in zip(whole["programs"], cut["programs"], strict=True):
        assert all(torch.equal(ours[role][n], theirs[role][n]) for role in ("model", "guide") for n in ours[role])
    assert torch.equal(whole["rng"]["torch"], cut["rng"]["torch"])
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "cut/metrics.jsonl").read_bytes()


def changes(stages, x):
    """How E[x | z] changes in teacher and student when each datum gets another's z2, at posterior means."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    found = []
    for stage in stages:
        model, guide = stage.objective.eval().model, stage.objective.guide
        z = latents(guide, x, mean=True)
        swapped = z | {"z2": z["z2"][order]}
        found.append(hv.generate(model, len(x), z)["x"] - hv.generate(model, len(x), swapped)["x"])
    return found


def test_swapping_the_factors_changes_a_supervised_student_as_it_does_its_teacher():
    x, errors = data(600), []
    for weight in (0.0, 5.0):
        stages = build(
            x, dims=(3, 2), hidden=(64,), features=32, teacher_beta=4.0, code_weight=weight / 10, difference_weight=weight
        )
        config = TrainConfig(steps=300, batch_size=100, lr=3e-3, log_every=400, threads=1)
        hv.fit(stages, x, config, schedules(stages))
        teacher, student = changes(stages, x)
        errors.append(((teacher - student).square().sum() / teacher.square().sum()).item())
    assert errors[1] < 0.2 and errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dims": (3,)}, "two blocks of latents or more, got dims=3"),
        ({"dims": (3, 0)}, "all positive"),
        ({"code": "gausian"}, "Did you mean 'gaussian'"),
        ({"cross_weight": -1.0}, "weight of the cross penalty"),
        ({"likelihood": "normal"}, "no likelihood"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(data(20), **options)


def test_images_take_convolutions():
    x = torch.rand(6, 1, 16, 16)
    stages = build(x, dims=(2, 2), network="conv", hidden=(4, 8), likelihood="bernoulli")
    stages[1].before()
    assert stages[1].objective.estimate(x).loss().isfinite()
