"""Every question about a model runs in evaluation mode, whatever training left, and leaves no trace (float64)."""

import inspect

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.poutine.messenger import Messenger
from torch import nn
from torch.testing import assert_close

import pyro_hvae as hv
from pyro_hvae import inference
from pyro_hvae.conditionals import GaussianMixture

X = torch.rand(12, 6, generator=torch.Generator().manual_seed(1))
NOISE = {"z2": torch.zeros(3, 2), "z1": torch.ones(3, 2)}


class MixtureAbove(Messenger):
    """Puts a mixture in the place of the prior of z2."""

    def _pyro_sample(self, msg):
        if msg["name"] == "z2":
            mixture = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.ones(2, 2))
            msg["fn"] = mixture.expand(msg["fn"].batch_shape)


# Every public function of the room that takes a model, a guide or both.
QUESTIONS = {
    "active_units": lambda m, g, x: inference.active_units(g, x, samples=3),
    "ancestral": lambda m, g, x: inference.ancestral(m, 3)["x"]["fn"].mean,
    "bound": lambda m, g, x: inference.bound(hv.ELBO(), m, g, x),
    "bound_per_datum": lambda m, g, x: inference.bound_per_datum(hv.ELBO(), m, g, x),
    "class_posteriors": lambda m, g, x: inference.class_posteriors(with_bits(g), x, 2),
    "combine_draws": lambda m, g, x: inference.combine_draws(m, 2),
    "decode_noise": lambda m, g, x: inference.decode_noise(m, NOISE),
    "decode_points": lambda m, g, x: inference.decode_points(m, torch.zeros(3, 2).numpy(), ["z1"], {"z1": torch.zeros(1, 2)}),
    "decode": lambda m, g, x: inference.decode(m, {"z1": x[:, :2]}, draw=True),
    "direct_data_dependence": lambda m, g, x: inference.direct_data_dependence(g, x),
    "encode": lambda m, g, x: inference.encode(g, x, draws=2).arrays(),
    "generate": lambda m, g, x: inference.generate(m, 3),
    "generate in chunks": lambda m, g, x: inference.generate(m, 3, compile=True),
    "gibbs": lambda m, g, x: inference.gibbs(m, g, x, steps=3).x,
    "gibbs, resampled": lambda m, g, x: inference.gibbs(m, g, x, steps=2, particles=3).x,
    "grid_layers": lambda m, g, x: inference.grid_layers(m) == ["z2", "z1"],
    "impute": lambda m, g, x: inference.impute(m, g, x.where(x < 0.5, torch.nan), particles=5),
    "impute, draws": lambda m, g, x: inference.impute(m, g, x.where(x < 0.5, torch.nan), particles=5, draws=2),
    "importance_weights": lambda m, g, x: [w.bound for w in inference.importance_weights(m, g, x, 3)],
    "interpolate": lambda m, g, x: inference.interpolate(m, g, x[0], x[1], nodes=20).images,
    "kl_per_dimension": lambda m, g, x: inference.kl_per_dimension(m, g, x),
    "latents": lambda m, g, x: inference.latents(g, x),
    "layer_grid": lambda m, g, x: inference.layer_grid(m, "z1", cells=2, guide=g, x=x[:1]),
    "layer_samples": lambda m, g, x: inference.layer_samples(m, "z1", 3, g, x[:1]),
    "layer_shares": lambda m, g, x: [(s.share, s.stderr) for s in inference.layer_shares(m, 3, 2).values()],
    "likelihood_name": lambda m, g, x: inference.likelihood_name(m).startswith("Gaussian, sigma"),
    "log_likelihood": lambda m, g, x: inference.log_likelihood(m, g, x, 5),
    "log_likelihood of one": lambda m, g, x: inference.log_likelihood(m, g, x[:1], 5),
    "mixture_priors": lambda m, g, x: [p.loc for p in inference.mixture_priors(MixtureAbove()(m), x).values()],
    "posterior_draws": lambda m, g, x: inference.posterior_draws(m, g, x, draws=30)["sample_stats"]["log_weight"],
    "posteriors": lambda m, g, x: [(q.means, q.stds) for q in inference.posteriors(g, x, 2).values()],
    "prior_latents": lambda m, g, x: inference.prior_latents(m, 3),
    "reconstruct": lambda m, g, x: inference.reconstruct(m, g, x),
    "responsibilities": lambda m, g, x: inference.responsibilities(MixtureAbove()(m), g, x, draws=2),
    "sample_noise": lambda m, g, x: inference.sample_noise(m, 3),
    "to_datatree": lambda m, g, x: to_datatree(m, g, x),
    "score": lambda m, g, x: inference.score(m, g, x, particles=3, draws=2).columns(),
    "traverse": lambda m, g, x: inference.traverse(m, g, x[:1], x).images,
    "InformationFlow": lambda m, g, x: inference.InformationFlow(x, draws=2).row(g),
}


def to_datatree(model, guide, x):
    pytest.importorskip("arviz_base")
    return inference.to_datatree(model, guide, x, draws=30).posterior.z1.values


def test_no_public_question_is_missing():
    functions = {name: getattr(inference, name) for name in inference.__all__ if inspect.isfunction(getattr(inference, name))}
    asks = {name for name, f in functions.items() if {"model", "guide"} & set(inspect.signature(f).parameters)}
    assert asks - {"InformationFlow"} == {name for name in QUESTIONS if " " not in name} - {"InformationFlow"}


