"""In every situation that Pyro's own bounds accept, `ELBO` gives the same number, or a `ContractError`: in every pass."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch import nn

from pyro_hvae import ELBO, ScaleSites, capture, log_likelihood
from pyro_hvae.errors import ContractError

N = 12
X = torch.randn(N, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SOME = torch.arange(N) % 3 > 0


@pytest.fixture(autouse=True)
def double_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
    pyro.clear_param_store()


class Model(nn.Module):
    """Two latents and x; `around` names the handler that stands around all sites or around one."""

    def __init__(self, z1=lambda n: poutine.mask(mask=True), x=lambda n: poutine.mask(mask=True), auxiliary=False):
        super().__init__()
        self.net, self.z1, self.x, self.auxiliary = nn.Linear(2, 3), z1, x, auxiliary

    def forward(self, x=None, size=1):
        n = size if x is None else len(x)
        with pyro.plate("data", n, dim=-1):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with self.z1(n):
                z1 = pyro.sample("z1", dist.Normal(z2, 0.5).to_event(1))
            with self.x(n):
                return pyro.sample("x", dist.Normal(self.net(z1), 0.7).to_event(1), obs=x)


class Guide(nn.Module):
    def __init__(self, z1=lambda n: poutine.mask(mask=True), auxiliary=lambda module, n: False):
        super().__init__()
        self.net, self.z1, self.auxiliary = nn.Linear(3, 2), z1, auxiliary

    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            if self.auxiliary(self, len(x)):
                pyro.sample("aux", dist.Normal(torch.zeros(2), 1.0).to_event(1), infer={"is_auxiliary": True})
            with self.z1(len(x)):
                z1 = pyro.sample("z1", dist.Normal(self.net(x), 0.3).to_event(1))
            pyro.sample("z2", dist.Normal(0.5 * z1, 0.8).to_event(1))


class PointGuide(Guide):
    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Delta(self.net(x), event_dim=1))
            pyro.sample("z2", dist.Delta(0.5 * z1, event_dim=1))


def sequential(x, size=1):
    for i in pyro.plate("data", len(x)):
        pyro.sample(f"z1_{i}", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def masked(n):
    return poutine.mask(mask=SOME[:n])


def scaled(n):
    return poutine.scale(scale=0.1)


def weighted(n):
    return ScaleSites({"z1": torch.tensor(0.3), "z2": 2.0})


def wide(n):
    return poutine.mask(mask=torch.ones(5, n, dtype=torch.bool))


class Deterministic(Model):
    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2, 0.5).to_event(1))
            mean = pyro.deterministic("mean", self.net(z1), event_dim=1)
            return pyro.sample("x", dist.Normal(mean, 0.7).to_event(1), obs=x)


class Steps(nn.Module):
    """A series: a sequential plate around the plate of the data."""

    def __init__(self, observe=True):
        super().__init__()
        self.observe = observe

    def forward(self, x=None, size=1):
        z, data = torch.zeros(3), pyro.plate("data", size if x is None else len(x), dim=-1)
        for i in pyro.plate("time", 3):
            with data:
                z = pyro.sample(f"z{i}", dist.Normal(0.5 * z, 1.0).to_event(1))
        if self.observe:
            with data:
                return pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


class Rows(nn.Module):
    """A guide with parameters for every datum."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.randn(N, 2, generator=torch.Generator().manual_seed(1)))

    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.loc, 0.3).to_event(1))
            pyro.sample("z2", dist.Normal(0.5 * z1, 0.8).to_event(1))


class Observing(Guide):
    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.net(x), 0.3).to_event(1), obs=torch.zeros(len(x), 2))
            pyro.sample("z2", dist.Normal(0.5 * z1, 0.8).to_event(1))


class Narrow(Guide):
    """One of its sites has one number, which the model may repeat."""

    def __init__(self, site="z1"):
        super().__init__()
        self.site = site

    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            for name in ("z1", "z2"):
                pyro.sample(name, dist.Normal(x[:, : 1 if name == self.site else 2], 0.3).to_event(1))


class OneSite(nn.Module):
    """A program whose latent is called as an automatic guide needs it."""

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


