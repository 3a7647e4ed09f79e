"""A training that ends by an error leaves a run that says so, and names its last good checkpoint."""

import contextlib
import json
import shutil
import signal

import pytest
import torch
from command_line import TINY
from small_runs import CONFIG, At, checkpoint, data, kill, rewo, vhp

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, ContractError, DataError, DivergenceError

resource = pytest.importorskip("resource")


@contextlib.contextmanager
def largest_file(size):
    """No file of this process may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def state(run):
    return json.loads((run / "run.json").read_text())


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path):
    limits = contextlib.ExitStack()
    tracker = At(30, lambda: limits.enter_context(largest_file(8192)))
    with limits, pytest.raises(DataError, match=r"cannot write '.*last.pt': File too large.*last.pt \(step 25\).*--resume"):
        hv.fit(vhp(), data(), CONFIG, rewo(), tmp_path / "run", trackers=[tracker])
    assert state(tmp_path / "run")["status"] == "failed" and "File too large" in state(tmp_path / "run")["error"]
    assert checkpoint(tmp_path / "run")["step"] == 25 and not list(tmp_path.glob("run/checkpoints/.*"))
    hv.fit(vhp(), data(), CONFIG, rewo(), tmp_path / "run", resume=True)
    hv.fit(vhp(), data(), CONFIG, rewo(), tmp_path / "whole")
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    assert state(tmp_path / "run")["status"] == "finished"


@pytest.mark.parametrize("folder", ["run", "run/checkpoints"])
def test_a_deleted_folder_ends_the_run(tmp_path, folder):
    tracker = At(30, lambda: shutil.rmtree(tmp_path / folder))
    with pytest.raises(DataError, match=r"cannot write '.*: No such file or directory.* No checkpoint of the run is left"):
        hv.fit(vhp(), data(), CONFIG, rewo(), tmp_path / "run", trackers=[tracker])
    if folder != "run":
        assert state(tmp_path / "run")["status"] == "failed"


def test_the_command_says_so(tmp_path, command):
    arguments = ["train", "vhp", "--dataset", "pendulum", *TINY, "--steps", 40, "--out", tmp_path / "run"]
    with largest_file(4096):
        code, _, err = command(*arguments)
    assert code == 3 and "File too large" in err and "unexpected" not in err, err
    assert state(tmp_path / "run")["status"] == "failed"
    code, _, err = command(*arguments)  # it has no checkpoint, so the same command starts it again
    assert code == 0, err


@pytest.mark.parametrize("left", ["checkpoints/.last.pt.part", ".config.toml.part", "train.lock", None])
@pytest.mark.parametrize("whole", [True, False])
def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path, left, whole, command):
    run = tmp_path / "run"
    with contextlib.suppress(BaseException), pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_hvae.training.stage_loop.save_checkpoint", lambda *_: kill())
        hv.fit(vhp(), data(), CONFIG, rewo(), run)
    assert not (run / "checkpoints/last.pt").exists()
    if not whole:
        for name in ("config.toml", "run.json", "program.json"):
            (run / name).unlink()
    if left:
        (run / left).write_text("half")
    code, _, err = command("train", "--resume", run)
    assert code == 3 and "The same command starts it again" in err, err
    hv.fit(vhp(), data(), CONFIG, rewo(), run)
    assert checkpoint(run)["step"] == CONFIG.steps


def test_a_run_without_its_checkpoints_is_no_dead_end(tmp_path, command):
    tracker = At(30, lambda: shutil.rmtree(tmp_path / "run/checkpoints"))
    with pytest.raises(DataError, match="No checkpoint of the run is left"):
        hv.fit(vhp(), data(), CONFIG, rewo(), tmp_path / "run", trackers=[tracker])
    code, _, err = command("train", "--resume", tmp_path / "run")
    assert code == 3 and "Move it away; the same command then starts it again" in err, err
    with pytest.raises(ConfigError, match="has no last checkpoint. Move or delete it") as caught:
        hv.fit(vhp(), data(), CONFIG, rewo(), tmp_path / "run")
    assert "--resume" not in str(caught.value)


@pytest.mark.parametrize(
    "error, wrong", [(ContractError, {"x": torch.zeros(30, 3)}), (ConfigError, {"schedule": 2 * [rewo()]})]
)
def test_a_start_that_fails_may_be_repeated(tmp_path, error, wrong):
    given = {"x": data(), "schedule": rewo()}
    with pytest.raises(error):
        hv.fit(vhp(), config=CONFIG, out=tmp_path / "run", **given | wrong)
    hv.fit(vhp(), config=CONFIG, out=tmp_path / "run", **given)
    assert checkpoint(tmp_path / "run")["step"] == CONFIG.steps


def test_places_that_cannot_be_written_are_named(tmp_path, command, monkeypatch):
    name = "x" * 300
    code, _, err = command("train", "vhp", "--dataset", "pendulum", *TINY, "--steps", 2, "--out", name)
    assert code == 3 and "File name too long. Choose another place with --out" in err, err
    for arguments in (["sample", name], ["train", "--resume", name]):
        code, _, err = command(*arguments)
        assert code == 3 and "there is no run" in err, err
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("mine")
    tracker = hv.runs.make_trackers(("tensorboard",), tmp_path)[0]
    with pytest.raises(DataError, match="cannot write '.*tensorboard' for TensorBoard: File exists. Move it away"):
        tracker.start(2, 0)


def test_other_files_are_never_taken_for_a_run(tmp_path):
    for name in ("run.json", "notes.txt", "figures/mine.png"):
        folder = tmp_path / name.partition(".")[0].replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
        with pytest.raises(hv.errors.ConfigError, match="is not empty"):
            hv.fit(vhp(), data(), CONFIG, rewo(), folder)
        assert [path.name for path in folder.rglob("*") if path.is_file()] == [name.split("/")[-1]]


def tiny(**options):
    torch.manual_seed(0)
    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 3, **options))
    return hv.ELBO()(model, hv.BottomUp([hv.Gaussian(3, 2)]))


@pytest.mark.filterwarnings("ignore")
def test_a_divergence_names_its_true_cause(tmp_path):
    x = torch.randn(64, 3)
    with pytest.raises(DivergenceError, match=r"learning rate is not the cause: data \(up to \d.*e\+30\)"):
        hv.fit(tiny(), 1e30 * x, hv.TrainConfig(steps=20, batch_size=64, log_every=1))
    with pytest.raises(DivergenceError, match="learning rate is not the cause.*sigma"):
        hv.fit(tiny(scale=1e-20), x, hv.TrainConfig(steps=20, batch_size=64, log_every=1))
    with pytest.raises(DivergenceError, match="are far apart: .* Also try lr=0.001 and grad_clip"):
        hv.fit(tiny(scale=0.01), x, hv.TrainConfig(steps=200, batch_size=64, log_every=1, lr=1e4))
