"""Teacher and student: every penalty by hand on linear pairs, the loss they enter, the frozen teacher; and points (float64)."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import ELBO, BottomUp, Chain, Gaussian, StandardNormal
from pyro_hvae.conditionals.point import Point
from pyro_hvae.errors import ConfigError, ContractError
from pyro_hvae.inference.importance_sampling import importance_weights
from pyro_hvae.networks.fully_connected import FlattenPlates
from pyro_hvae.objectives.handlers import ScaleSites, Share
from pyro_hvae.objectives.pyro_svi import ScheduledELBO
from pyro_hvae.objectives.supervision import Supervision
from pyro_hvae.runs.train_config import TrainConfig

pytestmark = pytest.mark.usefixtures("float64")

PIXELS, B = (2, 3), 7  # x is 2 x 3, so D = 6
D = 6


class Decoder(nn.Module):
    """p(x | z) = N(sum_l W_l z_l + bend prod(sums of all z), 1) with z_l ~ N(0, I): linear unless it is bent."""

    def __init__(self, weights, bend=0.0, scale=1.0):
        super().__init__()
        self.weights = nn.ParameterDict({name: nn.Parameter(w.clone()) for name, w in weights.items()})
        self.bend, self.scale = bend, scale

    def forward(self, x=None, size=1):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = {n: pyro.sample(n, dist.Normal(torch.zeros(w.shape[1]), 1.0).to_event(1)) for n, w in self.weights.items()}
            mean = sum(z[name] @ w.T for name, w in self.weights.items())
            mean = mean + self.bend * math.prod(v.sum(-1, keepdim=True) for v in z.values())
            loc = mean.reshape(*mean.shape[:-1], *PIXELS)
            return pyro.sample("x", dist.Normal(loc, torch.full_like(loc, self.scale)).to_event(2), obs=x)


class Encoder(nn.Module):
    """q(z_l | x) = N(W_l x, 0.3), for all sites at once; with `norm` the features of x pass batch normalisation."""

    def __init__(self, weights, norm=False):
        super().__init__()
        self.weights = nn.ParameterDict({name: nn.Parameter(w.clone()) for name, w in weights.items()})
        self.norm = nn.BatchNorm1d(D, affine=False) if norm else None

    def forward(self, x, size=1):
        h = x.flatten(1)
        h = h if self.norm is None else self.norm(h)
        with pyro.plate("data", len(x), dim=-1):
            for name, w in self.weights.items():
                pyro.sample(name, dist.Normal(h @ w.T, torch.tensor(0.3)).to_event(1))


def draw(*shape):
    return 0.5 * torch.randn(*shape)


def teacher(norm=False):
    return Decoder({"z2": draw(D, 2)}), Encoder({"z2": draw(2, D)}, norm)


def student(bend=0.0):
    return Decoder({"z2": draw(D, 2), "z1": draw(D, 1)}, bend), Encoder({"z1": draw(1, D), "z2": draw(2, D)})


def data():
    return torch.randn(B, *PIXELS)


def by_hand(teach, pair, x, order, bend):
    """The three means, unweighted, in loops over data and dims."""
    rows = x.flatten(1)
    a_t, a_s = teach[0].weights["z2"], pair[0].weights["z2"]
    t = [teach[1].weights["z2"] @ row for row in rows]
    f = [pair[1].weights["z2"] @ row for row in rows]
    n = [pair[1].weights["z1"] @ row for row in rows]
    code = sum((t[b][i] - f[b][i]) ** 2 for b in range(B) for i in range(2)) / (2 * B)
    covariances = [sum(n[b][0] * (f[b][i] - sum(g[i] for g in f) / B) for b in range(B)) / B for i in range(2)]
    cross = sum(c**2 for c in covariances) ** 0.5
    total = 0.0
    for b in range(B):
        other = int(order[b])
        theirs = a_t @ t[b] - a_t @ t[other]
        ours = a_s @ f[b] + bend * n[b].sum() * f[b].sum() - (a_s @ f[other] + bend * n[b].sum() * f[other].sum())
        total = total + ((theirs - ours) ** 2).sum()
    return {"code": code, "cross": cross, "difference": total / (B * D)}


@pytest.mark.parametrize("bend", [0.0, 0.7])
def test_every_penalty_equals_its_mean_by_hand_times_weight_and_pixels(bend):
    teach, pair, x = teacher(), student(bend), data()
    torch.manual_seed(4)
    ELBO().sites(*pair, x)
    order = torch.randperm(B)
    torch.manual_seed(4)
    found = Supervision(teach, 0.25, 1e-3, 0.1)
    penalties = found.estimate(*pair, x).penalties
    expected = by_hand(teach, pair, x, order, bend)
    assert list(penalties) == ["code", "cross", "difference"]
    for name, weight in (("code", 0.25), ("cross", 1e-3), ("difference", 0.1)):
        assert penalties[name].shape == () and penalties[name] > 0
        assert_close(penalties[name], D * weight * expected[name])


def test_a_student_that_bends_its_teachers_jacobian_pays_and_one_that_only_adds_does_not():
    teach, x = teacher(), data()
    weights = {"z2": teach[0].weights["z2"].detach(), "z1": draw(D, 1)}
    guide = Encoder({"z2": teach[1].weights["z2"].detach(), "z1": draw(1, D)})
    same = Supervision(teach).estimate(Decoder(weights), guide, x).penalties
    assert same["code"] == 0 and same["difference"] < 1e-28 and same["cross"] > 0
    bent = Supervision(teach).estimate(Decoder(weights, bend=0.5), guide, x).penalties
    assert bent["code"] == 0 and bent["difference"] > 0.01


def test_the_gradient_of_the_difference_is_that_of_the_students_jacobian():
    """With equal codes it is 2 w_d / B sum_b E d_b d_b^T, d_b = t_b - t_pi(b), E the error of the Jacobian."""
    teach, x = teacher(), data()
    error = draw(D, 2)
    model = Decoder({"z2": teach[0].weights["z2"].detach() + error, "z1": draw(D, 1)})
    guide = Encoder({"z2": teach[1].weights["z2"].detach(), "z1": draw(1, D)})
    elbo = Supervision(teach)

    def value():
        torch.manual_seed(4)
        return elbo.estimate(model, guide, x).penalties["difference"]

    torch.manual_seed(4)
    elbo.sites(model, guide, x)
    order = torch.randperm(B)
    t = (x.flatten(1) @ teach[1].weights["z2"].T).detach()
    moved = t - t[order]
    gradient, slope = torch.autograd.grad(value(), [model.weights["z2"], guide.weights["z2"]])
    assert_close(gradient, 2 * 0.1 / B * error @ moved.T @ moved)
    for parameter, found in ((model.weights["z2"], gradient), (guide.weights["z2"], slope)):
        with torch.no_grad():
            for i in range(2):
                parameter[i, i] += 1e-5
                above = value()
                parameter[i, i] -= 2e-5
                below = value()
                parameter[i, i] += 1e-5
                assert_close(found[i, i], (above - below) / 2e-5, rtol=1e-5, atol=1e-8)


def test_a_code_that_does_not_vary_has_a_gradient():
    model, _ = student()
    guide = Encoder({"z1": torch.zeros(1, D), "z2": draw(2, D)})
    estimate = Supervision(teacher()).estimate(model, guide, data())
    estimate.loss().backward()
    assert estimate.penalties["cross"] == 0
    assert all(p.grad.isfinite().all() for p in guide.parameters())


def test_a_penalty_without_weight_is_left_out():
    pair, x = student(), data()
    assert list(Supervision(teacher(), cross=0.0, difference=0.0).estimate(*pair, x).penalties) == ["code"]
    assert Supervision(teacher(), 0.0, 0.0, 0.0).estimate(*pair, x).penalties == {}


def test_penalties_are_in_the_loss_and_in_no_bound():
    teach, pair, x = teacher(), student(), data()
    torch.manual_seed(4)
    plain = ELBO(analytic_kl=False).estimate(*pair, x)
    elbo = Supervision(teach, 3.0, 2.0, 1.0)
    elbo.analytic_kl = False
    torch.manual_seed(4)
    taught = elbo.estimate(*pair, x)
    assert_close(taught.bound(), plain.bound())
    assert_close(taught.bound_unweighted(), plain.bound_unweighted())
    assert_close(taught.log_weights(), plain.log_weights())
    assert_close(taught.loss(), plain.loss() + sum(taught.penalties.values()))
    assert taught.loss() > plain.loss() + 0.1


@pytest.mark.parametrize("beta", [0.05, 1.0, 2.5])
def test_penalties_weigh_as_the_reconstruction_does_whatever_beta(beta):
    pair, x = student(), data()
    estimate = Supervision(teacher(), 3.0, 2.0, 1.0).estimate(*pair, x)
    rate = (estimate.terms["x"] - estimate.bound()).mean()
    cost = estimate.distortion() + sum(estimate.penalties.values())
    expected = (cost + beta * rate) / max(1.0, beta)
    assert_close(estimate.loss({"x": 1 / beta}), expected)
    assert_close(estimate.loss({"x": torch.tensor(1 / beta)}), expected)
    assert_close(estimate.loss({"z1": 0.0, "x": 1 / beta}), (cost / beta - estimate.terms["z2"].mean()) / max(1.0, 1 / beta))


def test_a_weight_put_on_x_from_outside_holds_for_the_penalties_too():
    pair, x = student(), data()
    weighted = [ScaleSites({"x": 0.2})(program) for program in pair]
    torch.manual_seed(4)
    estimate = Supervision(teacher(), 3.0, 2.0, 1.0).estimate(*weighted, x)
    cost = estimate.distortion() + sum(estimate.penalties.values())
    assert_close(estimate.loss(), 0.2 * cost + sum(estimate.rates().values()))


CONFIG = TrainConfig(steps=12, batch_size=4, lr=1e-2, log_every=4, seed=3)


def test_training_the_student_leaves_the_teacher_alone():
    teach, pair = teacher(norm=True), student()
    objective = Supervision(teach)(*pair)
    assert teach[1].training
    assert {id(p) for p in objective.parameters()} == {id(p) for part in pair for p in part.parameters()}
    before = [v.clone() for part in teach for v in part.state_dict().values()]
    student_before = [p.detach().clone() for p in objective.parameters()]
    hv.fit(objective, data(), CONFIG, hv.Constant(2.0))
    after = [v for part in teach for v in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None and p.requires_grad for part in teach for p in part.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(student_before, objective.parameters(), strict=True))


def test_the_teacher_answers_as_in_evaluation():
    teach, pair, x = teacher(norm=True), student(), 3 + data()
    teach[1].norm.running_mean.fill_(2.0)
    value = Supervision(teach, code=1.0).estimate(*pair, x).penalties["code"]
    t = ((x.flatten(1) - 2.0) / math.sqrt(1 + 1e-5)) @ teach[1].weights["z2"].T
    assert_close(value, D * (t - x.flatten(1) @ pair[1].weights["z2"].T).square().mean())


def test_the_permutation_comes_from_the_callers_stream_and_is_all_that_is_drawn():
    teach, pair, x = teacher(), student(), data()
    elbo = Supervision(teach)

    def estimate(seed):
        torch.manual_seed(seed)
        return elbo.estimate(*pair, x).penalties

    first, again, other = estimate(1), estimate(1), estimate(2)
    assert torch.equal(first["difference"], again["difference"])
    assert first["difference"] != other["difference"] and torch.equal(first["code"], other["code"])
    torch.manual_seed(1)
    elbo.estimate(*pair, x)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    ELBO().estimate(*pair, x)
    torch.randperm(B)
    assert torch.equal(state, torch.get_rng_state())


def test_both_engines_take_the_same_steps_of_a_student():
    found = []
    for engine in ("fit", "svi"):
        torch.manual_seed(5)
        teach, pair, x = teacher(), student(0.3), data()
        config = TrainConfig(**{**CONFIG.__dict__, "engine": engine, "steps": 3, "log_every": 1})
        rows = hv.fit(Supervision(teach, 3.0, 2.0, 1.0)(*pair), x, config, hv.Constant(2.0))
        found.append(([row["loss"] for row in rows], [p.detach() for part in pair for p in part.parameters()]))
    assert_close(found[0], found[1])


def test_the_bridge_to_svi_keeps_the_objectives_class():
    pair, x = student(), data()
    elbo = ScheduledELBO(Supervision(teacher()))
    assert list(elbo.estimate(*pair, x).penalties) == ["code", "cross", "difference"]


def test_any_pair_can_learn_from_any_that_has_some_of_its_sites():
    """A stochastic chain of two layers, taught the lower one by a flat pair."""
    chain = Chain(StandardNormal(3), [Gaussian(3, 2, (8,), scale=1.0)], Gaussian(2, PIXELS, (8,), scale=1.0))
    flat = Chain(StandardNormal(2), [], Gaussian(2, PIXELS, (8,), scale=1.0))
    guide = BottomUp([Gaussian(PIXELS, 2, (8,), scale=0.3), Gaussian(2, 3, (8,), scale=0.3)])
    objective = Supervision((flat, BottomUp([Gaussian(PIXELS, 2, (8,))])), code=10.0)(chain, guide)
    x = data()
    code = objective.estimate(x).penalties["code"].item()
    hv.fit(objective, x, TrainConfig(steps=60, batch_size=B, lr=1e-2))
    assert objective.estimate(x).penalties["code"].item() < 0.5 * code


def refusal(teach, pair, x):
    elbo = Supervision(teach)
    messages = []
    for _ in range(2):  # the second use is refused as the first was
        with pytest.raises(ConfigError) as caught:
            elbo.estimate(*pair, x)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return messages[0]


def test_a_teacher_that_does_not_match_is_refused_with_both_named():
    x, pair = data(), student()
    message = refusal((Decoder({"z3": draw(D, 2)}), Encoder({"z3": draw(2, D)})), pair, x)
    assert "has ['z3'], the student ['z1', 'z2']" in message and "Give the student the teacher's sites" in message
    assert "not all" in refusal(pair, student(), x)
    message = refusal((Decoder({"z2": draw(D, 3)}), Encoder({"z2": draw(3, D)})), pair, x)
    assert "'z2' has shape (3,), the student's (2,)" in message and "keeps the sites" in message
    small = Chain(StandardNormal(2), [], Gaussian(2, (2, 2), (4,)))
    wide = Chain(StandardNormal(2), [Gaussian(2, 1, (4,))], Gaussian(3, PIXELS, (4,)), skip=True)
    guide = BottomUp([Gaussian(PIXELS, 1, (4,)), Gaussian(1, 2, (4,))])
    other = Chain(StandardNormal(1), [], Gaussian(1, (2, 2), (4,)))
    assert "'z1' has shape (2,), the student's (1,)" in refusal(
        (small, BottomUp([Gaussian((2, 2), 2, (4,))])), (wide, guide), x
    )
    message = refusal((other, BottomUp([Gaussian((2, 2), 1, (4,))])), (wide, guide), x)
    assert "'x' has shape (2, 2), the student's (2, 3)" in message and "same data" in message


def test_a_student_or_teacher_that_breaks_the_contract_is_told_so():
    def unframed(x=None, size=1):
        pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(ContractError, match='outside the plate "data"'):
        Supervision(teacher()).estimate(student()[0], unframed, data())


@pytest.mark.parametrize("options", [{"code": -0.1}, {"cross": math.nan}, {"difference": math.inf}, {"particles": 4}])
def test_bad_options_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=f"{name}.*{value}"):
        Supervision(teacher(), **options)


def autoencoder(norm=False):
    net = nn.Sequential(nn.Linear(D, 2), *([FlattenPlates(nn.BatchNorm1d(2, affine=False), [2])] if norm else []))
    model = Chain(StandardNormal(2), [], Gaussian(2, PIXELS, (8,), scale=math.sqrt(0.5)))
    return model, BottomUp([Point(Gaussian(PIXELS, 2, scale=1.0, net=net))])


@pytest.mark.parametrize("options", [{}, {"analytic_kl": False}, {"particles": 3}, {"particles": 3, "shared": {"z1"}}])
def test_a_points_elbo_is_the_squared_error_and_nothing_else(options):
    model, guide = autoencoder()
    x = data()
    estimate = ELBO(**options).estimate(model, guide, x)
    error = (x - hv.reconstruct(model, guide, x)).square().sum((1, 2))
    assert (estimate.terms["z1"] == 0).all()
    assert_close(estimate.bound(), -error - D / 2 * math.log(math.pi))
    loss = estimate.loss()
    found = torch.autograd.grad(loss, list(guide.parameters()), retain_graph=True)
    expected = torch.autograd.grad(-estimate.terms["x"].mean(), list(guide.parameters()))
    assert_close(found, expected)


def test_a_delta_keeps_its_own_density_in_the_bound():
    """Pyro's KL of a Delta, which the stock mean-field bound takes, leaves log_density out."""
    x = data()
    model, _ = autoencoder()

    def guide(x, size=1):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z1", dist.Delta(x[:, 0, :2], torch.full((len(x),), -1.5), event_dim=1))

    term = ELBO().estimate(model, guide, x).terms["z1"]
    assert_close(term, -0.5 * x[:, 0, :2].square().sum(1) - math.log(2 * math.pi) + 1.5)


