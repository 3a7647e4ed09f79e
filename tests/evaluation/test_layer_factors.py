"""Which factor each layer carries, on a model that draws lines: z1 is the ink, z2 the slant, z3 the class."""

import json
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from torch import nn

from pyro_hvae import ELBO, layer_shares
from pyro_hvae.data import Dataset, Rows, Split
from pyro_hvae.data.rows import bernoulli
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation import METRICS
from pyro_hvae.evaluation.layer_factors import _class_consistency, _correlations, _pixels, _variance_shares
from pyro_hvae.metrics.stroke_measures import slant
from pyro_hvae.recipes import Stage
from pyro_hvae.reports import measure_metric, metrics_text
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.run_loading import OpenRun
from pyro_hvae.runtime.random_state import fixed_seed

pytestmark = pytest.mark.usefixtures("float64")

HEIGHT, WIDTH = 12, 24
FAST = {"points": 600, "train": 200, "outer": 40, "inner": 20}


def draw(z1, z2, z3):
    """A line of tone 0.5 + 0.1 z1 and shear 0.15 z2, left or right of the middle by the sign of z3; z of shape (n, 1)."""
    up = (HEIGHT - 1) / 2 - torch.arange(HEIGHT)[:, None]
    middle = (7 + 9 * (z3 > 0))[..., None] + 0.15 * z2[..., None] * up
    return ((0.5 + 0.1 * z1[..., None]) * (1 - (torch.arange(WIDTH) - middle).abs()).clamp_min(0))[..., None, :, :]


class Drawing(nn.Module):
    """The flat generative model; `sites` are what it draws, from the top down."""

    def __init__(self, sites=("z3", "z2", "z1")):
        super().__init__()
        self.sites, self.unused = sites, nn.Parameter(torch.zeros(1))

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = {site: pyro.sample(site, dist.Normal(torch.zeros(1), 1.0).to_event(1)) for site in self.sites}
            fixed = {site: torch.zeros(1) for site in ("z1", "z2", "z3")}
            return pyro.sample("x", dist.Normal(draw(**(fixed | z)), 0.1).to_event(3), obs=x)


