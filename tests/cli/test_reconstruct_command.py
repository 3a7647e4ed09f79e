"""pyro-hvae reconstruct, of one run and of several side by side, and the curves of stages on scales of their own."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from pyro_hvae import reconstruct
from pyro_hvae.cli import main
from pyro_hvae.plots.reconstruction_figures import Reconstructions, plot_reconstructions, reconstruct_test_data
from pyro_hvae.plots.training_figures import plot_training, plot_training_curves
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.run_loading import open_run

TINY = "--dataset triangles -o size=40 -o hidden=2,2,2,2,8 --steps 12 --batch-size 8 -o log_every=2".split()
# 64 patches an image, not 4096: quick.
TEXTURE = "-o texture_hidden=8,8 -o overlap=false -o patch=8 -o texture_share=0.5".split()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that sees features, and one of the same data that does not."""
    folder = tmp_path_factory.mktemp("reconstruct")
    for recipe, *options in [("texture", *TEXTURE), ("vae",)]:
        with pytest.raises(SystemExit) as left:
            main(["train", recipe, *TINY, *options, "--out", str(folder / recipe)])
        assert not left.value.code
    return folder / "texture", folder / "vae"


def constant(value, *grey):
    """Three images of one grey as data, and rows of others."""
    kinds = ["textures alone", "reconstructions"][-len(grey) :]
    images = [torch.full((3, 3, 64, 64), one) for one in (value, *grey)]
    return Reconstructions(images[0], dict(zip(kinds, images[1:], strict=True)))


def labelled(figure):
    """(label, grey in the middle of the first image) of all rows of a picture, from above."""
    (axis,) = figure.axes
    canvas = axis.images[0].get_array()
    ticks = zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    return [(label.get_text(), round(float(canvas[int(at), 32, 0]), 3)) for at, label in ticks]


def test_rows_of_one_run(runs):
    texture, vae = map(open_run, runs)
    one = constant(0.5, 0.75, 0.25)
    rows = [("test data", 0.5), ("textures alone", 0.75), ("reconstructions", 0.25)]
    assert labelled(plot_reconstructions([texture], [one])) == rows
    figure = plot_reconstructions([vae], [constant(0.5, 0.375)])
    assert labelled(figure) == [("test data", 0.5), ("reconstructions", 0.375)]
    assert figure.get_suptitle() == "Reconstructions of vae (constant) on triangles, seed 0\nRMS error per value 0.1250"


def test_rows_of_runs_side_by_side(runs):
    found = [constant(0.5, 0.375), constant(0.5, 0.75, 0.0)]
    figure = plot_reconstructions([open_run(runs[1]), open_run(runs[0])], found)
    assert labelled(figure) == [
        ("test data", 0.5),
        ("vae, seed 0", 0.375),
        ("texture, seed 0:\ntextures alone", 0.75),
        ("texture, seed 0", 0.0),
    ]
    assert figure.get_suptitle().splitlines() == [
        "Reconstructions of test data of triangles",
        "vae, seed 0: RMS error per value 0.1250",
        "texture, seed 0: RMS error per value 0.5000, of textures alone 0.2500",
    ]


