"""Recipes and presets: every row builds what it says, at the sizes it says."""

from pathlib import Path

import pytest
import torch

import pyro_hvae as hv
from pyro_hvae import RECIPES, Laplace, recipes
from pyro_hvae.data import DATASETS, Source
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.sampling import likelihood_name
from pyro_hvae.networks import ParentNetwork
from pyro_hvae.networks.network_registry import NETWORKS
from pyro_hvae.objectives import site_mean
from pyro_hvae.recipes import LIKELIHOODS, PRIORS
from pyro_hvae.recipes.presets import PAPER, PRESETS, preset
from pyro_hvae.runs.options import parameters
from pyro_hvae.runs.resolution import resolve
from pyro_hvae.runs.train_config import TrainConfig
from pyro_hvae.schedules import SCHEDULES

SHAPES = {
    **{"pendulum": (1, 16, 16), "digits": (1, 8, 8), "cmu-mocap": (50,), "svhn": (3, 32, 32), "textures": (3, 7, 7)},
    **{"own": (3, 20, 30)} | dict.fromkeys(("sprites", "dsprites", "faces3d", "chairs3d"), (1, 64, 64)),
    **dict.fromkeys(("rooms", "shapes3d", "celeba", "triangles"), (3, 64, 64)),
}
# Sets of one shape share presets; one of each is built.
BUILT = list({(recipe, str(values), SHAPES.get(name)): (recipe, name) for (recipe, name), values in PRESETS.items()}.values())


def data(dataset, n=600):
    x = torch.rand(n, *SHAPES.get(dataset, (1, 28, 28)), generator=torch.Generator().manual_seed(0))
    return 2 * x - 1 if dataset == "cmu-mocap" else x.round() if dataset == "mnist-static" else x


def resolved(recipe, dataset, **more):
    """As `resolve`, "own" standing for a path."""
    Path("own.npy").touch()
    return resolve(recipe, "own.npy" if dataset == "own" else dataset, **more)


@pytest.mark.parametrize("recipe, dataset", BUILT)
def test_every_preset_makes_a_pair_that_sees_the_data(recipe, dataset):
    experiment = resolved(recipe, dataset)
    x = data(dataset)[..., :16, :16] if (recipe, dataset) == ("texture", "own") else data(dataset)  # square images only
    stage = recipes.build(recipe, x, experiment.recipe_options)[-1]
    estimate = stage.objective.estimate(stage.view_of(x[:3], x.device)[:])
    assert estimate.bound().shape == (3,) and estimate.bound().isfinite().all()


SHARES = torch.linspace(0.1, 0.9, 60).reshape(20, 3)
DATA = {"bernoulli": SHARES.round(), "beta": SHARES, "continuous-bernoulli": SHARES}
DATA |= dict.fromkeys(("discretised-logistic", "logistic-mixture"), torch.rand(20, 1, 4, 4).mul(255).round() / 255)


@pytest.mark.filterwarnings("ignore::pyro_hvae.errors.NoMeanWarning", "ignore::pyro_hvae.errors.FewEffectiveSamplesWarning")
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_means_of_every_likelihood_are_plain_numbers_without_gradients(likelihood):
    x = DATA.get(likelihood, (5 * SHARES).round())
    objective = recipes.build("vae", x, {"likelihood": likelihood, "hidden": (4,)})[-1].objective
    model, guide = objective.model, objective.guide
    expected = hv.reconstruct(model, guide, x)
    assert expected.numpy().shape == x.shape and hv.generate(model, 3)["x"].numpy().shape[0] == 3
    assert (hv.decode(model, hv.encode(guide, x)) == expected.numpy()).all()
    assert hv.impute(model, guide, x.where(x < x.max(), torch.nan)).numpy().shape == x.shape
    fn = model.likelihood(torch.zeros(2, 2))
    mean = site_mean({"name": "x", "fn": fn, "value": fn.sample()})  # a loss may be one of the mean
    assert mean.requires_grad or likelihood in ("categorical", "discretised-logistic", "logistic-mixture")


@pytest.mark.parametrize("recipe, dataset", PAPER)
def test_paper_presets(recipe, dataset):
    experiment = resolve(recipe, dataset, options={"preset": "paper"})
    cpu = resolve(recipe, dataset)
    assert experiment.train.steps > cpu.train.steps
    # Static MNIST stands for the sets of its shape; building each would only take time.
    if dataset in ("mnist-static", "cmu-mocap"):
        x = data(dataset)
        objective = recipes.build(recipe, x, experiment.recipe_options)[-1].objective
        with torch.no_grad():
            assert objective.estimate(x[:2]).bound().isfinite().all()


