"""Metrics of conditional pairs and of incomplete data, whose values are known in closed form."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_hvae import ELBO
from pyro_hvae.data import Condition, Dataset, FactorGrid, Rows, Split, give_conditions, x_of
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation import METRICS
from pyro_hvae.evaluation.gibbs_evaluation import STARTING_POINTS, sample_by_gibbs
from pyro_hvae.evaluation.likelihood import published_likelihood
from pyro_hvae.evaluation.pendulum_angle import published_angle
from pyro_hvae.recipes import Stage
from pyro_hvae.reports import layer_report
from pyro_hvae.runs import OpenRun, RunDirectory, resolve
from pyro_hvae.runs.experiment import Experiment

pytestmark = pytest.mark.usefixtures("float64")
KIND = Condition("kind", ("a", "b", "c"))
N, D, STD = 400, 4, 0.5


class Model(nn.Module):
    """z ~ N(0, I) in two dimensions, x | z, kind ~ N(W z + V kind, STD^2)."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.randn(D, 2, generator=generator, dtype=torch.float64))
        self.v = nn.Parameter(3 * torch.randn(D, 3, generator=generator, dtype=torch.float64))

    def forward(self, x=None, size=1, *, kind):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z1", dist.Normal(torch.zeros(2), torch.ones(())).to_event(1))
            mean = z @ self.w.T + kind.double() @ self.v.T
            return pyro.sample("x", dist.Normal(mean, STD).to_event(1), obs=x)


