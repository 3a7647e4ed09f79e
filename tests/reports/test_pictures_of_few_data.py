"""A picture never costs a finished run its exit code: it is drawn from what there is, or left out with a line."""

import json

import numpy as np
import pytest

from pyro_hvae.reports import run_pictures

TRAIN = "-o hidden=8 -o starts=1 --steps 4 --batch-size 2 --out run --json".split()


@pytest.mark.parametrize("kind", ["few", "constant"])
@pytest.mark.parametrize("shape", [(5,), (8, 8)])
def test_few_and_constant_data_train_with_exit_code_0(tmp_path, monkeypatch, command, kind, shape):
    monkeypatch.chdir(tmp_path)
    n = 5 if kind == "few" else 40
    x = np.random.default_rng(0).random((n, *shape), np.float32) if kind == "few" else np.full((n, *shape), 0.5, np.float32)
    np.save("own.npy", x)
    code, out, err = command("train", "vae", "--dataset", "own.npy", "-o", "latent=3", *TRAIN)
    assert code == 0, err
    names = {path.rsplit("/", 1)[-1] for path in json.loads(out)["figures"]}
    assert {"training.png", "latent_space.png", "reconstructions.png", "samples.png"} <= names, out
    assert command("interpolate", "run")[0] in (0, 3)


def test_a_picture_that_fails_is_left_out_with_a_line(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)

    def fail(*arguments):
        raise ZeroDivisionError("no room")

    monkeypatch.setattr(run_pictures, "plot_samples", fail)
    arguments = [a for a in TRAIN if a != "--json"]
    code, out, _ = command("train", "vae", "--dataset", "digits", *arguments)
    assert code == 0 and "No picture 'samples': ZeroDivisionError: no room" in out and "reconstructions.png" in out
