"""Metrics of a run, on pairs whose every value is known."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import Fixed, LinearGaussianChain
from torch import nn

from pyro_hvae import ELBO, BottomUp, Chain, StandardNormal, inference
from pyro_hvae.conditionals.grey_levels import DiscretisedLogistic
from pyro_hvae.data import Dataset, FactorGrid, Rows, Split
from pyro_hvae.data.rows import bernoulli
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.evaluation import METRICS, likelihood
from pyro_hvae.inference.importance_sampling import _batch_seed, importance_weights
from pyro_hvae.recipes import Stage
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.run_loading import OpenRun

pytestmark = pytest.mark.usefixtures("float64")


class Run(OpenRun):
    """A run of any pair on any data, that nothing has trained."""

    def __init__(self, path, dataset, model, guide, elbo=None):
        objective = (elbo or ELBO())(model, guide)
        experiment = Experiment(None, dataset.name, "constant")
        for name, value in {
            "directory": RunDirectory(path),
            "experiment": experiment,
            "stages": [Stage("run", objective)],
            "step": 0,
        }.items():
            object.__setattr__(self, name, value)
        self.__dict__["dataset"] = dataset
        (path / "eval").mkdir(exist_ok=True)

    @property
    def device(self):
        return torch.device("cpu")


class Heads(nn.Module):
    """Independent q(z_l | x) = N(x W_l, s^2)."""

    def __init__(self, weights, std=0.01):
        super().__init__()
        self.weights, self.std = weights, std
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            for name, weight in self.weights.items():
                mean = x @ weight
                pyro.sample(name, dist.Normal(mean, self.std * torch.ones_like(mean)).to_event(1))


def grid_data(sizes, name="grid"):
    """x are the factors' values themselves, on a full grid."""
    values = torch.cartesian_prod(*[torch.arange(n) for n in sizes.values()])
    rows = Rows(values.double())
    split = Split(rows, dict(zip(sizes, values.T, strict=True)))
    return Dataset(name, split, split, split, grid=FactorGrid(sizes, rows))


def model(features, dims):
    return Chain(StandardNormal(dims), [], Fixed([torch.zeros(features, dims)], torch.ones(features)))


def test_a_perfect_code_scores_one_in_everything(tmp_path):
    run = Run(tmp_path, grid_data({"a": 4, "b": 5}), model(2, 2), Heads({"z1": torch.eye(2)}))
    found = METRICS["mig"].measure(run)
    assert found["mig"] == pytest.approx(1, abs=1e-6) and found["mig_sup"] == pytest.approx(1, abs=1e-6)
    assert found["leaders"]["a"][0] == "z1[0]" and found["leaders"]["b"][0] == "z1[1]"
    assert found["meaningful"] == ["z1[0]", "z1[1]"] and found["excluded"] == {} and found["points"] == 20
    assert METRICS["mig-histogram"].measure(run)["mig"] == pytest.approx(1, abs=1e-6)
    assert METRICS["factor"].measure(run, votes=500, test_votes=500)["score"] == 1
    information = METRICS["mutual-information"].measure(run)
    assert information["total"] == pytest.approx(math.log(20)) and information["limit"] == pytest.approx(math.log(20))
    assert information["over"] == pytest.approx(0, abs=1e-9) and "unresolved" not in information
    assert set(information["bias"].values()) == {0}  # the grid is all there is


def test_information_near_the_limit_of_its_points_has_no_over(tmp_path):
    weights = {"z1": torch.tensor([[1.0], [0.0]]), "z2": torch.tensor([[0.0], [1.0]])}
    run = Run(tmp_path, grid_data({"a": 40, "b": 50}), model(2, 1), Heads(weights))
    found = METRICS["mutual-information"].measure(run, points=200)
    assert found["over"] is None and found["stderr"]["over"] is None and found["bias"]["over"] is None
    assert found["bias"]["total"] > 1 > found["bias"]["z1"] > 0 and "2 nats below the limit" in found["unresolved"]


