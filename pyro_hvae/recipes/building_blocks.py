"""The building blocks of recipes: likelihoods, encoders and the conditionals between layers, sized by the data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pyro_hvae.conditionals import Bernoulli, Gaussian, Laplace, StandardNormal
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.guides import BottomUp
from pyro_hvae.models import Chain
from pyro_hvae.networks import network_pair

# The codes of a learned prior spread over tens (VHP), and their distances are what its graph measures: they enter as they are.
INPUTS: dict[str, Any] = {"input_bound": None}


def _range(x: Tensor) -> tuple[float, float]:
    low, high = x.aminmax()
    return low.item(), high.item()


def _bernoulli(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
    low, high = _range(x)
    if low < 0 or high > 1:
        raise ConfigError(
            f"a Bernoulli likelihood needs data in [0, 1], but these lie in [{low:.3g}, {high:.3g}]. "
            "Use -o likelihood=gaussian."
        )
    if learn_sigma:
        raise ConfigError("a Bernoulli likelihood has no sigma, so learn_sigma cannot be on. Use -o likelihood=gaussian.")
    return Bernoulli(parents, x.shape[1:], **network)


def _laplace(parents: int, x: Tensor, sigma: float, learn_sigma: bool, **network: Any) -> nn.Module:
    if learn_sigma:
        raise ConfigError("a Laplace likelihood has a fixed scale, so learn_sigma cannot be on. Use -o likelihood=gaussian.")
    return Laplace(parents, x.shape[1:], scale=sigma, **network)


# name -> (features of x's parents, training data, sigma, whether it is trained, network options) -> conditional of x
LIKELIHOODS: dict[str, Callable[..., nn.Module]] = {
    "gaussian": lambda parents, x, sigma, learn, **net: Gaussian(parents, x.shape[1:], scale=sigma, learn_scale=learn, **net),
    "laplace": _laplace,
    "bernoulli": _bernoulli,
}


def check_dims(dims: Sequence[int]) -> tuple[int, ...]:
    """The widths of the latent layers; raises `ConfigError` where there are none or one is below one."""
    if not dims or any(n < 1 for n in dims):
        raise ConfigError(
            "dims are the widths of z1, z2, ... from the bottom up, at least 1 and all positive, got "
            f"{','.join(map(str, dims)) or 'none'}. Example: -o dims=20,20,20."
        )
    return tuple(dims)


@dataclass(frozen=True)
class BuildingBlocks:
    """Builds the conditionals of one system from its settings.

    Attributes:
        x: the training data. likelihood: of p(x | z), a key of `LIKELIHOODS`.
        sigma: a Gaussian's standard deviation, a Laplace's scale b. learn_sigma: train it (Gaussian only).
        network: of x's encoder and decoder, a key of `NETWORKS`. hidden: its widths. upper: widths of the networks between
            layers. activation: of all networks. norm: batch normalisation in fully connected ones.
        squash: a Gaussian's or Laplace's mean is a sigmoid where the data lie in [0, 1]; without it a Gibbs chain can run away.
        posterior: of q(z1 | x), diagonal (the papers') or isotropic. std: of all latents (see `Gaussian`).
    """

    x: Tensor
    likelihood: str
    sigma: float
    hidden: Sequence[int]
    upper: Sequence[int] = ()
    activation: str = "relu"
    network: str = "mlp"
    posterior: str = "diagonal"
    std: str = "exp"
    learn_sigma: bool = False
    norm: bool = False
    squash: bool = False

    @property
    def in_unit_range(self) -> bool:
        """Whether the data lie in [0, 1]."""
        low, high = _range(self.x)
        return low >= 0 and high <= 1

    @property
    def event(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])

    def markov_chain(self, dims: Sequence[int]) -> tuple[Chain, BottomUp]:
        """A Markov chain of Gaussian layers with its bottom-up guide; `dims` from z1 upwards."""
        pairs = list(zip(dims[:-1], dims[1:], strict=True))
        levels = [self.prior_level(above, below) for below, above in reversed(pairs)]
        up = [self.posterior_level(below, above) for below, above in pairs]
        model = Chain(StandardNormal(dims[-1]), levels, self.decoder(dims[0]))
        return model, BottomUp([self.encoder(dims[0]), *up])

    def decoder(self, parents: int) -> nn.Module:
        """p(x | `parents` features). Its mean starts at the data's mean where the network allows that."""
        if self.network == "mlp":
            start: dict[str, Any] = {**INPUTS, "gain": 1.0, "output_mean": self.x.mean(0)}
            return self.decoder_with(parents, hidden=self.hidden, activation=self.activation, norm=self.norm, **start)
        build = network_pair(self.network).decoder
        return self.decoder_with(parents, net=lambda inputs, _: build(inputs, self.event, self.hidden, self.activation))

    def decoder_with(self, parents: int, **network: Any) -> nn.Module:
        """p(x | `parents` features) with other options of the network, or another network (`net`)."""
        require_known("likelihood", self.likelihood, LIKELIHOODS)
        if self.likelihood in ("gaussian", "laplace") and self.squash and self.in_unit_range:
            network["squash"] = True
        return LIKELIHOODS[self.likelihood](parents, self.x, self.sigma, self.learn_sigma, **network)

    def encoder(self, latent: int) -> Gaussian:
        """q(z | x). Starts narrow (log sigma = -3) and near the origin, so that early noise cannot fold the embedding."""
        require_known("posterior", self.posterior, ("diagonal", "isotropic"))
        start: dict[str, Any] = {"std": self.std, "init_log_scale": -3.0, "input_mean": self.x.mean(0), **INPUTS}
        if self.network == "mlp":
            start |= {"hidden": self.hidden, "activation": self.activation, "norm": self.norm}
        else:
            build = network_pair(self.network).encoder
            start["net"] = lambda _, outputs: build(self.event, outputs, self.hidden, self.activation, 0.1)
        return Gaussian(self.event, latent, isotropic=self.posterior == "isotropic", **start)

    def trunk(self, features: int) -> nn.Module:
        """A network from x to features that several conditionals share, shape (*plates, *event) -> (*plates, features)."""
        net = network_pair(self.network).encoder(self.event, features, self.hidden, self.activation, 1.0)
        return nn.Sequential(nn.Flatten(-len(self.event)), net, nn.ReLU())

    def prior_level(self, parents: int, latent: int) -> Gaussian:
        """p(z_l | above). Near N(0, I) at first: while REWO's initial phase keeps it frozen it is the usual prior."""
        start: dict[str, Any] = {"log_scale": (-6.0, 2.0)} if self.std == "exp" else {"gain": 1.0}
        return self._level(parents, latent, **start)

    def posterior_level(self, parents: int, latent: int) -> Gaussian:
        """q(z_{l+1} | below)."""
        return self._level(parents, latent, gain=1.0, log_scale=(-5.0, 2.0))

    def _level(self, parents: int, latent: int, **start: Any) -> Gaussian:
        return Gaussian(
            parents, latent, self.upper, activation=self.activation, std=self.std, norm=self.norm, **INPUTS, **start
        )
