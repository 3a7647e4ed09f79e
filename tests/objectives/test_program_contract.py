"""A program that breaks the contract gets one error that says what was found and what to do."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hvae import ELBO
from pyro_hvae.errors import ContractError


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
        ((no_x, guide), "no observed site 'x'"),
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
    assert 'a plate "data" of size len(x) at dim -1' in str(caught.value)
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