def test_more_than_twelve_go_on_below(runs):
    run, grey = open_run(runs[1]), torch.linspace(0, 1, 14).view(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    figure = plot_reconstructions([run], [Reconstructions(grey, {"reconstructions": 1 - grey})])
    after = round(12 / 13, 3)
    below = [("test data", after), ("reconstructions", round(1 / 13, 3))]
    assert labelled(figure) == [("test data", 0.0), ("reconstructions", 1.0), *below]


def test_runs_of_one_recipe_and_seed_are_told_apart(runs):
    run = open_run(runs[1])

    def names(*places):
        others = [replace(run, directory=RunDirectory(place)) for place in places]
        return [label for label, _ in labelled(plot_reconstructions(others, [constant(0.5, 0.5)] * len(others)))][1:]

    assert names("a/one", "a/two") == ["one", "two"]
    assert names("a/one", "b/one") == ["a/one", "b/one"]
    seeds = [replace(run, experiment=replace(run.experiment, train=replace(run.experiment.train, seed=s))) for s in (3, 4)]
    figure = plot_reconstructions(seeds, [constant(0.5, 0.5)] * 2)
    assert [label for label, _ in labelled(figure)][1:] == ["vae, seed 3", "vae, seed 4"]


def test_the_errors_are_of_test_data_from_all_over_the_set(runs, command, tmp_path):
    code, out, err = command("reconstruct", *runs, "--n", 5, "--picture", "both.png", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert (
        values["figures"] == ["both.png"] and (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG") and values["n"] == 5
    )
    texture, vae = map(open_run, runs)
    x = texture.dataset.test.x[torch.tensor([0, 500, 1000, 1499, 1999])]
    with torch.no_grad():
        again = [
            texture.stage.pixels.reconstruct(x),
            reconstruct(texture.model, texture.guide, x),
            reconstruct(vae.model, vae.guide, x),
        ]
    alone, full, other = [pytest.approx(float((y - x).pow(2).mean() ** 0.5), rel=1e-5) for y in again]
    assert values["runs"] == [
        {"run": str(runs[0]), "name": "texture (constant) on triangles, seed 0", "rmse": full, "features_rmse": alone},
        {"run": str(runs[1]), "name": "vae (constant) on triangles, seed 0", "rmse": other},
    ]
    assert len({round(value.expected, 4) for value in (alone, full, other)}) == 3  # so that none can stand for another


def test_one_line_a_run(runs, command):
    code, out, err = command("reconstruct", *reversed(runs), "--n", 5)
    assert code == 0, err
    found = reconstruct_test_data([open_run(run) for run in reversed(runs)], 5)
    path = runs[1] / "figures/reconstructions.png"
    assert out.splitlines() == [
        "Reconstructions at the posterior means of 5 test data",
        f"vae (constant) on triangles, seed 0 ({runs[1]}): RMS error per value {found[0].rmse['reconstructions']:.4f}",
        f"texture (constant) on triangles, seed 0 ({runs[0]}): RMS error per value {found[1].rmse['reconstructions']:.4f}, "
        f"of textures alone {found[1].rmse['textures alone']:.4f}",
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
def test_bad_input(runs, command, arguments, message):
    code, out, err = command("reconstruct", *runs, *arguments)
    assert code == 2 and message in err and not out and len(err.strip().splitlines()) == 1, err


def test_runs_of_other_data_are_refused(runs, command, tmp_path):
    shutil.copytree(runs[1], tmp_path / "other")
    config = tmp_path / "other/config.toml"
    config.write_text(config.read_text().replace("data_seed = 0", "data_seed = 1"))
    code, out, err = command("reconstruct", runs[0], "other")
    assert code == 2 and not out and len(err.strip().splitlines()) == 1
    assert str(runs[0]) in err and "data_seed=0" in err and "than other (triangles, " in err and "data_seed=1" in err
    assert command("reconstruct", "other")[0] == 0


def test_stages_on_scales_of_their_own_have_pictures_of_their_own(runs):
    run = open_run(runs[0])
    pictures = plot_training(run, run.directory.rows())
    assert {name: figure.get_suptitle().splitlines()[1] for name, figure in pictures.items()} == {
        "training_texture": "stage 1 of 2: texture",
        "training": "stage 2 of 2: global",
    }
    steps = {name: figure.axes[0].lines[0].get_xdata().tolist() for name, figure in pictures.items()}
    assert steps == {"training_texture": [2, 4, 6], "training": [8, 10, 12]}
    assert {path.stem for path in (runs[0] / "figures").iterdir()} >= set(pictures)


def test_stages_on_one_scale_share_a_picture(runs):
    run = open_run(runs[0])
    plain = replace(run, stages=[replace(stage, pixels=None) for stage in run.stages])
    pictures = plot_training(plain, run.directory.rows())
    assert list(pictures) == ["training"] and pictures["training"].axes[0].lines[0].get_xdata().tolist() == [2, 4, 6, 8, 10, 12]
    assert pictures["training"].get_suptitle() == "Training of texture (constant) on triangles, seed 0"


def test_the_start_of_a_later_stage_is_cut_off_as_well():
    rows = [{"step": step, "stage": 1, "beta": 1.0, "elbo": -50.0} for step in range(800, 1001, 10)]
    rows[0]["elbo"] = rows[2]["validation_elbo"] = -1000.0
    rows[20]["validation_elbo"] = -60.0
    (low, high) = plot_training_curves(rows, "").axes[1].get_ylim()
    assert (low, high) == (-61, -49)
