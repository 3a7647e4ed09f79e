"""Sums of kernels on grids against all pairs."""

import pytest
import torch

from pyro_hvae.metrics.gaussian_sums import DEGREE, STEPS, KernelSums, Stencils


def all_pairs(means, deviations, points):
    return (torch.exp(-(((points[:, None] - means) / deviations) ** 2) / 2) / deviations).sum(1)


def on_grids(means, deviations, points):
    return sum(values / 2**octave for octave, values, _ in KernelSums(means, deviations).octaves(points))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e9])
@pytest.mark.parametrize("narrow", [1.0, 1e-4])
def test_sums_equal_those_of_all_pairs(unit, narrow):
    """At draws of the kernels: with overlaps and apart, in any unit, and with gaps between clusters that no grid could span."""
    means = unit * torch.cat([normal(800), 1e7 + normal(200)])
    deviations = unit * narrow * (0.05 + 3 * torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    points = means + deviations * normal(1000, seed=2)
    found, exact = on_grids(means, deviations, points), all_pairs(means, deviations, points)
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=0.0)


def test_points_far_from_all_kernels_and_on_nodes():
    means, deviations = torch.tensor([0.0, 5.0]).double(), torch.tensor([1.0, 1.0]).double()
    points = torch.tensor([0.0, 0.25, 5.0, -60.0, 1e9]).double()
    found = on_grids(means, deviations, points)
    torch.testing.assert_close(found[:3], all_pairs(means, deviations, points)[:3], rtol=1e-8, atol=0.0)
    assert (found[3:] == 0).all()


def test_the_error_between_nodes_is_the_stated_one():
    """A kernel as narrow as its octave allows, of height 1, read off between its nodes; a wider one has a smaller error."""
    points, zero = torch.linspace(-2, 2, 4001).double(), torch.zeros(1).double()
    errors = [
        (on_grids(zero, zero + deviation, points) - all_pairs(zero, zero + deviation, points)).abs().max().item() * deviation
        for deviation in (1.0, 1.5)
    ]
    assert 1e-11 < errors[0] < 1.4e-9 and errors[1] < errors[0] / 100


def test_a_kernel_is_read_off_as_the_sums_hold_it():
    means, deviations = normal(50, 2), 0.5 + normal(50, 2, seed=1).abs()
    points = normal(50, seed=3)
    total = sum(
        stencils.read(torch.arange(50), means, deviations)
        for _, _, stencils in KernelSums(means[0], deviations[0]).octaves(points)
    )
    one = Stencils(points, 1.0 / STEPS)
    assert one.weights.shape == (50, DEGREE + 1)
    torch.testing.assert_close(one.weights.sum(1), torch.ones(50).double())
    assert total.shape == (50, 2)
    for i in range(50):
        held = {octave: values for octave, values, _ in KernelSums(means[i], deviations[i]).octaves(points[i : i + 1])}
        parts = [
            Stencils(points[i : i + 1], 2.0**o / STEPS).read(torch.tensor([0]), means[i : i + 1], deviations[i : i + 1])
            for o in held
        ]
        for part, value in zip(parts, held.values(), strict=True):
            torch.testing.assert_close(part.sum(1), value, rtol=1e-12, atol=1e-15)


def test_places_beyond_double_precision_are_told():
    assert KernelSums(torch.zeros(2).double(), torch.ones(2).double()).resolves(torch.zeros(1).double())
    assert not KernelSums(torch.full((2,), 1e9).double(), torch.full((2,), 1e-9).double()).resolves(torch.zeros(1).double())
