"""Captured passes do what eager ones do: every recipe, gradients, buffers, noise, steps."""

import pytest
import torch
from both_ways import Body, assert_same, backward, buffers, data, normal_guide, pair, weight, wide
from pyro.infer import Trace_ELBO
from torch import nn

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.schedules import SCHEDULES
from pyro_hvae.training.session import start_schedule
from pyro_hvae.training.training_step import TrainingPass

pytestmark = pytest.mark.usefixtures("float64")
CPU = torch.device("cpu")
DENSE, DEEP = {"hidden": (5,)}, {"hidden": (5,), "upper": (4,)}
TINY = {
    **dict.fromkeys(("vae", "beta-vae"), DENSE),
    "iwae": DEEP | {"levels": 2, "particles": 3},
    "vampprior": DEEP | {"levels": 2, "components": 4},
    "vhp": DEEP | {"particles": 3},
    **dict.fromkeys(("hvae", "ar-hvae"), DEEP | {"dims": (3, 2)}),
    "lvae": {"dims": (3, 2), "widths": (5, 4), "norm": True},
    **dict.fromkeys(("vlae", "pro-vlae"), {"dims": (2, 2), "width": 5}),
    "texture": {"hidden": (2, 2, 2, 2, 8), "texture_hidden": (4, 4), "patch": 7},
    "teacher-student": DENSE | {"dims": (2, 2), "features": 4},
}


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", hv.RECIPES)
def test_every_stage_of_every_recipe(name, compile):
    x = torch.rand(12, 1, 64, 64) if name == "texture" else torch.rand(12, 1, 6, 6)
    for stage in recipes.build(name, x, TINY[name]):
        if stage.before:
            stage.before()
        schedule = SCHEDULES[hv.RECIPES[name].schedule](**stage.schedule)
        start_schedule(schedule, stage.objective.train(), 100)
        passing = TrainingPass(stage.objective, schedule)
        rows, weights = stage.training_data(x, CPU)[:].double(), passing.arguments(schedule)
        calls = [(rows[i : i + 4], *weights) for i in (0, 4, 8)]
        captured = assert_same(passing, calls, compile=compile, relative=1e-10 if compile or name == "texture" else 0.0)
        assert captured.graphs == 1


class Tenfold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 10 * grad


def test_what_has_no_gradient_and_what_has_one_of_its_own():
    def body(self, x):
        w = self.w
        with torch.no_grad():
            square = w**2
        return w * w.detach() + w * square + Tenfold.apply(w)

    captured = assert_same(Body(body, w=weight()), data())
    assert captured.module.w.grad.item() == 3 + 9 + 10  # and not 6 + 27 + 1


def test_batch_norm_and_dropout_in_training_and_evaluation():
    torch.manual_seed(5)
    net = wide(nn.BatchNorm1d(6), nn.Dropout(0.5))
    module = Body(lambda self, x: self.net(x).square().sum(), net=net)
    start = net[1].running_mean.clone()
    calls = data(calls=6)
    captured = assert_same(module, calls, lambda m, i: m.train(i in (0, 1, 4)))
    assert captured.graphs == 2 and net[1].num_batches_tracked == 3 and not torch.equal(net[1].running_mean, start)
    assert_same(module.train(), calls, lambda m, i: m.net[2].train(i < 3))  # of one sub-module alone


def test_buffers_in_place_replaced_and_whole_numbers():
    def body(self, x):
        self.mean.mul_(0.9).add_(0.1 * x.mean())
        self.count = self.count + 1
        self.seen |= x.max() > 2
        return (self.w * x).mean() * self.mean * self.count

    module = buffers(Body(body, w=weight()), mean=torch.ones(()), count=torch.tensor(0), seen=torch.tensor(False))
    held = module.mean
    assert_same(module, data(calls=5))
    assert module.mean is held and module.count.item() == 5 and module.count.dtype == torch.int64


def test_a_buffer_in_two_modules_and_a_parameter_in_two():
    shared, w = torch.zeros(()), weight()
    one, two = (buffers(Body(lambda self, x: self.n.add_(1).clone() * self.w, w=w), n=shared) for _ in range(2))
    module = Body(lambda self, x: self.one(x) + 5 * self.two(x), one=one, two=two)
    captured = assert_same(module, data(3))
    assert shared.item() == 6 and w.grad.item() == 5 + 5 * 6  # the third pass counts 5 and 6
    assert captured.module.two.n is shared


def test_gradients_of_two_parameters_do_not_share_memory():
    """As those of a sum do in autograd; clipping would otherwise scale them twice."""
    module = Body(lambda self, x: (4 * (self.a + self.b)).sum(), a=nn.Parameter(torch.ones(3)), b=nn.Parameter(torch.ones(3)))
    captured = assert_same(module, data())
    for _ in range(2):
        captured(*data()[0])
        norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        assert norm.item() == pytest.approx(4 * 6**0.5)
        assert torch.allclose(module.a.grad, torch.full((3,), 6**-0.5)) and torch.equal(module.a.grad, module.b.grad)