class Guide(nn.Module):
    """The exact posterior of z given the observed entries."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, size=1, observed=None, *, kind):
        w, v = self.model.w, self.model.v
        known = torch.ones_like(x) if observed is None else observed.double()
        precision = torch.eye(2) + torch.einsum("bd,di,dj->bij", known, w, w) / STD**2
        residual = known * (x - kind.double() @ v.T)
        mean = torch.linalg.solve(precision, residual @ w / STD**2)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.MultivariateNormal(mean, precision_matrix=precision))


class Run(OpenRun):
    """A run of a pair on data, that nothing has trained."""

    def __init__(self, path, dataset, model, guide, conditions=(KIND,)):
        values = {
            "directory": RunDirectory(path),
            "experiment": Experiment(None, dataset.name, "constant", conditions=[c.to_dict() for c in conditions]),
            "stages": [Stage("run", ELBO(analytic_kl=False)(model, guide))],  # the bound of the exact posterior has no noise
            "step": 0,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self.__dict__["dataset"] = dataset
        (path / "eval").mkdir(exist_ok=True)


def make_run(path, missing=0.0):
    generator = torch.Generator().manual_seed(1)
    kind = torch.randint(3, (N,), generator=generator)
    x = 2 * torch.randn(N, D, generator=generator, dtype=torch.float64)
    x[torch.rand(N, D, generator=generator) < missing] = torch.nan
    split = Split(Rows(x, incomplete=missing > 0), {"kind": kind})
    data = Dataset("toy", split, split, split, labels={"kind": KIND.classes})
    model = Model()
    return Run(path, give_conditions(data, [KIND]), model, Guide(model))


def exact_log_likelihoods(run):
    """log p(x_observed | kind) of every datum, a marginal Gaussian."""
    x, kind = run.dataset.test.x.alone[:], run.dataset.test.factors["kind"]
    means, covariance = run.model.v[:, kind].T, run.model.w @ run.model.w.T + STD**2 * torch.eye(D)
    values = []
    for row, mean in zip(x, means, strict=True):
        known = ~row.isnan()
        if not known.any():
            values.append(torch.zeros(()))
            continue
        marginal = dist.MultivariateNormal(mean[known], covariance[known][:, known])
        values.append(marginal.log_prob(row[known]))
    return torch.stack(values).detach()


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_likelihood_is_that_of_observed_entries_given_the_condition(tmp_path, missing):
    run = make_run(tmp_path, missing)
    exact = exact_log_likelihoods(run)
    values = METRICS["likelihood"].measure(run, particles=7)  # under the exact posterior all weights are equal
    assert values["log_likelihood"] == pytest.approx(exact.mean().item(), abs=1e-10)
    assert values["stderr"] == pytest.approx(exact.std().item() / math.sqrt(N), abs=1e-10)
    assert values["elbo"] == pytest.approx(exact.mean().item(), abs=1e-10)
    some = METRICS["likelihood"].measure(run, particles=7, limit=50)
    assert some["corrected"] and some["log_likelihood"] == pytest.approx(exact.mean().item(), abs=1e-10)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_error_is_of_observed_entries(tmp_path, missing):
    run = make_run(tmp_path, missing)
    x, kind = run.dataset.test.x.alone[:], run.dataset.test.factors["kind"]
    w, shift = run.model.w.detach(), run.model.v.detach()[:, kind].T
    squares = []
    for row, mean in zip(x, shift, strict=True):
        known = ~row.isnan()
        some = w[known]
        z = torch.linalg.solve(torch.eye(2) + some.T @ some / STD**2, some.T @ (row - mean)[known] / STD**2)
        squares += ((mean + w @ z - row)[known]).square().tolist()
    values = METRICS["reconstruction"].measure(run)
    assert values["mse"] == pytest.approx(sum(squares) / len(squares), abs=1e-10)


def test_a_layer_that_reads_the_condition_can_know_more_of_the_pair_than_the_first_layer(tmp_path):
    class Chain(nn.Module):
        """z1 knows next to nothing, z2 | z1, kind the kind."""

        def forward(self, x, size=1, *, kind):
            with pyro.plate("data", len(x), dim=-1):
                z1 = pyro.sample("z1", dist.Normal(0.01 * x[:, :2], torch.ones(())).to_event(1))
                pyro.sample("z2", dist.Normal(0.01 * z1 + 20 * kind[:, :2].double(), torch.ones(())).to_event(1))

    run = make_run(tmp_path)
    pair = Run(tmp_path, run.dataset, run.model, Chain())
    values = METRICS["mutual-information"].measure(pair, points=N, samples=N)
    entropy = -sum(p * math.log(p) for p in (run.dataset.train.factors["kind"].bincount() / N).tolist())
    assert values["z1"] < 0.05 and values["z2"] == pytest.approx(entropy, abs=0.05)
    assert values["total"] is None and values["over"] is None


def test_ancestral_samples_of_a_gibbs_report_have_the_conditions_of_the_data(tmp_path):
    run = make_run(tmp_path)
    report = sample_by_gibbs(run, steps=6, chains=40, burn_in=1, samples=200, compile=False)
    shift = run.model.v.detach().T
    nearest = torch.cdist(report.ancestral.double(), shift).argmin(1).bincount(minlength=3)
    assert (nearest > 30).all()  # of 200, a third each; samples without a condition would not run
    for init, start in STARTING_POINTS.items():
        assert start(run, 9).given["kind"].shape == (9, 3), init


def test_gibbs_distances_of_incomplete_data_are_to_those_without_missing_entries(tmp_path):
    run = make_run(tmp_path, 0.2)
    whole = run.dataset.test.x.alone[:]
    whole = whole[~whole.isnan().any(1)]
    assert torch.equal(x_of(run.dataset.test.x.complete()[:]), whole) and 4 < len(whole) < len(run.dataset.test)
    report = sample_by_gibbs(run, steps=3, chains=20, burn_in=1)
    assert report.values["data"] == f"toy, {len(whole)} test data without missing entries"
    assert report.values["samples"] == len(whole) // 2 and report.chains.x.isfinite().all()
    with pytest.raises(
        ConfigError, match=r"of the \d+ test data of 'toy' have missing entries. In Python, hv.gibbs runs chains"
    ):
        sample_by_gibbs(make_run(tmp_path, 0.99))


def test_paths_are_between_codes_of_data_with_a_condition(tmp_path):
    """Decoded lines of a linear model are straight: resampled points have second differences only at the bends."""
    values = METRICS["smoothness"].measure(make_run(tmp_path, 0.3), graphs=2, paths=20, nodes=300)
    assert values["measured"] > 20 and 0 < values["resampled"] < values["raw"]


def test_a_factor_that_is_given_is_no_factor_of_the_code(tmp_path):
    sizes = {"kind": 3, "b": 4, "c": 5}
    table = torch.cartesian_prod(*[torch.arange(n) for n in sizes.values()])
    rows = Rows(table[:, 1:].double())
    split = Split(rows, dict(zip(sizes, table.T, strict=True)))
    data = Dataset("grid", split, split, split, labels={"kind": KIND.classes}, grid=FactorGrid(sizes, rows))

    class Ideal(nn.Module):
        def forward(self, x, size=1, *, kind):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z1", dist.Normal(x + 0 * kind.sum(), 0.01).to_event(1))

    run = Run(tmp_path, give_conditions(data, [KIND]), Model(), Ideal())
    for name in ("mig", "mig-histogram"):
        values = METRICS[name].measure(run)
        assert values["mig"] == pytest.approx(1, abs=1e-6) and values["excluded"] == {"kind": "given beside x"}
    assert METRICS["mig"].measure(run, factors=("kind", "b"))["excluded"] == {"c": "not among those named"}


class Bars(nn.Module):
    """Images of one channel: a bar whose place is the kind, as bright as the noise says."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x=None, size=1, *, kind):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z1", dist.Normal(torch.zeros(1), torch.ones(())).to_event(1))
            mean = draw_bars(kind.argmax(1), 0.7 + 0.1 * z[:, 0].tanh())
            return pyro.sample("x", dist.Normal(mean, 0.1).to_event(3), obs=x)


