"""The generated pendulum."""

import numpy as np
import torch

from pyro_hvae.data import pendulum
from pyro_hvae.data.generated.pendulum import read_angles, render


def test_sizes_ranges_and_factor():
    data = pendulum()
    assert data.train.x.shape == (15_000, 1, 16, 16) and data.train.x[:].dtype == torch.float32
    assert len(data.validation) == 1_000 and len(data.test) == 3_000
    angles = data.train.factors["angle"]
    assert angles.min() >= 0 and angles.max() < 2 * np.pi
    assert abs(torch.exp(1j * angles).mean()) < 0.02  # uniform on the circle
    assert data.train.x[:].min() == 0 and 0.95 < data.train.x[:].max() <= 1


def test_same_seed_same_pixels_and_fresh_splits():
    a, b, c = pendulum(data_seed=3, size=50), pendulum(data_seed=3, size=50), pendulum(data_seed=4, size=50)
    assert torch.equal(a.train.x[:], b.train.x[:]) and not torch.equal(a.train.x[:], c.train.x[:])
    assert not np.isin(a.test.factors["angle"], a.train.factors["angle"]).any()
    assert torch.equal(a.test.x[:], pendulum(data_seed=3, size=7).test.x[:])


def test_the_image_is_the_angle():
    down, right, up, left = render(np.array([0, 0.5, 1, 1.5]) * np.pi)[:, 0]
    assert np.argmax(down.sum(1)) > 8 > np.argmax(up.sum(1)) and np.argmax(right.sum(0)) > 8 > np.argmax(left.sum(0))
    # Drawn about the image's centre: a half turn is a rotation of the pixels.
    assert np.allclose(down, up[::-1, ::-1]) and np.allclose(down, np.rot90(right, -1))
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 200)
    read, error = read_angles(render(angles))
    assert np.abs((read - angles + np.pi) % (2 * np.pi) - np.pi).max() < np.radians(0.126) and error.max() < 1e-3


def test_a_blend_of_two_pendula_is_noticed():
    blend = render(np.array([0.0, np.pi])).mean(0, keepdims=True)
    assert read_angles(blend)[1][0] > 1


def test_equal_steps_of_the_angle_are_equal_steps_in_pixels():
    speed = np.linalg.norm(np.diff(render(np.linspace(0, 2 * np.pi, 361)).reshape(361, -1), axis=0), axis=1)
    assert speed.std() / speed.mean() < 0.05