def test_parameters_that_the_loss_does_not_reach_have_no_gradient_and_no_adam_state():
    module = Body(lambda self, x: (self.w * x).sum(), w=weight(), unused=weight(), frozen=weight().requires_grad_(False))
    optimizer = torch.optim.Adam([module.w, module.unused], fused=True)
    module.unused.grad = torch.ones(())
    captured = hv.capture(module, compile=False)
    for (x,) in data():
        captured(x)
        optimizer.step()
    assert module.unused.grad is None and module.frozen.grad is None and list(optimizer.state) == [module.w]


def test_noise_is_fresh_in_every_call():
    captured = hv.capture(Body(lambda self, x: (self.w * torch.randn(5)).sum(), w=weight()), compile=False)
    assert len({captured(*data()[0]).item() for _ in range(5)}) == 5


def test_an_unused_draw_does_not_shift_later_ones():
    def body(self, x):
        torch.rand(3)
        return (self.w * torch.randn(4)).sum() + torch.randn(2).mul(0).detach().sum() * 0

    assert_same(Body(body, w=weight()), data())


def test_outputs_by_name_and_a_module_that_is_only_evaluated():
    def body(self, x):
        return {"loss": (self.w * x).sum(), "mean": x.mean(0), "count": torch.tensor(len(x))}

    module, (x,) = Body(body, w=weight()), data()[0]
    assert_same(module, data())
    module.w.grad = torch.tensor(7.0)

    def mean(self, x):
        assert not torch.is_grad_enabled()
        return {"mean": self.w * x}

    only = hv.capture(Body(mean, w=module.w), gradient=False, compile=False)
    for _ in range(2):
        found = only(x)
        assert list(found) == ["mean"] and torch.equal(found["mean"], 3 * x) and not found["mean"].requires_grad
    assert module.w.grad.item() == 7 and only.graphs == 1


def steps(captured, seed, count=4):
    optimizer = torch.optim.Adam(captured.module.parameters(), 0.05, fused=True)
    torch.manual_seed(seed)
    for _ in range(count):
        captured(torch.randn(6, 4))
        optimizer.step()
        yield [p.detach().clone() for p in captured.module.parameters()]


def fresh(seed):
    torch.manual_seed(seed)
    return hv.capture(Trace_ELBO()(*pair()), compile=False)


def test_two_captures_give_one_trajectory_and_do_not_disturb_each_other():
    one, two = (list(steps(fresh(1), seed=2)) for _ in range(2))
    assert all(torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))
    left, right, expected = fresh(1), fresh(3), list(steps(fresh(3), seed=4))
    walks = steps(left, 2), steps(right, 4)
    states, mixed = [torch.get_rng_state()] * 2, []
    for _ in range(4):
        for k, walk in enumerate(walks):
            torch.set_rng_state(states[k])
            found = next(walk)
            states[k] = torch.get_rng_state()
            mixed.append(found)
    assert all(torch.equal(a, b) for x, y in zip(one, mixed[::2], strict=True) for a, b in zip(x, y, strict=True))
    assert all(torch.equal(a, b) for x, y in zip(expected, mixed[1::2], strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7),
    reason="Inductor of torch 2.6 draws other noise for dropout than the eager pass; such a module then runs eagerly",
)
def test_compiled_it_takes_the_steps_of_the_eager_loop():
    def guide(self, x):
        torch.rand(3)  # which a compiler would leave out
        return normal_guide(self, x)

    told = []
    torch.manual_seed(1)
    loss = Trace_ELBO()(*pair(guide=guide, net=wide(nn.BatchNorm1d(6), nn.Dropout(0.3))))
    captured = assert_same(loss, data(calls=4), relative=1e-10, compile=True, tell=told.append)
    assert captured.compile and [line.split()[0] for line in told] == ["Compiling", "Compiled"]
    trajectories = []
    loss = Trace_ELBO()(*pair(net=wide(nn.Softplus(), nn.Dropout(0.3))))
    for step in (hv.capture(loss), lambda x: backward(loss, x)):
        loss.load_state_dict({name: torch.full_like(value, 0.3) for name, value in loss.state_dict().items()})
        optimizer = torch.optim.Adam(loss.parameters(), 0.05, fused=True)
        torch.manual_seed(2)
        for (x,) in data(calls=6):
            step(x)
            optimizer.step()
        trajectories.append([p.detach().clone() for p in loss.parameters()])
    for graph, eager in zip(*trajectories, strict=True):
        assert (eager - graph).norm() <= 1e-10 * eager.norm()
