"""Paths of any decoder against surfaces whose shortest curves are known."""

import numpy as np
import pytest
import torch
from torch import nn

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.inference import decoder_paths, resample_path, shortest_paths
from pyro_hvae.inference.foreign_decoder import ForeignDecoder
from pyro_hvae.inference.geodesic_curves import minimise_energy

MEASURES = ("length", "energy", "smoothness", "largest_jump")


def sphere(z):
    """The unit sphere by stereographic projection: |z| < 1 is a hemisphere. Arrays and tensors."""
    one, two = z[:, :1], z[:, 1:]
    square = one**2 + two**2
    join = torch.cat if isinstance(z, torch.Tensor) else np.concatenate
    return join([2 * one / (1 + square), 2 * two / (1 + square), (square - 1) / (1 + square)], 1)


def sphere_vjp(z):
    """The same with its pullback by hand: dx = 2 dz / (1 + s) - 4 z (z dz) / (1 + s)^2 and dh = 4 (z dz) / (1 + s)^2."""
    square = (z**2).sum(1, keepdims=True)

    def pull(v):
        along = (v[:, :2] * z).sum(1, keepdims=True)
        return 2 * v[:, :2] / (1 + square) + 4 * z * (v[:, 2:] - along) / (1 + square) ** 2

    return sphere(z), pull


def disc(count, seed=0, radius=0.95):
    rng = np.random.default_rng(seed)
    angle, far = rng.uniform(0, 2 * np.pi, count), radius * np.sqrt(rng.uniform(0, 1, count))
    return np.c_[far * np.cos(angle), far * np.sin(angle)]


def random_pairs(count, nodes, seed=1):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(nodes)[:2] for _ in range(count)])


def test_a_geodesic_on_a_sphere_is_the_great_circle():
    codes, pairs = disc(300), random_pairs(60, 300)
    by_hand = hv.paths(None, sphere, codes, pairs, vjp=sphere_vjp)
    by_torch = hv.paths(None, sphere, torch.from_numpy(codes), pairs)
    one, two = (sphere(codes[pairs[:, side]]) for side in (0, 1))
    angle = np.arctan2(np.linalg.norm(np.cross(one, two), axis=1), (one * two).sum(1))
    for found in (by_hand, by_torch):
        assert found.geodesic is not None
        # 49 equal chords of the arc are the least energy of 50 points.
        chords = 98 * np.sin(angle / 98)
        assert found.geodesic.length == pytest.approx(chords, rel=1e-5)
        assert found.geodesic.energy == pytest.approx(chords**2, rel=1e-5)
        assert (np.abs(found.geodesic.length / angle - 1) < 1.7e-4).all()  # of which the chords are 1.6e-4 at 3 radians
        assert (np.abs(found.geodesic.energy / angle**2 - 1) < 3.4e-4).all()
        assert (found.geodesic.energy <= np.minimum(found.straight.energy, found.graph.energy)).all()
        # The curve is in the plane of the great circle.
        frames = sphere(found.geodesic.codes.reshape(-1, 2)).reshape(60, 50, 3)
        normal = np.cross(one, two) / np.sin(angle)[:, None]
        assert np.abs(np.einsum("mtj,mj->mt", frames, normal)).max() < 0.02
    assert by_hand.geodesic.length == pytest.approx(by_torch.geodesic.length, rel=1e-6)
    more = hv.paths(None, sphere, codes, pairs[:5], vjp=sphere_vjp, points=200)
    assert more.geodesic.length == pytest.approx(angle[:5], rel=1e-5)


