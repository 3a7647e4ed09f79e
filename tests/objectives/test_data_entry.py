"""Data of every type enter every tool by one rule, and no data are one sentence everywhere."""

import numpy as np
import pytest
import torch

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.objectives import take_data

GREY = np.random.default_rng(0).integers(0, 256, (12, 6))
BITS = GREY > 127
FLOATS = (GREY / 255).astype(np.float32)
# what is given -> the floats that it means
GIVEN = {
    "bool array": (BITS, BITS),
    "bool tensor": (torch.tensor(BITS), BITS),
    "bits in bytes": (BITS.astype(np.uint8), BITS),
    "bytes": (GREY.astype(np.uint8), FLOATS),
    "byte tensor": (torch.tensor(GREY, dtype=torch.uint8), FLOATS),
    "float64 array": (FLOATS.astype(np.float64), FLOATS),
    "float64 tensor": (torch.tensor(FLOATS).double(), FLOATS),
    "float16 array": (BITS.astype(np.float16), BITS),
    "whole numbers": (BITS.astype(np.int64), BITS),
    "list of tensors": (list(torch.tensor(FLOATS)), FLOATS),
    "reversed array": (FLOATS[::-1], FLOATS[::-1]),
    "another byte order": (FLOATS.astype(">f8"), FLOATS),
}
TOOLS = {
    "objective": lambda m, g, x: hv.ELBO()(m, g)(x),
    "estimate": lambda m, g, x: hv.ELBO().estimate(m, g, x).loss(),
    "capture": lambda m, g, x: hv.capture(hv.ELBO()(m, g), compile=False)(x),
    "log_likelihood": lambda m, g, x: hv.log_likelihood(m, g, x, particles=5),
    "posteriors": lambda m, g, x: hv.posteriors(g, x)["z1"].mean,
    "latents": lambda m, g, x: hv.latents(g, x)["z1"],
    "reconstruct": lambda m, g, x: hv.reconstruct(m, g, x),
    "active_units": lambda m, g, x: torch.tensor(list(hv.active_units(g, x).values())),
    "gibbs": lambda m, g, x: hv.gibbs(m, g, x, steps=2).x,
    "interpolate": lambda m, g, x: hv.interpolate(m, g, x[0], x[1], nodes=50).images,
    "traverse": lambda m, g, x: hv.traverse(m, g, x[:1] if isinstance(x, np.ndarray) else x, x).images,
    "layer_samples": lambda m, g, x: hv.layer_samples(m, "z1", 3, g, x),
    "fit": lambda m, g, x: torch.tensor(hv.fit(hv.ELBO()(m, g), x, hv.TrainConfig(steps=2, compile=False))[-1]["loss"]),
}


def pair(dtype=torch.float32):
    torch.manual_seed(0)
    model, guide = hv.Chain(hv.StandardNormal(2), [], hv.Bernoulli(2, 6)), hv.BottomUp([hv.Gaussian(6, 2, gain=10.0)])
    return model.to(dtype), guide.to(dtype)


def answer(tool, x, dtype=torch.float32):
    programs = pair(dtype)
    torch.manual_seed(1)
    return TOOLS[tool](*programs, x)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("given", GIVEN)
def test_every_tool_takes_every_type_as_the_floats_that_it_means(given, tool):
    x, floats = GIVEN[given]
    expected = torch.tensor(np.array(floats, dtype=np.float32))
    assert torch.equal(answer(tool, x), answer(tool, expected))


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "fit"])
def test_a_model_in_double_precision_gets_doubles(tool):
    found = answer(tool, FLOATS, torch.float64)
    assert torch.equal(found, answer(tool, torch.tensor(FLOATS).double(), torch.float64))


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "interpolate"])
def test_no_data_are_one_sentence(tool):
    with pytest.raises(ConfigError, match="no data"):
        answer(tool, np.zeros((0, 6)))


def test_images_of_whole_numbers_are_grey_values_and_vectors_are_not():
    images = torch.arange(2 * 3 * 4).reshape(2, 1, 3, 4) * 11
    assert torch.equal(hv.data.to_floats(images), images.float() / 255)
    assert torch.equal(hv.data.to_floats(images.flatten(1)), images.flatten(1).float())
    with pytest.raises(DataError, match="from 0 to 300, but grey values go from 0 to 255"):
        hv.data.to_floats(np.array([[[0, 300], [0, 0]]]))


@pytest.mark.parametrize("x", [np.array([["a"]]), np.zeros((2, 2), dtype=complex), torch.zeros(2, 2, dtype=torch.complex64)])
def test_what_is_no_number_is_refused(x):
    with pytest.raises(DataError, match="numbers"):
        hv.data.to_floats(x)


@pytest.mark.parametrize("ask", [lambda m, g, x: hv.latents(g, x, mean=True)["z1"], lambda m, g, x: hv.ELBO()(m, g)(x)])
def test_a_batch_of_dark_bytes_is_read_like_the_others_of_the_pair(ask):
    model, guide = pair()
    dark = torch.zeros(2, 6, dtype=torch.uint8)
    dark[0, 0] = 1
    hv.log_likelihood(model, guide, torch.tensor(GREY, dtype=torch.uint8), particles=2)
    torch.manual_seed(1)
    found = ask(model, guide, dark)
    same = pair()
    torch.manual_seed(1)
    assert torch.equal(found, ask(*same, dark.float() / 255))


def test_grey_values_after_bits_are_refused():
    model, guide = pair()
    hv.latents(guide, BITS.astype(np.uint8))
    hv.latents(guide, np.zeros((2, 6), np.uint8))
    with pytest.raises(DataError, match="0 and 1 only"):
        hv.latents(guide, GREY.astype(np.uint8))
    hv.latents(guide, FLOATS)


def test_an_array_goes_to_where_the_programs_are():
    model = pair()[0].to("meta")
    assert take_data(FLOATS, model).device.type == "meta" and take_data(torch.tensor(FLOATS), model).device.type == "cpu"