def test_layers_are_measured_alone_and_side_by_side(tmp_path):
    weights = {"z1": torch.tensor([[1.0], [0.0]]), "z2": torch.tensor([[0.0], [1.0]])}
    run = Run(tmp_path, grid_data({"a": 4, "b": 5}), model(2, 1), Heads(weights))
    found = METRICS["mig"].measure(run)
    assert found["mig"] == pytest.approx(1, abs=1e-6)
    # Alone each layer has one dimension, which knows one of the two factors; with no second dimension its gap is whole.
    assert found["layers"]["z1"]["mig"] == pytest.approx(0.5, abs=1e-6)
    information = METRICS["mutual-information"].measure(run)
    assert information["z1"] == pytest.approx(math.log(4)) and information["z2"] == pytest.approx(math.log(5))
    assert information["over"] == pytest.approx(0, abs=1e-6)
    doubled = Run(tmp_path, grid_data({"a": 4, "b": 5}), model(2, 1), Heads({"z1": weights["z1"], "z2": weights["z1"]}))
    information = METRICS["mutual-information"].measure(doubled)
    assert information["over"] == pytest.approx(math.log(4), abs=1e-6)
    assert METRICS["mig"].measure(doubled)["mig"] == pytest.approx(0, abs=1e-6)


def test_a_markov_chain_knows_no_more_than_its_first_layer(tmp_path):
    guide = BottomUp([Fixed([torch.eye(2)], 0.01 * torch.ones(2)), Fixed([torch.tensor([[1.0, 0.0]])], torch.tensor([0.05]))])
    run = Run(tmp_path, grid_data({"a": 4, "b": 5}), model(2, 2), guide, ELBO())
    run.objective.model.levels.append(nn.Identity())  # a device for the pair; the model is not asked
    found = METRICS["mutual-information"].measure(run)
    assert found["total"] == found["z1"] == pytest.approx(math.log(20))
    assert found["z2"] == found["over"] == pytest.approx(math.log(4), abs=0.02)  # of mixtures of 16, a little too much
    assert found["mixtures"] == {"z2": 16}


def test_what_is_excluded_is_said(tmp_path):
    data = grid_data({"shape": 3, "a": 4, "b": 5}, "sprites")
    run = Run(tmp_path, data, model(3, 3), Heads({"z1": torch.eye(3)}))
    found = METRICS["mig"].measure(run, points=40)
    assert found["excluded"] == {"shape": "by protocol"} and set(found["entropies"]) == {"a", "b"}
    assert found["of"] == "the 60 data of the grid" and found["points"] == 40
    assert set(METRICS["factor"].measure(run, votes=50, test_votes=50)["factors"]) == {"shape", "a", "b"}
    split = Split(
        torch.randn(30, 2), {"a": torch.arange(30) % 3, "angle": torch.rand(30), "one": torch.ones(30, dtype=torch.long)}
    )
    run = Run(tmp_path, Dataset("mine", split, split, split), model(2, 2), Heads({"z1": torch.eye(2)}))
    with pytest.raises(ConfigError, match="'mine' has a .not used: angle: continuous; one: one value only"):
        METRICS["mig"].measure(run)
    with pytest.raises(ConfigError, match="points=1"):
        METRICS["mig"].measure(run, points=1)


def test_position_is_read_and_controls_are_beside_it(tmp_path):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(1500, 1, 2, 2, generator=g)
    factors = {"x": x[:, 0, 0, 0], "y": x[:, 0, 0, 1], "scale": torch.rand(1500, generator=g)}
    parts = [Split(x[i], {k: v[i] for k, v in factors.items()}) for i in (slice(0, 1000), slice(1000, 1500))]
    data = Dataset("triangles", parts[0], parts[1], parts[1])

    class Flat(Heads):
        def forward(self, x, size=1):
            return super().forward(x.flatten(1))

    run = Run(tmp_path, data, model(4, 2), Flat({"z1": torch.eye(4)[:, :2]}))
    found = METRICS["regression"].measure(run, epochs=60)
    constant = found["controls"]["constant"]["rmse"]
    assert found["rmse"]["position"] < 0.05 < 0.25 < constant["position"]
    assert found["rmse"]["size"] > 0.9 * constant["size"]  # nothing knows it
    assert constant["position"] > found["controls"]["mean_colour"]["rmse"]["position"] > 0.15
    with pytest.raises(ConfigError, match="needs factors of position or size"):
        METRICS["regression"].measure(Run(tmp_path, grid_data({"a": 4, "b": 5}), model(2, 2), Heads({"z1": torch.eye(2)})))


