"""Likelihoods of counts with a size factor: density, start, every recipe, captured passes, questions (float64)."""

import pytest
import torch
from both_ways import assert_same
from scipy import stats
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, ContractError, DataError
from pyro_hvae.objectives import scalar_family
from pyro_hvae.recipes.likelihoods import COUNTS
from pyro_hvae.training.training_step import TrainingPass

pytestmark = pytest.mark.usefixtures("float64")
NAMES = pytest.mark.parametrize("name", COUNTS)
SMALL = {"dims": (2, 2), "hidden": (8,), "upper": (8,)}
PLAIN = {"latent": 2, "hidden": (8,)}
PAIRS = {
    "vae": PLAIN,
    "beta-vae": PLAIN,
    "iwae": {**PLAIN, "particles": 3, "levels": 2, "latent2": 2, "upper": (8,)},
    "vampprior": {**PLAIN, "components": 5},
    "vhp": {**PLAIN, "latent2": 2, "particles": 3, "upper": (8,)},
    "hvae": SMALL,
    "ar-hvae": {**SMALL, "features": 8},
    "lvae": {"dims": (2, 2), "widths": (8, 8)},
    "vlae": {"dims": (2, 2), "width": 8},
    "pro-vlae": {"dims": (2, 2), "width": 8},
    "teacher-student": {"dims": (2, 2), "hidden": (8,), "features": 4},
    "conv": {"latent": 2, "hidden": (4, 4), "network": "conv", "activation": "relu"},
}


def data(n=40, columns=4, images=False, holes=0.0, y=False):
    """Counts of mean s mu(z), with sizes of a factor of ten."""
    g = torch.Generator().manual_seed(1)
    size = torch.exp(1.2 * torch.randn(n, 1, generator=g))
    shape = (n, 1, 4, 4) if images else (n, columns)
    x = torch.poisson(size.reshape(n, *[1] * (len(shape) - 1)) * 3 * torch.rand(shape, generator=g) + 1, generator=g)
    observed = torch.rand(shape, generator=g) > holes if holes else None
    given = {"size_factor": size} | ({"y": torch.eye(3)[torch.arange(n) % 3]} if y else {})
    return Batch(x if observed is None else x.where(observed, 0), given, observed)


def built(recipe, batch, name="negative-binomial"):
    torch.manual_seed(0)
    options = {"likelihood": name, **PAIRS[recipe]}
    return recipes.build("vae" if recipe == "conv" else recipe, batch, options)[-1]


@NAMES
@torch.no_grad()
def test_the_size_multiplies_the_mean_of_the_counts(name):
    conditional = built("hvae", data(), name).objective.model.likelihood
    for parameter in conditional.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    z, size = torch.randn(5, 7, 2), torch.rand(7, 1) + 0.5
    one, fn = conditional(z, torch.ones(7, 1)), conditional(z, size)
    assert fn.batch_shape == (5, 7) and fn.event_shape == (4,)
    assert_close(fn.mean, one.mean * size)
    mean = one.mean if "inflated" not in name else one.mean / (1 - one.base_dist.gate_logits.sigmoid())
    if "binomial" in name:
        r = scalar_family(fn).total_count.numpy()
        law = stats.nbinom(r, r / (r + (mean * size).numpy()))
    else:
        law = stats.poisson((mean * size).numpy())
    x = torch.poisson(fn.mean)
    density = torch.as_tensor(law.pmf(x.numpy()))
    if "inflated" in name:
        share = one.base_dist.gate_logits.sigmoid()
        density = share * (x == 0) + (1 - share) * density
    assert_close(fn.log_prob(x), density.log().sum(-1), atol=1e-9, rtol=1e-10)


@NAMES
@torch.no_grad()
def test_it_starts_at_the_rate_of_the_data(name):
    batch = data()
    conditional = built("hvae", batch, name).objective.model.likelihood
    getattr(conditional, "counts", conditional).net[-1].weight.zero_()
    size = batch.given["size_factor"]
    assert_close(conditional(torch.randn(40, 2), size).mean.sum(0), batch.x.sum(0))


