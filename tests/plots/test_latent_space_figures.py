"""The plane in which a latent space is drawn."""

import numpy as np
import pytest

from pyro_hvae.plots.latent_space_figures import _projection


@pytest.mark.parametrize("points", [np.zeros((50, 4)), np.random.default_rng(0).normal(size=(50, 4))], ids=["constant", "any"])
def test_codes_of_many_dimensions_are_drawn_by_their_principal_components(points):
    project, names = _projection(points, "z1")
    drawn = project(points)
    assert drawn.shape == (50, 2) and np.isfinite(drawn).all()
    assert names[0].startswith("first principal component of z1") and names[1].startswith("second principal component")
    if points.any():
        values = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1]
        assert [name.partition(" (")[2] for name in names] == [f"{v / values.sum():.0%} of the variance)" for v in values[:2]]
    assert drawn.var(0).sum() == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(points.T, bias=True)))[-2:].sum(), abs=1e-12)