def test_presets_have_no_key_that_nothing_takes():
    for (recipe, dataset), values in [*PRESETS.items(), *PAPER.items()]:
        known = (
            set(parameters(RECIPES[recipe].build))
            | set(parameters(DATASETS[dataset].load if dataset in DATASETS else load_user_data))
            | {"schedule"}
        )
        known |= set(resolved(recipe, dataset).train.__dataclass_fields__)
        for name, schedule in SCHEDULES.items():
            known |= set(parameters(schedule)) | {f"{name}.{key}" for key in parameters(schedule)}
        known |= {f"{network}.{key}" for network in NETWORKS for key in ("hidden", "activation")}
        known |= {f"{prior}.components" for prior in PRIORS}
        shared = {key for other in RECIPES.values() for key in parameters(other.build)}
        shared |= {key for other in DATASETS.values() for key in parameters(other.load)}
        assert set(values) <= known | shared, (recipe, dataset, set(values) - known - shared)


def test_no_option_of_a_data_set_is_one_of_something_else():
    others = {key for recipe in RECIPES.values() for key in parameters(recipe.build)} | {"preset"}
    others |= {key for schedule in SCHEDULES.values() for key in parameters(schedule)} | set(TrainConfig.__dataclass_fields__)
    for name, source in [*DATASETS.items(), ("own", Source(load_user_data))]:
        assert not others & set(parameters(source.load)), name


def test_papers_sizes():
    options = resolve("vhp", "mnist", options={"preset": "paper"}).recipe_options
    assert (options["latent"], options["latent2"], options["network"], options["particles"]) == (32, 32, "gated-conv", 16)
    experiment = resolve("vhp", "mnist-static")
    schedule = experiment.schedule_options
    assert (schedule["measure"], schedule["kappa"], schedule["nu"], schedule["beta0"]) == ("rmse", 0.18, 1.0, 1e-3)
    assert resolve("vhp", "mnist", "geco").schedule_options["beta0"] == 1.0
    vae = resolve("vae", "mnist-static", options={"preset": "paper"})
    assert (vae.schedule, vae.schedule_options["warmup"], vae.train.lr) == ("warmup", 50_000, 5e-4)
    for name, binarize, likelihood in (
        ("vhp", "dynamic", "bernoulli"),
        ("lvae", "dynamic", "bernoulli"),
        ("hvae", "none", "gaussian"),
    ):
        chosen = resolve(name, "fashion-mnist")
        assert (chosen.data_options["binarize"], chosen.recipe_options["likelihood"]) == (binarize, likelihood)
    hvae = resolve("hvae", "mnist", options={"preset": "paper"})
    assert hvae.recipe_options["hidden"] == (64, 128) and hvae.recipe_options["network"] == "conv"
    # Channels, not the widths of a dense network, once a convolutional one is asked for.
    assert resolve("vae", "mnist", options={"network": "conv"}).recipe_options["hidden"] == (32, 64)
    assert hvae.recipe_options["dims"] == (20, 20, 20) and hvae.train.lr == 1e-4 and hvae.schedule == "warmup"
    lvae = resolve("lvae", "mnist", options={"preset": "paper"}).recipe_options
    assert lvae["dims"] == (64, 32, 16, 8, 4) and lvae["norm"]
    # Clusters of a mixture, or pseudo-inputs.
    priors = {"normal": 100, "gmm": 10, "vamp": 100}
    assert {p: resolve("vae", "digits", options={"prior": p}).recipe_options["components"] for p in priors} == priors
    assert resolve("vampprior", "mnist").recipe_options["components"] == 500
    # An option still wins over the preset, and a file can choose one.
    assert resolve("vhp", "mnist", options={"preset": "paper", "latent": "5"}).recipe_options["latent"] == 5
    assert resolve(None, None, config={"recipe": "vhp", "dataset": "mnist", "preset": "paper"}).train.batch_size == 100


def test_a_preset_that_is_not_there():
    with pytest.raises(ConfigError, match="no preset of hvae on digits called 'paper'. Known: cpu"):
        preset("hvae", "digits", "paper")
    with pytest.raises(ConfigError, match="'papr'. Did you mean 'paper'"):
        resolve("hvae", "mnist", options={"preset": "papr"})


@pytest.mark.parametrize("dims", [(5,), (5, 4), (5, 4, 3, 2)])
def test_any_number_of_layers(dims):
    x = torch.rand(30, 6)
    for name in ("hvae", "ar-hvae", "lvae"):
        more = {"widths": (6, 5, 4, 3)[: len(dims)]} if name == "lvae" else {"hidden": (6,), "upper": (6,)}
        objective = recipes.build(name, x, {"dims": dims, **more})[-1].objective
        terms = objective.estimate(x).terms
        assert set(terms) == {"x", *(f"z{i + 1}" for i in range(len(dims)))}


