"""Gibbs chains: which sites give valid chains, and where these converge."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import LinearGaussianChain, skip_pair
from torch.testing import assert_close

from pyro_hvae import ELBO, generate, gibbs, latents, recipes
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference.sampling import ancestral
from pyro_hvae.objectives.site_dependencies import check_sites, parents, resolve_sites, site_graph


def last(pair, x, steps, sites="all", **options):
    return gibbs(*pair, x, steps=steps, sites=sites, burn_in=steps - 1, **options).x[-1]


def z_scores(x, evidence):
    """Of the chains' mean and of their (co)variances, each against the exact law; the chains are independent."""
    n, centred = len(x), x - evidence.mean
    mean = centred.mean(0) / (evidence.covariance_matrix.diagonal() / n).sqrt()
    products = centred[:, :, None] * centred[:, None, :]
    spread = (products.mean(0) - evidence.covariance_matrix) / (products.std(0) / n**0.5)
    return torch.cat([mean, spread.flatten()])


@pytest.mark.parametrize("sites", [["z1"], ["z2"], "all"])
def test_optimal_markov_hvae_the_chain_has_the_datas_mean_and_covariance(float64, sites):
    """Propositions 1 and 2, from a start far away; z2 alone is valid as well, though the paper does not say so."""
    chain = LinearGaussianChain(dims=(2, 3), data=3, noise=0.8)
    x = last((chain.model(), chain.guide()), torch.full((4000, 3), 9.0), 500, sites)
    assert z_scores(x, chain.evidence).abs().max() < 4.2


def test_three_levels_through_the_bottom_layer_alone(float64):
    chain = LinearGaussianChain(dims=(2, 2, 2), data=3, noise=0.9)
    x = last((chain.model(), chain.guide()), torch.zeros(4000, 3), 300, ["z1"])
    assert z_scores(x, chain.evidence).abs().max() < 4.2


def test_a_wrong_guide_goes_elsewhere(float64):
    chain = LinearGaussianChain(dims=(2, 3), data=3, noise=0.8)
    x = last((chain.model(), chain.guide(0.3)), torch.full((4000, 3), 9.0), 60, ["z1"])
    assert z_scores(x, chain.evidence).abs().max() > 10


def test_resampling_repairs_a_wrong_guide(float64):
    """The wrong guide's chain misses the law by its own error; weights p(x, z) / q(z | x) take most of that away."""
    chain = LinearGaussianChain(dims=(2, 3), data=3, noise=0.8)
    pair, start = (chain.model(), chain.guide(0.3)), chain.evidence.sample((2000,))
    wrong, repaired = (z_scores(last(pair, start, 50, ["z1"], particles=k), chain.evidence).abs().max() for k in (1, 100))
    assert repaired < 6 < 10 < wrong


def test_resampling_changes_nothing_when_the_guide_is_exact(float64):
    chain = LinearGaussianChain(dims=(2, 3), data=3, noise=0.8)
    start = chain.evidence.sample((4000,))
    x = last((chain.model(), chain.guide()), start, 30, ["z1"], particles=5)
    assert z_scores(x, chain.evidence).abs().max() < 4.2


def test_without_observation_noise_it_is_another_chain(float64):
    chain = LinearGaussianChain(dims=(2, 3), data=3, noise=0.8)
    x = last((chain.model(), chain.guide()), torch.full((4000, 3), 9.0), 60, ["z1"], noise=False)
    assert z_scores(x, chain.evidence).abs().max() > 10


def test_skip_model_full_chain_right_bottom_chain_refused(float64):
    model, guide, variance = skip_pair()
    start = torch.full((8000, 1), 5.0)
    x = last((model, guide), start, 60)
    assert_close(x.var().item(), variance, rtol=5 * (2 / 8000) ** 0.5, atol=0)
    with pytest.raises(ConfigError, match="also depends on z2.*sites z1,z2"):
        gibbs(model, guide, start, steps=3, sites=["z1"])
    # What the refusal saves from: x redrawn with z1 kept and z2 from its prior settles at another variance.
    for _ in range(60):
        start = ancestral(model, len(start), {"z1": latents(guide, start)["z1"]})["x"]["value"]
    assert abs(start.var().item() - variance) > 20 * variance * (2 / 8000) ** 0.5


def test_top_layer_of_a_skip_model_is_a_valid_chain(float64):
    """Kept z2 with z1 drawn from p(z1 | z2): conditioning and intervening agree at the root."""
    model, guide, variance = skip_pair()
    x = last((model, guide), torch.full((8000, 1), 5.0), 60, ["z2"])
    assert_close(x.var().item(), variance, rtol=5 * (2 / 8000) ** 0.5, atol=0)


def flat(x=None, size=1):
    with pyro.plate("data", size if x is None else len(x), dim=-1):
        z1, z2 = (pyro.sample(f"z{i}", dist.Normal(torch.zeros(1), 1.0).to_event(1)) for i in (1, 2))
        return pyro.sample("x", dist.Normal(z1 + 2 * z2, 0.5).to_event(1), obs=x)


def test_flat_models_may_keep_any_layer():
    """Independent a priori, so a latent that is not kept may be drawn from its prior."""
    for sites in (["z1"], ["z2"], "all"):
        resolve_sites(flat, torch.zeros(2, 1), sites)


