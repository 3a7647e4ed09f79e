"""Data outside the support of their likelihood are named by every tool, in every pass, whatever the family and the mask."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import pyro_hvae as hv
from pyro_hvae.data import Rows
from pyro_hvae.errors import DataError
from pyro_hvae.inference import bound
from pyro_hvae.objectives.data_support import check_data, check_site, find_support, spoil_outside

QUESTIONS = {
    "objective": lambda m, g, x: hv.ELBO()(m, g)(x),
    "particles": lambda m, g, x: hv.ELBO(particles=3)(m, g)(x),
    "svi": lambda m, g, x: pyro.infer.SVI(m, g, pyro.optim.Adam({"lr": 1e-3}), hv.ELBO()).evaluate_loss(x),
    "capture": lambda m, g, x: hv.capture(hv.ELBO()(m, g), compile=False)(x),
    "fit": lambda m, g, x: hv.fit(hv.ELBO()(m, g), x, hv.TrainConfig(steps=1, batch_size=4), progress=False),
    "validation": lambda m, g, x: hv.fit(
        hv.ELBO()(m, g), torch.zeros(9, 6), hv.TrainConfig(steps=1, batch_size=4), validation=x, progress=False
    ),
    "log_likelihood": lambda m, g, x: hv.log_likelihood(m, g, x, particles=2),
    "bound": lambda m, g, x: bound(hv.ELBO(), m, g, x),
    "reconstruct": lambda m, g, x: hv.reconstruct(m, g, x),
    "gibbs": lambda m, g, x: hv.gibbs(m, g, x, steps=1),
    "interpolate": lambda m, g, x: hv.interpolate(m, g, x[0], x[-1], nodes=20),
    "layer_samples": lambda m, g, x: hv.layer_samples(m, "z1", 3, g, x),
}
GUIDE_ONLY = {
    "posteriors": lambda m, g, x: hv.posteriors(g, x),
    "latents": lambda m, g, x: hv.latents(g, x),
    "active_units": lambda m, g, x: hv.active_units(g, x),
}


def pair(likelihood=hv.Bernoulli):
    torch.manual_seed(0)
    return hv.Chain(hv.StandardNormal(2), [], likelihood(2, 6)), hv.BottomUp([hv.Gaussian(6, 2)])


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("value", [255.0, -1.0, 1.001])
def test_every_question_names_what_a_bernoulli_excludes(question, value):
    x = torch.full((9, 6), 0.5)
    x[8, 2] = value
    with pytest.raises(DataError, match=rf"value {value:g} at .*2\).* Bernoulli, .* numbers in \[0, 1\] only. Scale the data"):
        QUESTIONS[question](*pair(), x)
    x[8, 2] = 1.0
    QUESTIONS[question](*pair(), x)


@pytest.mark.parametrize("question", {**QUESTIONS, **GUIDE_ONLY})
@pytest.mark.parametrize("value", [-math.inf, math.inf])
@pytest.mark.parametrize("likelihood", [hv.Bernoulli, hv.Gaussian])
def test_every_question_names_a_number_that_is_not_finite(question, value, likelihood):
    x = torch.full((9, 6), 0.5)
    x[8, 2] = value
    with pytest.raises(DataError, match=rf"value {value} at index \(\d, 2\).*Replace values that are not finite") as error:
        {**QUESTIONS, **GUIDE_ONLY}[question](*pair(likelihood), x)
    assert "-o " not in str(error.value) and "--" not in str(error.value)


def test_all_data_are_read_at_the_start_of_a_training_and_the_place_is_that_in_all_of_them(monkeypatch):
    monkeypatch.setattr("pyro_hvae.objectives.data_support.BLOCK", 60)
    x = torch.zeros(1000, 6)
    x[777, 3], x[778] = 7.0, -1.0
    for given in (x, x.numpy(), Rows(x), Rows(x).take(torch.arange(1000))):
        with pytest.raises(DataError, match=r"value 7 at index \(777, 3\) and 6 more such values"):
            hv.fit(hv.ELBO()(*pair()), given, hv.TrainConfig(steps=1), progress=False)


def test_a_captured_pass_looks_at_every_batch():
    step = hv.capture(hv.ELBO()(*pair()), compile=False)
    for _ in range(2):
        step(torch.zeros(9, 6))
    with pytest.raises(DataError, match=r"value 255 at index \(0, 0\) of this batch and 53 more"):
        step(torch.full((9, 6), 255.0))
    assert step(torch.ones(9, 6)).isfinite()


class Own(nn.Module):
    """z1 -> x with a likelihood of one's own, under a mask."""

    def __init__(self, likelihood, mask=None):
        super().__init__()
        self.likelihood, self.mask, self.net = likelihood, mask, nn.Linear(2, 3)

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mask = self.mask if x is not None else None
            with poutine.mask(mask=True if mask is None else mask):
                return pyro.sample("x", self.likelihood(self.net(z)), obs=x)


