"""Damaged files of a run are refused by one sentence and exit code 3 (weights that are NaN: 4), and cost no other run."""

import json
import math
import shutil

import pytest
import torch
from command_line import TINY, train_once

import pyro_hvae as hv
from pyro_hvae.runs.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    train_once(folder, "vhp", "--dataset", "pendulum", *TINY, "--steps", "40", "-o", "log_every=5", "--out", "run")
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def change_checkpoint(run, change):
    content = load_checkpoint(run / "checkpoints/last.pt")
    change(content)
    save_checkpoint(run / "checkpoints/last.pt", content)


def first_weight(content):
    return next(iter(content["programs"][0]["model"].items()))


def set_weight(content, function):
    name, value = first_weight(content)
    content["programs"][0]["model"][name] = function(value)


def set_moment(content, name, function):
    moments = next(iter(content["session"]["optimizer"]["state"].values()))
    moments[name] = function(moments[name])


MISFITS = {
    "stage -1": lambda c: c.update(stage=-1),
    "stage 1": lambda c: c.update(stage=1),
    "stage of the wrong kind": lambda c: c.update(stage="0"),
    "step NaN": lambda c: c.update(step=math.nan),
    "step beyond the end": lambda c: c.update(step=41),
    "step true": lambda c: c.update(step=True),
    "no programs": lambda c: c.pop("programs"),
    "programs no list": lambda c: c.update(programs={}),
    "empty programs": lambda c: c.update(programs=[]),
    "no guide": lambda c: c["programs"][0].pop("guide"),
    "two stages": lambda c: c.update(programs=2 * c["programs"], lengths=2 * c["lengths"]),
    "t -1000": lambda c: c["session"].update(t=-1000),
    "t none": lambda c: c["session"].update(t=None),
    "missing weight": lambda c: c["programs"][0]["model"].pop(first_weight(c)[0]),
    "strange weight": lambda c: c["programs"][0]["model"].update(other=torch.zeros(2)),
    "transposed weight": lambda c: set_weight(c, lambda w: w.T.contiguous()),
    "integer weight": lambda c: set_weight(c, torch.Tensor.long),
    "complex weight": lambda c: set_weight(c, lambda w: w.to(torch.complex64)),
    "weight of half precision": lambda c: set_weight(c, torch.Tensor.half),
    "weight no tensor": lambda c: set_weight(c, torch.Tensor.tolist),
}
ONLY_RESUMED = {
    "short moment": lambda c: set_moment(c, "exp_avg", lambda m: m[:1]),
    "long moment": lambda c: set_moment(c, "exp_avg_sq", lambda m: torch.cat([m, m])),
    "integer moment": lambda c: set_moment(c, "exp_avg_sq", torch.Tensor.long),
    "moment of double precision": lambda c: set_moment(c, "exp_avg", torch.Tensor.double),
    "NaN moment": lambda c: set_moment(c, "exp_avg", lambda m: m * math.nan),
    "negative variance": lambda c: set_moment(c, "exp_avg_sq", lambda m: m - 1),
    "step of a vector": lambda c: set_moment(c, "step", lambda m: torch.ones(3)),
    "moment no tensor": lambda c: set_moment(c, "exp_avg", torch.Tensor.tolist),
    "moment of no parameter": lambda c: c["session"]["optimizer"]["state"].update({99: {}}),
    "fewer parameters": lambda c: c["session"]["optimizer"]["param_groups"][0]["params"].pop(),
    "no optimiser": lambda c: c["session"].pop("optimizer"),
    "schedule of another shape": lambda c: c["session"]["schedule"].update(beta=torch.ones(3)),
    "schedule without beta": lambda c: c["session"]["schedule"].pop("beta"),
    "position between batches": lambda c: c["session"]["batches"].update(position=3),
    "position beyond the data": lambda c: c["session"]["batches"].update(position=10**9),
    "position below zero": lambda c: c["session"]["batches"].update(position=-20),
    "short random state": lambda c: c["rng"].update(torch=torch.zeros(5, dtype=torch.uint8)),
    "NumPy's stream beside its keys": lambda c: c["rng"]["numpy"].__setitem__(2, 10**6),
    "Python's stream of another version": lambda c: c["rng"]["python"].__setitem__(0, 99),
    "no random state": lambda c: c.pop("rng"),
    "best a text": lambda c: c.update(best="x"),
}


@pytest.mark.parametrize("name", MISFITS | ONLY_RESUMED)
def test_a_checkpoint_that_does_not_fit_is_refused(run, command, name):
    change_checkpoint(run, (MISFITS | ONLY_RESUMED)[name])
    rows = (run / "metrics.jsonl").read_bytes()
    code, _, err = command("train", "--resume", run, "--steps", 60)
    assert code == 3 and "last.pt' " in err and "unexpected" not in err, err
    assert (run / "metrics.jsonl").read_bytes() == rows
    if name in MISFITS:
        code, _, err = command("sample", run)
        assert code == 3 and "last.pt' " in err and "unexpected" not in err, err