class Brightness(nn.Module):
    def forward(self, x, size=1, *, kind):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.Normal(x.amax((1, 2, 3))[:, None] + 0 * kind.sum(), 0.1).to_event(1))


def draw_bars(kind, brightness):
    images = torch.zeros(len(kind), 1, 8, 8)
    for place in range(3):
        images[kind == place, 0, :, 1 + 2 * place : 3 + 2 * place] = brightness[kind == place][:, None, None]
    return images


def test_a_class_that_is_given_does_not_change_with_the_noise_of_a_layer(tmp_path):
    generator = torch.Generator().manual_seed(2)
    kind = torch.randint(3, (300,), generator=generator)
    x = draw_bars(kind, 0.6 + 0.2 * torch.rand(300, generator=generator, dtype=torch.float64))
    split = Split(Rows(x), {"kind": kind})
    data = Dataset("bars", split, split, split, labels={"kind": KIND.classes})
    run = Run(tmp_path, give_conditions(data, [KIND]), Bars(), Brightness())
    values = METRICS["layer-factors"].measure(run, points=200, train=200, outer=60, inner=5, factor="kind")
    assert values["classifier"] == {"accuracy": 1.0, "reconstructions": 1.0}
    assert values["consistency"]["z1"]["same_class"] == 1 and values["share"]["z1"]["of_pixels"] == pytest.approx(1)
    independent = (kind.bincount().double() / 300).square().sum().item()
    found = values["consistency"]["all"]
    assert abs(found["same_class"] - independent) < 4 * found["stderr"] < 0.3


def test_published_values_are_of_runs_without_conditions():
    pendulum = resolve("vhp", "pendulum", "rewo")
    assert published_angle(pendulum) == "0.054"
    assert published_angle(resolve("vhp", "pendulum", "rewo", options={"condition": "angle"})) is None
    mnist = resolve("vhp", "mnist-static", "rewo")
    assert published_likelihood(mnist) == "-82.74"
    assert published_likelihood(resolve("vhp", "mnist-static", "rewo", options={"condition": "class"})) is None


def test_a_condition_may_be_one_of_the_guide_alone(tmp_path):
    class Plain(nn.Module):
        """z ~ N(0, I), x | z ~ N(W z, STD^2), whatever the kind."""

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(D, 2))

        def forward(self, x=None, size=1):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                z = pyro.sample("z1", dist.Normal(torch.zeros(2), torch.ones(())).to_event(1))
                return pyro.sample("x", dist.Normal(z @ self.w.T, STD).to_event(1), obs=x)

    class Reader(nn.Module):
        def forward(self, x, size=1, *, kind):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z1", dist.Normal(x[:, :2] + kind[:, :2].double(), torch.ones(())).to_event(1))

    run = make_run(tmp_path)
    pair = Run(tmp_path, run.dataset, Plain(), Reader())
    assert math.isfinite(METRICS["likelihood"].measure(pair, particles=5, limit=20)["log_likelihood"])
    assert math.isfinite(METRICS["reconstruction"].measure(pair)["mse"])
    for init, start in STARTING_POINTS.items():
        assert start(pair, 9).given["kind"].shape == (9, 3), init
        report = sample_by_gibbs(pair, steps=3, chains=20, burn_in=1, samples=50, compile=False, init=init)
        assert report.ancestral.isfinite().all()


def test_the_error_of_a_share_is_one_over_conditions(tmp_path, monkeypatch):
    """x = 3 y z1 + z2 with y of random data, so that the share of z1 under one y is 9 y^2 / (9 y^2 + 1)."""

    class Scaled(nn.Module):
        def forward(self, x=None, size=1, *, age):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                z2 = pyro.sample("z2", dist.Normal(torch.zeros(1), torch.ones(())).to_event(1))
                z1 = pyro.sample("z1", dist.Normal(torch.zeros(1), torch.ones(())).to_event(1))
                return pyro.sample("x", dist.Normal(3 * age.double() * z1 + z2, STD).to_event(1), obs=x)

    age = Condition("age", mean=0.0, scale=1.0)
    split = Split(Rows(torch.zeros(N, 1)), {"age": torch.randn(N, dtype=torch.float64)})
    run = Run(tmp_path, give_conditions(Dataset("toy", split, split, split), [age]), Scaled(), nn.Linear(1, 1), (age,))
    monkeypatch.setattr(layer_report, "plot_layer_samples", lambda *_: None)
    monkeypatch.setattr(layer_report, "save_figures", lambda *_: [])
    found = [layer_report.draw_layers(run, 1, seed, None, "z1", 20, 50)["share"]["z1"] for seed in range(40)]
    values = torch.tensor([share["share"] for share in found])
    stated = torch.tensor([share["stderr"] for share in found]).mean()
    assert stated / 1.4 < values.std() < 1.4 * stated
