"""Codes of data and the way back, against closed forms of linear-Gaussian layers."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, ContractError, DataError

ROWS = 5000  # more than one pass


@pytest.fixture(scope="module")
def chain():
    """z2 -> z1 -> x and x -> z1 -> z2, linear with diagonal noise, and the matrices."""
    g = torch.Generator().manual_seed(0)
    down2, down1, up1, up2 = (torch.randn(*shape, generator=g) for shape in ((2, 3), (4, 2), (2, 4), (3, 2)))
    s1, s2 = torch.tensor([0.5, 1.1]), torch.tensor([0.3, 0.8, 0.1])
    model = hv.Chain(
        Fixed([], torch.ones(3)), [Fixed([down2], torch.tensor([0.4, 0.7]), 0.5)], Fixed([down1], torch.ones(4), -1.0)
    )
    return model, hv.BottomUp([Fixed([up1], s1), Fixed([up2], s2)]), (down2, down1, up1, up2, s1, s2)


def test_means_are_those_of_latents_and_decode_to_the_reconstruction(chain):
    model, guide, _ = chain
    x = torch.randn(ROWS, 4)
    codes, means = hv.encode(guide, x), hv.latents(guide, x, mean=True)
    assert list(codes.means) == list(codes.deviations) == ["z1", "z2"] and not codes.draws and len(codes) == ROWS
    for name, values in means.items():
        assert np.array_equal(codes.means[name], values.numpy())
    assert np.array_equal(hv.decode(model, codes), hv.reconstruct(model, guide, x).numpy())


def test_deviations_are_those_of_the_marginal_posteriors(chain):
    _, guide, (*_, up2, s1, s2) = chain
    x = torch.randn(20, 4)
    codes = hv.encode(guide, x, draws=4000)
    assert np.array_equal(codes.deviations["z1"], s1.expand(20, 2).numpy())  # of x alone: exact
    assert_close(codes.deviations["z2"], (up2**2 @ s1**2 + s2**2).sqrt().expand(20, 3).numpy(), rtol=0.06, atol=0)
    # 16 draws: unbiased in the square.
    squares = np.mean([hv.encode(guide, x, seed=seed).deviations["z2"] ** 2 for seed in range(100)], (0, 1))
    assert_close(squares, (up2**2 @ s1**2 + s2**2).numpy(), rtol=0.03, atol=0)


def test_draws_are_joint_draws_of_all_layers(chain):
    _, guide, (*_, up1, up2, s1, s2) = chain
    x = torch.randn(3, 4)
    draws = hv.encode(guide, x, draws=20_000).draws
    assert {name: values.shape for name, values in draws.items()} == {"z1": (3, 20_000, 2), "z2": (3, 20_000, 3)}
    between = up2 * s1**2
    upper = torch.cat([torch.diag(s1**2), between.T], 1)
    lower = torch.cat([between, up2 @ between.T + torch.diag(s2**2)], 1)
    for row in range(3):
        values = np.concatenate([draws["z1"][row], draws["z2"][row]], 1)
        mean = torch.cat([x[row] @ up1.T, x[row] @ up1.T @ up2.T]).numpy()
        assert_close(values.mean(0), mean, rtol=0, atol=0.08)
        assert_close(np.cov(values.T), torch.cat([upper, lower]).double().numpy(), rtol=0.05, atol=0.06)


def test_layers_that_codes_lack_have_the_mean_given_those_above_or_are_drawn(chain):
    model, guide, (down2, down1, *_) = chain
    x = torch.randn(ROWS, 4)
    top = hv.encode(guide, x, layers=["z2"])
    assert list(top.means) == list(top.deviations) == ["z2"]
    expected = (top.means["z2"] @ down2.T.numpy() + 0.5) @ down1.T.numpy() - 1.0
    assert_close(hv.decode(model, top), expected, rtol=1e-4, atol=1e-4)
    drawn = hv.decode(model, {"z2": np.zeros((20_000, 3))}, draw=True)
    noise = torch.tensor([0.4, 0.7])
    assert_close(drawn.mean(0), (torch.full((2,), 0.5) @ down1.T - 1.0).numpy(), rtol=0, atol=0.05)
    assert_close(np.cov(drawn.T), ((down1 * noise**2) @ down1.T).double().numpy(), rtol=0.05, atol=0.05)
    assert np.array_equal(drawn, hv.decode(model, {"z2": np.zeros((20_000, 3))}, draw=True))
    # z1 alone: x depends on nothing else
    assert np.array_equal(hv.decode(model, {"z1": hv.encode(guide, x).means["z1"]}), hv.reconstruct(model, guide, x).numpy())


def test_heads_of_x_alone_and_single_layers_cost_one_pass_of_each_batch():
    calls = []

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            calls.append(len(x))
            for name, scale in (("z1", 1.0), ("z2", 2.0)):
                pyro.sample(name, dist.Normal(scale * x, scale).to_event(1))

    codes = hv.encode(guide, torch.randn(ROWS, 2))
    assert calls == [16, 4096, 904] and (codes.deviations["z2"] == 2).all()
    assert list(codes.columns()) == ["z1_0", "z1_1", "z2_0", "z2_1", "z1_sd_0", "z1_sd_1", "z2_sd_0", "z2_sd_1"]


def test_a_flow_has_the_deviation_of_its_draws():
    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            base = dist.Normal(torch.zeros(len(x), 2), torch.tensor([0.1, 0.2])).to_event(1)
            pyro.sample("z1", dist.TransformedDistribution(base, [dist.transforms.AffineTransform(x, 2.0, event_dim=1)]))

    with pytest.warns(hv.errors.NoMeanWarning):
        codes = hv.encode(guide, torch.randn(5, 2), draws=5000)
    assert_close(codes.deviations["z1"], np.tile([0.2, 0.4], (5, 1)).astype("float32"), rtol=0.06, atol=0)


# z1 | x, one of two ways to draw it, and 0 or 1 of z1: x is the logit of 1 (classes) or a mean (of a unit that is cut off at 0)
SWITCHES = {
    "bernoulli": (lambda x: dist.Bernoulli(logits=x[..., 0]), lambda z1: z1),
    "categorical": (lambda x: dist.Categorical(logits=torch.cat([0 * x, x], -1)), lambda z1: torch.eye(2)[z1][..., 1]),
    "one-hot": (lambda x: dist.OneHotCategorical(logits=torch.cat([0 * x, x], -1)), lambda z1: z1[..., 1]),
    "cut off": (lambda x: dist.Normal(x[..., 0], 1.0), lambda z1: (z1 > 0).float()),
    "in NumPy": (lambda x: dist.Bernoulli(logits=x[..., 0]), lambda z1: torch.from_numpy(z1.numpy())),
}


@pytest.mark.filterwarnings("ignore::pyro_hvae.errors.NoMeanWarning")
@pytest.mark.parametrize("name", SWITCHES)
def test_a_layer_behind_a_switch_has_the_deviation_of_both_components(name):
    first, switch = SWITCHES[name]

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", first(x))
            pyro.sample("z2", dist.Normal(10 * switch(z1).unsqueeze(-1) - 5, 1.0).to_event(1))
            pyro.sample("z3", dist.Normal(x, 2.0).to_event(1))

    x = torch.cat([torch.full((20, 1), -50.0), torch.zeros(20, 1)])  # no draw of the first twenty switches
    codes = hv.encode(guide, x, draws=4000)
    assert_close(codes.deviations["z2"][:20], np.ones((20, 1), "float32"))
    assert_close(codes.deviations["z2"][20:], np.full((20, 1), 26**0.5, "float32"), rtol=0.01, atol=0)  # 1 + 25
    assert_close(codes.deviations["z3"], np.full((40, 1), 2.0, "float32"))
    squares = np.mean([hv.encode(guide, x, seed=seed).deviations["z2"][20:] ** 2 for seed in range(50)])
    assert abs(squares - 26) < 0.5


def test_layers_of_classes_have_probabilities():
    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Bernoulli(x.sigmoid()).to_event(1))
            pyro.sample("z2", dist.Categorical(logits=torch.stack([z1[..., 0], 2 * z1[..., 1], 0 * z1[..., 0]], -1)))

    x = torch.randn(7, 2)
    with pytest.warns(hv.errors.NoMeanWarning, match="Categorical"):
        codes = hv.encode(guide, x, draws=3)
    assert not codes.deviations and codes.means["z2"].dtype == np.int64 and codes.draws["z2"].shape == (7, 3)
    assert_close(codes.probabilities["z1"][..., 1], x.sigmoid().numpy())
    tables = hv.class_posteriors(guide, x, draws=16)
    assert codes.probabilities["z2"].shape == tables["z2"].shape == (7, 3)
    assert_close(codes.probabilities["z2"].sum(-1), np.ones(7, "float32"))


def test_codes_under_their_own_and_under_another_condition():
    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian([(2,), (3,)], 4), given=["y"])
    guide = hv.BottomUp([hv.Gaussian([(4,), (3,)], 2)], given=["y"])
    x, y = np.random.default_rng(0).normal(size=(6, 4)), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    codes = hv.encode(guide, x, given={"y": y})
    assert codes.given["y"].dtype == np.float32 and repr(codes) == "Codes of 6 data: z1 (2,); given y"
    expected = hv.reconstruct(model, guide, x, given={"y": y})
    assert np.array_equal(hv.decode(model, codes), expected.numpy())
    other = hv.reconstruct(model, guide, x, given={"y": y}, under={"y": y[1:2]})
    assert np.array_equal(hv.decode(model, codes, given={"y": y[1:2]}), other.numpy())
    with pytest.raises(ContractError, match="takes y beside x"):
        hv.decode(model, {"z1": codes.means["z1"]})
    with pytest.raises(ContractError, match="does not take the given input 'w'"):
        hv.decode(model, codes, given={"w": y})


@pytest.mark.parametrize("data", ["uint8", "int64", "float64", "float16", "list", "batch", "rows", "incomplete"])
def test_data_of_every_type(data):
    guide = hv.BottomUp([hv.Gaussian([(1, 4, 4)], 2)])
    grey = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4))
    floats = torch.from_numpy(grey / 255).float()
    x = {
        "uint8": grey.astype("uint8"),
        "int64": grey,
        "float64": grey / 255,
        "float16": (grey / 255).astype("float16"),
        "list": list(floats),
        "batch": hv.Batch(floats),
        "rows": hv.data.Rows(torch.from_numpy(grey.astype("uint8"))),
        "incomplete": torch.where(floats < 0.3, torch.nan, floats),
    }[data]
    expected = hv.latents(guide, torch.where(floats < 0.3, 0, floats) if data == "incomplete" else floats, mean=True)["z1"]
    codes = hv.encode(guide, x)
    assert codes.means["z1"].dtype == np.float32 and np.abs(codes.means["z1"] - expected.numpy()).max() < 1e-3


def test_codes_are_indexed_along_the_data(chain):
    codes = hv.encode(chain[1], torch.randn(6, 4), draws=2)
    assert repr(codes) == "Codes of 6 data: z1 (2,), z2 (3,); 2 draws"
    assert np.array_equal(codes[1:3].draws["z2"], codes.draws["z2"][1:3]) and len(codes[4]) == 1
    assert np.array_equal(codes[codes.means["z1"][:, 0] > 0].means["z1"], codes.means["z1"][codes.means["z1"][:, 0] > 0])
    assert np.array_equal(codes[[5, 0]].deviations["z1"], codes.deviations["z1"][[5, 0]])


def test_what_cannot_be_encoded_or_decoded(chain):
    model, guide, _ = chain
    x, z1 = torch.randn(3, 4), np.zeros((3, 2))
    for call, error, why in (
        (lambda: hv.encode(guide, x, layers=["z3"]), ConfigError, "no layer called 'z3'. Known: z1, z2"),
        (lambda: hv.encode(guide, x, layers=[]), ConfigError, r"layers=\[\] names no layer"),
        (lambda: hv.encode(guide, x, draws=-1), ConfigError, "draws=-1: the number of draws"),
        (lambda: hv.decode(model, {}), ConfigError, "no codes to decode"),
        (lambda: hv.decode(model, {"z1": 1.0}), ConfigError, "no codes to decode"),
        (lambda: hv.decode(model, {"x": z1}), ConfigError, "no layer called 'x'"),
        (lambda: hv.decode(model, {"z1": np.zeros((3, 5))}), ConfigError, r"'z1' have the shape \(3, 5\).* have \(2,\)"),
        (lambda: hv.decode(model, {"z1": z1, "z2": np.zeros((2, 3))}), ConfigError, "'z2' are of 2 data, .* of 3"),
        (lambda: hv.decode(model, {"z1": z1 * np.nan}), DataError, "'z1' are NaN, infinite or beyond .*for 3 of 3 data"),
        (lambda: hv.decode(model, {"z1": z1 + 1e300}), DataError, r"'z1' are .* beyond 3.403e\+38, .* for 3 of 3 data"),
        (lambda: hv.decode(model, {"z1": z1[:0]}), ConfigError, "no codes to decode"),
        (lambda: hv.decode(model, {"z1": np.array([["a", "b"]])}), DataError, "data are numbers"),
        (lambda: hv.Codes({}), ConfigError, "at least one layer"),
        (lambda: hv.Codes({"z1": z1}, {"z1": z1[:2]}), ConfigError, r"deviations\['z1'\] holds 2 data.* of 3"),
    ):
        with pytest.raises(error, match=why):
            call()


def test_a_guide_that_samples_x_or_nothing_has_no_codes():
    def samples_x(x):
        with pyro.plate("data", len(x), dim=-1):
            for name in ("z1", "x"):
                pyro.sample(name, dist.Normal(x, 1.0).to_event(1))

    with pytest.raises(ContractError, match="the guide samples z1, x, but x is the data.*Let the guide sample latents alone"):
        hv.encode(samples_x, torch.randn(3, 2))
    with pytest.raises(ContractError, match="the guide samples nothing, so there are no codes. Let it sample the latents"):
        hv.encode(lambda x: None, torch.randn(3, 2))


def test_a_single_datum_is_no_data(chain):
    """Its numbers, or the channels of an image, would be taken for data, all with one code."""
    model, guide, _ = chain
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    linear = torch.nn.Linear(4, 2)

    def own(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.Normal(linear(x), 1.0).to_event(1))

    pair = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, 4)), hv.BottomUp([hv.Gaussian(4, 2)])
    why = r"x has the shape \(4,\), which are 4 data of the shape \(\).*Give a single datum as a row: x\[None\]"
    for question in (
        lambda x: hv.encode(pair[1], x),
        lambda x: hv.encode(own, x),
        lambda x: hv.latents(pair[1], x),
        lambda x: hv.reconstruct(*pair, x),
        lambda x: hv.score(*pair, x),
    ):
        state = torch.random.get_rng_state()
        with pytest.raises(ConfigError, match=why):
            question(x[0])
        assert torch.equal(state, torch.random.get_rng_state())
        question(x[:1])
    image = torch.rand(3, 4, 4)
    with pytest.raises(ConfigError, match=r"which are 3 data of the shape \(4, 4\)"):
        hv.encode(hv.BottomUp([hv.Gaussian([(3, 4, 4)], 2)]), image)
    # Data of one number each, and three grey images without an axis of channels, are data.
    assert len(hv.encode(hv.BottomUp([hv.Gaussian([(4, 4)], 2)]), image)) == 3

    def of_scalars(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.Normal(x, 1.0))

    assert np.array_equal(hv.encode(of_scalars, x[0]).means["z1"], x[0])
    per_datum = torch.randn(4)

    def own_rows(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.Normal(per_datum, 1.0))

    assert hv.latents(own_rows, x[0], mean=True)["z1"].tolist() == per_datum.tolist()


def test_a_bar_is_shown_on_request(chain, capsys, monkeypatch):
    model, guide, _ = chain
    codes = hv.encode(guide, torch.randn(3, 4), progress=True)  # no terminal: tqdm shows nothing
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    codes = hv.encode(guide, torch.randn(3, 4), progress=True)
    hv.decode(model, codes, progress=True)
    err = capsys.readouterr().err
    assert "encoding: 100%" in err and "decoding: 100%" in err
    hv.decode(model, codes)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_arrays_go_to_the_programs_and_back():
    model = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian([(2,), (3,)], 4), given=["y"]).cuda()
    guide = hv.BottomUp([hv.Gaussian([(4,), (3,)], 2)], given=["y"]).cuda()
    x, y = np.random.default_rng(0).normal(size=(6, 4)), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    codes = hv.encode(guide, x, given={"y": y}, draws=2)
    assert np.array_equal(hv.decode(model, codes), hv.reconstruct(model, guide, x, given={"y": y}).cpu().numpy())
    assert np.isfinite(hv.score(model, guide, x, particles=5, given={"y": y}).values).all()