def test_classes_of_each_layer(tmp_path):
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    label = (x[:, 0] > 0).long()
    split, fresh = (Split(x[i], {"class": label[i]}) for i in (slice(0, 1500), slice(1500, 2000)))
    weights = {"z1": torch.tensor([[1.0], [0.0]]), "z2": torch.tensor([[0.0], [1.0]])}
    run = Run(tmp_path, Dataset("mine", split, fresh, fresh), model(2, 1), Heads(weights))
    found = METRICS["classes"].measure(run)
    assert found["accuracy"] > 0.98 and found["layers"]["z1"] > 0.98 and found["layers"]["z2"] < 0.6
    assert (found["n_train"], found["n_test"]) == (1500, 500)
    with pytest.raises(ConfigError, match="no classes called 'clas'; its factors of few values: class"):
        METRICS["classes"].measure(run, factor="clas")


def test_smoothness_of_a_line(tmp_path):
    """One latent, linear decoder: equidistant points move evenly, prior samples do not."""
    weight = torch.tensor([[1.0], [-2.0], [0.0]])
    decoder = Fixed([weight], torch.ones(3))
    split = Split(torch.randn(50, 3))
    run = Run(tmp_path, Dataset("line", split, split, split), Chain(StandardNormal(1), [], decoder), Heads({"z1": weight / 5}))
    found = METRICS["smoothness"].measure(run, graphs=2, paths=10, nodes=300)
    assert found["resampled"] == pytest.approx(0, abs=1e-9) and found["raw"] > 1e-4
    one, two, three = found["raw_by_feature"]["mean"]
    assert two == pytest.approx(2 * one) and three == 0
    assert found["measured"] + found["too_short"] + found["not_connected"] == 20
    with pytest.raises(ConfigError, match="points must be at least 3, got 2"):
        METRICS["smoothness"].measure(run, points=2)
    with pytest.raises(DataError, match="none of 1 paths has three points"):
        METRICS["smoothness"].measure(run, graphs=1, paths=1, nodes=2, k=3)


def test_reconstruction_above_the_entropy_of_grey_targets(tmp_path):
    x = torch.tensor([[0.5, 1.0], [0.5, 0.0]]).repeat(50, 1)

    class Half(nn.Module):
        def forward(self, z):
            return dist.Bernoulli(probs=torch.full((*z.shape[:-1], 2), 0.5), validate_args=False).to_event(1)

    split = Split(x)
    run = Run(tmp_path, Dataset("grey", split, split, split), Chain(StandardNormal(2), [], Half()), Heads({"z1": torch.eye(2)}))
    found = METRICS["reconstruction"].measure(run)
    assert found["distortion"] == pytest.approx(2 * math.log(2)) and found["entropy_floor"] == pytest.approx(math.log(2))
    assert found["excess"] == pytest.approx(math.log(2)) and found["mse"] == pytest.approx(0.125)
    assert found["rmse"] == pytest.approx(0.125**0.5)


def linear_run(path, error=0.2, count=60, elbo=None):
    chain = LinearGaussianChain((3, 2))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        split = Split(chain.evidence.sample((count,)))
    return Run(path, Dataset("linear", split, split, split), chain.model(), chain.guide(error), elbo), chain


