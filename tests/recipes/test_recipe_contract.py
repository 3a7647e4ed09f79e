"""One contract over all recipes: what every system must do, whatever it is."""

import pyro
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from torch.testing import assert_close

from pyro_hvae import ELBO, for_svi, generate, latents, recipes, reconstruct
from pyro_hvae.inference.bounds_and_active_units import bound
from pyro_hvae.runs.checkpoints import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::pyro_hvae.errors.NoMeanWarning")  # of flows
SMALL = {"latent": 3, "hidden": (8,)}
TWO = {**SMALL, "latent2": 2, "upper": (8,), "particles": 4}
VAMP = {"latent": 3, "latent2": 2, "hidden": (8,), "upper": (8,), "components": 7}
STACK = {"dims": (4, 3, 2), "hidden": (8,), "upper": (8,), "sigma": 1.0}
# One latent a patch, so that the map of codes has the shape of the image, and the tests need not know which the pair is of.
PATCHES = {"latent": 3, "patch": 3, "texture_latent": 1, "texture_hidden": (6,), "hidden": (4, 8)}
ROWS = {
    "vae": ("vae", SMALL),
    "vae-bernoulli": ("vae", {**SMALL, "likelihood": "bernoulli", "activation": "relu"}),
    "beta-vae": ("beta-vae", {**SMALL, "posterior": "isotropic"}),
    "vae-full": ("vae", {**SMALL, "posterior": "full"}),
    "vae-flow": ("vae", {**SMALL, "posterior": "flow"}),
    "iwae": ("iwae", {**TWO, "levels": 1}),
    "iwae-flow": ("iwae", {**TWO, "levels": 2, "posterior": "flow"}),
    "iwae-2": ("iwae", {**TWO, "levels": 2}),
    "vhp": ("vhp", TWO),
    "vhp-1": ("vhp", {**TWO, "particles": 1, "posterior": "isotropic"}),
    "vhp-full": ("vhp", {**TWO, "posterior": "full"}),
    "vhp-flow-conv": ("vhp", {**TWO, "posterior": "flow", "network": "gated-conv", "hidden": (2, 3)}),
    "vhp-gated-conv": ("vhp", {**TWO, "network": "gated-conv", "hidden": (2, 3), "likelihood": "bernoulli"}),
    "vampprior": ("vampprior", {**VAMP, "levels": 1}),
    "vampprior-2": ("vampprior", {**VAMP, "levels": 2}),
    "vampprior-conv": ("vampprior", {**VAMP, "levels": 2, "network": "conv", "hidden": (2, 3), "activation": "relu"}),
    "hvae": ("hvae", {**STACK, "activation": "gated"}),
    "hvae-conv": ("hvae", {**STACK, "network": "conv", "hidden": (2, 3), "learn_sigma": True, "activation": "elu"}),
    "hvae-full": ("hvae", {**STACK, "posterior": "full"}),
    "hvae-1": ("hvae", {**STACK, "dims": (3,)}),
    "ar-hvae": ("ar-hvae", {**STACK, "features": 6}),
    "ar-hvae-conv": ("ar-hvae", {**STACK, "features": 6, "network": "conv", "hidden": (2, 3)}),
    "lvae": ("lvae", {"dims": (4, 3, 2), "widths": (8, 6, 4), "norm": False, "sigma": 1.0}),
    "vlae": ("vlae", {"dims": (4, 3, 2), "width": 8, "sigma": 1.0}),
    "vlae-gated": ("vlae", {"dims": (3, 2), "width": 8, "join": "gated", "std": "sigmoid", "likelihood": "bernoulli"}),
    "vlae-mnist": ("vlae", {"dims": (3, 2), "width": 1, "network": "vlae-mnist", "sigma": 1.0}),
    "vlae-svhn": ("vlae", {"dims": (3, 2, 2), "width": 2, "network": "vlae-svhn", "sigma": 1.0}),
    "pro-vlae": ("pro-vlae", {"dims": (3, 2), "width": 2, "network": "pro-shapes", "likelihood": "bernoulli"}),
    "teacher-student": ("teacher-student", {"dims": (2, 2), "hidden": (8,), "features": 6, "difference_weight": 5.0}),
    "texture": ("texture", {**PATCHES, "joint": "none"}),
    "texture-joint": ("texture", {**PATCHES, "joint": "features"}),
    "lvae-norm": ("lvae", {"dims": (4, 3), "widths": (8, 6), "likelihood": "bernoulli"}),
}
SHAPE = (1, 4, 4)


