"""Where a graph cannot be right: one warning, and what an eager pass gives, with everything it leaves behind."""

import random
import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from both_ways import Body, assert_same, backward, buffers, data, normal_guide, pair, weight
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from test_captured_loss_pyro import Constrained, bits_guide, mvn_model
from torch import nn

import pyro_hvae as hv
from pyro_hvae.compilation import captured_loss as capturing
from pyro_hvae.compilation.captured_loss import CaptureWarning
from pyro_hvae.errors import ConfigError, HVAEError

pytestmark = pytest.mark.usefixtures("float64")


def total(self, x):
    return (self.w * x).sum()


def branch(self, x):
    return total(self, x) * (2.0 if x.mean() > 0 else 3.0)


def in_place(self, x):
    with torch.no_grad():
        self.w.mul_(0.5)
    return total(self, x)


def argument_in_place(self, x):
    return (self.w * x.mul_(2)).sum()


def counted(self, x):
    self.n += 1
    return total(self, x) * self.n


def grown(self, x):
    self.seen = torch.cat([self.seen, x.mean().reshape(1)])
    return total(self, x) * self.seen.sum()


def widened(self, x):
    self.seen = self.seen * 0.5
    return total(self, x) * self.seen.sum()


# What is wrong -> the pass
REFUSED = {
    "branch": branch,
    "item": lambda self, x: total(self, x) * x.mean().item(),
    "float": lambda self, x: total(self, x) * float(self.w.detach()),
    "numpy of a parameter": lambda self, x: total(self, x) * float(self.w.detach().numpy()),
    "numpy of data": lambda self, x: total(self, x) * float(x.numpy().mean()),
    "memory of a parameter": lambda self, x: total(self, x) * float(np.from_dlpack(self.w.detach())),
    "memory of data": lambda self, x: total(self, x) * float(np.from_dlpack(x)[0].sum()),
    "list of data": lambda self, x: total(self, x) * sum(x[:, 0].tolist()),
    "number of some data": lambda self, x: total(self, x) / x[x > 0].numel(),
    "length of some data": lambda self, x: total(self, x) / len((x > 0).nonzero()),
    "mean of some data": lambda self, x: (self.w * x).masked_select(x > 0).mean(),
    "sum of some data": lambda self, x: (self.w * x)[x > 0].sum(),
    "draws of Python": lambda self, x: total(self, x) * (1.0 if random.random() < 0.97 else 3.0),
    "draws of NumPy": lambda self, x: total(self, x) * np.random.rand(),
    "counter": counted,
    "parameter in place": in_place,
    "argument in place": argument_in_place,
    "buffer of another shape": grown,
    "buffer of another type": widened,
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_captured_runs_eagerly(what):
    start = torch.tensor(64) if what == "buffer of another type" else torch.ones(1)
    module = buffers(Body(REFUSED[what], w=weight(), n=0), seen=start)
    captured = assert_same(module, data(), falls="^Body runs eagerly: ")
    assert module.n == (4 if what == "counter" else 0) and captured.graphs == 0


@pytest.mark.parametrize("body", [lambda self, x: total(self, x) * sum(x[0].tolist()), REFUSED["numpy of data"]])
def test_one_datum_hides_nothing(body):
    assert_same(Body(body, w=weight()), data(size=1), falls="runs eagerly")


def test_bits_by_enumeration_run_eagerly():
    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(self.net.weight.sum().sigmoid()), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    module = TraceEnum_ELBO(max_plate_nesting=1)(Body(model, net=nn.Linear(2, 4)), Body(lambda self, x: None))
    assert_same(module, data(), falls="runs eagerly")


def test_our_bound_refuses_bits_as_it_does_eagerly():
    loss = hv.ELBO()(hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4)), Body(bits_guide, net=nn.Linear(4, 2)))
    with pytest.raises(HVAEError):
        hv.capture(loss, compile=False)(*data()[0])


def test_parameters_in_the_store_get_their_gradients():
    def guide(self, x):
        pyro.module("net", self.net)
        scale = pyro.param("scale", torch.full((2,), 0.5), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.net(x)[:, :2], scale).to_event(1))

    found = []
    said = []
    for step in (backward, lambda loss, x: hv.capture(loss, compile=False, warn=said.append)(x)):
        pyro.clear_param_store()
        torch.manual_seed(3)
        loss = Trace_ELBO()(*pair(guide=guide))
        torch.manual_seed(4)
        step(loss, data()[0][0])
        store = pyro.get_param_store()._params
        assert list(store) == ["net$$$weight", "net$$$bias", "scale"] and store["net$$$weight"] is loss.guide.net.weight
        found.append({name: p.grad for name, p in store.items()})
    assert len(said) == 1 and re.search("pyro.param.*store", said[0])
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_gradients_of_the_store_are_fresh_in_every_call():
    captured = hv.capture(
        Body(lambda self, x: pyro.param("w", torch.ones(4)).sum() * x.mean()), compile=False, warn=lambda text: None
    )
    for value in (1.0, 2.0, 3.0):
        captured(torch.full((2, 4), value))
        assert torch.equal(pyro.get_param_store()._params["w"].grad, torch.full((4,), value))


