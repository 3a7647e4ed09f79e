"""Latent traversals: every image in closed form, which dimensions are rows and in which order."""

from functools import partial
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed
from torch.testing import assert_close

from pyro_hvae import Chain, reconstruct
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import BottomUp
from pyro_hvae.inference.layer_effects import posterior_noise
from pyro_hvae.inference.traversal import Traversals, Unit, traverse, vary_dimension
from pyro_hvae.plots.traversal_figures import plot_traversals
from pyro_hvae.runs.train_config import TrainConfig

TO_X = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 1.0], [0.0, 1.0, 3.0], [2.0, -1.0, 0.0]], dtype=torch.float64)
TO_Z1 = torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.3, 0.0]], dtype=torch.float64)
STD1, STD2 = torch.tensor([0.5, 2.0, 1.0]).double(), torch.tensor([1.0, 3.0]).double()


def chain_pair(up=((1.0, 0.0, 0.0), (0.0, 2.0, 0.0)), read=((1.0, 0, 0, 0), (0, 3.0, 0, 0), (0, 0, 2.0, 0))):
    """z2 -> z1 -> x, linear; q(z1 | x) = N(read x, I) and q(z2 | z1) = N(up z1, I)."""
    up, read = torch.tensor(up), torch.tensor(read)
    model = Chain(Fixed([], STD2), [Fixed([TO_Z1], STD1)], Fixed([TO_X], torch.ones(4)))
    return model, BottomUp([Fixed([read], torch.ones(3)), Fixed([up], torch.ones(len(up)))]), read, up