def test_the_likelihood_is_within_its_error_and_says_its_protocol(tmp_path):
    run, chain = linear_run(tmp_path, 0.05)
    found = METRICS["likelihood"].measure(run, particles=2000)
    exact = chain.evidence.log_prob(run.dataset.test.x[:])
    assert found["log_likelihood"] == pytest.approx(exact.mean().item(), abs=3 * exact.std().item() / math.sqrt(60 * 2000))
    assert found["stderr"] == pytest.approx(exact.std().item() / math.sqrt(60), rel=1e-2)
    assert found["bits_per_dim"] is None and found["bits_per_dim_of"] is None  # of a density
    assert abs(found["importance_bias"]) < 0.02 and found["half"] + found["importance_bias"] >= found["log_likelihood"] - 1e-9
    assert found["elbo"] < found["iwae_50"] < found["log_likelihood"] + 0.1
    assert found["weights"] == "joint" and found["n"] == 60 and "subset" not in found
    assert 1 < found["effective_samples"]["percentile_5"] <= found["effective_samples"]["median"] < 2000


def test_the_importance_bias_stands_beside_the_error_and_few_effective_samples_are_said(tmp_path, capsys):
    run, chain = linear_run(tmp_path, 1.0, count=400)
    found, exact = METRICS["likelihood"].measure(run, particles=300), chain.evidence.log_prob(run.dataset.test.x[:])
    assert f"median effective sample size is {found['effective_samples']['median']:.1f} of 300" in capsys.readouterr().err
    assert found["half"] < found["log_likelihood"] < exact.mean() - found["importance_bias"]
    assert found["importance_bias"] == pytest.approx(found["log_likelihood"] - found["half"])
    limited = METRICS["likelihood"].measure(run, particles=300, limit=50)
    assert limited["log_likelihood"] - limited["half"] == pytest.approx(limited["importance_bias"])
    linear, _ = linear_run(tmp_path, 0.0)
    capsys.readouterr()
    METRICS["likelihood"].measure(linear, particles=300)
    assert "effective" not in capsys.readouterr().err


def test_results_of_older_versions_have_no_half(tmp_path):
    run, _ = linear_run(tmp_path)
    whole = METRICS["likelihood"].measure(run, particles=300)
    file = tmp_path / whole["values"]
    with np.load(file) as kept:
        older = {name: kept[name] for name in kept if name != "half"}
    np.savez(file, **older)
    found = METRICS["likelihood"].measure(run, particles=300)
    assert found["log_likelihood"] == whole["log_likelihood"] and math.isnan(found["importance_bias"])


class Observed(nn.Module):
    """p(x | z) is `make` of a constant, whatever z is."""

    def __init__(self, make, *parameters):
        super().__init__()
        self.make, self.level, self.parameters_ = make, nn.Parameter(torch.zeros(())), parameters

    def forward(self, z):
        rows = [p.expand(*z.shape[:-1], *p.shape) + self.level for p in self.parameters_]
        return self.make(*rows)


