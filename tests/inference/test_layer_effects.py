"""Layer noise: shares of the variance in closed form, panels that vary in one layer only."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed, skip_pair
from torch.testing import assert_close

from pyro_hvae import latents, layer_samples, layer_shares, recipes, reconstruct
from pyro_hvae.errors import ConfigError
from pyro_hvae.guides import BottomUp
from pyro_hvae.inference.layer_effects import (
    LayerShare,
    NotEstimable,
    grid_layers,
    layer_grid,
    posterior_noise,
    sample_noise,
    squared_differences,
    variance_share,
)
from pyro_hvae.objectives.handlers import Noise, Record
from pyro_hvae.plots.layer_figures import plot_layer_grids
from pyro_hvae.runs.train_config import TrainConfig


def diagonal_chain():
    """z3 -> z2 -> z1 -> x, linear, with diagonal noise; the part of each layer's noise in Var E[x | z] is a trace."""
    from pyro_hvae import Chain

    g = torch.Generator().manual_seed(4)
    weights = [torch.randn(2, 2, generator=g), torch.randn(3, 2, generator=g), torch.randn(5, 3, generator=g)]
    stds = [torch.ones(2), 0.7 + torch.rand(2, generator=g), 0.2 + torch.rand(3, generator=g)]
    model = Chain(
        Fixed([], stds[0]), [Fixed([weights[0]], stds[1]), Fixed([weights[1]], stds[2])], Fixed([weights[2]], torch.ones(5))
    )
    to_x = {"z1": weights[2], "z2": weights[2] @ weights[1], "z3": weights[2] @ weights[1] @ weights[0]}
    parts = {site: (w @ torch.diag(s**2) @ w.T).trace() for (site, w), s in zip(to_x.items(), reversed(stds), strict=True)}
    total = sum(parts.values())
    return model, {site: (part / total).item() for site, part in parts.items()}, to_x


def test_shares_of_a_linear_chain(float64):
    model, exact, _ = diagonal_chain()
    shares = layer_shares(model, outer=400, inner=10)
    for site, value in exact.items():
        assert abs(shares[site].share - value) < 4 * shares[site].stderr
        assert 0 < shares[site].stderr < 0.02
    assert sum(s.share for s in shares.values()) == pytest.approx(1, abs=1e-12)


def interacting(x=None, size=1):
    """E[x | z] = |z2| z1: all of the variance goes with z1, but without z2's noise 1 - 2 / pi of it stays too."""
    with pyro.plate("data", size if x is None else len(x), dim=-1):
        z2, z1 = (pyro.sample(name, dist.Normal(torch.zeros(1), 1.0).to_event(1)) for name in ("z2", "z1"))
        return pyro.sample("x", dist.Normal(z2.abs() * z1, 1.0).to_event(1), obs=x)


def test_shares_are_total_indices_where_layers_interact(float64):
    shares = layer_shares(interacting, outer=2000, inner=10)
    assert abs(shares["z1"].share - 1) < 4 * shares["z1"].stderr and shares["z1"].stderr < 0.05
    assert abs(shares["z2"].share - (1 - 2 / math.pi)) < 4 * shares["z2"].stderr


def test_standard_errors_are_honest(float64):
    model, exact, _ = diagonal_chain()
    runs = [layer_shares(model, outer=40, inner=5)["z2"] for _ in range(60)]
    values = torch.tensor([r.share for r in runs])
    typical = torch.tensor([r.stderr for r in runs]).mean()
    assert 0.7 < (values.std() / typical).item() < 1.4
    assert abs(values.mean() - exact["z2"]) < 4 * values.std() / 60**0.5


LOUD = 0.8, 0.6  # standard deviations that z2 and z1 give to the logarithm of E[x | z]


def counts(family, loud=LOUD):
    """x is counted with the mean exp(a z2 + b eps), whose variance and shares have closed forms."""

    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(loud[0] * z2, loud[1]).to_event(1))
            return pyro.sample("x", family(z1).to_event(1), obs=x)

    return model


COUNTS = {
    "Poisson": lambda log_mean: dist.Poisson(log_mean.exp()),
    "negative binomial": lambda log_mean: dist.NegativeBinomial(3.0, logits=log_mean - math.log(3)),
}


