"""What a captured graph depends on besides numbers in tensors: attributes, structure, shapes; and batches of every size."""

import functools
from types import SimpleNamespace

import pytest
import torch
from both_ways import Body, assert_same, buffers, data, normal_guide, normal_model, pair, weight, wide
from pyro.infer import Trace_ELBO
from torch import nn

import pyro_hvae as hv

pytestmark = pytest.mark.usefixtures("float64")


class WithDefault(Body):
    factor = 2.0


def set_item(m, i):
    m.factor["a" if isinstance(m.factor, dict) else 0] = 2.0 + (i > 1)


def set_to(value):
    def change(m, i):
        if i > 1:
            m.factor = value

    return change


def remove(m, i):
    if i == 2:
        del m.factor


# kind -> the attribute, what reads it, how it changes before call 2
PLAIN = {
    "float": (2.0, None, set_to(3.0)),
    "flag": (False, lambda f: 5.0 if f else 2.0, set_to(True)),
    "text": ("a", lambda f: {"a": 2.0, "b": 3.0}[f], set_to("b")),
    "tuple": ((2.0, 1.0), lambda f: f[0], set_to((3.0, 1.0))),
    "none": (None, lambda f: f or 1.0, set_to(3.0)),
    "set": (frozenset({"a"}), len, set_to(frozenset({"a", "b"}))),
    "dict": ({"a": 2.0}, lambda f: f["a"], set_item),
    "list": ([2.0], lambda f: f[0], set_item),
    "tensor": (torch.tensor(2.0), None, lambda m, i: i == 2 and setattr(m, "factor", torch.tensor(3.0))),
    "to tensor": (2.0, None, lambda m, i: i == 2 and setattr(m, "factor", torch.tensor(3.0))),
    "removed": (2.0, None, remove),
    "nested": ({"a": {"b": 2.0}}, lambda f: f["a"]["b"], lambda m, i: m.factor["a"].update(b=2.0 + (i > 1))),
    "mixed": ({"a": 2.0, "net": nn.Identity()}, lambda f: f["a"], set_item),
    "settings": (SimpleNamespace(a=2.0), lambda f: f.a, lambda m, i: setattr(m.factor, "a", 2.0 + (i > 1))),
    "settings in settings": (
        SimpleNamespace(a=SimpleNamespace(b=2.0)),
        lambda f: f.a.b,
        lambda m, i: setattr(m.factor.a, "b", 2.0 + (i > 1)),
    ),
    "distribution": (torch.distributions.Normal(2.0, 1.0), lambda f: f.loc, set_to(torch.distributions.Normal(3.0, 1.0))),
    "function": (torch.zeros_like, lambda f: f(torch.tensor(1.0)) + 2, set_to(torch.ones_like)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_changed_attribute_gives_the_new_value(kind):
    factor, read, change = PLAIN[kind]

    def body(self, x):
        value = getattr(self, "factor", 7.0)
        return (self.w * x).sum() * (read(value) if read else value)

    module = Body(lambda self, x: self.inner(x), inner=Body(body, w=weight(), factor=factor))
    captured = assert_same(module, data(), lambda m, i: change(m.inner, i))
    assert captured.graphs <= 2


def test_a_default_of_the_class_and_a_value_come_back_to():
    module = WithDefault(lambda self, x: (self.w * x).sum() * self.factor, w=weight())
    captured = assert_same(module, data(6), lambda m, i: i > 1 and setattr(m, "factor", (2.0, 3.0)[i % 2]))
    assert captured.graphs <= 3


def two_layers():
    model = hv.Chain(hv.StandardNormal(2), [hv.Gaussian(2, 3)], hv.Bernoulli(3, 4))
    return model, hv.BottomUp([hv.Gaussian(4, 3), hv.Gaussian(3, 2)])


@pytest.mark.parametrize(
    "setting, values", [("alpha", (0.0, 0.5, 1.0)), ("particles", (3, 2, 3)), ("shared", ((), ("z1",), ()))]
)
def test_settings_of_our_bound(setting, values):
    loss = hv.ELBO(particles=3, analytic_kl=False)(*two_layers())

    def change(module, i):
        setattr(module.elbo, setting, frozenset(values[i // 2]) if setting == "shared" else values[i // 2])

    calls = [(torch.rand(6, 4).round(),) for _ in range(6)]
    assert assert_same(loss, calls, change).graphs == len(set(values))


def test_particles_of_a_bound_of_pyro():
    def change(module, i):
        module.elbo.num_particles = 1 + i // 2

    assert assert_same(Trace_ELBO()(*pair(normal_model, normal_guide)), data(), change).graphs == 2


def other_net(m, i):
    if i == 2:
        torch.manual_seed(9)
        m.net = wide(nn.Tanh())


def other_parameter(m, i):
    if i == 2:
        m.net[0].weight = nn.Parameter(torch.full((6, 4), 0.1))


def more_parameters(m, i):
    if i == 2:
        m.more = nn.Parameter(torch.ones(4))


def other_dtype(m, i):
    if i == 2:
        m.net.float()


def frozen(m, i):
    m.net[0].requires_grad_(i < 2)


def more_layers(m, i):
    if i == 2:
        torch.manual_seed(9)
        m.net.append(nn.Linear(4, 4))


def more_buffers(m, i):
    if i == 2:
        buffers(m, count=torch.zeros(()))


def other_activation(m, i):
    if i == 2:
        m.act = nn.Sigmoid()


def other_buffer(m, i):
    if i == 2:
        m.shift = m.shift.float()


@pytest.mark.parametrize(
    "change, graphs",
    [
        (other_net, 2),
        (other_parameter, 1),
        (more_parameters, 2),
        (more_layers, 2),
        (more_buffers, 2),
        (other_dtype, 2),
        (frozen, 2),
    ]
    + [(other_activation, 2), (other_buffer, 2)],
)
def test_a_changed_module(change, graphs):
    def body(self, x):
        y = self.act(self.net(x.to(self.net[0].weight.dtype))) + getattr(self, "more", 0)
        y = y + self.shift + torch.full((), 1.1, dtype=self.shift.dtype)
        if hasattr(self, "count"):
            self.count += 1
        return y.square().sum() * getattr(self, "count", 1)

    torch.manual_seed(3)
    module = buffers(Body(body, net=wide(), act=nn.Tanh()), shift=torch.zeros(4))
    assert assert_same(module, data(), change).graphs == graphs


def test_arguments_of_other_strides_and_dtypes():
    def body(self, x):
        x = x * torch.full((1,), 1.1, dtype=x.dtype)
        return (x.reshape(-1, 4).to(self.w.dtype) * self.w).flatten().view(2, -1).square().sum()

    module, shape = Body(body, w=nn.Parameter(torch.randn(4))), (6, 3, 4)
    calls = [
        torch.randn(shape),
        torch.randn(4, 3, 6).permute(2, 1, 0),
        torch.randn(6, 4, 3).transpose(1, 2),
        torch.randn(shape),
    ]
    calls += [torch.randn(shape).float(), torch.full(shape, 3)]
    assert_same(module, [(x,) for x in calls])
    strided = hv.capture(module, compile=False)
    for x in calls:
        assert strided(x).item() == body(module, x).item() and strided.eager is None


def ragged(module, sizes, **options):
    torch.manual_seed(6)
    return assert_same(module, [(torch.randn(n, 4),) for n in sizes], **options)


def by_shape(self, x):
    """As a program for all batch sizes: the mean over the rows, and one draw for each."""
    z = self.net(x) + torch.randn(x.shape[0], 4)
    return z.square().sum() / x.shape[0]


def test_a_smaller_last_batch_has_a_graph_of_its_own():
    assert ragged(Trace_ELBO()(*pair(normal_model, normal_guide)), (16, 16, 7, 16, 7)).graphs == 2


def test_one_graph_serves_all_sizes_but_one():
    module = Body(by_shape, net=wide(nn.BatchNorm1d(6).eval()))
    assert ragged(module, (16, 77, 128, 2, 16), dynamic=True).graphs == 1
    assert ragged(module, (16, 1, 2, 1), dynamic=True).graphs == 2


def test_our_pairs_have_one_graph_for_all_sizes():
    loss = hv.ELBO(particles=2)(*two_layers())
    torch.manual_seed(6)
    calls = [(torch.rand(n, 4).round(),) for n in (16, 77, 2, 16)]
    assert assert_same(loss, calls, dynamic=True).graphs == 1


@pytest.mark.parametrize("size", [2, 4, 6])  # two less than, or as many as the data and the hidden layer are wide
def test_a_batch_as_large_as_a_layer_is_wide(size):
    assert ragged(Body(by_shape, net=wide()), (size, 5, 9, size), dynamic=True).graphs == 1


def test_batches_of_all_sizes_and_layouts():
    module = Body(lambda self, x: (x.reshape(x.shape[0] * 3, 4) * self.w).square().sum(), w=nn.Parameter(torch.randn(4)))
    calls = [
        torch.randn(6, 3, 4),
        torch.randn(3, 7, 4).transpose(0, 1),
        torch.randn(4, 3, 6).permute(2, 1, 0),
        torch.randn(9, 3, 4),
    ]
    captured = hv.capture(module, compile=False, dynamic=True, warn=pytest.fail)
    for x in calls:
        assert captured(x).item() == module(x).item()


def test_a_program_that_asks_for_len_has_a_graph_for_each_size():
    said = []
    captured = hv.capture(
        Body(lambda self, x: (self.w * x).sum() / len(x), w=weight()), compile=False, dynamic=True, warn=said.append
    )
    for n in (16, 5, 9, 16):
        x = torch.randn(n, 4)
        assert captured(x).item() == pytest.approx((3 * x).sum().item() / n, rel=1e-12)
    assert captured.eager is None and captured.graphs == 3 and len(said) == 1 and "x.shape[0], not len(x)" in said[0]


def test_arguments_that_are_not_batches_stay_as_they_are():
    module = Body(lambda self, x, table, beta: (self.w * x @ table).square().sum() * beta, w=weight())
    torch.manual_seed(6)
    calls = [(torch.randn(n, 4), torch.randn(4, 4), torch.tensor(beta)) for n, beta in ((4, 0.5), (16, 2.0), (9, 3.0))]
    assert_same(module, calls[1:] + calls, dynamic=True)


def test_a_weight_that_is_an_argument_needs_no_new_graph():
    module = Body(lambda self, x, beta: beta * (self.w * x).sum(), w=weight())
    calls = [(x, torch.tensor(0.1 * i)) for i, (x,) in enumerate(data(20))]
    assert assert_same(module, calls).graphs == 1


def test_default_dtype_and_autocast():
    module = Body(lambda self, x: (x @ self.w + torch.full((4,), 1.1)).sum(), w=nn.Parameter(torch.randn(4, 4).float()))
    captured, x = hv.capture(module, compile=False), torch.randn(6, 4).float()
    for dtype in (torch.float64, torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        for low in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                assert captured(x).item() == module(x).item() and captured.eager is None
    assert captured.graphs == 4


def test_what_is_no_state_of_the_module_is_no_reason_for_a_graph():
    module = Body(lambda self, x: (self.w * x).sum(), w=weight(), log=functools.partial(print))
    captured = hv.capture(module, compile=False)
    for i, (x,) in enumerate(data()):
        module.train(i % 2 == 0)
        captured(x)
    assert captured.graphs == 2