def test_a_geodesic_of_polar_coordinates_is_a_chord():
    """A flat plane in other coordinates: straight lines of data, whose energy is the squared distance of the ends."""
    rng = np.random.default_rng(0)
    codes = np.c_[rng.uniform(1, 2, 200), rng.uniform(0, 2.5, 200)]

    def plane(z):
        return z[:, :1] * torch.stack([z[:, 1].cos(), z[:, 1].sin()], 1)

    pairs = random_pairs(40, 200)
    found = hv.paths(None, plane, torch.from_numpy(codes), pairs)
    x = plane(torch.from_numpy(codes)).numpy()
    distance = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
    assert found.geodesic.length == pytest.approx(distance, rel=1e-5)
    assert found.geodesic.energy == pytest.approx(distance**2, rel=1e-4)
    assert found.geodesic.largest_jump == pytest.approx(distance / 49, rel=0.05)
    assert np.median(found.geodesic.smoothness / found.straight.smoothness) < 0.1


def test_a_decoder_that_keeps_distances_has_one_path():
    codes = np.random.default_rng(2).normal(size=(100, 3))
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 3)))[0].T
    pairs = random_pairs(20, 100)
    found = hv.paths(None, lambda z: z @ turn, codes, pairs, vjp=lambda z: (z @ turn, lambda v: v @ turn.T))
    distance = np.linalg.norm(codes[pairs[:, 0]] - codes[pairs[:, 1]], axis=1)
    for one in (found.straight, found.geodesic):
        assert one.length == pytest.approx(distance) and one.energy == pytest.approx(distance**2)
        assert np.allclose(one.largest_jump, distance / 49) and np.allclose(one.smoothness, 0, atol=1e-7)
    assert (found.graph.length >= distance - 1e-12).all()


def test_a_graph_path_is_that_of_the_neighbour_graph_at_equidistant_points():
    codes, pairs = disc(150), random_pairs(10, 150)
    found = hv.paths(None, sphere, codes, pairs, k=6, points=30)
    assert found.geodesic is None and len(found) == 10
    for number, exact in enumerate(shortest_paths(codes, pairs, 6)):
        path, points = found.graph_paths[number], resample_path(exact.points, 30)
        assert np.array_equal(path.indices, exact.indices) and path.length == exact.length
        assert np.array_equal(found.graph.codes[number], points)
        steps = np.linalg.norm(np.diff(sphere(points), axis=0), axis=1)
        assert found.graph.length[number] == pytest.approx(steps.sum())
        assert found.graph.largest_jump[number] == pytest.approx(steps.max())
    assert np.allclose(found.straight.codes[:, 0], codes[pairs[:, 0]])
    assert np.allclose(found.straight.codes[:, -1], codes[pairs[:, 1]])


def test_a_geodesic_may_follow_the_graph_round_a_hill():
    """Two local minima: over a pass of height 2, where the straight line starts, and through flat land, where the data lie."""
    t = np.linspace(0, np.pi, 40)
    codes = torch.from_numpy(np.c_[np.cos(t), np.sin(t)])

    def hill(z):
        x, y = z[:, :1], z[:, 1:]
        return torch.cat([z, (-8 * x**2).exp() * (2 + 3 * (-20 * (y - 0.4) ** 2).exp() - 2 * (20 * (y - 0.8)).sigmoid())], 1)

    found = hv.paths(None, hill, codes, [[0, 39]], k=2)
    decoder = ForeignDecoder(hill, codes)
    alone = [minimise_energy(decoder, one.codes) for one in (found.straight, found.graph)]
    over, round_ = (decoder_paths._measure(decoder, one).energy.item() for one in alone)
    assert found.geodesic.energy.item() == round_ < 0.7 * over < over < found.straight.energy.item()
    assert np.abs(found.geodesic.codes[0, 25]).max() > 0.8  # it passes the hill as the data do


@pytest.mark.parametrize("seed", range(3))
def test_no_geodesic_has_more_energy_than_where_it_starts(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 50), nn.Sigmoid())
    codes = 3 * torch.randn(200, 4)
    found = hv.paths(None, net, codes, random_pairs(30, 200))
    start = np.minimum(found.straight.energy, found.graph.energy)
    assert (found.geodesic.energy <= start * (1 + 1e-6)).all() and (found.geodesic.energy < 0.9 * start).any()
    assert (found.geodesic.energy >= found.geodesic.length**2 * (1 - 1e-9)).all()
    assert np.median(found.geodesic.energy / found.geodesic.length**2) < 1.001  # constant speed


