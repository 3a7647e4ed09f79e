"""A graph that is wrong is not used, and one that cannot be compiled runs as it is."""

import os
import subprocess
import sys

import pytest
import torch
from both_ways import Body, assert_same, buffers, data, weight, wide

from pyro_hvae.compilation import captured_loss as capturing
from pyro_hvae.compilation import inductor as compiling

pytestmark = pytest.mark.usefixtures("float64")


class Wrong:
    """Records a graph, and something besides."""

    def __init__(self, monkeypatch, change):
        record = capturing.record_graph

        def wrong(pure, tensors, dynamic=False):
            traced = record(pure, tensors, dynamic)
            change(traced, next(iter(reversed(traced.graph.nodes))))
            traced.recompile()
            return traced

        monkeypatch.setattr(capturing, "record_graph", wrong)


def one_output(index, factor):
    def change(traced, output):
        values = list(output.args[0])
        with traced.graph.inserting_before(output):
            values[index] = traced.graph.call_function(torch.mul, (values[index], factor))
        output.args = (values,)

    return change


def draw(traced, output):
    with traced.graph.inserting_before(output):
        traced.graph.call_function(torch.rand, (3,))


def raising(traced, output):
    with traced.graph.inserting_before(output):
        traced.graph.call_function(torch.linalg.cholesky, (next(iter(traced.graph.nodes)),))


def noisy_mean(self, x):
    self.mean.add_(x.mean())
    return (self.net(x) + torch.randn(6, 4)).square().mean() * self.mean.exp()


WRONG = {
    "loss": (one_output(0, 1.001), "'output' is 0.1 % off"),
    "gradient": (one_output(2, 1.001), "'gradient of net.0.bias' is 0.1 % off"),
    "buffer": (one_output(-1, 1.001), "'mean' is 0.1 % off"),
    "random numbers": (draw, "draws other random numbers"),
    "error": (raising, "LinAlgError|RuntimeError"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_graph_that_is_wrong_is_not_used(what, monkeypatch):
    change, match = WRONG[what]
    Wrong(monkeypatch, change)
    module = buffers(Body(noisy_mean, net=wide()), mean=torch.ones(()))
    assert_same(module, data(), falls=match)


def test_gradients_are_held_to_gradients_and_not_to_the_loss(monkeypatch):
    """In single precision 2 % of a thousandth of the loss would hide a gradient altogether."""
    torch.set_default_dtype(torch.float32)
    Wrong(monkeypatch, one_output(1, 0.0))
    module = Body(lambda self, x: 1000 + 0.01 * self.faint * x.square().mean() + self.w, faint=weight(), w=weight())
    assert_same(module, data(), falls="'gradient of faint' is 1e\\+02 % off")


def test_a_compiler_that_fails_leaves_the_graph_as_it_is(monkeypatch):
    def fail(*args, **options):
        def run(*tensors):
            torch.rand(5)
            raise RuntimeError("no space left\non the device")

        return run

    monkeypatch.setattr(compiling, "direct_compiler", lambda: fail)
    module = Body(lambda self, x: (self.w * x * torch.randn(len(x), 4)).sum(), w=weight())
    calls, told = [(torch.randn(n, 4),) for n in (6, 6, 5)], []
    says = r"^the captured graph runs uncompiled: RuntimeError: no space left\.$"
    captured = assert_same(module, calls, says=says, compile=True, tell=told.append)
    assert not captured.compile and captured.graphs == 2 and all(line.startswith(("Compiling ", "Captured ")) for line in told)


BROKEN = """
import torch, warnings, pyro_hvae as hv
warnings.simplefilter("always")
loss = hv.ELBO()(hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4)), hv.BottomUp([hv.Gaussian(4, 2)]))
step = hv.capture(loss)
for _ in range(2):
    torch.manual_seed(1)
    value = step(torch.ones(8, 4))
torch.manual_seed(1)
print(value.item() - loss(torch.ones(8, 4)).item(), step.eager, step.compile, step.graphs)
"""


def test_without_a_compiler_there_is_one_line(tmp_path):
    environment = {**os.environ, "CXX": "/nonexistent", "OMP_NUM_THREADS": "1", "PYRO_HVAE_CACHE": str(tmp_path)}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    ran = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, env=environment, timeout=120)
    assert ran.stdout == "0.0 None False 1\n", ran.stderr
    assert ran.stderr.count("CaptureWarning") == 1 and "the captured graph runs uncompiled: " in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr
