"""The plane in which a latent space is drawn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyro_hvae.data.dataset import Dataset, Split
from pyro_hvae.plots.latent_space_figures import _draw_codes, _projection


@pytest.mark.parametrize("points", [np.zeros((50, 4)), np.random.default_rng(0).normal(size=(50, 4))], ids=["constant", "any"])
def test_codes_of_many_dimensions_are_drawn_by_their_principal_components(points):
    project, names = _projection(points, "z1")
    drawn = project(points)
    assert drawn.shape == (50, 2) and np.isfinite(drawn).all()
    assert names[0].startswith("first principal component of z1") and names[1].startswith("second principal component")
    if points.any():
        values = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1]
        shares = [f"{v / values.sum():.0%} of the posterior means' variance)" for v in values[:2]]
        assert [name.partition(" (")[2] for name in names] == shares
    assert drawn.var(0).sum() == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(points.T, bias=True)))[-2:].sum(), abs=1e-12)


@pytest.mark.parametrize("names", [(), ("none", "left", "right")], ids=["numbers", "names"])
def test_the_colour_bar_has_the_classes_of_the_data_and_no_others(names):
    """Labels 1 and 2 have two colours, also where the drawn data have one of them; years are classes, too."""
    x, labels = torch.zeros(6, 2), torch.tensor([1, 2, 2, 1, 1, 2])
    whole, test = Split(x, {"side": labels}), Split(x[:2], {"side": labels[1:3]})
    data = Dataset("own", whole, whole, test, labels={"side": names} if names else {})
    figure = Figure()
    axis = figure.subplots()
    assert _draw_codes(axis, SimpleNamespace(dataset=data), np.zeros((2, 2)), torch.arange(2)) == (5 if names else 1)
    bar = figure.axes[1]
    assert [label.get_text() for label in bar.get_yticklabels()] == (["left", "right"] if names else ["1", "2"])
    dots = axis.collections[0]
    assert dots.get_array().tolist() == [1, 1] and dots.get_clim() == (-0.5, 1.5)