@pytest.mark.parametrize("recipe", PAIRS)
@pytest.mark.parametrize("holes, y", [(0.0, False), (0.3, True)])
def test_every_recipe_scales_x_and_no_prior(recipe, holes, y):
    batch = data(images=recipe == "conv", holes=holes, y=y)
    objective = built(recipe, batch).objective
    model, guide = objective.model, objective.guide
    objective(batch).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    objective.eval()
    beside = {name: value[:1] for name, value in batch.given.items() if name != "size_factor"}

    def drawn(size):
        torch.manual_seed(3)
        return hv.generate(model, 6, given={**beside, "size_factor": torch.tensor([[size]])})

    one, two = drawn(1.0), drawn(2.0)
    assert_close(two.pop("x"), 2 * one.pop("x"))
    assert all(torch.equal(one[site], two[site]) for site in one)
    double = Batch(batch.x, {**batch.given, "size_factor": 2 * batch.given["size_factor"]}, batch.observed)
    codes, others = hv.latents(guide, batch, mean=True), hv.latents(guide, double, mean=True)
    assert not torch.isclose(codes["z1"], others["z1"]).all()
    if recipe == "hvae":  # q(z2 | z1) is told y alone
        assert guide.levels[1].inputs == 2 + 3 * y
    assert hv.log_likelihood(model, guide, batch, particles=4).isfinite().all()
    assert hv.reconstruct(model, guide, batch).shape == batch.shape
    under = hv.reconstruct(model, guide, batch, under={"size_factor": torch.ones(1, 1)})
    sizes = batch.given["size_factor"].reshape(40, *[1] * (batch.x.dim() - 1))
    assert_close(hv.reconstruct(model, guide, batch), under * sizes)
    if holes:
        filled = hv.impute(model, guide, batch, particles=4)
        assert torch.equal(filled[batch.observed], batch.x[batch.observed]) and filled[~batch.observed].any()


@NAMES
def test_captured_passes_are_the_eager_ones(name):
    batch = data()
    passing = TrainingPass(built("hvae", batch, name).objective, schedule := hv.schedules.Constant())
    calls = [batch[i : i + 10] for i in (0, 10, 20)]

    class Flat(torch.nn.Module):
        """The pass with x and the sizes as tensors of their own."""

        def __init__(self):
            super().__init__()
            self.passing = passing

        def forward(self, x, size):
            return self.passing(Batch(x, {"size_factor": size}), *self.passing.arguments(schedule))

    assert assert_same(Flat(), [(call.x, call.given["size_factor"]) for call in calls]).graphs == 1


def test_encoders_read_logarithms_of_counts_and_sizes():
    batch = data(holes=0.3)
    encoder = built("vae", batch).objective.guide.levels[0]
    layer, seen = encoder.net[0], []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder(batch.x, batch.observed.double(), batch.given["size_factor"])
    mean = layer.log_mean
    logs = (batch.x.log1p() - mean).where(batch.observed, 0)
    assert_close(seen[0], torch.cat([logs, batch.observed.double(), batch.given["size_factor"].log()], 1))
    complete = data()
    assert_close(built("vae", complete).objective.guide.levels[0].net[0].log_mean, complete.x.log1p().mean(0))
    gaussian = recipes.build("vae", Batch(complete.x), {**PLAIN, "likelihood": "gaussian"})[-1].objective.guide.levels[0]
    assert not any(isinstance(module, type(layer)) for module in gaussian.modules())


def test_what_is_no_size_is_refused():
    batch = data()
    objective = built("vae", batch).objective
    with pytest.raises(ContractError, match="it was not given 'size_factor'"):
        objective(batch.x)
    for wrong in (0.0, -2.0):
        with pytest.raises(DataError, match=f"'size_factor' has the value {wrong:g}, but sizes are positive"):
            objective(batch.x, size_factor=torch.full((40, 1), wrong))
    with pytest.raises(DataError, match="'size_factor' is NaN or infinite"):
        objective(batch.x, size_factor=torch.full((40, 1), torch.inf))
    for shape in ((40,), (40, 2), ()):
        with pytest.raises(ContractError, match=r"has the shape \(\*plates, 1\), one number a datum.*as values\[:, None\]"):
            objective(batch.x, size_factor=torch.ones(shape))
    flat = hv.Chain(hv.StandardNormal(2), [], hv.Poisson(2, 4, size_factor=True), given=["size_factor"])
    with pytest.raises(ContractError, match=r"has the shape \(\*plates, 1\).*\(3,\)"):
        flat(size=3, size_factor=torch.ones(3))
    assert flat(size=3, size_factor=torch.ones(3)[:, None]).shape == (3, 4)
    with pytest.raises(ConfigError, match="size_factor multiplies the means of counts, but the likelihood is gaussian"):
        recipes.build("vae", batch, {**PLAIN, "likelihood": "gaussian"})