def test_modules_of_pyro_keep_their_parameters():
    """Whatever happens to them: an optimiser holds them from before the first call."""
    loss = Trace_ELBO()(pair(mvn_model)[0], Constrained())
    before = dict(loss.named_parameters())
    captured = hv.capture(loss, compile=False, warn=lambda text: None)
    for (x,) in data():
        captured(x)
    assert all(before[name] is p and p.grad is not None for name, p in loss.named_parameters())


@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_parameters_are_called(hook):
    w, seen = weight(), []
    getattr(w, hook)(lambda value: seen.append(1))
    captured = hv.capture(Body(total, w=w), compile=False, warn=lambda text: None)
    for (x,) in data():
        captured(x)
    assert len(seen) == 4


@pytest.mark.parametrize("keep", [True, False])
def test_trained_tensors_that_no_module_owns(keep):
    net = nn.Linear(4, 1)
    module = Body(lambda self, x: (net(x) * self.w).sum(), w=weight(), **({"kept": [net]} if keep else {}))
    captured = hv.capture(module, compile=False, warn=lambda text: None)
    x = data()[0][0]
    captured(x)
    assert torch.allclose(net.weight.grad, 3 * x.sum(0, keepdim=True)) and net.bias.grad.item() == 18


def test_handlers_around_a_call():
    loss, (x,) = Trace_ELBO()(*pair()), data()[0]
    captured = hv.capture(loss, compile=False)
    captured(x)
    with poutine.scale(scale=0.5), pytest.warns(CaptureWarning, match=r"the handlers around it \(ScaleMessenger\)"):
        torch.manual_seed(1)
        value = captured(x)
    grads = [p.grad.clone() for p in loss.parameters()]
    torch.manual_seed(1)
    whole = backward(loss, x)
    assert value.item() == pytest.approx(0.5 * whole.item(), rel=1e-12)
    assert all(torch.allclose(g, 0.5 * p.grad) for g, p in zip(grads, loss.parameters(), strict=True))


def test_a_number_that_changes_at_every_step():
    module = Body(lambda self, x: total(self, x) * self.beta, w=weight(), beta=0.0)

    def change(m, i):
        m.beta = 0.1 * i

    match = f"new graph {capturing.MOST_SINGLE_CALLS} times.*'beta' of Body.*must be a tensor"
    captured = assert_same(module, data(capturing.MOST_SINGLE_CALLS + 5), change, falls=match)
    assert captured.graphs <= capturing.MOST_SINGLE_CALLS


def test_what_is_set_up_in_the_first_pass_counts_once():
    def body(self, x):
        if not self.ready:
            self.ready, self.factor = True, 2.0
            torch.rand(7)
        return total(self, x) * self.factor

    assert assert_same(Body(body, w=weight(), ready=False, factor=1.0), data()).graphs == 1


def test_vectorised_particles_of_pyro_guess_their_plates_once():
    assert_same(Trace_ELBO(2, vectorize_particles=True)(*pair()), data())


@pytest.mark.parametrize(
    "body, message",
    [
        (lambda self, x: 3.0, "float"),
        (lambda self, x: (total(self, x), x), "tuple"),
        (lambda self, x: None, "NoneType"),
        (lambda self, x: {"bound": total(self, x)}, "loss"),
        (lambda self, x: {"loss": total(self, x), "n": 3}, "int"),
        (lambda self, x: self.w * x, "loss|scalar"),
    ],
)
def test_outputs_that_make_no_sense(body, message):
    captured = hv.capture(Body(body, w=weight()), compile=False)
    with pytest.raises((TypeError, ValueError, RuntimeError, ConfigError), match=message):
        captured(*data()[0])


def test_an_error_of_the_program_is_the_programs():
    def body(self, x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        hv.capture(Body(body, w=weight()), compile=False, warn=pytest.fail)(*data()[0])


def test_the_default_is_to_warn_where_the_call_is():
    captured = hv.capture(Body(branch, w=weight()), compile=False)
    with pytest.warns(CaptureWarning, match="Body runs eagerly") as caught:
        captured(*data()[0])
    assert len(caught) == 1 and caught[0].filename == __file__


def test_normal_guides_are_captured_after_all():
    """So that what is refused above is not refused because of the parts they share."""
    assert_same(Trace_ELBO()(*pair(guide=normal_guide)), data())
