"""Every recipe with conditions, with missing entries and with both: shapes, dependences, and how the networks start."""

import math
from contextlib import nullcontext

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from test_recipe_contract import ROWS, SHAPE
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, ContractError
from pyro_hvae.guides import BottomUp
from pyro_hvae.networks import InputLayer
from pyro_hvae.objectives import find_mean
from pyro_hvae.runs.train_config import TrainConfig

# Number of tensors of each recipe's last stage, and of all values in them, where nothing stands beside x.
SIZES = {
    "vae": (9, 382),
    "vae-bernoulli": (9, 382),
    "beta-vae": (9, 364),
    "iwae": (9, 382),
    "iwae-2": (17, 528),
    "vhp": (17, 528),
    "vhp-1": (17, 510),
    "vhp-gated-conv": (33, 1986),
    "vampprior": (15, 700),
    "vampprior-2": (27, 1142),
    "vampprior-conv": (35, 880),
    "hvae": (25, 1056),
    "hvae-conv": (30, 672),
    "hvae-1": (9, 382),
    "ar-hvae": (28, 1030),
    "ar-hvae-conv": (32, 934),
    "lvae": (48, 1110),
    "vlae": (38, 1248),
    "vlae-gated": (27, 798),
    "vlae-mnist": (86, 2155),
    "vlae-svhn": (122, 5625),
    "pro-vlae": (58, 1281),
    "teacher-student": (20, 486),
    "texture": (13, 1275),
    "texture-joint": (25, 1443),
    "lvae-norm": (80, 1200),
    "vae-full": (9, 409),
    "vae-flow": (31, 16164),
    "iwae-flow": (39, 16310),
    "vhp-full": (17, 555),
    "vhp-flow-conv": (55, 17736),
    "hvae-full": (25, 806),
}
CASES = [(row, kind) for row in ROWS for kind in ("condition", "mask", "both") if kind == "condition" or "texture" not in row]
SEED = 5  # the smallest networks have three units; with it not all of them are dead for the few data here
ROW = pytest.mark.parametrize("row", ROWS)


def data(kind, n=20):
    """Images with a class of three and a number, or with missing entries, or both."""
    g = torch.Generator().manual_seed(1)
    x = torch.rand(n, *SHAPE, generator=g)
    given = {"y": torch.eye(3)[torch.randint(3, (n,), generator=g)], "number": torch.randn(n, 1, generator=g)}
    observed = torch.rand(x.shape, generator=g) > 0.3 if kind in ("mask", "both") else None
    return Batch(x if observed is None else x.where(observed, 0), {} if kind in ("nothing", "mask") else given, observed)


def built(row, kind):
    """The pair of a recipe's last stage and the first six data of its view."""
    name, options = ROWS[row]
    torch.manual_seed(SEED)
    batch = data(kind)
    stage = recipes.build(name, batch.x if kind == "nothing" else batch, options)[-1]
    seen = stage.view_of(batch, torch.device("cpu"))[:6]
    seen = seen if isinstance(seen, Batch) else Batch(seen)
    return stage.objective.model, stage.objective.guide, Batch(seen.x.detach(), seen.given, seen.observed)


def run(model, guide, batch, particles=None):
    """Traces of the guide, and of the model at its draws."""
    with pyro.plate("particles", particles, dim=-2) if particles else nullcontext():
        q = poutine.trace(guide).get_trace(batch.x, observed=batch.observed, **batch.given)
        p = poutine.trace(poutine.replay(model, q)).get_trace(batch.x, **batch.given)
    return p, q


def sites(trace):
    return {name: site for name, site in trace.nodes.items() if site["type"] == "sample" and name[0] in "xz"}


def laws(trace):
    """Site -> mean of its distribution, or what stands for it."""
    return {name: find_mean(site["fn"])[0] for name, site in sites(trace).items()}


