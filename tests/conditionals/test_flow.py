"""Flows of zuko as conditionals: densities, inverses, contexts, captured gradients (float64 where digits count)."""

import copy
import math
import pickle
import subprocess
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from both_ways import assert_same
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.conditionals import FlowDistribution, zuko_flows
from pyro_hvae.errors import ConfigError, ContractError, DeviceError, NoMeanWarning

flows = zuko_flows()
EXACT = {"NSF": {}, "MAF": {}, "RealNVP": {}, "NICE": {}, "BPF": {}}
BISECTION = ("NAF", "UNAF", "GF", "SOSPF")


def build(name, features=2, **options):
    torch.manual_seed(3)
    return getattr(flows, name)(features, **options)


class Image(torch.nn.Module):
    """The draw of a base value."""

    def __init__(self, law):
        super().__init__()
        self.law = law

    def forward(self, z):
        return self.law._image(z)


def pair(prior="NSF", guide="MAF", event=2):
    """A model with a flow as the prior and a guide of coupling layers."""
    options = {} if prior == "GMM" else {"transforms": 1}
    model = hv.Chain(hv.Flow(build(prior, event, **options)), [], hv.Gaussian(event, 4, scale=0.5))
    return model, hv.BottomUp([hv.Flow(build(guide, event, context=8, transforms=2, passes=2), 4, 8, (16,))])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [*EXACT, "NAF", "GF", "SOSPF", "GMM"])
def test_densities_integrate_to_one(name):
    context = torch.tensor([[0.5, -1.0, 2.0]])
    law = hv.Flow(build(name, context=3), 3)(context)
    side = torch.linspace(-12, 12, 241)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        total = torch.cat([law.log_prob(part).exp() for part in grid.split(20_000)]).sum() * (side[1] - side[0]) ** 2
    assert_close(total, torch.ones(()).double(), atol=2e-3, rtol=0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [*EXACT, *BISECTION])
