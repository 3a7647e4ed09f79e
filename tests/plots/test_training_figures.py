"""The curves of a training: a figure for each stage where their scales differ, and limits that show the late steps."""

from dataclasses import replace

from pyro_hvae.plots import plot_training, plot_training_curves
from pyro_hvae.runs.run_loading import open_run


def test_stages_on_scales_of_their_own_have_pictures_of_their_own(triangle_runs):
    run = open_run(triangle_runs[0])
    pictures = plot_training(run, run.directory.rows())
    assert {name: figure.get_suptitle().splitlines()[1] for name, figure in pictures.items()} == {
        "training_texture": "stage 1 of 2: texture",
        "training": "stage 2 of 2: global",
    }
    steps = {name: figure.axes[0].lines[0].get_xdata().tolist() for name, figure in pictures.items()}
    assert steps == {"training_texture": [2, 4, 6], "training": [8, 10, 12]}
    assert {path.stem for path in (triangle_runs[0] / "figures").iterdir()} >= set(pictures)


def test_stages_on_one_scale_share_a_picture(triangle_runs):
    run = open_run(triangle_runs[0])
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
    rows[20]["validation_elbo"] = -150.0
    assert plot_training_curves(rows, "").axes[1].get_ylim() == (-155, -45)  # a margin one can see on a wide scale, too


def test_the_legend_covers_no_curve():
    rows = [{"step": t, "stage": 0, "beta": 1.0, "elbo": float(t), "rate.z1": 1.0, "rate.z2": 2.0} for t in range(1, 9)]
    for some in (rows, rows[:1]):
        figure = plot_training_curves(some, "")
        figure.draw_without_rendering()
        for axis in figure.axes:
            if legend := axis.get_legend():
                box = legend.get_window_extent()
                assert box.x0 >= axis.get_window_extent().x1 and box.x1 <= figure.bbox.x1
    assert {line.get_marker() for axis in figure.axes for line in axis.lines} == {"o"}  # of one row