@pytest.mark.parametrize("family", COUNTS)
def test_shares_of_counts(float64, family):
    """Var = e^s (e^s - 1) with s = a^2 + b^2, and that of one layer is e^(2 other) e^own (e^own - 1)."""
    a, b = (value**2 for value in LOUD)
    exact = {"z1": math.exp(a) * math.expm1(b) / math.expm1(a + b), "z2": math.exp(b) * math.expm1(a) / math.expm1(a + b)}
    runs = []
    for _ in range(40):
        shares = layer_shares(counts(COUNTS[family]), outer=100)
        assert sum(s.share for s in shares.values()) >= 1 and all(0 <= s.share <= 1 for s in shares.values())
        runs.append([[shares[site].share, shares[site].stderr] for site in exact])
    (values, errors), spread = torch.tensor(runs).mean(0).T, torch.tensor(runs)[..., 0].std(0)
    for site, value, error, deviation in zip(exact, values, errors, spread, strict=True):
        assert abs(value - exact[site]) < 4 * deviation / 40**0.5, site
        assert 0.6 < deviation / error < 1.7, site


@pytest.mark.parametrize("family", COUNTS)
@pytest.mark.parametrize("seed", range(3))
def test_shares_of_a_variance_that_no_draws_estimate_are_refused(float64, family, seed):
    torch.manual_seed(seed)
    with pytest.raises(NotEstimable, match=r"not estimable: the estimate from 768 draws, .*, has a standard error of \d\d%"):
        layer_shares(counts(COUNTS[family], (5.0, 4.0)))


def test_one_layer_has_all_of_the_variance_however_heavy_its_tail(float64):
    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(torch.zeros(3), 9.0).to_event(1))
            return pyro.sample("x", dist.Poisson(z1.exp()).to_event(1), obs=x)

    assert layer_shares(model) == {"z1": LayerShare(1.0, 0.0)}


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_shares_lie_between_zero_and_one_and_add_up_to_one_or_more_with_few_draws(float64, layers):
    """Products of all layers' noise: nearly all of the variance is their interaction."""

    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = [pyro.sample(f"z{n}", dist.Normal(torch.zeros(1), 1.0).to_event(1)) for n in range(layers, 0, -1)]
            return pyro.sample("x", dist.Normal(torch.stack(z).prod(0), 1.0).to_event(1), obs=x)

    refused = 0
    for _ in range(30):
        try:
            shares = [s.share for s in layer_shares(model, 8, 2).values()]
        except NotEstimable:
            refused += 1
            continue
        assert len(shares) == layers and sum(shares) >= 1 - 1e-12 and all(0 <= share <= 1 for share in shares)
    assert refused < 30


def test_shares_by_hand():
    """f of two layers on two blocks: both differences of each, and those along the diagonals."""
    values = torch.tensor([[[0.0, 0.0], [2.0, 6.0]], [[4.0, 3.0], [8.0, 6.0]]]).unsqueeze(-1)  # (z2, z1, block, pixel)
    squares = squared_differences(values)
    assert_close(squares, torch.tensor([[16 + 36, 9 + 0], [4 + 16, 36 + 9], [64 + 4, 36 + 9]]) / 4)
    found = variance_share(squares[1], squares[2])
    assert found.share == pytest.approx(65 / 113)
    # Without the first block the share is 1, without the other 20 / 68; the jackknife's error of two is half the difference.
    assert found.stderr == pytest.approx((1 - 20 / 68) / 2)
    assert variance_share(squares[2], squares[2]) == LayerShare(1.0, 0.0)
    assert math.isnan(variance_share(torch.zeros(2), torch.zeros(2)).share)


@pytest.mark.parametrize("site", ["z1", "z2", "z3"])
def test_only_the_named_layers_noise_varies(float64, site):
    """In a linear model what varies must lie in the image of that layer's map and have its covariance."""
    model, _, to_x = diagonal_chain()
    images = layer_samples(model, site, 4000)
    centred = images - images.mean(0)
    basis = torch.linalg.qr(to_x[site])[0]
    assert_close(centred @ basis @ basis.T, centred)
    torch.manual_seed(0)
    one = layer_samples(model, site, 3)
    torch.manual_seed(0)
    assert torch.equal(one, layer_samples(model, site, 3))


def test_noise_at_a_code_reproduces_the_reconstruction():
    x = torch.rand(12, 1, 4, 4)
    for name in ("hvae", "ar-hvae"):
        objective = recipes.build(name, x, {"dims": (3, 2, 2), "hidden": (6,), "upper": (6,)})[-1].objective.eval()
        noise = posterior_noise(objective.model, objective.guide, x)
        with Record() as record, Noise(noise):
            objective.model(size=12)
        codes = latents(objective.guide, x, mean=True)
        for site, value in codes.items():
            assert_close(record.sites[site]["value"], value, atol=1e-4, rtol=1e-4)
        images = layer_samples(objective.model, "z1", 5, objective.guide, x)
        assert images.shape == (5, 1, 4, 4)
        assert_close(record.sites["x"]["fn"].mean, reconstruct(objective.model, objective.guide, x), atol=1e-4, rtol=1e-3)


