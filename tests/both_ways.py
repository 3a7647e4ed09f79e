"""One pass done twice under the same seeds, as it is and captured, with everything that it leaves behind."""

import copy
import random
import re

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn

import pyro_hvae as hv


class Body(nn.Module):
    """A module whose pass is a function of it and its arguments."""

    def __init__(self, body, **parts):
        super().__init__()
        self.body = body
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *arguments):
        return self.body(self, *arguments)


def buffers(module, **tensors):
    """The module with buffers."""
    for name, tensor in tensors.items():
        module.register_buffer(name, tensor)
    return module


def weight(value=3.0):
    return nn.Parameter(torch.tensor(value))


def data(calls=4, size=6):
    """The arguments of some calls."""
    return [(torch.randn(size, 4),) for _ in range(calls)]


def wide(*layers):
    return nn.Sequential(nn.Linear(4, 6), *layers, nn.Linear(6, 4))


def normal_model(self, x, likelihood=lambda mean: dist.Normal(mean, 0.7)):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).expand([len(x), 2]).to_event(1))
        pyro.sample("x", likelihood(self.net(z)).to_event(1), obs=x)


def normal_guide(self, x):
    with pyro.plate("data", len(x)):
        loc, scale = self.net(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


def pair(model=normal_model, guide=normal_guide, net=None, **parts):
    """Model and guide of four numbers and two latents."""
    return Body(model, net=nn.Linear(2, 4)), Body(guide, net=net or nn.Linear(4, 4), **parts)


def backward(module, *arguments):
    """The eager pass with its gradients."""
    module.zero_grad(set_to_none=True)
    outputs = module(*arguments)
    (outputs["loss"] if isinstance(outputs, dict) else outputs).backward()
    return outputs


def streams():
    """The states of all random streams, comparable."""
    keys = np.random.get_state()
    return torch.get_rng_state().tolist(), keys[1].tolist(), keys[2], random.getstate()


def passes(step, module, calls, change=None):
    """What every call returns and leaves behind, by name."""
    found = []
    with pyro.get_param_store().scope():
        for i, arguments in enumerate(calls):
            if change:
                change(module, i)
            pyro.set_rng_seed(i)
            arguments = [argument.clone() for argument in arguments]
            outputs = step(*arguments)
            named = outputs if isinstance(outputs, dict) else {"loss": outputs}
            state = {name: value.detach().clone() for name, value in named.items()}
            state |= {f"argument {k}": argument for k, argument in enumerate(arguments)}
            for name, p in module.named_parameters():
                state[name] = p.detach().clone()
                state[f"gradient of {name}"] = None if p.grad is None else p.grad.clone()
            state |= {f"buffer {name}": buffer.clone() for name, buffer in module.named_buffers()}
            found.append((state, streams()))
    return found


def assert_same(module, calls, change=None, *, falls=None, says=None, relative=0.0, **options):
    """Captured, a module does call for call what it does eagerly; returns it captured.

    Arguments:
        change: done to the module before every call, given its number. relative: largest deviation; zero is bit by bit.
        falls: what the one warning says that it runs eagerly; None for a module that must not. says: of another warning.
    """
    reference = copy.deepcopy(module)
    expected = passes(lambda *a: backward(reference, *a), reference, calls, change)
    said = []
    captured = hv.capture(module, **{"compile": False, "warn": said.append, **options})
    for i, ((one, before), (two, after)) in enumerate(zip(expected, passes(captured, module, calls, change), strict=True)):
        assert list(one) == list(two), f"call {i}"
        largest = max(
            (t.norm().item() for name, t in one.items() if t is not None and name.startswith("gradient")), default=0.0
        )
        for name in one:
            assert (one[name] is None) == (two[name] is None), f"{name} at call {i}: {one[name]} and {two[name]}"
            if one[name] is not None:
                assert_equal(one[name], two[name], relative, largest, f"{name} at call {i}")
        assert before == after, f"a random stream is elsewhere after call {i}"
    wanted = [text for text in (falls, says) if text]
    assert (captured.eager is not None) == (falls is not None) and len(said) == len(wanted), said
    assert all(re.search(text, one) for text, one in zip(wanted, said, strict=True)), said
    return captured


def assert_equal(one, two, relative, largest, name):
    assert one.dtype == two.dtype and one.shape == two.shape, f"{name}: {two.dtype} of {tuple(two.shape)}"
    if relative and one.is_floating_point():
        # What cancels (a bias before batch norm) is rounding of something larger.
        limit = relative * max(one.norm().item(), 1e-4 * largest)
        assert (one - two).nan_to_num(7.0).norm().item() <= limit, f"{name}: {one} and {two}"
    else:
        assert torch.equal(one, two) or (one != one).equal(two != two) and one.nan_to_num(7.0).equal(two.nan_to_num(7.0)), (
            f"{name}: {one} and {two}"
        )