def test_a_run_of_other_networks_says_so_and_names_three_weights_at_most(run, command):
    def rename(content):
        model = content["programs"][0]["model"]
        content["programs"][0]["model"] = {f"{key}_old": value for key, value in model.items()}
        rename.first = list(model)[:3]

    change_checkpoint(run, rename)
    code, _, err = command("sample", run)
    text = " ".join(err.split())
    names = [", ".join(f"model.{key}{end}" for key in rename.first) for end in ("", "_old")]
    assert code == 3 and f"it lacks {names[0]} and" in text and f"and it also holds {names[1]} and" in text, text
    assert "trained by a version of pyro-hvae, or a program, whose networks were others. Train it again" in text, text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_a_divergence(run, command, value):
    change_checkpoint(run, lambda content: set_weight(content, lambda weight: weight * value))
    for arguments in (["sample", run], ["evaluate", run, "--particles", 2], ["train", "--resume", run, "--steps", 60]):
        code, _, err = command(*arguments)
        assert code == 4 and "last.pt' are no numbers" in err and "good" not in err, err


def test_a_comparison_leaves_out_a_run_with_weights_that_are_not_finite(run, command, pendulum_run):
    change_checkpoint(run, lambda content: set_weight(content, lambda weight: weight * math.nan))
    code, _, err = command("compare", run, "--metric", "reconstruction")
    assert code == 4 and "last.pt' are no numbers" in err, err
    code, out, err = command("compare", run, pendulum_run, "--metric", "reconstruction", "--json")
    assert code == 3 and f"{run} is left out: the weights of" in err, err
    values = json.loads(out)
    assert [row["run"] for row in values["runs"]] == [pendulum_run.name] and values["failed"] == [str(run)]


CONFIGS = {
    "empty": lambda text: "",
    "cut between tables": lambda text: text[: text.index("[train]")],
    "cut in a word": lambda text: text[: text.index("steps") + 3],
    "nested": lambda text: "[[train]]\nsteps = 1\n" + text.split("[train]")[0],
    "recipe a number": lambda text: text.replace('recipe = "vhp"', "recipe = 3"),
    "unknown recipe": lambda text: text.replace('recipe = "vhp"', 'recipe = "vhq"'),
    "data set a list": lambda text: text.replace('dataset = "pendulum"', "dataset = []"),
    "unknown data set": lambda text: text.replace('dataset = "pendulum"', 'dataset = "pendulun"'),
    "steps a table": lambda text: text.replace("steps = 40", "steps = {}"),
    "steps of none": lambda text: text.replace("steps = 40", "steps = 0"),
    "options a text": lambda text: text.split("[schedule_options]")[0].replace("[train]", 'schedule_options = "x"\n[train]'),
    "nu a text": lambda text: text.replace("nu = ", 'nu = "x" #'),
    "no utf-8": lambda text: text.encode() + b"# \xff",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_configuration_is_refused_and_left_out_of_comparisons(run, trained, command, name):
    text = CONFIGS[name]((run / "config.toml").read_text())
    (run / "config.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    for arguments in (["sample", run], ["train", "--resume", run]):
        code, _, err = command(*arguments)
        assert code == 3 and "config.toml" in err and "unexpected" not in err, err
    whole = shutil.copytree(trained, run.parent / "whole")
    (whole / "eval").mkdir(exist_ok=True)
    (whole / "eval/angle.json").write_text(json.dumps({"step": 40, "mae_rad": 0.5}))
    code, out, err = command("compare", run, whole, "--metric", "angle.mae_rad")
    assert code == 3 and "whole" in out and "unexpected" not in err and str(run) in err, err


EDITS = {
    "seed = 0": "seed = 1",
    "batch_size = 20": "batch_size = 40",
    "lr = ": "lr = 0.5 #",
    "hidden = [\n    8,\n]": "hidden = [10000000]",
    "nu = ": "nu = 0.5 #",
    "kappa = ": "#",
    "size = 200": "size = 300",
    'schedule = "rewo"': 'schedule = "geco"',
}


@pytest.mark.parametrize("text", EDITS)
def test_a_checkpoint_knows_its_configuration(run, command, text):
    before = (run / "config.toml").read_text()
    assert text in before
    (run / "config.toml").write_text(before.replace(text, EDITS[text]))
    for arguments in (["train", "--resume", run, "--steps", 60], ["sample", run], ["compare", run]):
        code, _, err = command(*arguments)
        assert code == 3 and "was trained with " in err, err


def test_a_configuration_that_asks_for_a_far_larger_pair_is_refused_before_it_is_built(run, command):
    change_checkpoint(run, lambda content: content.pop("config"))  # as an older version wrote it
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("hidden = [\n    8,\n]", "hidden = [10000000]"))
    code, _, err = command("sample", run)
    assert code == 3 and "asks for a weight of" in err, err


def test_what_a_resumed_run_may_change_may_be_edited(run, command):
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("steps = 40", "steps = 50").replace("log_every = 5", "log_every = 10"))
    with pytest.warns(UserWarning, match="config.toml' has changed.*steps = 50 instead of 40, log_every = 10 instead of 5"):
        code, _, err = command("train", "--resume", run)
    assert code == 0 and load_checkpoint(run / "checkpoints/last.pt")["step"] == 50, err