@pytest.mark.parametrize("row, kind", CASES)
@torch.no_grad()
def test_shapes(row, kind):
    model, guide, batch = built(row, kind)
    for particles in (None, 3):
        p, q = run(model, guide, batch, particles)
        p.compute_log_prob()
        q.compute_log_prob()
        assert {*sites(q), "x"} == set(sites(p))
        for name, site in sites(q).items():
            assert site["log_prob"].shape in {(6,), (particles or 6, 6)}
            assert site["value"].shape == (*([particles] if particles else []), 6, *site["fn"].event_shape)
            assert p.nodes[name]["fn"].event_shape == site["fn"].event_shape
        assert p.nodes["x"]["log_prob"].shape == (*([particles] if particles else []), 6)
    for rows in (3, 1):  # a row for each datum, or one for all
        assert model(size=3, **{name: value[:rows] for name, value in batch.given.items()}).shape == (3, *batch.shape[1:])


@ROW
@torch.no_grad()
def test_every_law_below_the_top_depends_on_each_condition(row):
    model, guide, batch = built(row, "condition")
    chain = getattr(model, "program", model)
    p, q = run(model, guide, batch)
    for name, value in batch.given.items():
        other = {**batch.given, name: value.roll(1, -1) if value.shape[1] > 1 else -value}
        torch.manual_seed(0)
        changed = poutine.trace(poutine.replay(model, q)).get_trace(batch.x, **other)
        for site, law in laws(p).items():
            # A chain's levels are given y; its top, the layers of a ladder and the mixture of a VampPrior are not.
            level = site == "x" or (hasattr(chain, "levels") and site != f"z{len(chain.levels) + chain.first}")
            assert torch.equal(law, laws(changed)[site]) != level, site
        after = laws(poutine.trace(poutine.replay(guide, q)).get_trace(batch.x, **other))
        assert all(not torch.isclose(law, after[site]).all() for site, law in laws(q).items())


@pytest.mark.parametrize("row, kind", [case for case in CASES if case[1] != "condition"])
@torch.no_grad()
def test_the_guide_is_told_the_mask_and_does_not_see_missing_entries(row, kind):
    model, guide, batch = built(row, kind)
    model.eval()
    guide.eval()
    _, q = run(model, guide, batch)
    found = laws(q)

    def again(x, observed):
        return laws(poutine.trace(poutine.replay(guide, q)).get_trace(x, observed=observed, **batch.given))

    # Entries that are 0 and known are other data than entries that are missing. A bottom-up guide reads x in its first site.
    for site, law in again(batch.x, None).items():
        assert torch.isclose(law, found[site]).all() == (isinstance(guide, BottomUp) and site != "z1"), site
        assert torch.equal(law, again(batch.x, torch.ones_like(batch.observed))[site])
    for site, law in again(batch.x.where(batch.observed, 0.7), batch.observed).items():
        assert torch.equal(law, found[site]), site


@pytest.mark.parametrize("row", ROWS)
def test_gradients_reach_every_condition(row):
    model, guide, batch = built(row, "condition")
    given = {name: value.clone().requires_grad_() for name, value in batch.given.items()}
    for program in (0, 1):
        traces = run(model, guide, Batch(batch.x, given))
        grads = torch.autograd.grad(traces[program].log_prob_sum(), list(given.values()))
        assert all(grad.isfinite().all() and grad.any(0).all() for grad in grads)


@ROW
def test_without_anything_beside_x_the_networks_are_what_they_were(row):
    model, guide, batch = built(row, "nothing")
    pair = nn.ModuleDict({"model": model, "guide": guide})
    state = pair.state_dict()
    assert (len(state), sum(value.numel() for value in state.values())) == SIZES[row]
    assert not any(isinstance(module, InputLayer) for module in pair.modules())
    name, options = ROWS[row]
    torch.manual_seed(SEED)
    same = recipes.build(name, Batch(data("nothing").x), options)[-1].objective
    other = nn.ModuleDict({"model": same.model, "guide": same.guide}).state_dict()
    assert state.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in state.items())


def table(shift=0.0):
    """A table with holes, whose last column is not known at all."""
    x = torch.rand(40, 5, generator=torch.Generator().manual_seed(0)) + shift
    observed = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) > 0.4
    observed[:, 4] = False
    return Batch(x.where(observed, 0), {}, observed)