def test_dependencies_are_read_from_the_program():
    assert parents(flat, torch.zeros(2, 1)) == ["z1", "z2"]
    x = torch.rand(9, 1, 4, 4)
    options = {"dims": (3, 2, 2), "hidden": (4,), "upper": (4,)}
    for name, expected in (("hvae", ["z1"]), ("ar-hvae", ["z1", "z2", "z3"])):
        objective = recipes.build(name, x, options)[-1].objective
        assert parents(objective.model, x) == expected
        assert parents(objective.model, x, "z2") == ["z3"]


def test_looking_at_dependencies_disturbs_nothing():
    objective = recipes.build("lvae", torch.rand(30, 6), {"dims": (3, 2), "widths": (5, 4)})[-1].objective
    objective.train()
    before = {name: b.clone() for name, b in objective.named_buffers()}
    x, state = torch.rand(4, 6), torch.get_rng_state()
    site_graph(objective.model, x)
    assert torch.equal(state, torch.get_rng_state()) and objective.model.training
    assert all(torch.equal(b, before[name]) for name, b in objective.named_buffers())


@pytest.mark.parametrize("name", ["vae", "vampprior", "hvae", "ar-hvae", "lvae", "vhp"])
def test_chains_of_every_kind_of_pair(name):
    x = torch.rand(20, 1, 4, 4).round()
    small = {"likelihood": "bernoulli", "hidden": (6,)}
    more = {"lvae": {"dims": (3, 2), "widths": (6, 4)}, "hvae": {"dims": (3, 2)}, "ar-hvae": {"dims": (3, 2)}}
    options = {**({"likelihood": "bernoulli"} if name == "lvae" else small), **more.get(name, {})}
    if name == "vampprior":
        options |= {"levels": 2, "components": 5}
    objective = recipes.build(name, x, options)[-1].objective.eval()
    sites = "all" if name in ("ar-hvae", "vampprior") else ["z1"]
    found = gibbs(objective.model, objective.guide, x, steps=9, sites=sites, burn_in=3, thin=2)
    assert found.x.shape == (3, 20, 1, 4, 4) and found.mean.shape == found.x.shape
    assert set(found.x.unique().tolist()) <= {0.0, 1.0} and len(found.mean.unique()) > 2
    assert found.trail.shape == (len(found.trail_steps), 8, 1, 4, 4) and found.trail_steps == (0, 1, 2, 5, 9)
    assert torch.equal(found.trail[0], x[:8])
    for site in found.sites:
        assert found.z[site].shape[:2] == (3, 20)


def test_chains_that_leave_the_data_have_diverged():
    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z1", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(2 * z, 1e-6).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z1", dist.Normal(x, 1e-6).to_event(1))

    data = torch.tensor([[6.0], [4.0]])  # mean 5, standard deviation 1: a chain is far when it is beyond 1005 or -995
    starts = torch.tensor([[0.0], [1.0], [-1.0]])
    for steps, particles, diverged in (  # of x 2^steps; float32 ends at 2^128
        (9, 1, [False, False, False]),
        (10, 1, [False, True, True]),
        (200, 1, [True, True, True]),
        (200, 3, [True, True, True]),
    ):
        found = gibbs(model, guide, starts, steps=steps, particles=particles)
        assert found.find_diverged(data).tolist() == diverged, steps
    assert not found.mean[-1].isfinite().any()
    near = gibbs(model, guide, starts, steps=10)
    assert not near.find_diverged(torch.ones(5, 1)).any()  # data that do not vary have no scale


def test_kept_draws_belong_to_their_latents(float64):
    chain = LinearGaussianChain()
    found = gibbs(chain.model(), chain.guide(), torch.zeros(5, 4), steps=4, sites="all")
    again = generate(chain.model(), 5, fixed={name: z[2] for name, z in found.z.items()})["x"]
    assert_close(again, found.mean[2])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sites": []}, "no site to keep"),
        ({"sites": ["zz1"]}, "no latent site called 'zz1'. Did you mean 'z1'"),
        ({"sites": ["x"]}, "no latent site called 'x'"),
        ({"steps": 0}, "steps >= 1"),
        ({"steps": 3, "burn_in": 3}, "burn-in < steps"),
        ({"steps": 3, "thin": 0}, "thin >= 1"),
        ({"steps": 3, "thin": 5}, "thin=5 keeps nothing"),
    ],
)
def test_bad_chains(options, message):
    chain = LinearGaussianChain()
    torch.set_default_dtype(torch.float64)
    with pytest.raises(ConfigError, match=message):
        gibbs(chain.model(), chain.guide(), torch.zeros(2, 4), **{"steps": 5, **options})


def test_a_set_is_judged_by_d_separation():
    """z3 -> z2 -> z1 -> x with a skip z3 -> x: z1 needs z3; {z1, z3} may leave z2 out; z3 alone is a root."""
    import networkx as nx

    graph = nx.DiGraph([("z3", "z2"), ("z2", "z1"), ("z1", "x"), ("z3", "x")])
    for valid in (["z1", "z3"], ["z3"], ["z1", "z2", "z3"], ["z2", "z3"]):
        check_sites(graph, valid)
    for wrong in (["z1"], ["z2"], ["z1", "z2"]):
        with pytest.raises(ConfigError, match="z3"):
            check_sites(graph, wrong)


def test_elbo_of_the_skip_pair_is_what_makes_the_chain_right(float64):
    """The guide that gives the evidence is the one whose chain is right (the premise of proposition 2)."""
    model, guide, variance = skip_pair()
    x = variance**0.5 * torch.randn(50, 1)
    exact = torch.distributions.Normal(0.0, variance**0.5).log_prob(x[:, 0])
    assert_close(ELBO(analytic_kl=False).estimate(model, guide, x).bound(), exact)
