"""Pictures of vectors: the scale of the data, a colour bar, and the names of the columns."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.inference.traversal import Traversals, Unit
from pyro_hvae.plots.gibbs_figures import plot_gibbs_samples
from pyro_hvae.plots.image_grid import plot_image_sheet
from pyro_hvae.plots.layer_figures import plot_layer_grids, plot_layer_samples
from pyro_hvae.plots.reconstruction_figures import Reconstructions, plot_reconstructions
from pyro_hvae.plots.traversal_figures import plot_traversals
from pyro_hvae.plots.vector_scale import VectorScale, dataset_scale
from pyro_hvae.runs.train_config import TrainConfig

ALIKE = torch.tensor([[-1437.0, 0.0, 3.0], [2205.0, 4254.0, 800.0], [0.0, 17.0, -50.0]])
UNLIKE = ALIKE * torch.tensor([1.0, 1.0, 1e-4])
NAMES = ("depth (m)", "cost ($)", "µ")


def dataset(x, **more):
    return Dataset("own", *(Split(x) for _ in range(3)), **more)


def run(x, **more):
    data = dataset(x, **more)
    named = SimpleNamespace(method="vae", schedule="constant", dataset="own", train=TrainConfig())
    return SimpleNamespace(images=data.draw, experiment=named, dataset=data, directory=SimpleNamespace(path=Path("a")))


def texts(labels):
    return [label.get_text() for label in labels]


def test_columns_alike_share_one_scale_with_numbers():
    """A colour bar in the data's unit covers all data; with both signs its middle is zero."""
    figure = plot_image_sheet(ALIKE, "t", dataset_scale(dataset(ALIKE, columns=NAMES), ALIKE))
    axis, bar = figure.axes
    assert axis.get_images()[0].get_clim() == (-4254.0, 4254.0) and axis.get_images()[0].get_cmap().name == "coolwarm"
    shown = np.asarray(axis.get_images()[0].get_array())
    assert np.nanmax(shown) == 4254.0 and np.nanmin(shown) == -1437.0  # nothing is clipped
    assert texts(axis.get_xticklabels()) == ["depth (m)", r"cost (\$)", "µ"] and axis.get_xlabel() == "column"
    assert axis.get_xticks().tolist() == [7.5, 23.5, 39.5]  # 16 pixels a column
    assert texts(axis.get_yticklabels()) == ["0", "1", "2"]
    assert bar.get_ylabel() == "value" and bar.get_ylim() == (-4254.0, 4254.0)
    positive = VectorScale.measure(ALIKE.abs())
    assert VectorScale.measure(ALIKE.abs() - 1e-6).colours == "viridis"  # rounding has no sign
    assert positive.limits == (0.0, 4254.0) and positive.colours == "viridis" and positive.shared


def test_columns_of_several_units_have_each_its_own_scale():
    figure = plot_image_sheet(UNLIKE, "t", dataset_scale(dataset(UNLIKE, columns=NAMES), UNLIKE))
    axis, bar = figure.axes
    shown = np.asarray(axis.get_images()[0].get_array())[6, [8, 24, 40]]
    np.testing.assert_allclose(shown, [0, 0, 53 / 850], atol=1e-6)
    assert axis.get_images()[0].get_clim() == (0.0, 1.0)
    assert texts(axis.get_xticklabels()) == ["depth (m) (-1437 to 2205)", r"cost (\$) (0 to 4254)", "µ (-0.005 to 0.08)"]
    assert texts(bar.get_yticklabels()) == ["lowest", "middle", "highest"]
    assert bar.get_ylabel().split("\n") == ["range of each column in", "the training data"]  # short pictures have short bars


def test_the_scale_is_that_of_the_training_data_not_of_what_is_drawn():
    scale = dataset_scale(dataset(ALIKE), ALIKE)
    figure = plot_image_sheet(1e6 * ALIKE[1:2], "t", scale)
    assert figure.axes[0].get_images()[0].get_clim() == (-4254.0, 4254.0)
    assert figure.axes[0].get_images()[0].colorbar.extend == "max"  # the bar shows that values lie beyond
    figure = plot_image_sheet(ALIKE, "t")
    assert figure.axes[0].get_images()[0].get_clim() == (-4254.0, 4254.0)  # without a data set: their own


def test_a_large_offset_and_constant_columns():
    x = torch.tensor([[1.7e9, 5.0], [1.7e9 + 10, 5.0]], dtype=torch.float64)
    scale = VectorScale.measure(x)
    assert not scale.shared  # all values together would hide that the first column varies
    np.testing.assert_allclose(scale.values(x), [[0, 0.5], [1, 0.5]])
    unlike = VectorScale.measure(torch.tensor([[0.0, 5.0, 0.0], [1.0, 5.0, 1e3]]))
    np.testing.assert_allclose(unlike.values(torch.tensor([[0.5, 5.0, 250.0]])), [[0.5, 0.5, 0.25]])
    assert VectorScale.measure(torch.full((4, 2), 3.0)).limits == (2.5, 3.5)


def test_images_have_no_scale_and_no_bar():
    x = torch.rand(4, 1, 8, 8)
    assert dataset_scale(dataset(x), x) is None
    assert len(plot_image_sheet(x, "t").axes) == 1


def test_standardised_data_are_drawn_in_their_own_units():
    features = torch.tensor([[-1.0, 0.0], [1.0, 2.0]])
    data = dataset(features, inverse=lambda x: 100 * x + 7)
    scale = dataset_scale(data, data.draw(features))
    assert scale and scale.limits == (-207.0, 207.0) and scale.low.tolist() == [-93.0, 7.0]


@pytest.mark.parametrize(("names", "line"), [(NAMES, r"depth (m), cost (\$), µ"), ((), "0, 1, 2")])
def test_grids_of_strips_say_which_columns_a_strip_has(names, line):
    opened = run(ALIKE, columns=names)
    images = {"z1": ALIKE[:, None].expand(3, 3, 3).reshape(9, 3)}
    found = Traversals([Unit("z1", 0, 0.5)], torch.tensor([-2.5, 0.0, 2.5]), ALIKE[None], {"z1": 0})
    figures = [plot_layer_grids(opened, images, 2.0, "others fixed"), plot_traversals([opened], [found], "test datum 0")]
    figures.append(plot_reconstructions([opened], [Reconstructions(ALIKE, {"reconstructions": ALIKE}, [4, 7, 9])]))
    for figure in figures:
        axis, bar = figure.axes
        assert axis.get_images()[0].get_clim() == (-4254.0, 4254.0)
        assert f"a strip from left to right: {line}" in bar.get_xlabel().replace("\n", " ")
    rows = figures[2].axes[0]
    assert texts(rows.get_xticklabels()) == ["test data", "reconstructions"]
    assert texts(rows.get_yticklabels()) == ["4", "7", "9"] and rows.get_ylabel() == "index in the test data"


@pytest.mark.parametrize("kind", ["layers", "gibbs"])
def test_every_strip_keeps_the_white_line_below_it(kind):
    """Thinner strips lost most of them, and the others looked like a pattern of the data."""
    many = torch.linspace(-1, 1, 64)[:, None].repeat(1, 5)
    opened = run(many, columns=[letter * 30 for letter in "abcde"])
    if kind == "layers":
        figure = plot_layer_samples(opened, {"z1": many}, {})
    else:  # few test data leave few ancestral samples
        distance = dict.fromkeys(("gibbs", "ancestral"), {"means": {"value": 0.0, "stderr": 0.1}})
        values = {"distance": distance, "particles": 1, "steps": 9, "proposition": 1}
        chains = SimpleNamespace(sites=("z1",), mean=many[None])
        figure = plot_gibbs_samples(opened, SimpleNamespace(values=values, chains=chains, ancestral=many[:9]))
    FigureCanvasAgg(figure).draw()
    axis = figure.subfigs[0].axes[0]
    assert axis.get_window_extent().height / axis.get_images()[0].get_array().shape[0] > 0.7  # screen pixels per array pixel


def test_rows_of_a_sheet_are_numbered_as_in_their_data():
    axis = plot_image_sheet(ALIKE, "t", None, [12, 3, 7], "index in the training data").axes[0]
    assert texts(axis.get_yticklabels()) == ["12", "3", "7"] and axis.get_ylabel() == "index in the training data"
    axis = plot_image_sheet(ALIKE.repeat(20, 1), "t", None, range(100, 160)).axes[0]
    assert texts(axis.get_yticklabels()) == [*map(str, range(100, 160))]  # in any order, so every row needs its own


