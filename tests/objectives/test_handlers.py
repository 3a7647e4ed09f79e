"""Handlers on tiny programs."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_hvae.objectives.handlers import Means, Record, ScaleSites, Share


def program(x=None):
    with pyro.plate("data", 3, dim=-1):
        z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        z1 = pyro.sample("z1", dist.Normal(z2, 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z1, 1.0).to_event(1), obs=x)


def test_record_replays_latents_but_never_observations():
    given = {"z1": torch.ones(3, 2), "x": torch.full((3, 2), 9.0)}
    with Record(given) as record:
        program(torch.zeros(3, 2))
    assert list(record.sites) == ["z2", "z1", "x"]  # the plate's own bookkeeping is no site
    assert torch.equal(record.sites["z1"]["value"], torch.ones(3, 2))
    assert torch.equal(record.sites["x"]["value"], torch.zeros(3, 2))


def test_means():
    with Record() as record, Means():
        program()
    assert all(not site["value"].any() for site in record.sites.values())


def test_scale_sites_multiplies_and_composes():
    trace = poutine.trace(ScaleSites({"z1": 0.5})(ScaleSites({"z1": 0.5, "z2": 0.0})(program))).get_trace(torch.zeros(3, 2))
    trace.compute_log_prob()
    assert trace.nodes["z1"]["scale"] == 0.25
    assert trace.nodes["z2"]["log_prob_sum"] == 0
    assert trace.nodes["x"]["scale"] == 1.0
    assert torch.allclose(trace.nodes["z1"]["log_prob"], 0.25 * trace.nodes["z1"]["unscaled_log_prob"])


def batch_shapes(sites, x=None):
    with Record() as record, Share(sites, 5):
        program(x)
    return {name: tuple(site["fn"].batch_shape) for name, site in record.sites.items()}


def test_share_keeps_shared_sites_and_what_follows_from_them_out_of_the_particles():
    x = torch.zeros(3, 2)
    assert batch_shapes((), x) == {"z2": (5, 3), "z1": (5, 3), "x": (5, 3)}
    assert batch_shapes({"z2", "z1"}, x) == {"z2": (3,), "z1": (3,), "x": (3,)}
    # x varies over the particles through z1, so it must not be left out.
    assert batch_shapes({"z2"}, x) == {"z2": (3,), "z1": (5, 3), "x": (5, 3)}


@pytest.mark.parametrize("sites", [(), ("z1",)])
def test_share_draws_independent_particles(sites):
    with Record() as record, Share(sites, 5):
        program()
    z2 = record.sites["z2"]["value"]
    assert z2.shape == (5, 3, 2) and len(z2.unique()) == 30