class Blind(nn.Module):
    """The prior as a guide, so the likelihood is exact."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))

    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.Normal(self.mean.expand(len(x), 2), 1.0).to_event(1))


GREY = torch.tensor([[0, 51, 255, 7], [1, 2, 3, 255], [9, 8, 7, 6]]).div(255)
BITS = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]])
COUNTS = torch.tensor([[0.0, 3, 1, 12], [2, 0, 0, 5], [1, 1, 7, 0]])
ONE_HOT = torch.eye(3)[torch.tensor([[0, 1], [2, 2], [1, 0]])]
HALF, ONE = torch.full((4,), 0.5), torch.ones(4)


def normal(mean):
    return dist.Normal(mean, 0.2).to_event(1)


@pytest.mark.parametrize(
    ("x", "make", "parameter", "dims", "offset"),
    [
        (BITS, lambda p: dist.Bernoulli(p).to_event(1), HALF, 4, 0),
        (COUNTS, lambda p: dist.Poisson(p).to_event(1), ONE, 4, 0),
        (COUNTS, lambda p: dist.NegativeBinomial(p, torch.tensor(0.5)).to_event(1), ONE, 4, 0),
        (ONE_HOT[:, :, 0], lambda p: dist.Categorical(logits=p).to_event(1), torch.zeros(2, 3), 2, 0),
        (ONE_HOT, lambda p: dist.OneHotCategorical(logits=p).to_event(1), torch.zeros(2, 3), 2, 0),
        (GREY, normal, HALF, 4, 8),
        (GREY, lambda p: DiscretisedLogistic(p, torch.tensor(0.1)).to_event(1), HALF, 4, 0),
        (GREY, lambda p: dist.Bernoulli(p).to_event(1), HALF, None, 0),  # a bound on no probability of grey values
        (BITS, normal, HALF, None, 0),
        (GREY + 0.001, normal, HALF, None, 0),  # densities on [0, 1] of what was no byte
        (2 * GREY - 1, normal, HALF, None, 0),
        (torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), normal, HALF, None, 0),  # z-scores, features
    ],
)
def test_bits_per_dimension_are_of_discrete_data_or_of_bytes(tmp_path, x, make, parameter, dims, offset):
    split, model = Split(x.double()), Chain(StandardNormal(2), [], Observed(make, parameter.double()))
    run = Run(tmp_path, Dataset("own", split, split, split), model, Blind())
    found = METRICS["likelihood"].measure(run, particles=5)
    with pyro.validation_enabled(False):
        exact = make(parameter.expand(3, *parameter.shape)).log_prob(x).mean().item()
    assert found["log_likelihood"] == pytest.approx(exact, rel=1e-5)
    if dims is None:
        assert found["bits_per_dim"] is None and found["bits_per_dim_of"] is None
    else:
        assert found["bits_per_dim"] == pytest.approx(offset - found["log_likelihood"] / (dims * math.log(2)))
        assert ("bytes" in found["bits_per_dim_of"]) == ("+ log2 256" in found["bits_per_dim_of"]) == (offset == 8)


def test_inner_particles_for_a_bound_that_shares_a_site(tmp_path):
    run, chain = linear_run(tmp_path, 0.05, elbo=ELBO(particles=4, shared={"z1"}))
    found = METRICS["likelihood"].measure(run, particles=500, inner=4)
    assert found["weights"] == "inner, 4 for all but z1"
    exact = chain.evidence.log_prob(run.dataset.test.x[:])
    assert found["log_likelihood"] == pytest.approx(exact.mean().item(), abs=0.02)
    with pytest.raises(ConfigError, match="need a site that they share"):
        METRICS["likelihood"].measure(linear_run(tmp_path)[0], inner=4)


def test_a_subset_is_corrected_by_the_bounds_of_all(tmp_path):
    """Luck with 10 of 60 images is worth about a nat; their bounds know most of it."""
    run, chain = linear_run(tmp_path)
    exact = chain.evidence.log_prob(run.dataset.test.x[:]).mean().item()
    plain, corrected, errors = [], [], []
    for seed in range(8):
        found = METRICS["likelihood"].measure(run, particles=300, limit=10, seed=seed)
        plain.append(found["subset"]["log_likelihood"] - exact)
        corrected.append(found["log_likelihood"] - exact)
        errors.append((found["subset"]["stderr"], found["stderr"]))
        assert found["corrected"] == (found["stderr"] < found["subset"]["stderr"])
        assert found["n"] == 10 and found["n_bound"] == 60
    assert torch.tensor(corrected).square().mean() < 0.5 * torch.tensor(plain).square().mean()
    error, error_corrected = torch.tensor(errors).mean(0)
    # Both are of the population. That of the 60 bounds is a part of the corrected one.
    spread = chain.evidence.log_prob(run.dataset.test.x[:]).std() / math.sqrt(60)
    assert spread < error_corrected < error


def test_a_subset_of_data_that_are_alike_is_left_as_it_is(tmp_path):
    """Equal data have equal likelihoods; a poor guide's bound at one sample is all noise, and would only add it."""
    chain = LinearGaussianChain((3, 2))
    split = Split(chain.evidence.sample((1,)).repeat(60, 1))
    run = Run(tmp_path, Dataset("alike", split, split, split), chain.model(), chain.guide(0.2))
    found = METRICS["likelihood"].measure(run, particles=3000, limit=20)
    exact = chain.evidence.log_prob(split.x[0]).item()
    assert found["corrected"] is False and found["log_likelihood"] == found["subset"]["log_likelihood"]
    assert found["log_likelihood"] == pytest.approx(exact, abs=0.05)