EQUAL = {
    "plain": lambda: (Model(), Guide()),
    "mask of x": lambda: (Model(x=masked), Guide()),
    "mask of a latent in both": lambda: (Model(z1=masked), Guide(z1=masked)),
    "mask of a latent in the model only": lambda: (Model(z1=masked), Guide()),
    "mask of a latent in the guide only": lambda: (Model(), Guide(z1=masked)),
    "nothing masked, everything masked": lambda: (Model(x=lambda n: poutine.mask(mask=False)), Guide()),
    "mask in batches above two": lambda: (Model(x=lambda n: masked(n) if n > 2 else poutine.mask(mask=True)), Guide()),
    "scale of x": lambda: (Model(x=scaled), Guide()),
    "scale of a latent in both": lambda: (Model(z1=scaled), Guide(z1=scaled)),
    "point guide": lambda: (Model(), PointGuide()),
    "condition with all data": lambda: (poutine.condition(Model(), data={"x": X}), Guide()),
    "deterministic site": lambda: (Deterministic(), Guide()),
    "sequential plate of steps": lambda: (Steps(), Steps(observe=False)),
    "row of parameters for every datum": lambda: (Model(), Rows()),
    "scale and mask": lambda: (poutine.scale(Model(x=masked), 0.3), poutine.scale(Guide(), 0.3)),
    "weight of every datum": lambda: (Model(x=lambda n: poutine.scale(scale=torch.arange(1.0, n + 1))), Guide()),
    "AutoDelta": lambda: (lambda model: (model, AutoDelta(model)))(OneSite()),
}
AUX = r"no latent \['aux'\]"
REFUSED = {
    "scale of a latent in the model only": (lambda: (Model(z1=scaled), Guide()), "weight 0.1 in the model and 1 in the guide"),
    "scale of a latent in the guide only": (lambda: (Model(), Guide(z1=scaled)), "weight 1 in the model and 0.1 in the guide"),
    "tensor weight in the guide only": (lambda: (Model(), Guide(z1=weighted)), "weight 1 in the model and 0.3 in the guide"),
    "auxiliary site": (lambda: (Model(), Guide(auxiliary=lambda module, n: True)), AUX),
    "auxiliary site in training": (
        lambda: (Model(), Guide(auxiliary=lambda module, n: module.training)),
        AUX,
    ),
    "auxiliary site in large batches": (lambda: (Model(), Guide(auxiliary=lambda module, n: n > 2)), AUX),
    "mask of more than the data": (lambda: (Model(x=wide), Guide()), r"mask has the shape \(5, 12\)"),
    "guide that observes": (lambda: (Model(), Observing()), r"the guide observes \['z1'\]"),
    "event of another size": (lambda: (Model(), Narrow()), r"'z1' has the event shape \(1,\) in the guide, but \(2,\)"),
    "event that would be repeated": (
        lambda: (Model(), Narrow("z2")),
        r"'z2' has the event shape \(1,\) in the guide, but \(2,\)",
    ),
    "condition with other data": (
        lambda: (poutine.condition(Model(), data={"x": X[:5]}), Guide()),
        r"'x': its value has the shape \(5, 3\), its distribution \(12, 3\)",
    ),
    "factor": (lambda: (lambda x: pyro.factor("f", Model()(x).sum()), Guide()), r"observes \['f'\] besides 'x'"),
    "rows of another batch": (lambda: (Model(), lambda x: Rows()(X[:5])), "another number of rows than the 12|expected"),
    "sequential plate": (lambda: (sequential, sequential), "has dim None"),
    "AutoNormal": (lambda: (lambda model: (model, AutoNormal(model)))(OneSite()), "z_unconstrained"),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("situation", EQUAL)
def test_the_number_is_that_of_trace_elbo_in_every_pass(situation, training):
    model, guide = EQUAL[situation]()
    for module in (model, guide):
        if isinstance(module, nn.Module):
            module.train(training)
    bound = ELBO(analytic_kl=False)
    for seed in range(3):
        pyro.set_rng_seed(seed)
        expected = Trace_ELBO().differentiable_loss(model, guide, X) / N
        pyro.set_rng_seed(seed)
        assert bound.estimate(model, guide, X).loss().item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("handler", [masked, scaled, lambda n: poutine.mask(mask=True)])
def test_the_analytic_kl_is_that_of_trace_mean_field_elbo(handler):
    class Ladder(Guide):
        def forward(self, x, size=1):
            with pyro.plate("data", len(x), dim=-1):
                z2 = pyro.sample("z2", dist.Normal(self.net(x), 0.8).to_event(1))
                with self.z1(len(x)):
                    pyro.sample("z1", dist.Normal(z2, 0.3).to_event(1))

    model, guide = Model(z1=handler), Ladder(z1=handler)
    pyro.set_rng_seed(1)
    expected = TraceMeanField_ELBO().differentiable_loss(model, guide, X) / N
    pyro.set_rng_seed(1)
    assert ELBO().estimate(model, guide, X).loss().item() == pytest.approx(expected.item(), rel=1e-10)


class TopDown(Guide):
    """All latents of the model precede a latent here as there, so every KL is analytic."""

    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(self.net(x), 0.8).to_event(1))
            with self.z1(len(x)):
                pyro.sample("z1", dist.Normal(z2, 0.3).to_event(1))