def test_density_of_a_draw_is_the_base_density_over_the_jacobian_of_the_draw(name):
    law = hv.Flow(build(name))()
    z = torch.randn(2)
    x = law.law.transform.inv(z)
    jacobian = torch.autograd.functional.jacobian(law.law.transform, x.detach())
    expected = dist.Normal(0.0, 1.0).log_prob(z).sum() + jacobian.det().abs().log()
    assert_close(law.log_prob(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("far", [6.0, 12.0, 50.0])
def test_exact_inverses_are_not_checked(name, far):
    flow = hv.Flow(build(name))
    assert not flow.checked
    x = torch.tensor([[far, -far], [-far, 0.1]])
    law = flow().law
    assert_close(law.transform.inv(law.transform(x)), x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", BISECTION)
@pytest.mark.parametrize("far", [6.0, 12.0, 50.0])
def test_a_wrong_inverse_is_an_error_not_a_draw(name, far):
    """The base value of (far, 0) is drawn: within 10 it comes back, beyond there is an error."""
    law = hv.Flow(build(name))()
    assert law.checked
    x = torch.tensor([[far, 0.0]])
    z = law.law.transform(x).detach()
    if far < 10:
        assert_close(law._image(z), x, atol=1e-3, rtol=0)
    else:
        with pytest.raises(ConfigError, match="zuko inverts it by bisection within"):
            law._image(z)


def test_a_wrong_inverse_is_not_a_number_in_a_captured_graph():
    law = hv.Flow(build("GF", transforms=1))()
    captured = hv.capture(Image(law), compile=False, gradient=False)
    assert captured(torch.zeros(1, 2)).isfinite().all()
    assert captured(law.law.transform(torch.tensor([[12.0, 0.0]])).detach()).isnan().all() and captured.eager is None


def test_events_on_a_circle_are_refused():
    with pytest.raises(ConfigError, match="none of all real numbers"):
        hv.Flow(build("NCSF"))


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize(
    ("context", "options", "says"),
    [
        (0, {"parents": 3}, "of another context than context=3"),
        (2, {"parents": 3}, "of another context than context=3"),
        (3, {"parents": 5}, "of another context than context=5"),
        (3, {"parents": 3, "context": 4}, "of another context than context=4"),
        (3, {}, "of another context than none"),
        (0, {"context": 3}, "without parents has no context"),
    ],
)
def test_a_flow_of_another_context_fails_at_construction(features, context, options, says):
    with pytest.raises(ConfigError, match=says):
        hv.Flow(build("NSF", features, context=context), **options)


def test_what_is_no_flow_is_refused():
    with pytest.raises(ConfigError, match="a Flow wraps what zuko makes"):
        hv.Flow(flows.NSF)
    with pytest.raises(ContractError, match="5 features of its parents was given 4"):
        hv.Flow(build("NSF", context=5), 5)(torch.zeros(3, 4))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", [*EXACT, *BISECTION])
def test_values_that_are_not_finite(name, value):
    law = hv.Flow(build(name))().expand([2])
    x = torch.tensor([[0.0, value], [0.0, 1.0]])
    unchecked = FlowDistribution(law.law, validate_args=False)
    first, second = unchecked.log_prob(x)
    assert (first.isnan() if math.isnan(value) else first == -math.inf) and second.isfinite()
    with pytest.raises(ValueError) if math.isnan(value) else torch.no_grad():
        FlowDistribution(law.law, validate_args=True).log_prob(x)


@pytest.mark.parametrize("name", ["NSF", "RealNVP", "GMM"])
def test_plates_and_shapes(name):
    torch.manual_seed(0)
    prior, level = hv.Flow(build(name))(), hv.Flow(build(name, context=3), 3)(torch.randn(5, 3))
    assert prior.batch_shape == () and level.batch_shape == (5,) and prior.event_shape == level.event_shape == (2,)
    assert prior.has_rsample == (name != "GMM")
    with pyro.plate("particles", 4, dim=-2), pyro.plate("data", 5):
        for law in (prior, level):
            value = pyro.sample("z", law)
            assert value.shape == (4, 5, 2) and law.expand([4, 5]).log_prob(value).shape == (4, 5)
            assert value.requires_grad == law.has_rsample
    assert level.sample((3,)).shape == (3, 5, 2) and not level.sample().requires_grad
    assert_close(level.log_prob(value)[2], level.log_prob(value[2]))  # foreign values, whatever was drawn before


def test_a_flow_has_no_mean_but_the_image_of_its_base():
    model, guide = pair()
    x = torch.randn(6, 4)
    with pytest.warns(NoMeanWarning, match="'z1' is a FlowDistribution.*the image of its base's mean is used"):
        z = hv.latents(guide, x, mean=True)["z1"]
    law = guide.levels[0](x)
    assert_close(law.law.transform(z), torch.zeros(6, 2), atol=1e-5, rtol=0)
    assert hv.Flow(build("GMM"))().centre is None


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("prior", "guide"), [("NSF", "MAF"), ("GMM", "NSF")])
@pytest.mark.parametrize("options", [{}, {"particles": 3, "gradient": "dreg"}])
def test_captured_gradients_are_the_eager_ones(prior, guide, options):
    elbo = hv.ELBO(**options)(*pair(prior, guide))
    assert_same(elbo, [(torch.randn(6, 4),) for _ in range(2)], relative=1e-10)


def test_zuko_splits_the_values_of_a_real_nvp_by_a_mask_which_runs_eagerly():
    """Coupling layers that a graph can hold are those of MAF or NSF with passes=2."""
    model = hv.Chain(hv.Flow(build("RealNVP")), [], hv.Gaussian(2, 4, scale=0.5))
    assert_same(hv.ELBO()(model, pair()[1]), [(torch.randn(6, 4),)], falls="aten.nonzero")


def test_a_pair_of_flows_can_be_copied_and_pickled():
    model, guide = pair()
    x = torch.randn(3, 4)
    for one, two in [(copy.deepcopy(model), copy.deepcopy(guide)), pickle.loads(pickle.dumps((model, guide)))]:
        torch.manual_seed(0)
        expected = hv.log_likelihood(model, guide, x, 50)
        torch.manual_seed(0)
        assert torch.equal(hv.log_likelihood(one, two, x, 50), expected)


def test_importing_zuko_leaves_validation_as_it_was():
    code = """
from torch.distributions import Distribution
from pyro_hvae.conditionals import zuko_flows
zuko_flows()
assert Distribution._validate_args
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_zuko_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(DeviceError, match=r"a normalizing flow needs the extra 'flows'.*pip install -e '\.\[flows\]'"):
        zuko_flows()
