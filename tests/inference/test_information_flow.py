"""Information flow: closed forms on linear-Gaussian guides, a training that does not notice it, and what its picture shows."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed
from matplotlib.collections import PolyCollection
from torch import nn

import pyro_hvae as hv
from pyro_hvae.conditionals import Bernoulli, Gaussian, StandardNormal
from pyro_hvae.data import Rows
from pyro_hvae.data.rows import Drawn, bernoulli
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.guides import BottomUp, Heads
from pyro_hvae.inference.information_flow import InformationFlow
from pyro_hvae.metrics import Posteriors, layer_information
from pyro_hvae.models import Chain
from pyro_hvae.plots.figure_base import save_figure
from pyro_hvae.plots.information_flow_figures import has_information, plot_information_flow
from pyro_hvae.reports.run_pictures import draw_standard_pictures
from pyro_hvae.runs.run_loading import open_run
from pyro_hvae.runs.trackers import Tracker
from pyro_hvae.runtime.random_state import rng_state


def heads(**layers):
    """Independent layers z_l ~ N(weight x, std^2) over x of one dimension, from the bottom up."""
    return Heads(
        {site: Fixed([torch.tensor([[float(weight)]])], torch.tensor([std])) for site, (weight, std) in layers.items()}
    )


def line(n):
    return torch.arange(float(n))[:, None]


def capacity(variance):
    return 0.5 * math.log1p(1 / variance)


def test_values_are_those_of_layer_information_for_the_data_chosen(float64):
    flow = InformationFlow(torch.randn(300, 1), points=200, samples=150, seed=3)
    row, x = flow.row(heads(z1=(2, 0.3), z2=(-1, 0.8))), flow.x[:]
    layers = {"z2": Posteriors(-x, torch.full_like(x, 0.8)), "z1": Posteriors(2 * x, torch.full_like(x, 0.3))}
    expected = layer_information(layers, samples=150, seed=3)
    assert row == {
        "information.z2": pytest.approx(expected.layers["z2"].value, abs=1e-12),
        "information.z1": pytest.approx(expected.layers["z1"].value, abs=1e-12),
        "information.total": pytest.approx(expected.total.value, abs=1e-12),
        "information.over": pytest.approx(expected.over.value, abs=1e-12),
        "information.limit": math.log(200),
        **{f"information_bias.{name}": pytest.approx(layer.bias, abs=1e-12) for name, layer in expected.layers.items()},
        "information_bias.total": pytest.approx(expected.total.bias, abs=1e-12),
        "information_bias.over": pytest.approx(expected.over.bias, abs=1e-12),
    }
    assert row["information_bias.total"] > row["information_bias.z1"] > row["information_bias.z2"] > 0


def test_gaussian_channels(float64):
    """x ~ N(0, 1) through two channels at once is one of the sum of their precisions."""
    row = InformationFlow(torch.randn(20_000, 1), samples=4000).row(heads(z1=(1, 0.5), z2=(1, 1.0)))
    assert row["information.z1"] == pytest.approx(capacity(0.25), abs=0.05)
    assert row["information.z2"] == pytest.approx(capacity(1.0), abs=0.05)
    assert row["information.total"] == pytest.approx(capacity(1 / (1 / 0.25 + 1)), abs=0.05)
    assert row["information.over"] == pytest.approx(capacity(0.25) + capacity(1.0) - capacity(0.2), abs=0.05)


def test_separated_copied_and_ignorant_layers():
    row = InformationFlow(line(500), points=400).row(heads(z1=(100, 1.0), z2=(100, 1.0), z3=(0, 0.7)))
    assert row["information.z1"] == row["information.total"] == pytest.approx(math.log(400), abs=1e-9)
    assert "information.over" not in row  # 400 data say nothing about what they know above log 400
    assert row["information_bias.total"] == pytest.approx(math.log(6), abs=1e-9)
    assert row["information.z3"] == pytest.approx(0, abs=1e-9)
    assert row["information.limit"] == math.log(400)


def test_a_chain_has_a_total_only_where_its_layers_are_independent_given_x():
    def row(weight):
        levels = [Fixed([torch.tensor([[float(w)]])], torch.tensor([1.0])) for w in (1, weight)]
        return InformationFlow(torch.randn(100, 1), draws=8).row(BottomUp(levels))

    dependent, ignorant = row(1), row(0)
    biases = {"information_bias.z1", "information_bias.z2"}
    assert set(dependent) == {"information.z1", "information.z2", "information.limit", *biases}
    assert 0.05 < dependent["information.z2"] < dependent["information.z1"]
    assert ignorant["information.z2"] == pytest.approx(0, abs=1e-9)
    assert ignorant["information.total"] == pytest.approx(ignorant["information.z1"], abs=1e-9)


def test_the_selection_is_random_fixed_and_read_once():
    read = []

    def draw(index):
        read.append(len(index))
        return index[:, None].astype(np.float32)

    flow = InformationFlow(Rows(Drawn(draw, (1000, 1)), ahead=True), points=100, seed=1)
    x = flow.x[:][:, 0]
    assert len(flow.x) == 100 and len(x.unique()) == 100 and not torch.equal(x.sort().values, x)
    flow.row(heads(z1=(1, 1.0)))
    assert read == [100] and torch.equal(flow.x[:][:, 0], x)
    assert not torch.equal(InformationFlow(line(1000), points=100, seed=2).x[:][:, 0], x)
    some = Rows(line(1000)).take(torch.arange(500, 1000)).map(lambda t: t + 0.5)
    assert sorted(InformationFlow(some).x[:][:, 0].tolist()) == [500.5 + i for i in range(500)]


class Normed(nn.Module):
    """A trunk with batch statistics, noise, and a part that is frozen in evaluation mode."""

    def __init__(self, inputs):
        super().__init__()
        self.norm, self.noise, self.frozen = nn.BatchNorm1d(inputs), nn.Dropout(0.5), nn.BatchNorm1d(inputs).eval()

    def forward(self, x):
        return self.frozen(self.noise(self.norm(x.flatten(1))))


def normed_guide(inputs=6):
    return Heads({"z1": Gaussian(inputs, 2), "z2": Gaussian(inputs, 2)}, trunk=Normed(inputs))


def test_modes_statistics_and_random_streams_stay_as_they_were():
    guide, x = normed_guide(), torch.randint(0, 256, (300, 6), dtype=torch.uint8)
    guide(Rows(x)[:])  # statistics that are not those of a new module
    modes = {name: module.training for name, module in guide.named_modules()}
    assert set(modes.values()) == {True, False}
    state, streams = {k: v.clone() for k, v in guide.state_dict().items()}, repr(rng_state())
    torch_stream = torch.get_rng_state()
    flow = InformationFlow(Rows(x, bernoulli), points=200)
    first = flow.row(guide)
    assert repr(rng_state()) == streams and torch.equal(torch.get_rng_state(), torch_stream)
    torch.manual_seed(77)
    assert flow.row(guide) == InformationFlow(Rows(x, bernoulli), points=200).row(guide) == first  # whatever the stream
    assert {name: module.training for name, module in guide.named_modules()} == modes
    for name, value in guide.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert flow.row(guide.eval()) == first and not any(module.training for module in guide.modules())


def test_training_does_not_notice():
    x = Rows(torch.randint(0, 256, (200, 6), dtype=torch.uint8), bernoulli)

    class Watching(Tracker):
        def __init__(self, flow, guide):
            self.flow, self.guide, self.rows = flow, guide, []

        def start(self, steps, done): ...

        def step(self, row):
            self.rows.append(self.flow.row(self.guide))

        def close(self): ...

    def trained(watched):
        torch.manual_seed(5)
        guide = normed_guide()
        model = Chain(StandardNormal(2), [Gaussian(2, 2)], Bernoulli(2, (6,)))
        watching = [Watching(InformationFlow(x, points=100), guide)] if watched else []
        config = hv.TrainConfig(steps=12, batch_size=20, log_every=1)
        rows = hv.fit(hv.ELBO()(model, guide), x, config, trackers=watching)
        values = [row["information.total"] for w in watching for row in w.rows]
        return rows, {**guide.state_dict(), **model.state_dict()}, values

    (rows, state, _), (rows_watched, state_watched, values) = trained(False), trained(True)
    assert rows == rows_watched and len(set(values)) == 12
    for name, value in state.items():
        assert torch.equal(value, state_watched[name]), name


class Pointed(nn.Module):
    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z1", dist.Delta(x, event_dim=1))


def test_what_cannot_be_measured_is_refused():
    guide = Pointed()
    with pytest.raises(ConfigError, match=r"q\(z1 \| \.\.\.\) of this guide is a Delta"):
        InformationFlow(torch.randn(30, 2)).row(guide)
    assert guide.training
    for x, points in ((line(5), 1), (line(1), 5000), (line(5), -3)):
        with pytest.raises(ConfigError, match=f"at least two data, got {points} points of {len(x)} data"):
            InformationFlow(x, points=points)
    with pytest.raises(ConfigError, match="two or more samples, got 1"):
        InformationFlow(line(5), samples=1).row(heads(z1=(1, 1.0)))


def progressive_rows():
    """Three layers that enter after steps 0, 100 and 200, measured every 50 steps, logged every 10."""
    rows = [{"step": 0, "stage": 0, **information(z3=0.1, z2=0.0, z1=0.0)}]
    for step in range(10, 301, 10):
        row = {"step": step, "stage": 0, "layers": 1 + min(2, (step - 10) // 100), "alpha": 1.0}
        rows.append(row | (information(z3=3.0, z2=2.0, z1=0.5) if step % 50 == 0 else {}))
    return rows


def information(**layers):
    over = 0.25
    values = {f"information.{site}": value for site, value in layers.items()}
    return values | {
        "information.total": sum(layers.values()) - over,
        "information.over": over,
        "information.limit": math.log(500),
    }


def marked(axis):
    """The labels above an axis and the vertical lines in it."""
    above = axis.child_axes[0]
    labels = [label.get_text() for label in above.get_xticklabels()]
    return dict(zip(above.get_xticks(), labels, strict=True)), vertical(axis)


def vertical(axis):
    return [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]


def curves(axis):
    return {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}


def stacks(axis):
    """(first step, last step, highest value) of every area."""
    paths = [c.get_paths()[0].vertices for c in axis.collections if isinstance(c, PolyCollection)]
    return [(v[:, 0].min(), v[:, 0].max(), v[:, 1].max()) for v in paths]


def test_picture_of_progressive_learning(tmp_path):
    rows = progressive_rows()
    assert has_information(rows) and not has_information([{"step": 1, "stage": 0, "layers": 1}]) and not has_information([])
    figure = plot_information_flow(rows, "Information flow of something")
    path = save_figure(figure, tmp_path / "flow.png")
    assert path.read_bytes().startswith(b"\x89PNG") and figure.get_suptitle() == "Information flow of something"
    upper, lower = figure.axes
    assert marked(upper) == ({100: "z2 enters", 200: "z1 enters"}, [100, 200]) and vertical(lower) == [100, 200]
    lines = curves(upper)
    assert [name.split(",")[0] for name in lines] == [
        "I(x; z3)", "I(x; z2)", "I(x; z1)", "I(x; z)", r"$I_\mathrm{over}$", "log N = 6.21"
    ]  # fmt: skip
    assert [text.get_text() for text in upper.get_legend().get_texts()] == list(lines)
    assert list(lines["I(x; z2)"].get_xdata()) == [0, 50, 100, 150, 200, 250, 300]
    assert list(lines["I(x; z2)"].get_ydata()) == [0.0] + 6 * [2.0]
    assert lines["I(x; z), the total"].get_color() == "black" and lines["I(x; z), the total"].get_ydata()[-1] == 5.25
    assert lines[r"$I_\mathrm{over}$"].get_linestyle() == "--" and lines[r"$I_\mathrm{over}$"].get_ydata()[-1] == 0.25
    (limit,) = [line for name, line in lines.items() if name.startswith("log N")]
    assert set(limit.get_ydata()) == {math.log(500)} and limit.get_linestyle() == ":"
    assert len({line.get_color() for name, line in lines.items() if name.startswith("I(x; z")}) == 4
    assert stacks(lower) == [(0, 300, 3.0), (0, 300, 5.0), (0, 300, 5.5)]  # z3 lowest
    assert list(curves(lower)) == ["I(x; z), the total"]
    assert upper.get_ylabel() == lower.get_ylabel() == "nats" and lower.get_xlabel() == "step"
    assert upper.get_ylim()[0] <= 0 and "upper bound" not in upper.get_title()


def test_picture_of_stages_without_a_total():
    rows = [{"step": 10 * i, "stage": int(i > 5), "information.z2": 2.0, "information.limit": 6.0} for i in range(11)]
    for row in rows[6:]:
        row["information.z1"] = 1.0
    upper, lower = plot_information_flow(rows, "").axes
    assert marked(upper) == ({50: "stage 2"}, [50])
    lines = curves(upper)
    assert list(lines) == ["I(x; z2)", "I(x; z1)", "log N = 6.00, the most\nthat N data can show"]
    assert list(lines["I(x; z1)"].get_xdata()) == [60, 70, 80, 90, 100]
    assert stacks(lower) == [(0, 50, 2.0), (0, 50, 2.0), (60, 100, 2.0), (60, 100, 3.0)]
    assert [text.get_text() for text in lower.get_legend().get_texts()] == ["I(x; z2)", "I(x; z1)"]
    assert "over" not in lower.get_title() and "upper bound" in upper.get_title()


def test_picture_of_a_total_near_its_limit():
    """The shade above a line is its bias; what rises above the total is I_over only where there is one."""
    rows = [{"step": i, "stage": 0, **information(z2=4.0, z1=2.0)} for i in range(3)]
    for row in rows:
        row |= {"information_bias.z2": 0.1, "information_bias.z1": 0.0, "information_bias.total": 0.75}
    del rows[2]["information.over"]
    upper, lower = plot_information_flow(rows, "").axes
    assert sorted(path.get_paths()[0].get_extents().y1 for path in upper.collections) == [2.0, 4.1, 6.5]
    assert list(curves(upper)[r"$I_\mathrm{over}$"].get_xdata()) == [0, 1]
    assert "bias where the total is near log N" in lower.get_title()


def test_rows_that_skip_an_entrance_or_start_again():
    """Logged so rarely that two layers enter between rows; what a later stage starts with did not enter there."""
    values = information(z3=1.0, z2=1.0, z10=1.0)
    layers = [(0, 1), (0, 3), (1, 1), (1, 2), (2, 3)]
    rows = [{"step": i, "stage": stage, "layers": float(k), **values} for i, (stage, k) in enumerate(layers)]
    upper = plot_information_flow(rows, "").axes[0]
    assert marked(upper)[0] == {0: "z3, z2 enter", 1: "stage 2", 2: "z3 enters", 3: "stage 3"}


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(DataError, match="no information flow"):
        plot_information_flow([{"step": 1, "stage": 0}], "")


def test_the_standard_pictures_of_a_run_include_it(command, tmp_path):
    tiny = "--dataset digits -o hidden=8 -o upper=8 -o dims=2,2 --steps 20 -o log_every=10".split()
    code, _, err = command("train", "hvae", *tiny, "--out", tmp_path / "run")
    assert code == 0, err
    run, picture = open_run(tmp_path / "run"), tmp_path / "run/figures/information_flow.png"
    assert picture.with_name("training.png").is_file() and not picture.is_file()
    for row in progressive_rows():
        run.directory.append_row(run.directory.rows()[-1] | row)
    assert picture in draw_standard_pictures(run)[0] and picture.is_file()