def test_a_step_that_is_too_long_is_halved():
    """Beyond 4 this decoder is infinite; between, the geodesic has equal steps of data."""
    z = np.array([[0.0], [1.0], [3.9]])

    def decode(z):
        return np.where(z < 4, np.exp(z), np.inf)

    found = hv.paths(None, decode, z, [[0, 2]], k=1, vjp=lambda z: (decode(z), lambda v: v * np.exp(z)))
    reach = np.exp(3.9) - 1
    assert found.geodesic.length == pytest.approx([reach]) and found.geodesic.energy == pytest.approx([reach**2], rel=1e-3)


def test_any_number_of_pairs_is_decoded_in_blocks(monkeypatch):
    codes, pairs, rows = disc(80), random_pairs(12, 80), []

    def decode(z):
        rows.append(len(z))
        return sphere(z)

    def vjp(z):
        rows.append(len(z))
        return sphere_vjp(z)

    whole = hv.paths(None, decode, codes, pairs, points=10, vjp=vjp)
    assert max(rows) == 2 * 12 * 10
    rows.clear()
    monkeypatch.setattr(decoder_paths, "MOST_ROWS", 100)
    parts = hv.paths(None, decode, codes, pairs, points=10, vjp=vjp)
    assert max(rows) == 100
    for kind in ("graph", "straight", "geodesic"):
        for name in (*MEASURES, "codes"):
            assert np.allclose(getattr(getattr(whole, kind), name), getattr(getattr(parts, kind), name), rtol=1e-12)
    rows.clear()
    monkeypatch.setattr(decoder_paths, "BYTES", 8 * 3 * 40)  # of large data
    hv.paths(None, decode, codes, pairs, points=10, vjp=vjp)
    assert max(rows) == 40


def test_a_pair_that_is_not_connected_keeps_its_other_curves():
    codes = np.concatenate([disc(30), disc(30) + 100])
    found = hv.paths(None, lambda z: z, codes, [[0, 1], [0, 40]], k=3, most=5, vjp=lambda z: (z, lambda v: v))
    assert found.graph_paths[0] is not None and found.graph_paths[1] is None
    assert "2 pairs, 1 not connected" in repr(found) and "nan" not in repr(found)
    for name in MEASURES:
        assert np.isnan(getattr(found.graph, name)).tolist() == [False, True]
        assert np.isfinite(getattr(found.straight, name)).all() and np.isfinite(getattr(found.geodesic, name)).all()
    assert np.isnan(found.graph.codes[1]).all() and np.isfinite(found.straight.codes).all()
    with pytest.raises(DataError, match=r"60 codes connects none of 1 pairs with up to 5 neighbours.*most=10"):
        hv.paths(None, lambda z: z, codes, [[0, 40]], k=3, most=5)
    assert hv.paths(None, lambda z: z, codes, [[0, 40]], k=3, most=40).graph_paths[0].neighbours >= 30


def test_ends_that_are_one_datum_and_a_decoder_that_is_constant_have_length_0():
    codes = disc(30)
    found = hv.paths(None, sphere, codes, [[4, 4], [1, 2]], vjp=sphere_vjp)
    flat = hv.paths(None, lambda z: 0 * z, torch.from_numpy(codes), [[1, 2]])
    for one in (found.graph, found.straight, found.geodesic):
        assert one.length[0] == one.energy[0] == one.largest_jump[0] == 0 < one.length[1]
    assert flat.geodesic.length == flat.graph.length == 0