def test_an_interrupted_likelihood_goes_on_and_a_larger_limit_extends_a_smaller(tmp_path, monkeypatch):
    def values(path, **options):
        path.mkdir(exist_ok=True)
        run, _ = linear_run(path, count=100)
        seed, limit = options.get("seed", 0), options.get("limit", 0)
        columns, file = likelihood.log_likelihoods(run, run.dataset.test.x, 2000, 1, limit, seed)
        assert (path / file).is_file()
        return columns["log_likelihood"]

    whole = values(tmp_path / "whole")
    size = likelihood.data_per_batch(2000)
    assert 1 < size < 30 and 20 % size
    genuine, seen = likelihood.importance_weights, []

    def spied(*arguments, start=0, **more):
        if arguments[3] != 2000:  # the few that tell whether all is as it was
            yield from genuine(*arguments, start=start, **more)
            return
        seen.append(start)
        for number, weights in enumerate(genuine(*arguments, start=start, **more)):
            if number == 2 and len(seen) == 1:
                raise KeyboardInterrupt
            yield weights

    monkeypatch.setattr(likelihood, "importance_weights", spied)
    with pytest.raises(KeyboardInterrupt):
        values(tmp_path / "cut")
    assert torch.equal(values(tmp_path / "cut"), whole)
    assert seen == [0, 2 * size]
    assert torch.equal(values(tmp_path / "more", limit=20), whole[:20])
    assert torch.equal(values(tmp_path / "more", limit=70), whole[:70])
    assert torch.equal(values(tmp_path / "more", limit=20), whole[:20])  # what is there already stays
    assert torch.equal(values(tmp_path / "more"), whole)
    assert not torch.allclose(values(tmp_path / "more", seed=1), whole)
    assert seen[-1] == 0  # another protocol begins anew
    assert torch.equal(values(tmp_path / "more", limit=20), whole[:20]) and seen[-1] == 100  # and loses nothing of the first
    for path in (tmp_path / "more/eval").glob("*.npz"):
        path.write_bytes(b"PK\x03\x04 damaged")
    assert torch.equal(values(tmp_path / "more"), whole)


def test_nothing_is_taken_up_that_was_measured_otherwise(tmp_path):
    """Other weights, data, code, samples or shared sites: each has a file of its own."""
    shared = {"elbo": ELBO(particles=4, shared={"z1"})}
    run, _ = linear_run(tmp_path, **shared)

    def file(run, **options):
        options = {"particles": 20, "inner": 1, "limit": 5, "seed": 0} | options
        return likelihood.log_likelihoods(run, run.dataset.test.x, **options)[1]

    names = [file(run), file(run, particles=30), file(run, inner=2), file(run, seed=1), file(linear_run(tmp_path, 0.3)[0])]
    split = Split(run.dataset.test.x[:] + 3)
    names.append(file(Run(tmp_path, Dataset("linear", split, split, split), run.model, run.guide, **shared)))
    names.append(file(linear_run(tmp_path, count=59, **shared)[0]))
    with torch.no_grad():
        run.model.likelihood.tril.mul_(1.5)  # a buffer
    names.append(file(run))
    run.model.levels[0].forward = lambda z2: dist.Normal(torch.zeros(len(z2), z2.shape[1], 2), 2.0).to_event(1)
    names.append(file(run))  # code
    assert len(set(names)) == len(names)


