"""One contract over the priors of recipes: first weights, captured passes, gradients, data that they refuse (float64)."""

import pytest
import torch
from both_ways import assert_same
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference import kl_per_dimension, mixture_priors
from pyro_hvae.inference.traversal import vary_dimension
from pyro_hvae.objectives import ELBO
from pyro_hvae.recipes import PRIORS, priors

pytestmark = pytest.mark.usefixtures("float64")

NET = {"hidden": (6,), "sigma": 0.5, "components": 4}
STACK = {**NET, "upper": (6,), "dims": (3, 2)}
PATCHES = {"patch": 3, "texture_latent": 1, "texture_hidden": (4,), "hidden": (4, 6), "components": 4}
LADDER = {"dims": (3, 2), "width": 6, "components": 4}
# Every recipe with the option, by its row: recipe, options, sites whose prior it is.
ROWS = {
    "vae": ("vae", NET, ["z1"]),
    "beta-vae": ("beta-vae", NET, ["z1"]),
    "iwae": ("iwae", {**NET, "levels": 1, "particles": 3}, ["z1"]),
    "iwae-2": ("iwae", {**NET, "levels": 2, "upper": (6,), "particles": 3}, ["z2"]),
    "vhp": ("vhp", {**NET, "upper": (6,), "particles": 3}, ["z2"]),
    "hvae-1": ("hvae", {**STACK, "dims": (3,)}, ["z1"]),
    "hvae": ("hvae", STACK, ["z2"]),
    "ar-hvae": ("ar-hvae", {**STACK, "features": 5}, ["z2"]),
    "lvae": ("lvae", {"dims": (3, 2), "widths": (6, 5), "norm": False, "components": 4}, ["z2"]),
    "vlae": ("vlae", LADDER, ["z2", "z1"]),
    "pro-vlae": ("pro-vlae", LADDER, ["z2", "z1"]),
    "texture": ("texture", PATCHES, ["z2"]),
}
OF_X_ALONE = ("vae", "beta-vae", "iwae", "hvae-1")  # one layer, whose guide is q(z | x)
FLOWS = ("realnvp", "spline")
# A VampPrior of one layer, flows of every kind of guide: a pass of a flow is a hundred operations.
ROWS_OF = {"vamp": OF_X_ALONE} | dict.fromkeys(FLOWS, ("vae", "vhp", "lvae", "vlae"))
TABLE = [(row, prior) for row in ROWS for prior in PRIORS if row in ROWS_OF.get(prior, ROWS)]


@pytest.fixture(autouse=True)
def small_flows(monkeypatch):
    monkeypatch.setattr(priors, "FLOW_HIDDEN", (6,))


def build(row, prior, x=None, **options):
    torch.manual_seed(1)
    name, own, _ = ROWS[row]
    return recipes.build(name, torch.rand(40, 1, 4, 4) if x is None else x, {**own, "prior": prior, **options})[-1].objective


def data(row, n=16):
    torch.manual_seed(2)
    return torch.rand(n, 1, 4, 4) if row != "texture" else torch.randn(n, 1, 4, 4)


def test_every_recipe_with_the_option_has_a_row():
    with_option = {name for name, r in recipes.RECIPES.items() if "prior" in hv.runs.parameters(r.build)}
    assert {name for name, _, _ in ROWS.values()} == with_option
    assert {*recipes.RECIPES} - with_option == {"vampprior", "teacher-student"}


@pytest.mark.parametrize("row", ROWS)
def test_the_default_is_a_standard_normal_and_the_other_networks_start_alike(row):
    torch.manual_seed(1)
    name, own, sites = ROWS[row]
    plain = recipes.build(name, torch.rand(40, 1, 4, 4), own)[-1].objective
    priors = [plain.model.prior] if len(sites) == 1 else list(plain.model.priors.values())
    assert all(isinstance(prior, hv.StandardNormal) for prior in priors)
    assert not mixture_priors(plain.model, data(row))
    mixed = build(row, "gmm")
    assert list(mixture_priors(mixed.model, data(row))) == sites
    shared = dict(mixed.named_parameters())
    extra = {key for key in shared if ".prior" in key}
    assert {key for key, _ in plain.named_parameters()} == set(shared) - extra and extra
    if name not in ("ar-hvae", "lvae", "vlae", "pro-vlae", "texture"):  # they draw the guide's weights after the prior's
        assert all(torch.equal(shared[key], value) for key, value in plain.named_parameters())


@pytest.mark.parametrize(("row", "prior"), TABLE)
def test_captured_passes_and_their_gradients_are_the_eager_ones(row, prior):
    objective = build(row, prior)
    calls = [(data(row)[i : i + 8],) for i in (0, 8)]
    assert assert_same(objective, calls, relative=1e-10).graphs == 1


@pytest.mark.parametrize(("gradient", "particles"), [("stl", 1), ("dreg", 4)])
@pytest.mark.parametrize("prior", PRIORS)
def test_path_gradients_average_to_the_plain_one(prior, gradient, particles):
    """Also of the encoder that a VampPrior shares with the guide: it learns as part of the model, too."""
    pair = build("vae", prior, latent=2)
    x = data("vae", 1).repeat(20, 1, 1, 1)
    means, errors = [], []
    for kind in ("reparameterised", gradient):
        objective = ELBO(particles, analytic_kl=False, gradient=kind)(pair.model, pair.guide)
        found = []
        for _ in range(200):
            grads = torch.autograd.grad(objective(x), list(objective.parameters()))
            found.append(torch.cat([grad.flatten() for grad in grads]))
        found = torch.stack(found)
        means.append(found.mean(0))
        errors.append(found.var(0) / len(found))
    z = (means[0] - means[1]) / sum(errors).sqrt().clamp(min=1e-12)
    assert z.abs().max() < 5 and (means[0].abs() > 5 * errors[0].sqrt()).any()


