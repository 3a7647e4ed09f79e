"""A program that breaks the contract gets one error that says what was found and what to do."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_hvae as hv
from pyro_hvae import ELBO
from pyro_hvae.errors import ConfigError, ContractError


def normal(batch=()):
    return dist.Normal(torch.zeros(*batch, 2), 1.0).to_event(1)


def model(x=None, size=1):
    with pyro.plate("data", size if x is None else len(x), dim=-1):
        z = pyro.sample("z1", normal())
        return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide(x, size=1):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z1", normal())


def no_x(x=None, size=1):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z1", normal())
        pyro.sample("y", normal(), obs=x)


def outside_plate(x=None, size=1):
    z = pyro.sample("z1", normal((3,)))
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def other_latent(x, size=1):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("w", normal())


def subsampling(x=None, size=1):
    with pyro.plate("data", 10, subsample_size=len(x), dim=-1):
        pyro.sample("z1", normal())


def no_event(x, size=1):
    with pyro.plate("extra", 3, dim=-2), pyro.plate("data", len(x), dim=-1):
        pyro.sample("z1", dist.Normal(torch.zeros(3, 1), 1.0))


def discrete(x, size=1):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z1", dist.Bernoulli(torch.full((2,), 0.5)).to_event(1))


@pytest.mark.parametrize(
    "pair, message",
    [
        ((no_x, guide), "the observed site is called 'y', not 'x'"),
        ((outside_plate, guide), "model site 'z1' is outside the plate"),
        ((model, other_latent), r"the guide does not sample \['z1'\]; the model has no latent \['w'\]"),
        ((model, subsampling), "subsamples 3 of 10"),
        ((model, no_event), r"batch shape is \(3, 3\)"),
        ((model, discrete), "no reparameterised sampler"),
    ],
)
def test_each_fault_is_named_with_the_sites_and_the_remedy(pair, message):
    with pytest.raises(ContractError, match=message) as caught:
        ELBO().estimate(*pair, torch.zeros(3, 2))
    assert "Sites found: guide [" in str(caught.value)
    assert 'a plate "data" at dim -1 of size len(x)' in str(caught.value)
    assert isinstance(caught.value, ValueError)


def two_observed(x=None, size=1):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z1", normal())
        pyro.sample("x", normal(), obs=x)
        pyro.sample("y", normal(), obs=x)


@pytest.mark.parametrize(
    "pair, elbo, message",
    [
        ((two_observed, guide), ELBO(), r"observes \['y'\] besides 'x'"),
        ((model, guide), ELBO(particles=3, shared={"Z1"}), r"no site \['Z1'\] to share"),
    ],
)
def test_what_would_silently_be_another_bound_is_refused(pair, elbo, message):
    with pytest.raises(ContractError, match=message):
        elbo.estimate(*pair, torch.zeros(3, 2))


def test_a_shared_site_must_not_depend_on_one_that_varies():
    from pyro_hvae import BottomUp, Chain, Gaussian, StandardNormal

    chain = Chain(StandardNormal(2), [Gaussian(2, 2)], Gaussian(2, 4)), BottomUp([Gaussian(4, 2), Gaussian(2, 2)])
    with pytest.raises(ContractError, match="'z2' cannot be shared"):
        ELBO(particles=3, shared={"z2"}).estimate(*chain, torch.zeros(5, 4))
    with pytest.raises(ValueError, match="among one particle"):
        ELBO(shared={"z1"})


def test_events_without_dims():
    def scalar_model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z1", dist.Normal(torch.zeros(()), 1.0))
            return pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def scalar_guide(x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.Normal(x + 2.0, 1e-6))

    estimate = ELBO().estimate(scalar_model, scalar_guide, torch.zeros(100))
    assert estimate.constraint("nats").item() == pytest.approx(2.0, rel=1e-4)
    assert estimate.constraint("rmse").item() == pytest.approx(4.0, rel=1e-4)


def test_a_good_pair_passes_with_and_without_particles():
    for elbo in (ELBO(), ELBO(particles=4), ELBO(particles=4, shared={"z1"})):
        assert elbo.estimate(model, guide, torch.zeros(3, 2)).bound().shape == (3,)


class Named(nn.Module):
    """A pair that differs from the contract by its observed site's name, or by its arguments."""

    def __init__(self, site="obs", size=True):
        super().__init__()
        self.site, self.size, self.net = site, size, hv.Gaussian(2, 3)

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample(self.site, self.net(z), obs=x)


