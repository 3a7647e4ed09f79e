"""Ladders on the command line: training, what it draws and logs, resume, and errors that teach."""

import json

import pytest

SMALL = ("--dataset", "digits", "--steps", "12", "-o", "width=8", "-o", "batch_size=16")


def train(command, recipe, out, *more):
    code, _, err = command("train", recipe, *SMALL, "--out", out, *more)
    assert code == 0, err


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_pro_vlae_trains_layer_by_layer_and_draws_its_information_flow(command, tmp_path):
    out = tmp_path / "pro"
    train(command, "pro-vlae", out, "-o", "information_every=4", "-o", "information_points=100", "-o", "log_every=1")
    logged = rows(out)
    assert [row["layers"] for row in logged] == [1] * 4 + [2] * 4 + [3] * 4
    assert [row["step"] for row in logged if "information.total" in row] == [4, 8, 12]
    for name in ("information_flow", "training", "reconstructions", "samples"):
        assert (out / f"figures/{name}.png").stat().st_size > 5_000
    code, text, err = command("layers", out, "--grid", "--cells", "3")
    assert code == 0 and "layer_grid.png" in text, err
    code, text, err = command("evaluate", out, "--particles", "5", "--limit", "20", "--json")
    assert code == 0 and len(json.loads(text)["kl_per_dimension"]["z1"]) == 2, err


def test_vlae_under_the_progressive_schedule_is_pro_vlae(command, tmp_path):
    train(command, "vlae", tmp_path / "vlae", "--schedule", "progressive", "-o", "log_every=1")
    train(command, "pro-vlae", tmp_path / "pro", "-o", "log_every=1")
    assert rows(tmp_path / "vlae") == rows(tmp_path / "pro")


def test_teacher_student_has_a_stage_for_every_block_and_resumes_inside_one(command, tmp_path):
    options = ("-o", "dims=2,1,2", "-o", "hidden=8", "-o", "features=8", "-o", "log_every=1")
    small = ("--dataset", "digits", "--steps", "9", "-o", "batch_size=16", *options)
    code, _, err = command("train", "teacher-student", *small, "--out", tmp_path / "ts")
    assert code == 0, err
    logged = rows(tmp_path / "ts")
    assert [row["stage"] for row in logged] == [0] * 3 + [1] * 3 + [2] * 3
    assert [sum(key.startswith("rate.z") for key in row) for row in logged] == [1] * 3 + [2] * 3 + [3] * 3
    assert "penalty.difference" in logged[3] and "penalty.difference" not in logged[2]
    assert [row["beta"] for row in logged] == [8.0] * 3 + [1.0] * 6
    code, _, err = command("traverse", tmp_path / "ts")
    assert code in (0, 2), err  # so short a run may have no living dimension
    code, _, err = command("train", "--resume", tmp_path / "ts", "--steps", "12")
    assert code == 2 and "a run of one stage can be made longer" in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("pro-vlae", "--steps", "2"), "2 steps are fewer than the 3 layers that are to enter"),
        (("pro-vlae", "-o", "fade=100"), "fade=100 iterations are more than the 4 of a step"),
        (("pro-vlae", "-o", "gamma=-1"), "gamma and fade must not be negative"),
        (("vae", "--schedule", "progressive"), "opens the gates of a pair layer by layer, and this pair has none"),
        (("vlae", "-o", "dims=0,2"), "option dims must be positive, got (0, 2)"),
        (("vlae", "-o", "network=vlae-celeba"), "needs images (channels, height, width) with sides divisible by 16"),
        (("vlae", "-o", "join=add"), "no join called 'add'"),
        (("vlae", "-o", "likelihood=laplac"), "Did you mean 'laplace'"),
        (("vlae", "-o", "information_points=0"), "information-points must be at least 1"),
        (("vlae", "-o", "information_every=-1"), "information-every must not be negative"),
        (("teacher-student", "--steps", "2"), "2 steps are fewer than the 3 stages"),
        (("teacher-student", "--schedule", "rewo"), "every stage holds a beta of its own"),
        (("teacher-student", "-o", "code=pont"), "Did you mean 'point'"),
        (("teacher-student", "-o", "code=point", "-o", "information_every=5"), "need Gaussian posteriors"),
    ],
)
def test_errors_teach_before_anything_is_trained(command, tmp_path, arguments, message):
    recipe, *more = arguments
    steps = [] if "--steps" in more else ["--steps", "12"]
    code, out, err = command("train", recipe, "--dataset", "digits", *steps, *more, "--out", tmp_path / "run")
    assert code == 2 and message in err and not out, err
    assert "Traceback" not in err and not (tmp_path / "run").exists()


def test_no_likelihood_of_a_point_code(command, tmp_path):
    code, _, err = command(
        "train", "teacher-student", "--dataset", "digits", "--steps", "6", "-o", "code=point", "--out", tmp_path / "ae"
    )
    assert code == 0, err
    code, _, err = command("evaluate", tmp_path / "ae", "--particles", "5", "--limit", "10")
    assert code == 2 and "all mass on a point" in err
    code, _, err = command("metrics", tmp_path / "ae", "mutual-information")
    assert code == 2 and "Gaussian posteriors" in err
    code, text, err = command("traverse", tmp_path / "ae")  # means it has
    assert code == 0 and "z3[0]" in text, err
    code, text, err = command("metrics", tmp_path / "ae", "reconstruction", "--json")
    assert code == 0 and json.loads(text)["mse"] > 0, err