@pytest.mark.parametrize("text", ["[]", "3", "null", "{", '{"a": ', "[" * 100_000, "\xff"])
def test_a_damaged_record_is_named(run, command, text):
    (run / "run.json").write_bytes(text.encode("latin-1"))
    code, _, err = command("train", "--resume", run, "--steps", 60)
    assert code == 3 and "run.json" in err and "unexpected" not in err, err


@pytest.mark.parametrize("line", [b"\x00\xff", b"[]", b'{"step": NaN}', b""])
def test_a_damaged_line_of_metrics_costs_no_other(run, command, line):
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    assert len(lines) == 8
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[3:], b'{"step": 45, "lo']))  # the last one is half
    with pytest.warns(UserWarning, match=r"metrics.jsonl' is damaged in line 3, which is left out"):
        code, _, err = command("train", "--resume", run, "--steps", 60)
    assert code == 0, err
    after = path.read_bytes().split(b"\n")
    assert after[:8] == [*lines[:2], line, *lines[3:]] and len(after) == 13
    assert [json.loads(row)["step"] for row in after[8:-1]] == [45, 50, 55, 60]


@pytest.mark.parametrize("name", ["config.toml", "run.json", "metrics.jsonl"])
@pytest.mark.parametrize("change", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")])
def test_marks_of_an_editor_change_nothing(run, command, name, change):
    (run / name).write_bytes(change((run / name).read_bytes()))
    assert len(hv.runs.RunDirectory(run).rows()) == 8
    code, _, err = command("train", "--resume", run, "--steps", 45)
    assert code == 0 and len(hv.runs.RunDirectory(run).rows()) == 9, err


@pytest.mark.parametrize("left", [0, 3])
def test_lost_rows_are_said(run, command, left):
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:left]))
    with pytest.warns(UserWarning, match=f"metrics.jsonl' ends at step {5 * left} of 40: its later rows are lost"):
        hv.runs.RunDirectory(run).rows()
    (run / "run.json").write_text('{"status": "running"}')
    with pytest.warns(UserWarning, match=f"metrics.jsonl' is not whole: {8 - left} of 8 rows up to step 40 are lost"):
        code, _, err = command("train", "--resume", run, "--steps", 60)
    assert code == 0, err


@pytest.mark.parametrize("text", ['"elbo": -', '"step": 1'])
def test_a_changed_number_of_metrics_is_noticed(run, text):
    path = run / "metrics.jsonl"
    other = {"elbo": text.replace("-", "-1"), "step": text.replace("1", "2")}[text[1:5]]
    path.write_text(path.read_text().replace(text, other, 1))
    with pytest.warns(UserWarning, match=r"metrics.jsonl' is damaged in line \d, which is left out"):
        assert len(hv.runs.RunDirectory(run).rows()) == 7


def test_a_changed_number_of_a_result_is_never_shown(run, command):
    assert command("metrics", run, "angle")[0] == 0
    path, values = run / "eval/angle.json", json.loads((run / "eval/angle.json").read_text())
    path.write_text(path.read_text().replace(f'"mae_rad": {values["mae_rad"]}', '"mae_rad": 0.01'))
    code, out, err = command("compare", run, "--metric", "angle.mae_rad", "--json")
    assert code == 0 and str(values["mae_rad"]) in out and "0.01" not in out, out + err  # it is measured again
    state = run / "run.json"
    state.write_text(state.read_text().replace('"seed": 0', '"seed": 1'))
    code, _, err = command("train", "--resume", run, "--steps", 60)
    assert code == 3 and "run.json' is damaged, or was edited: its checksum does not hold" in err, err


@pytest.mark.parametrize("returned", ["(model, guide, 3)", "(model, guide, None)", "(model, 2)", "exit(0)", "exit()"])
def test_a_program_that_returns_something_else_is_refused(tmp_path, command, returned):
    (tmp_path / "own.py").write_text(
        "import pyro_hvae as hv\n"
        "def build(x):\n"
        "    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, x[0].numel()))\n"
        "    guide = hv.BottomUp([hv.Gaussian(x[0].numel(), 2)])\n"
        f"    return {returned}\n"
    )
    code, _, err = command("train", "--program", "own.py:build", "--dataset", "pendulum", "--steps", 5)
    assert code == 2 and "--program 'own.py:build'" in err and "unexpected" not in err, err