def test_own_pairs_and_modules_are_asked_in_evaluation_mode():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.BatchNorm1d(2))
    decoder = nn.Sequential(nn.Dropout(), nn.Linear(2, 16), nn.Unflatten(1, (4, 4)))
    x = torch.rand(60, 4, 4)
    with torch.no_grad():
        z = encoder.eval()(x)
        expected = hv.paths(None, decoder.eval(), z, [[0, 1], [5, 9]])
    found = hv.paths(encoder.train(), decoder.train(), x, [[0, 1], [5, 9]])
    assert encoder.training and decoder.training
    for kind in ("graph", "straight", "geodesic"):
        assert np.array_equal(getattr(found, kind).length, getattr(expected, kind).length)
    assert all(parameter.grad is None for parameter in decoder.parameters())

    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, (1, 4, 4), hidden=(8,)))
    guide = hv.BottomUp([hv.Gaussian((1, 4, 4), 2, hidden=(8,))])
    x, pairs = torch.rand(50, 1, 4, 4), [[0, 1], [2, 30]]
    arrays = hv.paths(lambda x: hv.encode(guide, x).means["z1"], lambda z: hv.decode(model, {"z1": z}), x, pairs)
    tensors = hv.paths(lambda x: hv.latents(guide, x, mean=True)["z1"], lambda z: model.likelihood(z).mean, x, pairs)
    assert arrays.geodesic is None and tensors.geodesic is not None
    assert np.allclose(arrays.graph.length, tensors.graph.length, rtol=1e-5)
    named = hv.paths(lambda two: two["a"] + two["b"], decoder.eval(), {"a": z, "b": 0 * z}, [[0, 1], [5, 9]])
    assert np.array_equal(named.graph.length, expected.graph.length)
    without = hv.paths(None, lambda z: model.likelihood(z).mean, torch.rand(20, 2), pairs[:1], geodesics=False)
    assert without.geodesic is None


CODES = disc(20)
BAD = {
    "2 of 20 codes have NaN": dict(data=np.where(np.arange(20)[:, None] < 2, np.nan, CODES)),
    "got shape (20,) of float64 for 20 data": dict(data=CODES[:, 0]),
    "got shape (19, 2) of float64 for 20 data": dict(encode=lambda x: x[1:]),
    "got shape (20, 2) of <U32": dict(data=CODES.astype(str)),
    "between two data, got 1": dict(data=CODES[:1], pairs=[[0, 0]]),
    "pairs must lie in 0..19, got 0..20": dict(pairs=[[0, 20]]),
    "shape (m, 2), got shape (1, 3)": dict(pairs=[[0, 1, 2]]),
    "node indices of shape (m, 2), got shape (1, 2) of float64": dict(pairs=[[0.0, 1.0]]),
    "there are no pairs": dict(pairs=[]),
    "below the 20 nodes, got 20": dict(k=20),
    "got points=2": dict(points=2),
    "decode returns shape (1, 3) for 2 codes": dict(decode=lambda z: sphere(z)[:1]),
    "decode returns shape () for 2 codes": dict(decode=lambda z: 1.0),
    "decode returns shape (2, 0) for 2 codes": dict(decode=lambda z: z[:, :0]),
    "decode returns NaN or infinite values for 50 of 50 codes": dict(decode=lambda z: z / (len(z) < 50)),
    "the pullback of vjp returns shape (3, 100) for codes of shape (100, 2)": dict(vjp=lambda z: (sphere(z), lambda v: v.T)),
    "decode returns shape (99, 3) for 100 codes": dict(vjp=lambda z: (sphere(z)[1:], lambda v: v)),
    "decode returns no gradient": dict(data=torch.from_numpy(CODES), decode=lambda z: sphere(z.detach())),
}


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_in_one_sentence_that_teaches(message):
    asked = dict(encode=None, decode=sphere, data=CODES, pairs=[[0, 1]]) | BAD[message]
    with pytest.raises((ConfigError, DataError)) as caught:
        hv.paths(**asked)
    assert message in str(caught.value) and "\n" not in str(caught.value)