def test_every_batch_has_noise_of_its_own(tmp_path):
    run, _ = linear_run(tmp_path, 0.3)
    many = run.dataset.test.x[:1].expand(20_000, 4)
    values = torch.cat([w.log_likelihood for w in importance_weights(run.model, run.guide, many, 1, seed=0)])
    assert len(values.unique()) == 20_000
    ones = torch.cat([w.log_likelihood for w in importance_weights(run.model, run.guide, many[:3], 40_000, seed=0)])
    assert len(ones.unique()) == 3
    # A batch of one datum: 4096 batches on, the low bits of a shifted number would be the same.
    assert len({_batch_seed(seed=7, first=first) for first in range(20_000)}) == 20_000
    assert all(0 <= _batch_seed(2**53 - 1, first) < 2**32 for first in (0, 10**6))


def test_the_control_variate_is_the_bound_of_the_same_weights(tmp_path):
    run, chain = linear_run(tmp_path, 0.2, elbo=ELBO(particles=4, shared={"z1"}))
    exact = chain.evidence.log_prob(run.dataset.test.x[:]).mean().item()
    errors = []
    for seed in range(8):
        found = METRICS["likelihood"].measure(run, particles=300, inner=4, limit=10, seed=seed)
        errors.append((found["log_likelihood"] - exact) / found["stderr"])
    assert abs(sum(errors) / 8) < 3 / math.sqrt(8)  # the joint bound instead would be off by its own, larger, gap


def test_the_error_of_a_corrected_mean_knows_that_the_subset_is_a_part():
    """Var of mean_n(d) + mean_N(b) over draws of everything, where likelihood and bound go apart and where they go together."""
    g = torch.Generator().manual_seed(0)
    for sign in (-0.6, 0.6):
        claimed, means = [], []
        for _ in range(2000):
            b = torch.randn(60, generator=g)
            values = b + sign * b + 0.3 * torch.randn(60, generator=g)
            found = likelihood._control_variate_mean(values[:20], b[:20], b)
            claimed.append(found["stderr"])
            means.append(found["log_likelihood"])
        assert torch.tensor(claimed).square().mean().sqrt() == pytest.approx(torch.tensor(means).std().item(), rel=0.06)


def test_fifty_particles_whatever_the_run_has(tmp_path):
    run, _ = linear_run(tmp_path, 0.5, count=2000)
    found = METRICS["likelihood"].measure(run, particles=10, limit=5)
    again, few = (inference.bound(ELBO(particles=k), run.model, run.guide, run.dataset.test.x)["elbo"] for k in (50, 5))
    assert found["iwae_50"] == pytest.approx(again, abs=0.05) and again - few > 0.2
    values = likelihood.log_likelihoods(run, run.dataset.test.x, 10, 1, 5, 0)[0]["log_likelihood"]
    assert found["subset"]["stderr"] == pytest.approx(values.std().item() / math.sqrt(5), rel=1e-12)


def test_units_that_follow_noise_are_not_meaningful(tmp_path):
    """z2 copies a coordinate of z1 that is noise: its means over 16 draws vary by 1/16, but not with x."""
    lower = Fixed([torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])], torch.tensor([0.01, 0.01, 1.0]))
    guide = BottomUp([lower, Fixed([torch.tensor([[0.0, 0.0, 1.0]])], torch.tensor([0.1]))])
    run = Run(tmp_path, grid_data({"a": 12, "b": 15}), model(2, 3), guide)
    found = METRICS["mig"].measure(run)
    assert found["meaningful"] == ["z1[0]", "z1[1]"] and found["mig_sup"] == pytest.approx(1, abs=0.02)
    assert "z2[0]" in METRICS["factor"].measure(run, votes=50, test_votes=50)["pruned"]
    assert METRICS["mig-histogram"].measure(run)["normalised"]["z2[0]"] == {"a": 0, "b": 0}
    information = METRICS["mutual-information"].measure(run)
    assert information["upper_bounds"] == ["z2"] and information["z2"] <= information["z1"]


