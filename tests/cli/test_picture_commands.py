"""`pyro-hvae sample`, `reconstruct` and `interpolate`: their pictures, texts, JSON and errors."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from pyro_hvae import reconstruct
from pyro_hvae.plots.reconstruction_figures import reconstruct_test_data
from pyro_hvae.runs.checkpoints import load_checkpoint, save_checkpoint
from pyro_hvae.runs.run_loading import open_run


@pytest.mark.parametrize("name", ["sample", "reconstruct", "interpolate"])
def test_pictures(pendulum_run, command, name):
    code, out, err = command(name, pendulum_run)
    assert code == 0, err
    paths = [line.removeprefix("Picture: ") for line in out.splitlines() if line.startswith("Picture: ")]
    assert paths and all(os.path.getsize(path) > 1000 for path in paths)
    code, out, _ = command(name, pendulum_run, "--json")
    assert code == 0 and json.loads(out)["figures"] == paths


def test_the_errors_are_of_test_data_from_all_over_the_set(triangle_runs, command, tmp_path):
    code, out, err = command("reconstruct", *triangle_runs, "--n", 5, "--picture", "both.png", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert (
        values["figures"] == ["both.png"] and (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG") and values["n"] == 5
    )
    texture, vae = map(open_run, triangle_runs)
    x = texture.dataset.test.x[torch.tensor([0, 500, 1000, 1499, 1999])]
    with torch.no_grad():
        again = [
            texture.stage.pixels.reconstruct(x),
            reconstruct(texture.model, texture.guide, x),
            reconstruct(vae.model, vae.guide, x),
        ]
    alone, full, other = [pytest.approx(float((y - x).pow(2).mean() ** 0.5), rel=1e-5) for y in again]
    assert values["runs"] == [
        {"run": str(triangle_runs[0]), "name": "texture (constant) on triangles, seed 0", "rmse": full, "features_rmse": alone},
        {"run": str(triangle_runs[1]), "name": "vae (constant) on triangles, seed 0", "rmse": other},
    ]
    assert len({round(value.expected, 4) for value in (alone, full, other)}) == 3  # so that none can stand for another


def test_one_line_a_run(triangle_runs, command):
    code, out, err = command("reconstruct", *reversed(triangle_runs), "--n", 5)
    assert code == 0, err
    found = reconstruct_test_data([open_run(run) for run in reversed(triangle_runs)], 5)
    path = triangle_runs[1] / "figures/reconstructions.png"
    vae, texture = (one.rmse for one in found)
    assert out.splitlines() == [
        "Reconstructions at the posterior means of 5 test data",
        f"vae (constant) on triangles, seed 0 ({triangle_runs[1]}): RMS error per value "
        f"{vae['reconstructions']:.4f} (these 5 data)",
        f"texture (constant) on triangles, seed 0 ({triangle_runs[0]}): RMS error per value "
        f"{texture['reconstructions']:.4f}, of textures alone {texture['textures alone']:.4f} (these 5 data)",
        f"Picture: {path}",
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--n", "0"], "--n must be at least 1, got 0"),
        (["--picture", "rows.jpeg2"], "--picture is the name of a .png, .pdf, .svg file, got 'rows.jpeg2'"),
        (["--checkpoint", "worst"], "no checkpoint called 'worst'"),
    ],
)
def test_bad_input_of_reconstruct(triangle_runs, command, arguments, message):
    code, out, err = command("reconstruct", *triangle_runs, *arguments)
    assert code == 2 and message in err and not out and len(err.strip().splitlines()) == 1, err


def test_runs_of_other_data_are_refused(triangle_runs, command, tmp_path):
    shutil.copytree(triangle_runs[1], tmp_path / "other")
    config = tmp_path / "other/config.toml"
    config.write_text(config.read_text().replace("data_seed = 0", "data_seed = 1"))
    assert command("reconstruct", "other")[0] == 3  # the checkpoint knows its configuration
    checkpoint = tmp_path / "other/checkpoints/last.pt"
    saved = load_checkpoint(checkpoint)
    saved["config"]["data_options"]["data_seed"] = 1
    save_checkpoint(checkpoint, saved)
    code, out, err = command("reconstruct", triangle_runs[0], "other")
    assert code == 2 and not out and len(err.strip().splitlines()) == 1
    assert str(triangle_runs[0]) in err and "data_seed=0" in err and "than other (triangles, " in err and "data_seed=1" in err
    assert command("reconstruct", "other")[0] == 0


@pytest.mark.parametrize("kind, start", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_pictures_of_several_figures_go_where_they_are_asked_to(pendulum_run, command, kind, start):
    asked = f"new/one.{kind}"
    commands = {
        "interpolate --nodes 200": [asked, f"new/one_latent_space.{kind}"],
        "layers --outer 2 --inner 2": [asked],
        "gibbs --steps 6 --burn-in 2 --chains 4": [asked, f"new/one_gibbs_chains_z1.{kind}"],
    }
    before = sorted((pendulum_run / "figures").iterdir())
    for typed, expected in commands.items():
        name, *options = typed.split()
        code, out, err = command(name, pendulum_run, *options, "--picture", asked, "--json")
        assert code == 0 and json.loads(out)["figures"] == expected, err
        for file in map(Path, expected):
            assert file.read_bytes().startswith(start)
            file.unlink()
    assert sorted((pendulum_run / "figures").iterdir()) == before
    code, out, err = command("gibbs", pendulum_run, "--picture", "one.jpg")
    assert code == 2 and "--picture is the name of a .png, .pdf, .svg file, got 'one.jpg'" in err and not out


def test_samples_go_where_they_are_asked_to(pendulum_run, command):
    code, out, _ = command("sample", pendulum_run, "--n", 4, "--picture", "new/samples.svg", "--json")
    assert code == 0 and json.loads(out)["figures"] == ["new/samples.svg"]
    assert "<svg" in Path("new/samples.svg").read_text()
    code, out, err = command("sample", pendulum_run, "--picture", "samples.jpg")
    assert code == 2 and "--picture is the name of a .png, .pdf, .svg file, got 'samples.jpg'" in err and not out
    for name in ("sample", "reconstruct", "traverse", "compare", "interpolate", "layers", "gibbs"):
        assert "a .png, .pdf or .svg file" in " ".join(command(name, "--help")[1].split())