def flat(x=None, size=1, ignored=False):
    """z2 ~ N(1, 2^2) of event (1, 2) and z1 ~ N(0, I); x = z1 + (3 z2[0], z2[1], 0), without the latter where `ignored`."""
    with pyro.plate("data", size if x is None else len(x), dim=-1):
        z2 = pyro.sample("z2", dist.Normal(torch.ones(1, 2), 2.0).to_event(2)).flatten(-2)
        z1 = pyro.sample("z1", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        from_z2 = torch.stack([3 * z2[..., 0], z2[..., 1], 0 * z2[..., 1]], -1)
        return pyro.sample("x", dist.Normal(z1 if ignored else z1 + from_z2, 1.0).to_event(1), obs=x)


def flat_guide(x, size=1):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z1", dist.Normal(x * torch.tensor([0.5, 2.0, 0.0]), 1.0).to_event(1))
        pyro.sample("z2", dist.Normal(x[..., None, :2] * torch.tensor([1.0, 0.2]), 1.0).to_event(2))


def test_a_flat_model_in_closed_form(float64):
    data = torch.randn(400, 3)
    x = torch.tensor([[1.0, -2.0, 0.7]])
    found = traverse(flat, flat_guide, x, data)
    assert [unit.name for unit in found.units] == ["z2[0]", "z2[1]", "z1[1]", "z1[0]"] and found.dead == {"z2": 0, "z1": 1}
    assert_close(found.values, torch.tensor([-2.5, -1.875, -1.25, -0.625, 0, 0.625, 1.25, 1.875, 2.5]))
    assert found.images.shape == (4, 9, 3)
    v, z1, z2 = found.values, torch.tensor([0.5, -4.0, 0.0]), torch.tensor([1.0, -0.4])
    base = z1 + torch.tensor([3 * z2[0], z2[1], 0.0])
    for row, (place, values) in enumerate([(0, 3 * (1 + 2 * v) + z1[0]), (1, 1 + 2 * v + z1[1]), (1, v + z2[1])]):
        exact = base.repeat(9, 1)
        exact[:, place] = values
        assert_close(found.images[row], exact)
    scale = data.var(0, correction=0)
    exact = torch.stack([scale[0], 0.04 * scale[1], 4 * scale[1], 0.25 * scale[0]])
    assert_close(torch.tensor([unit.variance for unit in found.units]), exact)


def test_in_a_chain_the_layer_below_follows(float64):
    model, guide, read, up = chain_pair()
    x, data = torch.tensor([[1.0, -0.5, 2.0, 0.3]]), torch.randn(300, 4)
    found = traverse(model, guide, x, data, reach=2.0, steps=5)
    assert [unit.name for unit in found.units] == ["z2[1]", "z2[0]", "z1[1]", "z1[2]", "z1[0]"]
    z1 = read @ x[0]
    z2 = up @ z1
    noise1 = (z1 - TO_Z1 @ z2) / STD1
    for j, row in ((1, 0), (0, 1)):
        for step, value in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
            varied = z2.clone()
            varied[j] = STD2[j] * value
            assert_close(found.images[row, step], TO_X @ (TO_Z1 @ varied + STD1 * noise1))
    for j, row in ((1, 2), (2, 3), (0, 4)):
        for step, value in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
            varied = noise1.clone()
            varied[j] = value
            assert_close(found.images[row, step], TO_X @ (TO_Z1 @ z2 + STD1 * varied))


def test_at_its_own_noise_a_row_passes_through_the_reconstruction(float64):
    model, guide, _, _ = chain_pair()
    x = torch.randn(1, 4)
    noise = posterior_noise(model, guide, x)
    for site, value in noise.items():
        for j in range(value.shape[1]):
            assert_close(vary_dimension(model, noise, site, j, value[:, j]), reconstruct(model, guide, x))


def test_what_only_follows_the_noise_below_is_dead(float64):
    """z2[1] copies z1[2], which knows nothing of x: means over 16 draws vary by 1/16, far above the threshold of 0.01."""
    model, guide, _, _ = chain_pair(up=((1.0, 0, 0), (0, 0, 1.0)), read=((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 0, 0.0)))
    found = traverse(model, guide, torch.randn(1, 4), torch.randn(2000, 4))
    assert [unit.name for unit in found.units][0] == "z2[0]" and found.dead == {"z2": 1, "z1": 1}
    assert abs(found.units[0].variance - 1) < 0.15
    assert len(found.units) == 3


def test_a_layer_that_the_decoder_ignores_gives_rows_of_one_image(float64):
    """The guide uses z2 and the model does not: the rows are there, for the variance is the guide's, and show it."""
    x = torch.tensor([[1.0, -2.0, 0.7]])
    found = traverse(partial(flat, ignored=True), flat_guide, x, torch.randn(400, 3))
    assert [unit.site for unit in found.units] == ["z2", "z2", "z1", "z1"]
    assert_close(found.images[:2], torch.tensor([0.5, -4.0, 0.0]).expand(2, 9, 3))
    assert found.images[2:].std(1).amax() > 1


def test_where_a_prior_is_a_mixture_the_latent_itself_takes_the_values(float64):
    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            parts = dist.Normal(torch.tensor([[-3.0, 4.0], [3.0, 1.0]]), 0.5).to_event(1)
            z = pyro.sample("z1", dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), parts))
            return pyro.sample("x", dist.Normal(2 * z, 1.0).to_event(1), obs=x)

    noise = {"z1": torch.tensor([[0.3, -0.7]])}
    assert_close(vary_dimension(model, noise, "z1", 1, torch.tensor([-1.0, 2.0])), torch.tensor([[0.6, -2.0], [0.6, 4.0]]))


def test_at_most_so_many_rows_of_a_layer(float64):
    model, guide, _, _ = chain_pair()
    found = traverse(model, guide, torch.randn(1, 4), torch.randn(100, 4), most=1)
    assert [unit.name for unit in found.units] == ["z2[1]", "z1[1]"] and found.dead == {"z2": 0, "z1": 0}
    assert found.hidden == {"z2": 1, "z1": 2}
    assert found.describe_left_out() == "dead and left out: none; in use but not shown: 1 of z2, 2 of z1"
    assert found.images.shape == (2, 9, 4)