def test_a_kl_is_analytic_only_where_no_mask_leaves_out_one_of_its_densities():
    """Masks of model and guide that differ: the sum of both kinds of data."""
    other = torch.arange(N) % 2 > 0
    model, guide = Model(z1=masked), TopDown(z1=lambda n: poutine.mask(mask=other))
    pyro.set_rng_seed(1)
    term = ELBO().estimate(model, guide, X).terms["z1"]
    p, q = (lambda sites: (sites[0]["z1"], sites[1]["z1"]))(_sites(model, guide))
    kl = torch.distributions.kl_divergence(q["fn"], p["fn"])
    log_p, log_q = (site["fn"].log_prob(site["value"]) for site in (p, q))
    expected = torch.where(SOME & other, -kl, log_p * SOME - log_q * other)
    assert torch.allclose(term, expected, rtol=1e-12)


def _sites(model, guide):
    pyro.set_rng_seed(1)
    return ELBO().sites(model, guide, X)


def test_a_weight_that_model_and_guide_no_longer_share_makes_a_recorded_graph_nan():
    """A graph cannot raise, but it never gives another number."""

    class Annealed(Guide):
        def __init__(self):
            super().__init__()
            self.register_buffer("beta", torch.ones(()))
            self.z1 = lambda n: poutine.scale(scale=self.beta)

    model, guide = Model(), Annealed()
    step = capture(ELBO()(model, guide), compile=False)
    assert step(X).isfinite() and step.eager is None
    guide.beta.fill_(0.5)
    assert step(X).isnan()
    with pytest.raises(ContractError, match="weight 1 in the model and 0.5 in the guide"):
        ELBO()(model, guide)(X)


def test_a_conditioned_model_is_refused_where_data_are_taken_in_batches():
    model = poutine.condition(Model(), data={"x": X})
    with pytest.raises(ContractError, match=r"its value has the shape \(12, 3\)"):
        log_likelihood(model, Guide(), X, particles=10)


def test_data_of_another_shape_are_refused_by_both_shapes():
    for x in (torch.zeros(N, 5), torch.zeros(N, 1), torch.zeros(N, 3, 1)):
        with pytest.raises(ContractError, match=r"\(3,\)") as caught:
            ELBO()(Model(), Guide())(x)
        assert str(tuple(x.shape[1:])) in str(caught.value)


@pytest.mark.parametrize("situation", REFUSED)
def test_what_is_no_bound_of_the_contract_is_refused_in_every_pass(situation):
    build, message = REFUSED[situation]
    model, guide = build()
    bound = ELBO(analytic_kl=False)
    for _ in range(2):
        with pytest.raises(ContractError, match=message):
            bound.estimate(model, guide, X)


def test_a_fault_that_appears_later_is_refused_then():
    model, guide = Model(), Guide(auxiliary=lambda module, n: module.training)
    bound = ELBO()
    guide.eval()
    bound.estimate(model, guide, X)
    guide.train()
    with pytest.raises(ContractError, match="aux"):
        bound.estimate(model, guide, X)


def test_many_short_lived_pairs_are_all_checked():
    bound = ELBO()
    for _ in range(20):
        bound.estimate(Model(), Guide(), X)  # freed at once: the next pair may have the same address
        with pytest.raises(ContractError):
            bound.estimate(Model(z1=scaled), Guide(), X)


def test_a_mask_counts_in_the_likelihood_of_importance_sampling():
    """With x masked at some data their likelihood is 1; the others keep theirs."""

    class Prior(Guide):
        def forward(self, x, size=1):
            with pyro.plate("data", len(x), dim=-1):
                z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("z1", dist.Normal(z2, 0.5).to_event(1))

    model, masked_model, guide = Model(), Model(x=masked), Prior()
    masked_model.net = model.net
    pyro.set_rng_seed(0)
    plain = log_likelihood(model, guide, X, particles=2_000)
    pyro.set_rng_seed(0)
    found = log_likelihood(masked_model, guide, X, particles=2_000)
    assert torch.equal(found[SOME], plain[SOME])
    assert found[~SOME].abs().max() < 1e-12


def test_the_constraint_leaves_masked_data_out():
    model, guide = Model(x=masked), Guide()
    pyro.set_rng_seed(0)
    estimate = ELBO().estimate(model, guide, X)
    mean = estimate.x["fn"].mean
    error = (X - mean).square()
    assert estimate.constraint("rmse").item() == pytest.approx(error.mean(1)[SOME].mean().item(), rel=1e-12)
    assert estimate.constraint("nats").item() == pytest.approx((error / (2 * 0.7**2)).sum(1)[SOME].mean().item(), rel=1e-12)