@pytest.mark.parametrize(("row", "prior"), TABLE)
def test_draws_of_the_model_follow_the_density_of_its_prior(row, prior):
    """E 0.9^D p(0.9 z) / p(z) = 1 over draws z of p: the density of z / 0.9 is one, too."""
    objective = build(row, prior)
    with torch.no_grad():
        for site in ROWS[row][2]:
            fn = hv.inference.ancestral(objective.model, 20_000)[site]["fn"]
            z = fn.sample()
            ratio = (fn.log_prob(0.9 * z) - fn.log_prob(z)).exp() * 0.9 ** z.shape[-1]
            assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / len(ratio) ** 0.5


@pytest.mark.parametrize(("row", "prior"), TABLE)
def test_no_kl_per_dimension_of_what_has_none(row, prior):
    objective = build(row, prior)
    kl = kl_per_dimension(objective.model, objective.guide, data(row))
    assert (not {*kl} & {*ROWS[row][2]}) == (prior != "normal")


def test_a_vae_with_a_vamp_is_the_vampprior():
    x, options = torch.rand(40, 6), {"hidden": (5,), "components": 7}
    one = recipes.build("vae", x, {**options, "prior": "vamp"})[-1].objective
    other = recipes.build("vampprior", x, options)[-1].objective
    other.load_state_dict(one.state_dict())
    assert one.model.prior.encoder is one.guide.levels[0] and one.model.prior.pseudo_inputs.shape == (7, 6)
    losses = []
    for objective in (one, other):
        torch.manual_seed(3)
        losses.append(objective(x))
    assert torch.equal(*losses)


@pytest.mark.parametrize("prior", PRIORS)
def test_conditions_and_missing_entries(prior):
    torch.manual_seed(1)
    x, known, y = torch.rand(40, 6), torch.rand(40, 6) > 0.3, torch.eye(2)[torch.arange(40) % 2]
    batch = Batch(x.where(known, 0.0), {"y": y}, known)
    objective = build("vae", prior, batch)
    loss = objective(x, observed=known, y=y)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    filled = hv.impute(objective.model, objective.guide, x.where(known, torch.nan), particles=4, given={"y": y})
    assert torch.equal(filled[known], x[known]) and filled.isfinite().all()


@pytest.mark.parametrize("row", [row for row in ROWS if row not in OF_X_ALONE])
def test_a_vamp_needs_a_guide_of_x_alone(row):
    with pytest.raises(ConfigError, match="prior=vamp is a mixture of the guide's q.z . x.*recipe vampprior with -o levels=2"):
        build(row, "vamp")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="no prior called 'gm'. Did you mean 'gmm'"):
        build("vae", "gm")
    with pytest.raises(ConfigError, match="components=41 pseudo-inputs start at training data, of which there are 40"):
        build("vae", "vamp", components=41)


@pytest.mark.parametrize("posterior", ["isotropic", "full", "flow"])
@pytest.mark.parametrize("prior", ["gmm", "vamp", "realnvp"])
def test_other_posteriors(prior, posterior):
    """A mixture or a flow takes draws of any; a VampPrior is made of diagonal ones."""
    if prior == "vamp" and posterior != "isotropic":
        with pytest.raises(ConfigError, match=f"these posteriors are {posterior}. Use posterior=diagonal"):
            build("vae", prior, posterior=posterior)
        return
    objective, x = build("vae", prior, posterior=posterior), data("vae")
    objective(x).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    if prior != "realnvp":
        assert_close(hv.responsibilities(objective.model, objective.guide, x).sum(1), torch.ones(16))


def test_trained_components_find_two_clusters():
    """Two far groups of data: a component or more for each, and none for both."""
    torch.manual_seed(0)
    group = torch.arange(400) % 2
    x = 0.1 * torch.randn(400, 6) + group[:, None]
    objective = build("vae", "gmm", x, components=2, latent=2, sigma=0.1)
    objective.model.prior.loc.data = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])  # two that coincide can stay together
    adam = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(300):
        adam.zero_grad()
        objective(x).backward()
        adam.step()
    found = hv.responsibilities(objective.model, objective.guide, x)
    component = found.argmax(1)
    assert_close(found.sum(1), torch.ones(400))
    assert (component == group).double().mean() in (0.0, 1.0)


@pytest.mark.parametrize("prior", ["gmm", "vamp"])
def test_a_traversal_of_a_mixture_is_in_its_own_standard_deviations(prior):
    objective = build("vae", prior, latent=2)
    if prior == "gmm":
        objective.model.prior.loc.data = 5 + 3 * torch.randn(4, 2)
    p, seen = objective.model.prior(), []
    objective.model.likelihood.register_forward_hook(lambda _, parents, __: seen.append(parents[0]))
    noise = {"z1": torch.tensor([[0.5, -1.0]])}
    vary_dimension(objective.model, noise, "z1", 1, torch.tensor([-2.0, 0.0, 2.0]))
    expected = torch.stack([p.mean + p.stddev * torch.tensor([0.5, value]) for value in (-2.0, 0.0, 2.0)])
    assert_close(seen[-1], expected)
    drawn = hv.inference.sample_noise(objective.model, 20_000)["z1"]
    assert_close(drawn.mean(0), torch.zeros(2), atol=0.05, rtol=0)
    assert_close(drawn.std(0), torch.ones(2), atol=0.05, rtol=0)