class Reading(nn.Module):
    """The exact inverse of `draw`."""

    def __init__(self, sites=("z3", "z2", "z1")):
        super().__init__()
        self.sites = sites

    def forward(self, x, size=1):
        right = x[..., WIDTH // 2 :].sum((1, 2, 3)) > x[..., : WIDTH // 2].sum((1, 2, 3))
        means = {
            "z1": (x.sum((1, 2, 3)) / HEIGHT - 0.5) / 0.1,
            "z2": slant(x) / (1 - 1 / HEIGHT**2) / 0.15,
            "z3": 2.0 * right - 1,
        }
        with pyro.plate("data", len(x), dim=-1):
            for site in self.sites:
                pyro.sample(site, dist.Normal(means[site][:, None], 0.01).to_event(1))


def drawings(n, seed, **factors):
    z = torch.randn(3, n, 1, generator=torch.Generator().manual_seed(seed))
    return Split(draw(*z), factors or {"class": (z[2, :, 0] > 0).long()})


def opened(path, model=None, guide=None, dataset=None):
    """A run that nothing has trained."""
    dataset = dataset or Dataset("lines", drawings(800, 1), drawings(10, 2), drawings(700, 3))
    run = object.__new__(OpenRun)
    objective = ELBO()(model or Drawing(), guide or Reading())
    known = {
        "directory": RunDirectory(path),
        "experiment": Experiment(None, dataset.name, "constant"),
        "stages": [Stage("run", objective)],
        "step": 0,
    }
    for name, value in known.items():
        object.__setattr__(run, name, value)
    run.__dict__["dataset"] = dataset
    (path / "eval").mkdir(exist_ok=True)
    return run


def factors(run, **options):
    return METRICS["layer-factors"].measure(run, **(FAST | options))


def test_each_layer_carries_the_factor_that_it_draws(tmp_path):
    run = opened(tmp_path)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    found = factors(run)
    assert torch.equal(before[0], torch.get_rng_state()) and np.array_equal(before[1], np.random.get_state()[1])
    assert (found["n_train"], found["n_test"]) == (600, 600)
    for key, least in (("correlation", 0.9999), ("correlation_nonlinear", 0.99)):
        table = found[key]
        assert list(table) == ["z1", "z2", "z3"]
        assert table["z1"]["ink"] > least and table["z2"]["slant"] > least
        others = [("z1", "slant"), ("z2", "ink"), ("z3", "ink"), ("z3", "slant")]
        assert all(table[site][name] < 0.2 for site, name in others)
    assert found["class_accuracy"]["z3"] == 1 and found["class_accuracy"]["chance"] == 0.5
    assert all(0.42 < found["class_accuracy"][site] < 0.58 for site in ("z1", "z2"))
    assert found["classifier"] == {"accuracy": 1, "reconstructions": 1}


def test_only_the_top_layer_changes_the_class(tmp_path):
    found = factors(opened(tmp_path))
    groups = found["consistency"]
    assert list(groups) == ["z1", "z2", "z3", "all"]
    assert groups["z1"] == groups["z2"] == {"same_class": 1, "stderr": 0}
    for name in ("z3", "all"):  # a half, as of two coins
        assert 0 < groups[name]["stderr"] < 0.02
        assert abs(groups[name]["same_class"] - 0.5) < 4 * groups[name]["stderr"]
    assert found["consistency_gap"] == 1 - groups["z3"]["same_class"]
    assert found["consistency_gap_stderr"] == groups["z3"]["stderr"]
    assert METRICS["layer-factors"].headline == "consistency_gap"


def test_shares_of_the_measures_are_those_of_the_factors(tmp_path):
    run = opened(tmp_path)
    found = factors(run)
    exact = {"z1": {"ink": 1, "slant": 0, "width": 0, "thickness": 0}, "z2": {"ink": 0, "slant": 1}}
    exact |= {"z3": {"ink": 0, "slant": 0, "width": 0, "thickness": 0}}
    for site, row in exact.items():
        for name, value in row.items():
            share, error = found["varied"][site][name], found["varied_stderr"][site][name]
            if value:
                assert abs(share - 1) <= 4 * error and error < 0.2
            else:
                assert share == pytest.approx(0, abs=1e-12)
    with fixed_seed(0):
        pixels = layer_shares(run.model, 40, 20)
    assert found["share"] == {s: {"of_pixels": pixels[s].share, "stderr": pixels[s].stderr} for s in ("z1", "z2", "z3")}
    assert factors(run) == found and factors(run, seed=1)["varied"] != found["varied"]


def test_what_is_binarised_anew_is_read_once(tmp_path):
    """The code is exact of the very image that was encoded, and only of that."""

    def split(n, seed):
        x, labels = drawings(n, seed).x[:], drawings(n, seed).factors
        return Split(Rows((255 * x).to(torch.uint8), lambda raw: bernoulli(raw).double()), labels)

    found = factors(opened(tmp_path, dataset=Dataset("noisy", split(400, 1), split(10, 2), split(400, 3))))
    assert found["correlation"]["z1"]["ink"] > 0.9999 and found["correlation"]["z2"]["slant"] > 0.9999


def test_without_classes_the_strokes_remain(tmp_path):
    whole = factors(opened(tmp_path))
    for name, values in {
        "angle": torch.rand,
        "class": torch.rand,
        "class ": lambda n: torch.zeros(n, dtype=torch.long),
    }.items():
        splits = [drawings(n, seed, **{name.strip(): values(n)}) for n, seed in ((800, 1), (10, 2), (700, 3))]
        data = Dataset("lines", *splits)
        found = factors(opened(tmp_path, dataset=data))
        assert found["consistency_gap"] is None
        assert set(whole) - set(found) == {"consistency_gap_stderr", "classifier", "class_accuracy", "consistency"}
        assert found["correlation"] == whole["correlation"] and found["share"] == whole["share"]


def test_classes_of_the_training_data_alone_are_judged_on_held_out_ones(tmp_path):
    bare = [Split(split.x) for split in (drawings(10, 2), drawings(700, 3))]
    found = factors(opened(tmp_path, dataset=Dataset("lines", drawings(800, 1), *bare)))
    assert found["tested_on"].startswith("training data held out from the probe")
    assert (found["n_train"], found["n_test"]) == (600, 160)  # of 640 and 160
    assert found["class_accuracy"]["z3"] > 0.9 > found["class_accuracy"]["z1"]
    named = Split(drawings(800, 1).x, {"digit": drawings(800, 1).factors["class"].double()})
    renamed = factors(opened(tmp_path, dataset=Dataset("lines", named, *bare)), factor="digit")
    assert renamed["class_accuracy"] == found["class_accuracy"]
    with pytest.raises(ConfigError, match="no classes called 'digits'"):
        factors(opened(tmp_path), factor="digits")


def test_one_layer_has_no_gap_and_what_does_not_vary_no_share(tmp_path):
    found = factors(opened(tmp_path, Drawing(("z1",)), Reading(("z1",))))
    assert found["consistency_gap"] == 0 == found["consistency_gap_stderr"]
    assert found["varied"]["z1"]["slant"] is None and found["varied_stderr"]["z1"]["slant"] is None
    assert abs(found["varied"]["z1"]["ink"] - 1) <= 4 * found["varied_stderr"]["z1"]["ink"]
    still = factors(opened(tmp_path, Drawing(("z3",)), Reading(("z3",))))
    assert still["varied"]["z3"]["ink"] is None and abs(still["share"]["z3"]["of_pixels"] - 1) < 0.1

    class Blank(Drawing):
        def forward(self, x=None, size=1):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                pyro.sample("z1", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(torch.zeros(1, HEIGHT, WIDTH), 0.1).to_event(3), obs=x)

    blank = factors(opened(tmp_path, Blank(), Reading(("z1",))))
    assert blank["share"]["z1"] == {"of_pixels": None, "stderr": None} and set(blank["varied"]["z1"].values()) == {None}


def test_means_outside_the_tones_are_clamped(tmp_path):
    class Loud(Drawing):
        def forward(self, x=None, size=1):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                z1 = pyro.sample("z1", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                mean = (z1 > 0)[..., None, None] * torch.ones(1, HEIGHT, WIDTH)
                return pyro.sample("x", dist.Normal(9 * mean - 3, 0.1).to_event(3), obs=x)

    assert _pixels(torch.tensor([[[[-3.0, 0.25, 6.0]]]])).tolist() == [[0, 0.25, 1]]
    found = factors(opened(tmp_path, Loud(), Reading(("z1",))))
    assert abs(found["varied"]["z1"]["ink"] - 1) <= 4 * found["varied_stderr"]["z1"]["ink"]


def test_consistency_by_hand():
    found = _class_consistency(np.array([[0, 0, 1], [7, 7, 7]]))  # one pair in three, all three
    assert found == pytest.approx({"same_class": 2 / 3, "stderr": 1 / 3})


def test_shares_of_a_measure():
    """A measure of the top layer's noise alone, of both layers' sum, of nothing, and one that no draws estimate."""
    rng = np.random.default_rng(0)
    z2, z1 = rng.normal(size=(2, 1, 4000)), rng.normal(size=(1, 2, 4000))
    assert _variance_shares((z2 + 0 * z1).ravel(), ["z2", "z1"]) == {"z2": (1, 0), "z1": (0, 0)}
    found = _variance_shares((z2 + 2 * z1).ravel(), ["z2", "z1"])
    for site, exact in (("z2", 0.2), ("z1", 0.8)):
        share, error = found[site]
        assert abs(share - exact) < 4 * error and error < 0.02
    nothing = {"z2": (None, None), "z1": (None, None)}
    assert _variance_shares(np.ones(16), ["z2", "z1"]) == nothing
    assert _variance_shares(np.exp(9 * z2 + 9 * z1).ravel(), ["z2", "z1"]) == nothing


def test_correlations_by_hand():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(8000, 2))
    y = {"half": z[:, 0] + math.sqrt(3) * rng.normal(size=8000), "bent": z[:, 1] ** 2, "none": np.ones(8000)}
    seen, fresh = ({name: values[part] for name, values in y.items()} for part in (slice(0, 4000), slice(4000, None)))
    linear = _correlations(LinearRegression(), z[:4000], z[4000:], seen, fresh)
    nearest = _correlations(KNeighborsRegressor(10), z[:4000], z[4000:], seen, fresh)
    assert linear["half"] == pytest.approx(0.5, abs=0.03) and linear["bent"] < 0.1
    assert nearest["bent"] > 0.97 and nearest["half"] < linear["half"]
    assert linear["none"] is None and nearest["none"] is None


def test_what_has_no_strokes_is_refused(tmp_path):
    for shape in ((5,), (3, 8, 8), (8, 8)):
        split = Split(torch.rand(9, *shape))
        with pytest.raises(ConfigError, match=r"images of one channel, such as 'mnist' has; 'mine' has data of shape \("):
            factors(opened(tmp_path, dataset=Dataset("mine", split, split, split)))
    with pytest.raises(ConfigError, match="at least two draws"):
        factors(opened(tmp_path), inner=1)
    with pytest.raises(ConfigError, match="1 data are too few"):
        factors(opened(tmp_path), points=1)
    labels = torch.zeros(800, dtype=torch.long)
    labels[0] = 5
    rare = Dataset("lines", drawings(800, 1, **{"class": labels}), drawings(10, 2), drawings(700, 3))
    with pytest.raises(ConfigError, match="train=2: the classifier's images are all of class 0. Example: -o train=5000."):
        factors(opened(tmp_path, dataset=rare), train=2)


def test_the_text_has_a_table_for_each_question(tmp_path):
    run = opened(tmp_path)
    values = measure_metric(run, "layer-factors", **FAST)
    assert RunDirectory(tmp_path).read_json("eval/layer-factors.json") == values
    lines = metrics_text(values).splitlines()
    assert lines[0].startswith("layer-factors: 0.") and lines[0].endswith("(same class: bottom layer minus top)")
    assert "z1           1           0" in [line[:26].rstrip() for line in lines]
    starts = [line.split() for line in lines if line and not line.startswith(" ")]
    strokes = ["ink", "slant", "width", "thickness"]
    for key in ("correlation", "correlation_nonlinear", "varied", "varied_stderr"):
        assert [key, *strokes] in starts
    assert ["consistency", "same_class", "stderr"] in starts and ["share", "of_pixels", "stderr"] in starts
    assert max(map(len, lines)) <= 100


def test_it_runs_on_a_trained_chain_from_the_command_line(command):
    torch.set_default_dtype(torch.float32)
    small = "-o dims=3,2 -o hidden=8 -o upper=8 --steps 10 -o starts=1 --out run --json".split()
    assert command("train", "hvae", "--dataset", "digits", *small)[0] == 0
    flags = "-o points=200 -o train=200 -o outer=5 -o inner=4 --json".split()
    code, out, err = command("metrics", "run", "layer-factors", *flags)
    assert code == 0, err
    values = json.loads(out)
    assert list(values["consistency"]) == ["z1", "z2", "all"] and values["classifier"]["accuracy"] > 0.9
    assert values == json.loads(command("metrics", "run", "layer-factors", *flags)[1])