def test_another_name_of_the_observed_site_is_told_in_one_try():
    x, guide = torch.randn(5, 3), hv.BottomUp([hv.Gaussian(3, 2)])
    with pytest.raises(ContractError, match="the observed site is called 'obs', not 'x'"):
        ELBO()(Named(), guide)(x)
    for ask in (lambda: hv.generate(Named(), 3), lambda: hv.reconstruct(Named(), guide, x)):
        with pytest.raises(ContractError, match="but no site 'x'. Call what it observes 'x'"):
            ask()
    assert hv.reconstruct(Named("x"), guide, x).shape == x.shape


def test_a_model_that_draws_no_data_says_how_it_begins():
    def unsized(x):
        return Named("x")(x)

    def attributes(x=None, size=1):
        return Named("x")(x.float())

    for model in (unsized, attributes, lambda x=None: Named("x")(x)):
        with pytest.raises(ContractError, match=r"It begins with: def forward\(self, x=None, size=1\)"):
            hv.generate(model, 3)
    with pytest.raises(TypeError, match="an error of its own"):
        hv.generate(lambda size: (_ for _ in ()).throw(TypeError("an error of its own")), 3)


def test_programs_of_two_arguments_take_one_by_name_or_bound():
    class Conditional(Named):
        def forward(self, x=None, y=0.0, size=1):
            return super().forward(x, size)

    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = hv.Gaussian(3, 2)

        def forward(self, x, y=0.0):
            with pyro.plate("data", len(x)):
                pyro.sample("z1", self.q(x + y))

    model, guide, x, y = Conditional("x"), Guide(), torch.randn(5, 3), torch.ones(3)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({}), ELBO())
    for ask in (lambda: ELBO()(model, guide)(x, y), lambda: svi.step(x, y)):
        with pytest.raises(ContractError, match=r"loss\(x, y=y\), but it was given 2 arguments without a name"):
            ask()
    for ask in (lambda: ELBO()(model, guide)(x, y=y), lambda: svi.evaluate_loss(x, y=y)):
        with pytest.raises(ConfigError, match="'y' has 3 rows, but x has 5"):
            ask()
    assert math.isfinite(svi.evaluate_loss(x, y=torch.ones(5, 3))) and ELBO()(model, guide)(x=x).isfinite()
    bound = functools.partial(model, y=y), functools.partial(guide, y=y)
    assert ELBO()(*bound)(x=x).isfinite() and hv.log_likelihood(*bound, x, particles=3).isfinite().all()
    hv.fit(ELBO()(*bound), x, hv.TrainConfig(steps=2, batch_size=5), progress=False)


def test_a_guide_with_a_row_for_every_datum_is_trained_on_all_data_at_once():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(20, 2))

        def forward(self, x, size=1):
            with pyro.plate("data", len(x)):
                pyro.sample("z1", dist.Normal(self.loc, 0.5).to_event(1))

    guide, x = Rows(), torch.randn(20, 3)
    for schedule in (hv.Constant(), hv.Rewo(kappa=9.0, measure="rmse")):
        hv.fit(ELBO()(Named("x"), guide), x, hv.TrainConfig(steps=3, batch_size=20), schedule=schedule, progress=False)
    assert (guide.loc != 0).any(1).all()
    with pytest.raises(ContractError, match="a guide with parameters for every datum needs all data in one batch"):
        hv.fit(ELBO()(Named("x"), guide), x, hv.TrainConfig(steps=3, batch_size=10), progress=False)


def test_a_conditional_names_the_shape_of_parents_that_do_not_fit():
    for event, given, said in (
        (3, (5, 4), "3 features of its parents was given 4"),
        ((1, 4, 4), (5, 16), r"shape \(1, 4, 4\) was given \(5, 16\)"),
        ([(1, 4, 4), (2,)], (5, 1, 4, 4), "2 parents was given 1"),
    ):
        with pytest.raises(ContractError, match=said):
            hv.Gaussian(event, 2)(torch.zeros(given))
    guide = hv.BottomUp([hv.Gaussian(3, 2)])
    for ask in (hv.posteriors, hv.latents, hv.active_units):
        with pytest.raises(ContractError, match="3 features of its parents was given 4"):
            ask(guide, torch.zeros(5, 4))
    with pytest.raises(ContractError, match=r"x has the shape \(3,\) in the model, but \(4,\) in the data given"):
        ELBO()(Named("x"), guide)(torch.zeros(5, 4))
