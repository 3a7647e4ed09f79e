"""Programs that are no modules are trained, saved and opened with the modules that they use, or refused by name."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule, PyroParam
from torch import nn

import pyro_hvae as hv
from pyro_hvae.compilation import CaptureWarning
from pyro_hvae.errors import ConfigError, ContractError
from pyro_hvae.objectives.program_module import ProgramModule


class VAE(nn.Module):
    """Model and guide as methods of one module, which announce their networks: as most examples of Pyro do."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder, self.decoder = hv.Gaussian(6, 2), hv.Gaussian(2, 6)

    def model(self, x=None, size=1):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x, size=1):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            return pyro.sample("z", self.encoder(x))


class Half(nn.Module):
    """One method of a VAE as a module of its own: what `methods` has to equal."""

    def __init__(self, vae, name):
        super().__init__()
        self.vae, self.name = vae, name

    def forward(self, *args, **kwargs):
        return getattr(self.vae, self.name)(*args, **kwargs)


X = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
CONFIG = hv.TrainConfig(steps=5, batch_size=20, lr=1e-2)


@pytest.fixture(autouse=True)
def store():
    with pyro.get_param_store().scope():
        yield


def test_methods_are_trained_as_modules_are():
    methods, modules = VAE(), VAE()
    for vae, pair in ((methods, (methods.model, methods.guide)), (modules, (Half(modules, "model"), Half(modules, "guide")))):
        before = [p.clone() for p in vae.parameters()]
        hv.fit(hv.ELBO()(*pair), X, CONFIG, progress=False)
        assert not any(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(methods.parameters(), modules.parameters(), strict=True))


@pytest.mark.parametrize("compile", [True, False])
def test_a_second_model_of_one_process_is_trained_like_the_first(compile):
    ends = []
    for _ in range(2):
        vae = VAE()
        hv.fit(hv.ELBO()(vae.model, vae.guide), X, hv.TrainConfig(steps=5, batch_size=20, compile=compile), progress=False)
        ends.append(vae.decoder.net[0].weight)
        assert not list(pyro.get_param_store().keys())
    assert torch.equal(*ends)


def test_methods_are_saved_and_opened(tmp_path):
    first, second = VAE(0), VAE(1)
    hv.fit(hv.ELBO()(first.model, first.guide), X, CONFIG, progress=False, out=tmp_path / "run")
    opened = hv.load(tmp_path / "run", program=(second.model, second.guide))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    torch.manual_seed(0)
    value = hv.log_likelihood(opened.model, opened.guide, X, particles=10)
    torch.manual_seed(0)
    assert torch.equal(hv.log_likelihood(first.model, first.guide, X, particles=10), value)


def test_handled_programs_and_functions_are_trained_with_the_modules_that_they_use():
    vae = VAE()
    decoder, unused = hv.Gaussian(2, 6), hv.Gaussian(2, 6)

    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", decoder(z), obs=x)

    for given, networks in ((poutine.scale(vae.model, 2.0), [vae.decoder]), (model, [decoder])):
        guide = poutine.scale(vae.guide, 2.0) if given is not model else vae.guide
        objective = hv.ELBO()(given, guide)
        assert {id(p) for network in networks for p in network.parameters()} <= {id(p) for p in objective.parameters()}
        before = [p.clone() for network in networks for p in network.parameters()]
        hv.fit(objective, X, CONFIG, progress=False)
        after = [p for network in networks for p in network.parameters()]
        assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p is not q for p in objective.parameters() for q in unused.parameters())


def test_methods_give_the_bound_of_pyro():
    vae = VAE()
    assert list(ProgramModule(vae.model).uses) == [vae]  # and not its parts once more
    torch.manual_seed(0)
    found = hv.ELBO(analytic_kl=False)(vae.model, vae.guide)(X).item()
    torch.manual_seed(0)
    assert found == pytest.approx(Trace_ELBO().loss(vae.model, vae.guide, X) / len(X), rel=1e-6)


@pytest.mark.parametrize("engine", ["fit", "svi"])
@pytest.mark.parametrize("place", ["model", "guide"])
def test_a_pyro_param_that_nothing_would_train_is_refused_by_name(engine, place):
    vae = VAE()

    def model(x=None, size=1):
        shift = pyro.param("shift", torch.zeros(6)) if place == "model" else 0.0
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(vae.decoder(z).mean + shift, 1.0).to_event(1), obs=x)

    def guide(x, size=1):
        if place == "model":
            return vae.guide(x)
        spread = pyro.param("spread", torch.ones(2), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            return pyro.sample("z", dist.Normal(vae.encoder(x).mean, spread).to_event(1))

    name = "shift" if place == "model" else "spread"
    config = hv.TrainConfig(steps=3, engine=engine)
    with pytest.raises(ContractError, match=f"reads pyro.param '{name}' .*Make it an nn.Parameter"):
        hv.fit(hv.ELBO()(model, guide), X, config, progress=False)
    assert not list(pyro.get_param_store().keys())
    # SVI itself trains it, by our bound too.
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), hv.ELBO())
    start = pyro.param(name, torch.full((6 if place == "model" else 2,), 1.0)).clone()
    for _ in range(3):
        svi.step(X)
    assert not torch.equal(pyro.param(name), start)


def test_parameters_of_pyro_modules_are_trained():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.sigma = PyroParam(torch.ones(6), constraint=dist.constraints.positive)
            self.decoder = hv.Gaussian(2, 6)

        def forward(self, x=None, size=1):
            with pyro.plate("data", size if x is None else len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(self.decoder(z).mean, self.sigma).to_event(1), obs=x)

    model, vae = Model(), VAE()
    hv.fit(hv.ELBO()(model, vae.guide), X, CONFIG, progress=False)
    assert not torch.equal(model.sigma, torch.ones(6))


def test_a_pair_without_parameters_is_one_sentence():
    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(6), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x, size=1):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))

    objective = hv.ELBO()(model, guide)
    assert isinstance(objective.model, ProgramModule) and objective(X).isfinite()
    with pytest.raises(ConfigError, match="no parameters to train"):
        hv.fit(objective, X, CONFIG, progress=False)


def test_a_name_that_another_model_has_in_the_store_is_named():
    first, second = VAE(0), VAE(1)
    SVI(first.model, first.guide, pyro.optim.Adam({}), Trace_ELBO()).step(X)
    with pytest.warns(CaptureWarning, match=r"pyro.module\('encoder'\) of another model; .*pyro.clear_param_store\(\) first"):
        hv.capture(hv.ELBO()(second.model, second.guide), compile=False)(X)
    pyro.clear_param_store()
    step = hv.capture(hv.ELBO()(second.model, second.guide), compile=False)
    step(X)
    assert step.eager is None


def test_a_pyro_param_without_a_first_value_is_named_too():
    vae = VAE()
    pyro.param("shift", torch.zeros(6))

    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(vae.decoder(z).mean + pyro.param("shift"), 1.0).to_event(1), obs=x)

    with pytest.raises(ContractError, match="reads pyro.param 'shift'"):
        hv.fit(hv.ELBO()(model, vae.guide), X, CONFIG, progress=False)