def with_bits(guide):
    """The guide with a site of bits given its draws, in the same pair."""

    def bits(x):
        guide(x)
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=3 * x[:, :2]).to_event(1))

    return bits


class OwnPair(nn.Module):
    """A hierarchy z2 -> z1 -> x with modules of its own, and both programs as methods; dropout is its own, too."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 6))
        self.up, self.down = nn.Linear(2, 2), nn.Linear(2, 2)

    def model(self, x=None, size=1):
        return model_of(self.decoder, self.down, x, size)

    def guide(self, x):
        return guide_of(self.encoder, self.up, x)


def apply(net, value):
    return net(value.flatten(0, -2)).unflatten(0, value.shape[:-1])


def model_of(decoder, down, x=None, size=1):
    with pyro.plate("data", size if x is None else len(x)):
        z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1))
        z1 = pyro.sample("z1", dist.Normal(down(z2), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(apply(decoder, z1), 1.0).to_event(1), obs=x)


def guide_of(encoder, up, x):
    with pyro.plate("data", len(x)):
        loc, scale = apply(encoder, x).chunk(2, -1)
        z1 = pyro.sample("z1", dist.Normal(3 * loc, scale.exp()).to_event(1))
        pyro.sample("z2", dist.Normal(up(z1), 1.0).to_event(1))


GLOBAL = nn.ModuleDict()


def global_model(x=None, size=1):
    return model_of(GLOBAL["decoder"], GLOBAL["down"], x, size)


def global_guide(x):
    return helper(x)


def helper(x):
    return guide_of(GLOBAL["encoder"], GLOBAL["up"], x)


def closures(own):
    nets = {"decoder": own.decoder, "down": own.down}

    def model(x=None, size=1):
        return model_of(**nets, x=x, size=size)

    return model, pyro.poutine.scale(lambda x, own=own: own.guide(x), 1.0), own


def globals_(own):
    GLOBAL.update({"decoder": own.decoder, "down": own.down, "encoder": own.encoder, "up": own.up})
    return global_model, global_guide, GLOBAL


def modules(own):
    size = {"hidden": (5,), "norm": True, "gain": 1.0}
    model = hv.Chain(hv.StandardNormal(2), [hv.Gaussian(2, 2, **size)], hv.Gaussian(2, 6, **size))
    guide = hv.BottomUp([hv.Gaussian(6, 2, **size), hv.Gaussian(2, 2, **size)])
    return model, guide, nn.ModuleList([model, guide])


PAIRS = {
    "modules of the library": modules,
    "methods of one module": lambda own: (own.model, own.guide, own),
    "functions with closures": closures,
    "functions of globals": globals_,
    "a pair for SVI": lambda own: (*hv.for_svi(*modules(own)[:2]), own),
}


def ask(question, pair):
    torch.manual_seed(7)
    return QUESTIONS[question](*pair, X.double())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_runs_in_evaluation_mode_and_leaves_no_trace(question, kind):
    torch.manual_seed(0)
    model, guide, module = PAIRS[kind](OwnPair())
    if kind == "a pair for SVI":
        module = nn.ModuleList([model.args[1], guide.args[1]])
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms
    for norm in norms:  # statistics that differ from those of any batch
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    module.eval()
    expected = ask(question, (model, guide))
    module.train()
    norms[0].eval()  # a frozen module stays frozen
    modes = {m: m.training for m in module.modules()}
    buffers = {name: value.clone() for name, value in module.state_dict().items()}
    assert_close(ask(question, (model, guide)), expected, rtol=0, atol=0)
    assert {m: m.training for m in module.modules()} == modes
    assert_close(dict(module.state_dict()), buffers, rtol=0, atol=0)


def test_the_caller_of_a_generator_runs_in_the_mode_of_the_model():
    model, guide, module = modules(None)
    module.train()
    for _ in inference.importance_weights(model, guide, torch.rand(5000, 6), 1000):
        assert all(m.training for m in module.modules())
        break


def test_a_question_that_fails_restores_the_modes():
    model, guide, module = modules(None)
    module.train()
    with pytest.raises(hv.HVAEError, match="z9"):
        inference.generate(model, 1, {"z9": torch.zeros(1, 2)})
    assert all(m.training for m in module.modules())


@pytest.mark.usefixtures("float64")
def test_answers_after_fit_are_those_of_the_evaluated_pair_for_every_number_of_rows():
    """Without evaluation mode 2, 10 and 50 rows each have numbers of their own, and one row is an error."""
    model, guide, module = modules(None)
    x = torch.randn(50, 6)
    hv.fit(hv.ELBO()(model, guide), x, hv.TrainConfig(steps=20, batch_size=10, compile=False))
    assert not any(m.training for m in (*model.modules(), *guide.modules()))
    module.train()
    torch.manual_seed(0)
    means = hv.latents(guide, x, mean=True)["z1"]
    for rows in (1, 2, 10):
        assert_close(hv.latents(guide, x[:rows], mean=True)["z1"], means[:rows])
    module.eval()
    torch.manual_seed(0)
    assert_close(hv.latents(guide, x, mean=True)["z1"], means, rtol=0, atol=0)
