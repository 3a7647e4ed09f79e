"""Likelihoods, Gibbs chains and samples through one captured graph: the numbers, and the random stream, of the eager code."""

import json
import math
from dataclasses import fields

import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_gaussian import LinearGaussianChain, skip_pair
from torch import nn
from torch.testing import assert_close

from pyro_hvae import BottomUp, Chain, Gaussian, StandardNormal, generate, gibbs
from pyro_hvae.cli import main
from pyro_hvae.compilation import inductor as compiling
from pyro_hvae.compilation import policy
from pyro_hvae.compilation.captured_loss import CaptureWarning, capture
from pyro_hvae.compilation.policy import EVALUATION_ROWS, ROWS_PER_CHAIN_STEP, decide_evaluation
from pyro_hvae.errors import ConfigError, DivergenceError
from pyro_hvae.inference import gibbs_chains, sampling
from pyro_hvae.inference import importance_sampling as importance
from pyro_hvae.inference.sampling import prior_latents

CPU = torch.device("cpu")


class Seen:
    """A captured module, and the shapes that went through it."""

    def __init__(self, captured):
        self.captured, self.shapes = captured, []

    def __call__(self, *arguments):
        self.shapes.append([tuple(a.shape) for a in arguments])
        assert all(a.is_contiguous() for a in arguments)  # compiled code is for one layout
        return self.captured(*arguments)


@pytest.fixture
def graphs(monkeypatch):
    """Every graph that is asked for, recorded and not compiled."""
    made = []

    def recorded(module, **options):
        made.append(Seen(capture(module, **options, compile=False)))
        return made[-1]

    for module in (importance, gibbs_chains, sampling):
        monkeypatch.setattr(module, "capture", recorded)
    return made


def both(function, seed=5):
    """What a function of `compile` returns without and with it, from one state of the random stream, and that it ends alike."""
    results, states = [], []
    for how in (False, True):
        torch.manual_seed(seed)
        results.append(function(how))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    return results


def weights(pair, x, *arguments, **options):
    parts = list(importance.importance_weights(*pair, x, *arguments, **options))
    return torch.stack([torch.cat(column) for column in zip(*parts, strict=True)])


def same(one, two):
    assert_close(two, one, rtol=1e-12, atol=1e-12)


# ---- likelihood


def test_whole_chunks_go_through_one_graph_and_what_is_left_of_batches_and_chunks_does_not(float64, graphs):
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((40,))
    pair = chain.model(), chain.guide(0.2)
    same(*both(lambda how: weights(pair, x, 1500, compile=how)))
    # 32768 // 1500 = 21 data a batch, 2048 // 21 = 97 samples a chunk: 15 whole ones, 45 samples and 19 data are left.
    (graph,) = graphs
    assert graph.captured.graphs == 1 and graph.captured.eager is None
    assert graph.shapes == 15 * [[(21, 4), (97, 21, 2), (97, 21, 3), (97, 21), (97, 21)]]


@pytest.mark.parametrize("particles, count, calls", [(1, 11, 1), (7, 3, 1), (300, 1, 2), (33_000, 1, 329)])
def test_few_samples_few_data_and_samples_that_are_drawn_in_several_parts(float64, graphs, particles, count, calls):
    chain = LinearGaussianChain((2,))
    x, pair = chain.evidence.sample((count,)), (chain.model(), chain.guide(0.3))
    rows = 100 if particles == 33_000 else 150
    same(*both(lambda how: weights(pair, x, particles, rows=rows, compile=how)))
    # Of 33,000 samples 32,768 are drawn at once: 327 whole chunks and 68 samples, then two whole ones and 32.
    assert len(graphs[0].shapes) == calls


def test_a_seeded_run_that_starts_in_the_middle_has_the_noise_of_the_whole(float64, graphs):
    chain = LinearGaussianChain((3, 2))
    x, pair = chain.evidence.sample((30,)), (chain.model(), chain.guide(0.2))
    size = importance.data_per_batch(3000)
    eager = weights(pair, x, 3000, seed=3)
    same(eager[:, size:], weights(pair, x, 3000, seed=3, start=size, compile=True))
    assert 0 < size < 30 and graphs[0].shapes