def test_a_mixture_prior_holds_its_draw():
    x = torch.rand(12, 1, 4, 4)
    objective = recipes.build("vampprior", x, {"levels": 2, "components": 4, "hidden": (6,), "upper": (6,)})[-1].objective
    shares = layer_shares(objective.model, 20, 5)
    assert set(shares) == {"z1", "z2"} and all(s.share > 0 for s in shares.values())
    assert layer_samples(objective.model, "z2", 4).shape == (4, 1, 4, 4)


def test_what_cannot_be_varied_is_refused(float64):
    model, _, _ = skip_pair()
    with pytest.raises(ConfigError, match="no latent site called 'z3'"):
        layer_samples(model, "z3", 4)
    with pytest.raises(ConfigError, match="at least two draws"):
        layer_shares(model, 1, 5)
    with pytest.raises(ConfigError, match="site 'z1' is a Gamma with parents"):
        layer_shares(gamma_chain)


def gamma_chain(x=None, size=1):
    """z1 is a Gamma that depends on z2: there is no noise that can be fixed while z2 varies."""
    with pyro.plate("data", size if x is None else len(x), dim=-1):
        z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        z1 = pyro.sample("z1", dist.Gamma(z2.exp(), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z1, 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("low_rank", [False, True])
def test_shares_of_correlated_gaussians(float64, low_rank):
    """z = loc + L eps with the Cholesky factor L of the covariance: the parts are traces of W C W^T."""
    factor, weight = torch.tensor([[2.0], [1.0]]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    below, covariance = torch.tensor([[1.0, -0.9], [-0.9, 1.0]]), factor @ factor.T + torch.eye(2)

    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            top = dist.LowRankMultivariateNormal(torch.ones(2), factor, torch.ones(2))
            z2 = pyro.sample("z2", top if low_rank else dist.MultivariateNormal(torch.ones(2), covariance))
            z1 = pyro.sample("z1", dist.MultivariateNormal(z2, below))
            return pyro.sample("x", dist.Normal(z1 @ weight.T, 1.0).to_event(1), obs=x)

    parts = {"z2": (weight @ covariance @ weight.T).trace(), "z1": (weight @ below @ weight.T).trace()}
    shares = layer_shares(model, 400, 10)
    for site, part in parts.items():
        assert abs(shares[site].share - part / sum(parts.values())) < 4 * shares[site].stderr < 0.05
    noise = sample_noise(model, 20_000)
    assert_close(torch.cov(torch.cat(list(noise.values()), 1).T), torch.eye(4), atol=0.04, rtol=0)
    with Record() as record, Noise(noise):
        model(size=20_000)
    assert_close(torch.cov(record.sites["z2"]["value"].T), covariance, atol=0.2, rtol=0)


def test_noise_comes_from_the_top_down(float64):
    model, _, _ = diagonal_chain()
    noise = sample_noise(model, 20_000)
    assert list(noise) == ["z3", "z2", "z1"]
    for value in noise.values():
        assert_close(value.mean(), torch.tensor(0.0), atol=0.02, rtol=0)
        assert_close(value.std(), torch.tensor(1.0), atol=0.02, rtol=0)


def flat(x=None, size=1):
    """z2 ~ N(0, I) of event (2, 1), z1 ~ N(1, 2^2) of 2, z0 of 3 dimensions; x = (z2, z1, sum of z0)."""
    with pyro.plate("data", size if x is None else len(x), dim=-1):
        z2 = pyro.sample("z2", dist.Normal(torch.zeros(2, 1), 1.0).to_event(2))
        z1 = pyro.sample("z1", dist.Normal(torch.ones(2), 2.0).to_event(1))
        z0 = pyro.sample("z0", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        mean = torch.cat([z2.flatten(-2), z1, z0.sum(-1, keepdim=True)], -1)
        return pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


def flat_guide(x, size=1):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z0", dist.Normal(x[:, :3], 1.0).to_event(1))
        pyro.sample("z1", dist.Normal(5 * x[:, :2], 1.0).to_event(1))
        pyro.sample("z2", dist.Normal(x[:, 2:4, None], 1.0).to_event(2))


def test_a_grid_goes_right_in_the_first_dimension_and_up_in_the_second(float64):
    images = layer_grid(flat, "z2", cells=3, reach=2.0).reshape(3, 3, 5)  # rows from the top
    assert_close(images[0, :, :2], torch.tensor([[-2.0, 2.0], [0.0, 2.0], [2.0, 2.0]]))
    assert_close(images[1, :, :2], torch.tensor([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]))
    assert_close(images[2, :, :2], torch.tensor([[-2.0, -2.0], [0.0, -2.0], [2.0, -2.0]]))
    corner = layer_grid(flat, "z1", cells=2, reach=1.5)[0]  # in terms of the noise: z1 = 1 + 2 noise
    assert_close(corner[2:4], torch.tensor([1 - 3.0, 1 + 3.0]))


def test_a_grid_draws_the_other_layers_anew_for_every_cell(float64):
    images = layer_grid(flat, "z2", cells=50)
    assert len(images) == 2500 and len(images[:, 2:].unique(dim=0)) == 2500
    assert_close(images[:, 2:].mean(0), torch.tensor([1.0, 1.0, 0.0]), atol=0.15, rtol=0)
    assert_close(images[:, 2:].std(0), torch.tensor([2.0, 2.0, 3**0.5]), rtol=0.06, atol=0)


def test_a_grid_at_a_code_holds_the_other_layers(float64):
    x = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    images = layer_grid(flat, "z2", 4, 1.0, flat_guide, x)
    assert_close(images[:, 2:], torch.tensor([0.5, 1.0, 0.6]).expand(16, 3))
    assert len(images[:, :2].unique(dim=0)) == 16 and images[:, :2].abs().max() == 1


def test_in_a_chain_what_is_below_follows_a_grid(float64):
    """E[x | z] = W (z2 V + s noise): with the noise of z1 at a code, differences of cells are W V times those of z2."""
    model, _, to_x = diagonal_chain()
    guide = BottomUp([Fixed([torch.randn(b, a)], torch.ones(b)) for a, b in ((5, 3), (3, 2), (2, 2))])
    images = layer_grid(model, "z3", 2, 1.0, guide, torch.randn(1, 5))
    assert_close(images[1] - images[0], 2 * to_x["z3"][:, 0])
    assert_close(images[0] - images[2], 2 * to_x["z3"][:, 1])


def test_grids_are_for_layers_of_two_dimensions(float64):
    assert grid_layers(flat) == ["z2", "z1"] and grid_layers(flat, "z1") == ["z1"]
    with pytest.raises(ConfigError, match="two dimensions, but z0 has 3. Use 'layers' without --grid.*'traverse'"):
        layer_grid(flat, "z0")
    with pytest.raises(ConfigError, match="two dimensions, but z2 has 1 and z1 has 1"):
        grid_layers(skip_pair()[0])
    with pytest.raises(ConfigError, match="no latent site called 'z7'"):
        layer_grid(flat, "z7")
    for cells in (1, 51):
        with pytest.raises(ConfigError, match=f"from 2 to 50 cells along an axis, got {cells}"):
            layer_grid(flat, "z2", cells)
    for reach in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="positive and finite"):
            layer_grid(flat, "z2", reach=reach)
    with pytest.raises(ConfigError, match="site 'z1' is a Gamma with parents"):
        layer_grid(gamma_chain, "z2")


def test_the_labels_of_a_grid_are_where_its_cells_are():
    """Of 5 x 5 cells every row and column has a label: the second dimension's largest value is at the top."""
    run = SimpleNamespace(
        images=lambda x: x,
        experiment=SimpleNamespace(method="vlae", schedule="constant", dataset="digits", train=TrainConfig()),
    )
    images = torch.linspace(0, 1, 25)[:, None, None, None].expand(25, 1, 8, 8)
    figure = plot_layer_grids(run, {"z1": images, "z2": images}, 2.0, "the others drawn anew for every cell")
    assert [axis.get_title() for axis in figure.axes] == ["z1", "z2"]
    axis = figure.axes[1]
    assert axis.get_xlabel() == "noise of z2[0]" and axis.get_ylabel() == "noise of z2[1]"
    for ticks, places in ((axis.xaxis, [0, 1, 2, 3, 4]), (axis.yaxis, [4, 3, 2, 1, 0])):
        assert [label.get_text() for label in ticks.get_ticklabels()] == ["-2", "-1", "0", "1", "2"]
        assert ticks.get_ticklocs().tolist() == [9 * place + 4 for place in places]  # tiles of 8 with a gap of 1
    shown = axis.get_images()[0].get_array()
    assert shown[0, 0] == 0 and shown[0, -1] == pytest.approx(4 / 24) and shown[-1, 0] == pytest.approx(20 / 24)


def test_a_datum_without_the_guide_that_encodes_it_is_refused():
    for function in (layer_grid, layer_samples):
        with pytest.raises(ConfigError, match="needs a guide, got guide=None"):
            function(diagonal_chain()[0], "z2", x=torch.zeros(1, 5))