def test_a_point_takes_particles_at_any_dim():
    _, guide = autoencoder()
    with Share((), 4):
        drawn = guide(data())
    assert drawn.shape == (4, B, 2) and bool((drawn == drawn[0]).all())


def test_an_autoencoder_has_no_importance_weights():
    model, guide = autoencoder()
    with pytest.raises(ConfigError, match=r"a point \(z1\).*no importance weights"):
        next(importance_weights(model, guide, data(), particles=10))
    with pytest.raises(ConfigError, match="Gaussian posteriors"):
        hv.posteriors(guide, data())


def test_an_autoencoder_teaches_an_autoencoder():
    x = data()
    flat = Chain(StandardNormal(2), [], Gaussian(2, PIXELS, (8,), scale=math.sqrt(0.5)))
    code = nn.Sequential(nn.Linear(D, 2), FlattenPlates(nn.BatchNorm1d(2, affine=False), [2]))
    teach = flat, BottomUp([Point(Gaussian(PIXELS, 2, scale=1.0, net=code))])
    model = Chain(StandardNormal(1), [Gaussian(1, 2, (4,))], Gaussian(3, PIXELS, (8,), scale=math.sqrt(0.5)), skip=True)
    guide = BottomUp([Point(Gaussian(PIXELS, 2, (), scale=1.0)), Point(Gaussian(2, 1, (), scale=1.0))])
    estimate = Supervision(teach).estimate(model, guide, x)
    means = hv.latents(guide, x, mean=True)
    wanted = teach[1].eval()(x)
    assert_close(estimate.penalties["code"], D * 0.25 * (wanted - means["z1"]).square().mean())