def test_inner_particles(float64, graphs, monkeypatch):
    monkeypatch.setattr(importance, "GUIDE_ROWS", 400)
    chain = LinearGaussianChain((3, 2))
    x, pair = chain.evidence.sample((5,)), (chain.model(), chain.guide(0.2))
    options = {"inner": 3, "shared": {"z1"}, "rows": 60}
    plain, found = both(lambda how: weights(pair, x, 150, **options, compile=how))
    same(plain, found)
    # One datum a batch, 400 // 3 = 133 samples drawn at once, 60 // 3 = 20 a chunk: six whole ones and 13, then 17.
    assert {tuple(s) for s in graphs[0].shapes} == {((1, 4), (20, 1, 2), (3, 20, 1, 3), (20, 1), (3, 20, 1))}
    assert len(graphs[0].shapes) == 5 * 6 and graphs[0].captured.graphs == 1
    joint = weights(pair, x, 150, rows=60)
    assert not torch.allclose(joint, found)


def test_log_likelihood_hands_it_on(float64, graphs):
    chain = LinearGaussianChain((3, 2))
    x = chain.evidence.sample((6,))
    values = importance.log_likelihood(chain.model(), chain.guide(), x, 50, compile=True)
    assert_close(values, chain.evidence.log_prob(x), rtol=1e-9, atol=1e-9)
    assert graphs[0].shapes


def test_a_model_that_is_a_function_and_one_in_training_mode(float64, graphs):
    chain = LinearGaussianChain((3, 2))
    model, x = chain.model(), chain.evidence.sample((6,))
    for program in (lambda x=None, size=1: model(x, size), model.train()):
        same(*both(lambda how, program=program: weights((program, chain.guide(0.2)), x, 50, rows=60, compile=how)))
    assert all(graph.captured.eager is None for graph in graphs) and len(graphs) == 2


class Branching(nn.Module):
    def __init__(self, conditional):
        super().__init__()
        self.conditional = conditional

    def forward(self, *parents):
        return self.conditional(*parents) if parents[0].sum() > -1e9 else self.conditional(*(-p for p in parents))


def stored(x=None, size=1):
    """p(x | z) with its mean in Pyro's parameter store."""
    with pyro.plate("data", size if x is None else x.shape[0], dim=-1):
        z = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z.sum(-1, True) + pyro.param("mean", torch.ones(4)), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(
    "model, why",
    [
        (lambda: Chain(StandardNormal(2), [], Branching(Gaussian(2, 4))), "branches on"),
        (lambda: stored, "parameter store"),
    ],
)
def test_what_cannot_be_captured_runs_eagerly_with_the_same_numbers(graphs, model, why):
    pair, x = (model(), BottomUp([Gaussian(4, 2)])), torch.zeros(5, 4)
    with pytest.warns(CaptureWarning, match=f"ImportanceTerms runs eagerly: .*{why}"):
        plain, found = both(lambda how: weights(pair, x, 700, rows=200, compile=how))
    assert torch.equal(plain, found)
    with pytest.warns(CaptureWarning, match="GibbsStep runs eagerly"):
        plain, found = both(lambda how: gibbs(*pair, x, 4, compile=how).x)
    assert torch.equal(plain, found)
    told = []
    torch.manual_seed(5)
    assert torch.equal(gibbs(*pair, x, 4, compile=True, warn=told.append).x, plain)
    next(importance.importance_weights(*pair, x, 700, compile=True, warn=told.append))
    assert [line.split(" runs eagerly: ")[0] for line in told] == ["GibbsStep", "ImportanceTerms"] and "\n" not in "".join(told)