def test_a_layer_that_sees_the_data_itself_leaves_no_total(tmp_path):
    class Late(Heads):
        def forward(self, x, size=1):
            with pyro.plate("data", len(x), dim=-1):
                z1 = pyro.sample("z1", dist.Normal(x @ self.weights["z1"], 0.1).to_event(1))
                z2 = pyro.sample("z2", dist.Normal(z1, 0.1).to_event(1))
                pyro.sample("z3", dist.Normal(z2 + x @ self.weights["z3"], 0.1).to_event(1))

    eye = {"z1": torch.tensor([[1.0], [0.0]]), "z3": torch.tensor([[0.0], [1.0]])}
    run = Run(tmp_path, grid_data({"a": 4, "b": 5}), model(2, 1), Late(eye))
    found = METRICS["mutual-information"].measure(run)
    assert found["total"] is None and found["over"] is None and found["z1"] == pytest.approx(math.log(4), abs=1e-3)
    assert found["upper_bounds"] == ["z2", "z3"]


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(2))

    def forward(self, x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.Normal(x @ self.weight, 0.01).to_event(1))


def test_the_codes_are_those_of_the_weights_a_run_has_now(tmp_path):
    run = Run(tmp_path, grid_data({"a": 4, "b": 5}), model(2, 2), Scaled())
    assert METRICS["mig"].measure(run)["mig"] == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        run.guide.weight.zero_()
    assert METRICS["mig"].measure(run)["mig"] == pytest.approx(0, abs=0.02)


def test_probes_judge_fresh_data_and_are_the_same_twice(tmp_path):
    """Noise codes with random labels: nothing can be learnt, however well the training data are fitted."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(600, 1, 4, 5, generator=g)
    factors = {"x": torch.rand(600, generator=g), "y": torch.rand(600, generator=g), "class": torch.arange(600) % 2}
    parts = [Split(x[i], {k: v[i] for k, v in factors.items()}) for i in (slice(0, 100), slice(100, 600))]

    class Flat(Heads):
        def forward(self, x, size=1):
            return super().forward(x.flatten(1).double())

    grey = Split(Rows((parts[0].x[:] * 255).byte(), bernoulli), parts[0].factors)  # drawn anew whenever it is read
    run = Run(tmp_path, Dataset("noise", grey, parts[1], parts[1]), model(20, 20), Flat({"z1": torch.eye(20)}))
    found = METRICS["classes"].measure(run, train=60)
    assert found["accuracy"] < 0.6 and (found["n_train"], found["n_test"]) == (60, 500)
    assert METRICS["classes"].measure(run, train=60) == found
    errors = METRICS["regression"].measure(run, epochs=50)
    assert errors["rmse"]["position"] > errors["controls"]["constant"]["rmse"]["position"]
    assert METRICS["regression"].measure(run, epochs=50) == errors
    assert METRICS["regression"].measure(run, epochs=50, seed=1)["rmse"] != errors["rmse"]
    vectors = Split(torch.rand(50, 2), {"x": torch.rand(50), "y": torch.rand(50)})
    run = Run(tmp_path, Dataset("points", vectors, vectors, vectors), model(2, 2), Heads({"z1": torch.eye(2)}))
    assert list(METRICS["regression"].measure(run, epochs=2)["controls"]) == ["constant"]


def test_data_without_a_grid_keep_their_factors(tmp_path):
    values = torch.cartesian_prod(torch.arange(4), torch.arange(5))[torch.randperm(20)]
    split = Split(values.double(), {"a": values[:, 0], "b": values[:, 1]})
    run = Run(tmp_path, Dataset("mine", split, split, split), model(2, 2), Heads({"z1": torch.eye(2)}))
    found = METRICS["mig"].measure(run)
    assert found["mig"] == pytest.approx(1, abs=1e-6) and found["of"] == "the 20 training data"
    votes = METRICS["factor"].measure(run, votes=50, test_votes=50)
    assert votes["majority"] == {"z1[0]": "a", "z1[1]": "b"} and votes["kept"] == ["z1[0]", "z1[1]"]
