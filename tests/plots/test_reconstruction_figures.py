"""The figure of reconstructions: rows and labels for one run and for several."""

from dataclasses import replace

import torch

from pyro_hvae.plots.reconstruction_figures import Reconstructions, plot_reconstructions
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.run_loading import open_run


def constant(value, *grey):
    """Three images of one grey as data, and rows of others."""
    kinds = ["textures alone", "reconstructions"][-len(grey) :]
    images = [torch.full((3, 3, 64, 64), one) for one in (value, *grey)]
    return Reconstructions(images[0], dict(zip(kinds, images[1:], strict=True)), range(3))


def labelled(figure):
    """(label, grey in the middle of the first image) of all rows of a picture, from above."""
    (axis,) = figure.axes
    canvas = axis.images[0].get_array()
    ticks = zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    return [(label.get_text(), round(float(canvas[int(at), 32, 0]), 3)) for at, label in ticks]


def test_rows_of_one_run(triangle_runs):
    texture, vae = map(open_run, triangle_runs)
    one = constant(0.5, 0.75, 0.25)
    rows = [("test data", 0.5), ("textures alone", 0.75), ("reconstructions", 0.25)]
    assert labelled(plot_reconstructions([texture], [one])) == rows
    figure = plot_reconstructions([vae], [constant(0.5, 0.375)])
    assert labelled(figure) == [("test data", 0.5), ("reconstructions", 0.375)]
    assert (
        figure.get_suptitle()
        == "Reconstructions of vae (constant) on triangles, seed 0\nRMS error per value 0.1250 (these 3 data)"
    )


def test_rows_of_runs_side_by_side(triangle_runs):
    found = [constant(0.5, 0.375), constant(0.5, 0.75, 0.0)]
    figure = plot_reconstructions([open_run(triangle_runs[1]), open_run(triangle_runs[0])], found)
    assert labelled(figure) == [
        ("test data", 0.5),
        ("vae, seed 0", 0.375),
        ("texture, seed 0:\ntextures alone", 0.75),
        ("texture, seed 0", 0.0),
    ]
    assert figure.get_suptitle().splitlines() == [
        "Reconstructions of test data of triangles",
        "vae, seed 0: RMS error per value 0.1250 (these 3 data)",
        "texture, seed 0: RMS error per value 0.5000, of textures alone 0.2500 (these 3 data)",
    ]


def test_more_than_twelve_go_on_below(triangle_runs):
    run, grey = open_run(triangle_runs[1]), torch.linspace(0, 1, 14).view(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    figure = plot_reconstructions([run], [Reconstructions(grey, {"reconstructions": 1 - grey}, range(14))])
    after = round(12 / 13, 3)
    below = [("test data", after), ("reconstructions", round(1 / 13, 3))]
    assert labelled(figure) == [("test data", 0.0), ("reconstructions", 1.0), *below]


def test_runs_of_one_recipe_and_seed_are_told_apart(triangle_runs):
    run = open_run(triangle_runs[1])

    def names(*places):
        others = [replace(run, directory=RunDirectory(place)) for place in places]
        return [label for label, _ in labelled(plot_reconstructions(others, [constant(0.5, 0.5)] * len(others)))][1:]

    assert names("a/one", "a/two") == ["one", "two"]
    assert names("a/one", "b/one") == ["a/one", "b/one"]
    seeds = [replace(run, experiment=replace(run.experiment, train=replace(run.experiment.train, seed=s))) for s in (3, 4)]
    figure = plot_reconstructions(seeds, [constant(0.5, 0.5)] * 2)
    assert [label for label, _ in labelled(figure)][1:] == ["vae, seed 3", "vae, seed 4"]