def test_networks_that_return_nan_are_told_of_as_ever(graphs):
    model = Chain(StandardNormal(2), [], Gaussian(2, 4))
    with torch.no_grad():
        model.likelihood.net[0].bias.fill_(math.nan)
    with pytest.raises(DivergenceError, match="3 of 3 data are no numbers"):
        importance.log_likelihood(model, BottomUp([Gaussian(4, 2)]), torch.zeros(3, 4), 50, compile=True)


# ---- Gibbs chains


def assert_chains_agree(one, two):
    assert one.sites == two.sites and one.trail_steps == two.trail_steps and set(one.z) == set(two.z)
    for name in {field.name for field in fields(one)} - {"sites", "trail_steps", "z"}:
        same(getattr(one, name), getattr(two, name))
    for name, value in one.z.items():
        same(value, two.z[name])


@pytest.mark.parametrize("sites, options", [(["z1"], {}), ("all", {"burn_in": 3, "thin": 2}), (["z2"], {"noise": False})])
@pytest.mark.parametrize("particles", [1, 4])
def test_chains_of_a_captured_step_are_those_of_the_eager_one(float64, graphs, sites, options, particles):
    chain = LinearGaussianChain((3, 2))
    pair, x = (chain.model(), chain.guide(0.3)), chain.evidence.sample((11,))
    assert_chains_agree(*both(lambda how: gibbs(*pair, x, 9, sites, **options, particles=particles, compile=how)))
    (graph,) = graphs
    assert graph.shapes == 9 * [[(11, 4)]] and graph.captured.graphs == 1 and graph.captured.eager is None


def test_chains_that_keep_what_x_depends_on(float64, graphs):
    model, guide, _ = skip_pair()
    assert_chains_agree(*both(lambda how: gibbs(model, guide, torch.full((8, 1), 5.0), 6, "all", compile=how)))
    assert graphs[0].captured.eager is None


# ---- samples


def test_samples_in_pieces_are_those_of_the_eager_pieces(float64, graphs, monkeypatch):
    monkeypatch.setattr(sampling, "ROWS", 20)
    model = LinearGaussianChain((3, 2)).model()
    one, two = both(lambda how: prior_latents(model, 70, compile=how))
    assert list(one) == list(two) == ["z2", "z1"]
    for name in one:
        assert len(one[name]) == 70
        same(one[name], two[name])
    assert len(graphs) == 1 and len(graphs[0].shapes) == 3 and graphs[0].captured.eager is None
    prior_latents(model, 39, compile=True)
    assert len(graphs) == 1  # a graph for one piece would cost more than the piece


@pytest.mark.parametrize("mean", [True, False])
def test_generation_in_pieces_given_a_layer(float64, graphs, monkeypatch, mean):
    monkeypatch.setattr(sampling, "ROWS", 20)
    model, z = LinearGaussianChain((3, 2)).model(), torch.randn(70, 2)
    torch.manual_seed(5)
    pieces = [generate(model, len(part), {"z1": part}, mean) for part in z.split(20)]
    torch.manual_seed(5)
    found = generate(model, 70, {"z1": z}, mean, compile=True)
    assert list(found) == ["z2", "z1", "x"] and torch.equal(found["z1"], z)
    for name in found:
        same(torch.cat([piece[name] for piece in pieces]), found[name])
    assert graphs[0].shapes == 3 * [[(20, 2)]]
    with pytest.raises(ConfigError, match="holds 70 values, but size is 60"):
        generate(model, 60, {"z1": z}, compile=True)
    with pytest.raises(ConfigError, match="no latent site called"):
        generate(model, 70, {"z9": z}, compile=True)


# ---- compiled


def test_compiled_code_gives_the_same(float64):
    model = Chain(StandardNormal(3), [Gaussian(3, 2)], Gaussian(2, 4))
    pair, x = (model, BottomUp([Gaussian(4, 2), Gaussian(2, 3)])), torch.randn(7, 4)
    options = {"inner": 3, "shared": {"z1"}, "rows": 200}
    one, two = both(lambda how: weights(pair, x, 60, **options, compile=how))
    assert_close(two, one, rtol=1e-10, atol=1e-10)