# family -> (distribution of x given a network's outputs, a value inside, a value outside)
FAMILIES = {
    "Poisson": (lambda h: dist.Poisson(h.exp()).to_event(1), [0.0, 2.0, 5.0], [0.0, 2.5, 5.0]),
    "NegativeBinomial": (lambda h: dist.NegativeBinomial(h.exp(), logits=h).to_event(1), [0.0, 2.0, 5.0], [0.0, -1.0, 5.0]),
    "Categorical": (lambda h: dist.Categorical(logits=h.unsqueeze(-1).expand(-1, 3, 4)).to_event(1), [0, 3.0, 1], [0, 4.0, 1]),
    "OneHotCategorical": (lambda h: dist.OneHotCategorical(logits=h), [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]),
    "Gamma": (lambda h: dist.Gamma(h.exp(), 1.0).to_event(1), [0.1, 1.0, 2.0], [0.1, -1.0, 2.0]),
    "Beta": (lambda h: dist.Beta(h.exp(), h.exp()).to_event(1), [0.1, 0.5, 0.9], [0.1, 1.5, 0.9]),
    "LogNormal": (lambda h: dist.LogNormal(h, 1.0).to_event(1), [0.1, 0.5, 9.0], [0.1, -0.5, 9.0]),
    "Dirichlet": (lambda h: dist.Dirichlet(h.exp()), [0.2, 0.3, 0.5], [0.2, 0.3, 0.9]),
    "Uniform": (lambda h: dist.Uniform(-1 - h.exp(), 1 + h.exp()).to_event(1), [0.2, 0.3, 0.5], [0.2, 0.3, 1e4]),
    "ContinuousBernoulli": (lambda h: dist.ContinuousBernoulli(logits=h).to_event(1), [0.2, 0.3, 0.5], [0.2, 2.0, 0.5]),
    "StudentT": (lambda h: dist.StudentT(3.0, h, 1.0).to_event(1), [-9.0, 0.3, 1e3], [0.2, math.inf, 0.5]),
    "MultivariateNormal": (lambda h: dist.MultivariateNormal(h, torch.eye(3)), [-9.0, 0.3, 1e3], [0.2, math.inf, 0.5]),
    "VonMises": (lambda h: dist.VonMises(h, h.exp()).to_event(1), [-1.0, 0.3, 1.0], [0.2, math.inf, 0.5]),
}


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods_of_ones_own(family, validated):
    likelihood, inside, outside = FAMILIES[family]
    model, guide = Own(likelihood), hv.BottomUp([hv.Gaussian(3, 2)])
    x = torch.tensor([inside, inside, inside])
    with pyro.validation_enabled(validated):
        assert hv.ELBO()(model, guide)(x).isfinite()
        check_data(x, model)
        x[1] = torch.tensor(outside)
        with pytest.raises(DataError, match=r"x has the value .* at index (1|\(1, \d\))[. ]"):
            hv.ELBO()(model, guide)(x)


def test_what_a_mask_leaves_out_may_lie_outside():
    keep = torch.tensor([True, False, True])
    x = torch.tensor([[0.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [1.0, 1.0, 0.0]])
    for likelihood in (
        lambda h: dist.Bernoulli(logits=h, validate_args=False).to_event(1),
        lambda h: dist.Poisson(h.exp(), validate_args=False).to_event(1),
    ):
        model, guide = Own(likelihood, keep), hv.BottomUp([hv.Gaussian(3, 2)])
        for particles in (1, 4):
            assert hv.ELBO(particles=particles)(model, guide)(x).isfinite()
        model.mask = torch.tensor([True, True, False])
        with pytest.raises(DataError, match=r"value -1 at index \(1, 0\) of this batch and 2 more"):
            hv.ELBO()(model, guide)(x)
        model.mask = False
        assert hv.ELBO()(model, guide)(x).isfinite()


def test_on_an_accelerator_a_datum_outside_has_the_density_nan():
    x = torch.tensor([[0.0, 0.5, 1.0], [0.0, 2.0, 0.0], [0.0, math.nan, 0.0]])
    fn = dist.Bernoulli(logits=torch.zeros(3, 3), validate_args=False).to_event(1)
    found = spoil_outside({"fn": fn, "value": x, "mask": None}, fn.log_prob(x))
    assert found[0].item() == pytest.approx(3 * math.log(0.5)) and found[1:].isnan().all()
    simplex = dist.Dirichlet(torch.ones(2, 3), validate_args=False)
    found = spoil_outside(
        {"fn": simplex, "value": torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.9]]), "mask": None}, torch.zeros(2)
    )
    assert found[0] == 0 and found[1].isnan()
    known = torch.tensor([[True, True, True], [True, False, True], [False, True, True]])
    found = spoil_outside({"fn": fn, "value": x, "mask": known}, torch.zeros(3))
    assert found[:2].tolist() == [0, 0] and found[2].isnan()