@pytest.mark.parametrize("length", [1, 15, 40])
def test_the_label_of_the_bar_of_few_vectors_is_not_cut_off(length):
    names = [letter * length for letter in "abc"]
    scale = VectorScale.measure(UNLIKE, names)
    figure = plot_image_sheet(UNLIKE[:2], "two data", scale)
    FigureCanvasAgg(figure).draw()
    for axis in figure.axes:
        for label in (axis.xaxis.label, axis.yaxis.label, *axis.get_xticklabels()):
            box = label.get_window_extent()
            assert box.y0 >= 0 and box.y1 <= figure.bbox.height and box.x1 <= figure.bbox.width, label


def test_layer_samples_name_columns_along_the_axis():
    figure = plot_layer_samples(run(ALIKE, columns=NAMES), {"z1": ALIKE}, {})
    axis = figure.axes[0]
    assert texts(axis.get_xticklabels())[0] == "depth (m)" and len(figure.axes) == 2


@pytest.mark.parametrize("named", [True, False])
def test_many_columns_are_thinned(named):
    x = torch.randn(5, 500)
    names = [f"c{i}" for i in range(500)] if named else []
    axis, _ = plot_image_sheet(x, "t", VectorScale.measure(x, names)).axes
    labels = texts(axis.get_xticklabels())
    assert 10 <= len(labels) <= 40 and labels[:2] == (["c0", "c13"] if named else ["0", "39"])
    assert axis.get_xticks()[1] == (13 if named else 39)
    line = VectorScale.measure(x, names)._list_columns()
    first = ", ".join(f"c{i}" for i in range(19))
    assert line == (f"{first}, ..., c499 (500 columns)" if named else "columns 0 to 499")


def test_series_share_one_scale_and_tables_do_not():
    """Of a series some columns vary little, and are of one unit all the same; they count from any file."""
    phase = torch.linspace(0, 6.0, 50)
    shifts, heights = torch.linspace(0, 3.0, 40)[:, None], torch.linspace(0.5, 1.0, 40)[:, None]
    series = heights * (phase + shifts).sin() * torch.linspace(1, 0.02, 50)  # its end varies by a fiftieth of its start
    scale = VectorScale.measure(series)
    assert scale.shared and scale.labels == [str(i) for i in range(50)]
    shuffled = series[:, torch.randperm(50, generator=torch.Generator().manual_seed(0))]
    assert not VectorScale.measure(shuffled).shared  # a table of such columns has no neighbours
    assert not VectorScale.measure(series[:, ::8]).shared


def test_rounding_of_scaled_data_is_no_end_of_a_range():
    rounded = torch.tensor([[-4.7e-08, 1.0], [63.2, 1e6]], dtype=torch.float64)
    assert VectorScale.measure(rounded, ["share", "number"]).labels == ["share (0 to 63.2)", "number (1 to 1e+06)"]
    tiny = torch.tensor([[-4.7e-08, 0.0], [3e-08, 1.0]], dtype=torch.float64)
    assert VectorScale.measure(tiny, ["share", "number"]).labels[0] == "share (-4.7e-08 to 3e-08)"


def test_few_values_far_from_all_others_do_not_take_the_colours():
    """Heavy tails, as of gene expression: the colours are those of 99 % of the values; the bar ends in an arrow."""
    x = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    x[0, 3], x[1, 4] = 40.0, 30.0
    low, high = VectorScale.measure(x, [f"gene {i}" for i in range(50)]).limits
    assert -low == high == pytest.approx(2.576, abs=0.1)  # the normal quantile of 0.995
    figure = plot_image_sheet(x[:2], "t", dataset_scale(dataset(x), x))
    assert figure.axes[1].get_ylim() == pytest.approx((-high, high)) and figure.axes[0].get_images()[0].colorbar.extend == "max"
    x[:, 3] = 40.0  # a column of its own is no tail
    assert VectorScale.measure(x).limits[1] == 40.0