def test_the_second_layer_of_iwae_and_vampprior():
    x = torch.rand(30, 6)
    for name in ("iwae", "vampprior"):
        small = {"hidden": (5,), "upper": (5,), "levels": 2, "latent": 3, "latent2": 2}
        objective = recipes.build(name, x, small | ({"components": 4} if name == "vampprior" else {}))[-1].objective
        assert set(objective.estimate(x).terms) == {"x", "z1", "z2"}


@pytest.mark.parametrize(("recipe", "squash"), [("vae", False), ("hvae", True)])
def test_a_laplace_likelihood_by_name(recipe, squash):
    """`sigma` is its scale; the mean is squashed by the recipes that squash a Gaussian's, and only for data in [0, 1]."""
    x = torch.rand(30, 1, 4, 4)
    for data, inside in ((x, squash), (2 * x - 0.5, False)):
        model = recipes.build(recipe, data, {"likelihood": "laplace", "sigma": 0.125})[-1].objective.model
        assert isinstance(model.likelihood, Laplace) and model.likelihood.squash is inside
        assert likelihood_name(model) == "Laplace, scale 0.125"
        start = (data.mean(0).clamp(1e-3, 0.999).logit() if inside else data.mean(0)).flatten()
        assert torch.allclose(model.likelihood.net[-1].bias, start)


@pytest.mark.parametrize("name", [name for name in recipes.RECIPES if name != "texture"])  # its sigma is the paper's
def test_every_gaussian_recipe_can_learn_sigma(name):
    """One number, which starts at sigma whatever that is, and is trained with the other parameters."""
    small = {"widths": (6, 5)} if name == "lvae" else {"components": 4} if name == "vampprior" else {}
    small |= {"dims": (2, 2)} if name in ("hvae", "ar-hvae", "lvae", "vlae", "pro-vlae", "teacher-student") else {}
    for sigma in (0.2, 412.0):
        x = sigma * torch.rand(30, 6)
        for learn in (False, True):
            stage = recipes.build(name, x, small | {"sigma": sigma, "learn_sigma": learn})[-1]
            assert likelihood_name(stage.objective.model) == f"Gaussian, sigma {sigma:.4g}"
            parameters = dict(stage.objective.model.named_parameters())
            assert [key for key in parameters if key.endswith("log_sigma")] == ["likelihood.log_sigma"] * learn
        stage.objective.estimate(x).loss({}).backward()
        grad = parameters["likelihood.log_sigma"].grad
        assert grad is not None and grad != 0
    with pytest.raises(ConfigError, match="a Bernoulli likelihood has no sigma"):
        recipes.build(name, torch.rand(30, 6), small | {"likelihood": "bernoulli", "learn_sigma": True})


def test_vampprior_shares_its_encoder():
    objective = recipes.build("vampprior", torch.rand(30, 6), {"components": 7})[-1].objective
    assert objective.model.prior.encoder is objective.guide.levels[0]
    assert objective.model.prior.pseudo_inputs.shape == (7, 6)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("hvae", {"dims": ()}, "at least 1 and all positive, got none"),
        ("hvae", {"dims": (3, 0)}, "all positive, got 3,0"),
        ("lvae", {"dims": (3, 2), "widths": (5,)}, "one width a layer"),
        ("vampprior", {"levels": 3}, "one or two levels"),
        ("vampprior", {"components": 31}, "of which there are 30"),
        ("hvae", {"network": "conv", "hidden": (4, 4)}, "network=conv needs images"),
        ("vhp", {"network": "gated-conv", "hidden": (4, 4)}, "network=gated-conv needs images"),
        ("lvae", {"likelihood": "laplace", "learn_sigma": True}, "learn_sigma cannot be on. Leave learn_sigma out, or use"),
        ("vae", {"likelihood": "laplace", "sigma": 0.0}, "must be positive, got 0.0"),
        ("vae", {"likelihood": "bernoulli"}, r"Bernoulli likelihood needs data in \[0, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        recipes.build(name, 4 * torch.rand(30, 6) - 2, options)


def test_recipes_take_their_inputs_as_they_are():
    """Codes of a learned prior spread over tens; a bound on inputs would change what is measured on them."""
    for name in ("vhp", "hvae", "vae", "iwae", "vampprior"):
        for stage in RECIPES[name].build(torch.rand(60, 1, 8, 8)):
            bounds = {m.input_bound for m in stage.objective.modules() if isinstance(m, ParentNetwork)}
            assert bounds == {None}, name