def test_the_callers_generator_stays_and_the_seed_decides(float64):
    model, guide, _, _ = chain_pair()
    x, data = torch.randn(1, 4), torch.randn(50, 4)
    before = torch.get_rng_state()
    first, second, third = (traverse(model, guide, x, data, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.units == second.units and first.units[0] != third.units[0]
    assert first.units[2:] == third.units[2:]  # z1 depends on x alone: no draws


def test_a_collapsed_posterior_is_told(float64):
    model, guide, _, _ = chain_pair(read=((0.05, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0.0)))
    with pytest.raises(ConfigError, match=r"the posterior has collapsed.*the largest is 0\.00"):
        traverse(model, guide, torch.randn(1, 4), torch.randn(500, 4))


def test_bad_numbers_and_names(float64):
    model, guide, _, _ = chain_pair()
    x, data = torch.randn(1, 4), torch.randn(50, 4)
    for reach in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="positive and finite"):
            traverse(model, guide, x, data, reach=reach)
    for steps in (1, 101):
        with pytest.raises(ConfigError, match="from 2 to 100 steps"):
            traverse(model, guide, x, data, steps=steps)
    with pytest.raises(ConfigError, match="at least one dimension of a layer, got 0"):
        traverse(model, guide, x, data, most=0)
    noise = posterior_noise(model, guide, x)
    for dimension in (-1, 3):
        with pytest.raises(ConfigError, match=f"dimensions 0 to 2, got {dimension}"):
            vary_dimension(model, noise, "z1", dimension, torch.zeros(2))
    with pytest.raises(ConfigError, match="no latent site called 'z3'"):
        vary_dimension(model, noise, "z3", 0, torch.zeros(2))


def test_the_picture_names_rows_values_and_layers():
    def run(seed):
        named = SimpleNamespace(method="vlae", schedule="constant", dataset="digits", train=TrainConfig(seed=seed))
        return SimpleNamespace(images=lambda x: x, experiment=named)

    def found(units, dead):
        images = torch.arange(len(units) * 3)[:, None, None, None].expand(-1, 1, 8, 8).reshape(len(units), 3, 1, 8, 8) / 9
        return Traversals(units, torch.tensor([-2.5, 0.0, 2.5]), images, dead)

    one = found([Unit("z2", 1, 0.93), Unit("z1", 0, 1.5), Unit("z1", 3, 0.02)], {"z2": 4, "z1": 0})
    figure = plot_traversals([run(0), run(1)], [one, found([Unit("z1", 2, 0.5)], {"z1": 0})], "test datum 7")
    assert figure.get_suptitle() == "Latent traversals of test datum 7"
    left, right = figure.axes
    assert left.get_title() == "vlae (constant) on digits, seed 0\ndead and left out: 4 of z2"
    assert right.get_title() == "vlae (constant) on digits, seed 1\ndead and left out: none"
    assert [t.get_text() for t in left.get_xticklabels()] == ["-2.5", "0", "2.5"]
    assert [t.get_text() for t in left.get_yticklabels()] == ["z2[1]  var 0.93", "z1[0]  var 1.50", "z1[3]  var 0.02"]
    assert [t.get_text() for t in right.get_yticklabels()] == ["z1[2]  var 0.50", "", ""]
    # Tiles of 8 with a gap of 1: z2 has the first row, z1 the other two.
    assert [(t.get_text(), t.get_position()[1]) for t in left.texts] == [("z2", 3.5), ("z1", 17.0)]
    assert [line.get_ydata()[[0, -1]].tolist() for line in left.lines] == [[-0.5, 7.5], [8.5, 25.5]]
    shown = [axis.get_images()[0].get_array() for axis in figure.axes]
    assert shown[0].shape == shown[1].shape == (26, 26) and torch.tensor(shown[1][8:]).isnan().all()
    assert shown[0][9, 18] == pytest.approx(5 / 9)