def test_networks_start_from_what_is_known():
    batch = table(shift=2.0)
    mean = torch.stack([batch.x[:, i][batch.observed[:, i]].mean() for i in range(4)])
    mean = torch.cat([mean, batch.x[batch.observed].mean()[None]])
    objective = recipes.build("vae", batch, {})[0].objective
    assert_close(objective.model.likelihood.net[-1].bias, mean)
    encoder = objective.guide.levels[0]
    assert_close(encoder.input_mean, torch.cat([mean, torch.zeros(5)]))
    seen = []
    encoder.net[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    objective.guide(batch.x, observed=batch.observed)
    assert_close(seen[0], torch.cat([(batch.x - mean) * batch.observed, batch.observed.float()], 1))
    # A trunk takes x as it is, and the mean where x is missing.
    trunk = recipes.build("ar-hvae", batch, {})[0].objective.guide.trunk
    assert_close(trunk[1][0].fill, mean)


@pytest.mark.parametrize("shift, inside", [(0.0, True), (2.0, False)])
def test_the_range_is_that_of_known_entries(shift, inside):
    batch = table(shift)
    model = recipes.build("hvae", batch, {})[0].objective.model
    assert model.likelihood.squash is inside
    if inside:
        recipes.build("vae", batch, {"likelihood": "bernoulli"})
        return
    low, high = batch.x[batch.observed].aminmax()
    with pytest.raises(ConfigError, match=rf"but these lie in \[{low:.3g}, {high:.3g}\]"):
        recipes.build("vae", batch, {"likelihood": "bernoulli"})


def test_the_pseudo_inputs_of_a_vampprior_are_data_with_their_conditions():
    batch = data("both")
    torch.manual_seed(1)
    prior = recipes.build("vampprior", batch, {"components": 20})[0].objective.model.prior
    assert [p.shape for p in prior.pseudo_given] == [(20, 3), (20, 1)]
    rows = (prior.pseudo_given[1] == batch.given["number"].T).float().argmax(1)
    assert sorted(rows.tolist()) == list(range(20))
    assert torch.equal(prior.pseudo_given[0], batch.given["y"][rows])
    known = batch.observed[rows]
    assert (prior.pseudo_inputs - (0.05 + 0.9 * batch.x[rows]))[known].abs().max() < 0.1


@pytest.mark.filterwarnings("ignore::pyro_hvae.errors.NoMeanWarning")  # of flows
@pytest.mark.parametrize("row, kind", CASES)
def test_bounds_and_questions(row, kind):
    name, options = ROWS[row]
    torch.manual_seed(SEED)
    batch = data(kind)
    objective = (stage := recipes.build(name, batch, options)[-1]).objective
    model, guide, seen = objective.model, objective.guide, stage.view_of(batch, torch.device("cpu"))[:6]
    objective(seen).backward()
    grads = {name: parameter.grad for name, parameter in objective.named_parameters()}
    assert all(grad is not None and grad.isfinite().all() and grad.any() for grad in grads.values())
    assert hv.ELBO(particles=3).estimate(model, guide, seen).bound().shape == (6,)
    assert hv.log_likelihood(model, guide, seen, particles=4).isfinite().all()
    assert hv.reconstruct(model, guide, seen).shape == seen.shape
    assert hv.generate(model, 3, given={key: y[:1] for key, y in seen.given.items()})["x"].shape == (3, *seen.shape[1:])
    if kind != "condition":
        filled = hv.impute(model, guide, seen, particles=4)
        assert torch.equal(filled[seen.observed], seen.x[seen.observed]) and filled[~seen.observed].any()
    recoded = hv.decode(model, found := hv.encode(guide, seen, draws=2))
    assert np.array_equal(recoded, hv.reconstruct(model, guide, seen).numpy())
    assert [*found.draws] == [*found.means] and all(np.isfinite(values).all() for values in found.arrays().values())
    scores = hv.score(model, guide, seen, particles=4, draws=2)
    assert {*scores.rates} == {*found.means} and all(np.isfinite(values).all() for values in scores.columns().values())
    objective.eval()  # batch normalisation looks at the whole batch while it trains
    codes = hv.latents(guide, seen, mean=True)
    for i in range(len(seen)):
        for site, value in hv.latents(guide, seen[i : i + 1], mean=True).items():
            assert_close(codes[site][i], value[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row, kind", CASES)
def test_a_captured_pass_equals_the_eager_one(row, kind):
    name, options = ROWS[row]
    torch.manual_seed(SEED)
    batch = data(kind)
    objective = (stage := recipes.build(name, batch, options)[-1]).objective
    seen = stage.view_of(batch, torch.device("cpu"))
    captured = hv.capture(objective, compile=False, warn=pytest.fail)
    for rows in (slice(0, 6), slice(6, 12)):
        torch.manual_seed(1)
        objective.zero_grad()
        loss = objective(seen[rows])
        loss.backward()
        expected = [parameter.grad for parameter in objective.parameters()]
        torch.manual_seed(1)
        assert_close(captured(seen[rows]), loss.detach())
        for parameter, grad in zip(objective.parameters(), expected, strict=True):
            assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-5)
    assert captured.eager is None and captured.graphs == 1


@pytest.mark.parametrize(
    "row", ["vae", "vampprior-2", "ar-hvae", "lvae", "pro-vlae", "teacher-student", "texture", "texture-joint"]
)
def test_every_stage_trains(row):
    name, options = ROWS[row]
    batch = data("condition" if "texture" in row else "both")
    stages = recipes.build(name, batch, options)
    before = [{key: value.clone() for key, value in stage.objective.state_dict().items()} for stage in stages]
    config = TrainConfig(steps=6, batch_size=8, log_every=1, lr=0.01)
    rows = hv.fit(stages, batch, config, [hv.Constant() for _ in stages], validation=batch[:10], progress=False)
    assert all(math.isfinite(row["loss"]) for row in rows) and {row["stage"] for row in rows} == set(range(len(stages)))
    for stage, state in zip(stages, before, strict=True):
        assert all(not torch.equal(parameter, state[key]) for key, parameter in stage.objective.named_parameters())


def test_the_second_stage_of_texture_centres_features_and_leaves_conditions():
    batch = data("condition")
    second = recipes.build("texture", batch, ROWS["texture"][1])[1]
    second.before()
    q = second.objective.guide.levels[0]
    assert_close(q.input_mean, torch.cat([second.view(batch.x).mean(0).flatten(), torch.zeros(4)]))


def test_students_keep_the_conditions_of_their_teacher():
    stages = recipes.build("teacher-student", data("condition"), {"dims": (1, 2, 3), "hidden": (8,), "features": 6})
    branches = [[rung.branch.in_features for rung in stage.objective.model.rungs.values()] for stage in stages]
    assert branches == [[3 + 4], [3 + 4, 2], [3 + 4, 2, 1]]
    for stage in stages[1:]:
        stage.before()  # inherits


def test_texture_refuses_missing_entries():
    batch, options = data("mask"), ROWS["texture"][1]
    with pytest.raises(ConfigError, match="the texture recipe needs all entries of x.*Use another recipe, such as vae or hvae"):
        recipes.build("texture", batch, options)
    recipes.build("hvae", batch, {})
    recipes.build("texture", batch.x, options)


@pytest.mark.parametrize("y", [torch.arange(20) % 3, torch.rand(20), torch.rand(20, 2, 2)])
def test_conditions_of_a_recipe_are_columns_of_floats(y):
    x = data("nothing").x
    with pytest.raises(ConfigError, match=r"the given input 'y' has the shape .* but recipes take floats \(n, width\)"):
        recipes.build("vae", Batch(x, {"y": y}), {})
    recipes.build("vae", Batch(x, {"y": y.float().reshape(len(y), -1)}), {})
    if not y.is_floating_point():
        recipes.build("vae", Batch(x, {"y": nn.functional.one_hot(y).float()}), {})


def test_a_pair_that_wants_a_condition_says_so():
    model, guide, batch = built("hvae", "condition")
    for program in (model, guide):
        with pytest.raises(ContractError, match="takes y, number beside x, but it was not given 'number'. Give it: loss"):
            program(batch.x, y=batch.given["y"])
        with pytest.raises(ContractError, match="but it was given 'colour'. Leave it out, or build"):
            program(batch.x, **batch.given, colour=batch.given["y"])
        program(batch.x, **batch.given)
    model, guide, batch = built("hvae", "nothing")
    for program in (model, guide):
        with pytest.raises(ContractError, match="takes no input beside x, but it was given 'y'"):
            program(batch.x, y=torch.zeros(6, 1))
        program(batch.x)