def test_the_support_of_a_real_family_is_known_from_its_limits():
    for fn in (
        dist.Normal(0.0, 1.0),
        dist.Laplace(torch.zeros(3), 1.0).to_event(1),
        dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
    ):
        assert (find_support(fn).low, find_support(fn).high) == (-math.inf, math.inf)
    assert find_support(dist.Bernoulli(0.5)).high == 1.0 and find_support(dist.Poisson(1.0)).low is None


def test_bytes_are_not_read_for_a_likelihood_of_numbers_between_zero_and_one():
    rows = Rows(torch.full((5, 6), 255, dtype=torch.uint8), prepare=lambda raw: pytest.fail("they were read"))
    check_data(rows, pair()[0])
    check_data(rows, pair(hv.Gaussian)[0])
    counts = Rows(torch.full((5, 3), 255, dtype=torch.uint8), prepare=lambda raw: raw.float() / 2)
    with pytest.raises(DataError, match=r"value 127.5 at index \(0, 0\) and 14 more.* a Poisson"):
        check_data(counts, Own(FAMILIES["Poisson"][0]))


def test_numpy_arrays_of_images_of_minus_one_to_one_are_refused():
    with pytest.raises(DataError, match="Scale the data"):
        hv.log_likelihood(*pair(), np.random.default_rng(0).uniform(-1, 1, (4, 6)), particles=2)


def test_limits_that_depend_on_the_code_are_those_of_each_pass():
    narrow = Own(lambda h: dist.Uniform(-1e-3 * h.exp(), 1e-3 * h.exp(), validate_args=False).to_event(1))
    x = torch.full((4, 3), 0.5)
    check_data(x, narrow)  # another code could allow them
    with pytest.raises(DataError, match="a Uniform, has a density at"):
        hv.ELBO()(narrow, hv.BottomUp([hv.Gaussian(3, 2)]))(x)


def test_a_mask_of_one_particle_leaves_a_datum_in():
    fn = dist.Poisson(torch.ones(3, 3), validate_args=False).to_event(1)
    site = {"fn": fn, "value": torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), "mask": None}
    for mask, refused in (
        ([[True, False, True], [True, False, True]], False),
        ([[True, False, True], [True, True, True]], True),
    ):
        site["mask"] = torch.tensor(mask)
        if refused:
            with pytest.raises(DataError, match=r"index \(1, 0\)"):
                check_site(None, site)
        else:
            check_site(None, site)


def test_validation_data_are_read_before_the_first_step(tmp_path):
    with pytest.raises(DataError, match=r"value 255 at index \(8, 5\)"):
        x = torch.zeros(9, 6)
        x[8, 5] = 255.0
        hv.fit(
            hv.ELBO()(*pair()), torch.zeros(9, 6), hv.TrainConfig(steps=20), validation=x, out=tmp_path / "a", progress=False
        )
    assert not (tmp_path / "a/metrics.jsonl").exists() and not list((tmp_path / "a/checkpoints").iterdir())


def test_looking_at_data_leaves_the_parameter_store_as_it_was():
    model = hv.Gaussian(2, 6)

    def announced(x=None, size=1):
        pyro.module("decoder", model)
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", model(z), obs=x)

    with pyro.get_param_store().scope():
        check_data(torch.zeros(4, 6), announced)
        assert not list(pyro.get_param_store().keys())


def test_a_support_that_depends_on_z_is_checked_for_every_particle():
    class Bounded(nn.Module):
        """x is uniform between 0 and a bound that grows with z."""

        def forward(self, x=None, size=1):
            with pyro.plate("data", size if x is None else len(x)):
                z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                return pyro.sample("x", dist.Uniform(torch.zeros(6), 2 + z.sum(-1, True).sigmoid()).to_event(1), obs=x)

    model, guide = Bounded(), hv.BottomUp([hv.Gaussian(6, 2)])
    x = torch.ones(4, 6)
    for missing in (False, True):
        x[3, 2] = 5.0
        x[0, 0] = math.nan if missing else 1.0
        with pytest.raises(DataError, match=r"value 5 at index \(3, 2\) of this batch, but"):
            hv.ELBO(particles=3)(model, guide)(x)
        x[3, 2] = math.nan if missing else 1.0
        estimate = hv.ELBO(particles=3).estimate(model, guide, x)
        assert estimate.terms["x"].isfinite().all()
        fn, known = estimate.x["fn"], ~x.isnan()
        spoiled = spoil_outside({**estimate.x, "value": x.where(known, 0.0)}, estimate.terms["x"])
        assert torch.equal(spoiled, estimate.terms["x"]) and spoiled.shape == (3, 4) and fn.batch_shape == (3, 4)
        outside = spoil_outside({**estimate.x, "value": x.where(known, 0.0) + 9 * (torch.arange(4) == 1)[:, None]}, spoiled)
        assert outside.isnan().sum(0).tolist() == [0, 3, 0, 0]