@pytest.fixture(params=ROWS)
def objective(request):
    name, options = ROWS[request.param]
    return build(name, options)


def build(name, options):
    torch.manual_seed(1)
    x = torch.rand(20, *SHAPE)
    return recipes.build(name, x, options)[-1].objective


def data(n=6):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(2)).round()


def test_every_recipe_has_a_row():
    assert {name for name, _ in ROWS.values()} == set(recipes.RECIPES)


def test_shapes(objective):
    x = data()
    codes = latents(objective.guide, x)
    draws = generate(objective.model, 5)
    assert set(draws) == {*codes, "x"}
    for site, value in codes.items():
        assert value.shape[0] == 6 and draws[site].shape == (5, *value.shape[1:])
    assert draws["x"].shape == (5, *SHAPE)
    assert reconstruct(objective.model, objective.guide, x).shape == x.shape
    assert objective(x).shape == ()


def test_gradient_reaches_every_parameter(objective):
    objective(data()).backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


@pytest.mark.parametrize("loss", ["trace", "renyi", "ours"])
def test_every_parameter_moves_under_stock_svi(objective, loss):
    stock = {
        "trace": Trace_ELBO(),
        "renyi": RenyiELBO(num_particles=2, max_plate_nesting=1, vectorize_particles=True),
        "ours": objective.elbo,
    }[loss]
    before = {name: p.detach().clone() for name, p in objective.named_parameters()}
    svi = SVI(*for_svi(objective.model, objective.guide), pyro.optim.Adam({"lr": 1e-2}), stock)
    for _ in range(2):
        svi.step(data())
    still = [name for name, p in objective.named_parameters() if torch.equal(p, before[name])]
    assert not still


def test_agrees_with_stock_trace_elbo_in_the_mean(objective):
    x = data(1).repeat(4000, 1, 1, 1)
    with torch.no_grad():
        values = ELBO().estimate(objective.model, objective.guide, x).bound().double()
        stock = -Trace_ELBO().loss(objective.model, objective.guide, x) / len(x)
        spread = ELBO(analytic_kl=False).estimate(objective.model, objective.guide, x).bound().std()
    assert abs(values.mean() - stock) < 4 * spread / len(x) ** 0.5


def test_a_batch_is_its_data_side_by_side(objective):
    x = data()
    objective.eval()  # batch normalisation looks at the whole batch while it trains
    codes = latents(objective.guide, x, mean=True)
    for i in range(len(x)):
        alone = latents(objective.guide, x[i : i + 1], mean=True)
        for site, value in codes.items():
            assert_close(value[i], alone[site][0], rtol=1e-4, atol=1e-5)


def test_saved_and_loaded_gives_the_equal_loss(objective, request, tmp_path):
    save_checkpoint(tmp_path / "a.pt", {"state": objective.state_dict()})
    name, options = ROWS[request.node.callspec.params["objective"]]
    other = build(name, options)
    for p in other.parameters():
        torch.nn.init.normal_(p)
    other.load_state_dict(load_checkpoint(tmp_path / "a.pt")["state"])
    torch.manual_seed(5)
    expected = objective(data())
    torch.manual_seed(5)
    assert torch.equal(other(data()), expected)


def test_bound_of_a_set_does_not_depend_on_how_it_is_cut(objective):
    torch.manual_seed(0)
    objective.eval()
    parts = [bound(objective.elbo, objective.model, objective.guide, data(600), rows) for rows in (64, 100_000)]
    with torch.no_grad():
        spread = objective.estimate(data(600)).bound().double().std().item()
    assert abs(parts[0]["elbo"] - parts[1]["elbo"]) < 5 * spread * (2 / 600) ** 0.5