# ---- whether it pays


def test_the_rule_goes_by_the_work_unless_it_was_asked(capsys, monkeypatch):
    monkeypatch.setattr(compiling, "compiler", lambda: "g++")
    assert decide_evaluation(None, "the model", "9 data", EVALUATION_ROWS, CPU)
    assert capsys.readouterr().err == "Compiling the model, for which 9 data pay (--no-compile).\n"
    assert not decide_evaluation(None, "the model", "9 data", EVALUATION_ROWS - 1, CPU)
    assert not decide_evaluation(None, "the model", "9 data", EVALUATION_ROWS, torch.device("mps"))
    assert decide_evaluation(True, "the model", "9 data", 1, CPU) and not decide_evaluation(
        False, "the model", "9 data", EVALUATION_ROWS, CPU
    )
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    assert not decide_evaluation(None, "the model", "9 data", EVALUATION_ROWS, CPU)
    assert decide_evaluation(None, "the model", "9 data", EVALUATION_ROWS, torch.device("cuda"))
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1


TINY = "--dataset digits -o hidden=8 -o upper=8 -o dims=3,2 -o starts=1 --steps 10".split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("captured") / "run"
    with pytest.raises(SystemExit) as caught:
        main(["train", "hvae", *TINY, "--out", str(path)])
    assert not caught.value.code
    return path


def test_evaluate_compiles_where_asked_or_where_it_pays(run, command, graphs, monkeypatch):
    def evaluate(*flags):
        code, out, err = command("evaluate", run, "--particles", 200, "--limit", 170, "--json", *flags)
        assert code == 0, err
        for file in (run / "eval").glob("log_likelihoods-*"):
            file.unlink()
        return json.loads(out), err

    eager, err = evaluate()
    assert not graphs and "Compiling" not in err
    asked, err = evaluate("--compile")
    assert graphs.pop().shapes and "Compiling" not in err
    # 32768 // 200 = 163 data are a batch, 170 take two, and there are 300.
    monkeypatch.setattr(policy, "EVALUATION_ROWS", 300 * 200)
    monkeypatch.setattr(compiling, "compiler", lambda: "g++")
    decided, err = evaluate()
    assert graphs.pop().shapes and err.count("Compiling") == 1
    assert "Compiling the model, for which 300 data x 200 samples pay (--no-compile).\n" in err
    assert evaluate("--no-compile")[0] == eager and not graphs
    assert asked == decided and "compile" not in asked["options"] and asked.keys() == eager.keys()
    assert asked["log_likelihood"] == pytest.approx(eager["log_likelihood"], rel=1e-6)


def test_gibbs_compiles_where_asked_or_where_it_pays(run, command, graphs, monkeypatch):
    flags = "--steps 12 --burn-in 4 --chains 6 --samples 20 --json".split()

    def chains(*more):
        code, out, err = command("gibbs", run, *flags, *more)
        assert code == 0, err
        return json.loads(out), err

    eager, err = chains()
    assert not graphs and "Compiling" not in err
    asked, _ = chains("--compile")
    assert graphs.pop().shapes
    monkeypatch.setattr(policy, "EVALUATION_ROWS", 12 * (6 * 2 + ROWS_PER_CHAIN_STEP))
    monkeypatch.setattr(compiling, "compiler", lambda: "g++")
    chains()
    assert not graphs
    _, err = chains("--particles", 2)
    assert graphs.pop().shapes and "Compiling the chains' step, for which 12 steps of 6 chains x 2 draws pay (--no-comp" in err
    chains("--particles", 2, "--no-compile")
    assert not graphs and "compile" not in asked and asked.keys() == eager.keys()
    for kind in ("draws", "means"):
        assert asked["distance"]["gibbs"][kind]["value"] == pytest.approx(eager["distance"]["gibbs"][kind]["value"], rel=1e-4)
