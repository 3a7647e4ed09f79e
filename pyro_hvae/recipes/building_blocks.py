"""The building blocks of recipes: likelihoods, encoders and the conditionals between layers, sized by the data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from pyro_hvae.conditionals import FullCovarianceGaussian, Gaussian, GaussianFlow
from pyro_hvae.data import Batch, given_of, x_of
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.guides import BottomUp
from pyro_hvae.models import Chain
from pyro_hvae.networks import SIZE_FACTOR, InputLayer, log_counts, network_pair
from pyro_hvae.recipes.grey_level_likelihoods import OUTPUTS
from pyro_hvae.recipes.likelihoods import COUNTS, LIKELIHOODS, check_values, require_counts
from pyro_hvae.recipes.priors import PRIORS, Encoded, lies_in_unit_range

# The codes of a learned prior spread over tens (VHP), and their distances are what its graph measures: they enter as they are.
INPUTS: dict[str, Any] = {"input_bound": None}

# name -> (events of the parents, latent dims, network options) -> q(z1 | x)
POSTERIORS: dict[str, Callable[..., nn.Module]] = {
    "diagonal": Gaussian,
    "isotropic": partial(Gaussian, isotropic=True),
    "full": FullCovarianceGaussian,
    "flow": GaussianFlow,
}


def _fill_with_mean(data: Tensor | Batch) -> Tensor:
    """The data, with the mean of the known entries of a column in its missing ones; of all columns where none is known."""
    x = x_of(data)
    if not isinstance(data, Batch) or data.observed is None:
        return x
    known = data.observed
    mean, overall = x.sum(0) / known.sum(0), x.sum() / known.sum()  # x is 0 where it is missing
    return x.where(known, mean.where(known.any(0), overall))


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
        data: the training data x. The guide's networks read beside x the mask, where entries are missing, and the given inputs,
            which are parents of the model's conditionals, too; one called `size_factor` is that of p(x | z) alone. Counts and
            sizes are read as logarithms.
        likelihood: of p(x | z), a key of `LIKELIHOODS`.
        sigma: a Gaussian's standard deviation, the scale of a Laplace or Student-t, where the scales of logistics start.
            learn_sigma: train it (of a Gaussian or Student-t).
        network: of x's encoder and decoder, a key of `NETWORKS`. hidden: its widths. upper: widths of the networks between
            layers. activation: of all networks. norm: batch normalisation in fully connected ones.
        squash: a Gaussian's or Laplace's mean is a sigmoid where the data lie in [0, 1]; without it a Gibbs chain can run away.
        posterior: of q(z1 | x), a key of `POSTERIORS`; the papers' is diagonal. std: of all latents (see `Gaussian`).
        prior: of the top layer, and of every layer of a ladder, a key of `PRIORS`. components: of a mixture prior.

    Raises:
        ConfigError: for given inputs that are no columns of floats.
    """

    data: Tensor | Batch
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
    prior: str = "normal"
    components: int = 10

    def __post_init__(self) -> None:
        for name, value in given_of(self.data).items():
            if value.dim() != 2 or not value.is_floating_point():
                raise ConfigError(
                    f"the given input '{name}' has the shape {tuple(value.shape)} and {value.dtype}, but recipes take "
                    "floats (n, width). Give numbers as y.float().reshape(len(y), -1), classes as one_hot(y).float() of "
                    "torch.nn.functional."
                )

    @cached_property
    def x(self) -> Tensor:
        """The training data, with the mean of what is known of a column in its missing entries."""
        return _fill_with_mean(self.data)

    @property
    def event(self) -> tuple[int, ...]:
        return tuple(self.data.shape[1:])

    @cached_property
    def beside(self) -> dict[str, Tensor]:
        """The given inputs, in the order in which a guide reads them: a size factor is the last."""
        return dict(sorted(given_of(self.data).items(), key=lambda item: item[0] == SIZE_FACTOR))

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the given inputs."""
        return tuple(self.beside)

    @property
    def size_factor(self) -> bool:
        """Whether a size multiplies the means of x."""
        return SIZE_FACTOR in self.beside

    @property
    def width(self) -> int:
        """Features of the given inputs, without a size factor."""
        return sum(value.shape[1] for value in self.beside.values()) - self.size_factor

    @property
    def mask(self) -> bool:
        """Whether there are missing entries, so that guides are told which."""
        return isinstance(self.data, Batch) and self.data.observed is not None

    @property
    def reads(self) -> dict[str, Any]:
        """The arguments of a guide that say what it reads beside x."""
        return {"given": self.given, "mask": self.mask}

    @property
    def joined_features(self) -> int:
        """Features of x and of what a guide's network reads beside it."""
        return math.prod(self.event) * (1 + self.mask) + self.width + self.size_factor

    @property
    def joined_event(self) -> tuple[int, ...]:
        """The event of x with what a guide's network reads beside it: more channels of an image, or more features."""
        if self.network == "mlp":
            return (self.joined_features,) if self.given or self.mask else self.event
        return (self.event[0] * (1 + self.mask) + self.width + self.size_factor, *self.event[1:])

    @property
    def output_event(self) -> tuple[int, ...]:
        """The event of what a decoder's network gives: more channels of an image, or more features, where it is more than x."""
        return (self.event[0] * OUTPUTS.get(self.likelihood, 1), *self.event[1:])

    @property
    def in_unit_range(self) -> bool:
        """Whether the data lie in [0, 1]."""
        return lies_in_unit_range(self.x)

    def markov_chain(self, dims: Sequence[int]) -> tuple[Chain, BottomUp]:
        """A Markov chain of Gaussian layers with its bottom-up guide; `dims` from z1 upwards."""
        pairs = list(zip(dims[:-1], dims[1:], strict=True))
        levels = [self.prior_level(above + self.width, below) for below, above in reversed(pairs)]
        up = [self.posterior_level(below + self.width, above) for below, above in pairs]
        decoder, encoder = self.decoder(dims[0] + self.width), self.encoder(dims[0])
        prior = self.prior_of(dims[-1], None if up else encoder)
        return Chain(prior, levels, decoder, given=self.given), BottomUp([encoder, *up], **self.reads)

    def prior_of(self, latent: int, encoder: nn.Module | None = None) -> nn.Module:
        """p(z) of a layer without parents; `encoder` is the guide's q(z | x, mask, y) where there is one of x alone."""
        require_known("prior", self.prior, PRIORS)
        encoded = encoder and Encoded(encoder, self.x, list(self.beside.values()), self.mask, self.posterior)
        return PRIORS[self.prior](latent, self.components, encoded)

    def decoder(self, parents: int) -> nn.Module:
        """p(x | `parents` features). Its mean starts at the data's mean where the network allows that."""
        if self.network == "mlp":
            mean = self.x.mean(0) / self.beside[SIZE_FACTOR].mean() if self.size_factor else self.x.mean(0)
            start: dict[str, Any] = {**INPUTS, "gain": 1.0, "output_mean": mean}
            return self.decoder_with(parents, hidden=self.hidden, activation=self.activation, norm=self.norm, **start)
        build, (channels, *sides) = network_pair(self.network).decoder, self.event

        def net(inputs: int, outputs: int) -> nn.Module:  # several numbers for each entry of x are more channels
            event = (channels * outputs // math.prod(self.event), *sides)
            return build(inputs, event, self.hidden, self.activation)

        return self.decoder_with(parents, net=net)

    def decoder_with(self, parents: int, **network: Any) -> nn.Module:
        """p(x | `parents` features) with other options of the network, or another network (`net`)."""
        require_known("likelihood", self.likelihood, LIKELIHOODS)
        check_values(self.likelihood, self.data)
        if self.likelihood in ("gaussian", "laplace") and self.squash and self.in_unit_range:
            network["squash"] = True
        if self.size_factor:
            require_counts(self.likelihood)
            network["size_factor"] = True
        return LIKELIHOODS[self.likelihood](parents, self.x, self.sigma, self.learn_sigma, **network)

    def encoder(self, latent: int) -> Any:  # what `posterior` names, a `Gaussian` by default
        """q(z | x [, mask, y]). Starts narrow (log sigma = -3) and near the origin: early noise cannot fold the embedding.

        It subtracts the mean of x; after that a missing entry is 0.
        """
        require_known("posterior", self.posterior, POSTERIORS)
        start: dict[str, Any] = {"std": self.std, "init_log_scale": -3.0, **INPUTS}
        if self.likelihood not in COUNTS:  # of which the input layer subtracts it
            mean = self.x.mean(0).flatten()
            start["input_mean"] = torch.cat([mean, mean.new_zeros(self.joined_features - len(mean))])
        layer = self.input_layer()
        if self.network == "mlp" and layer is None:
            start |= {"hidden": self.hidden, "activation": self.activation, "norm": self.norm}
        else:
            start["net"] = lambda _, outputs: self._reading(layer, outputs, 0.1)
        parents: list[Sequence[int]] = [self.event, *[self.event] * self.mask]
        parents += [y.shape[1:] for y in self.beside.values()]
        return POSTERIORS[self.posterior](parents, latent, **start)

    def trunk(self, features: int) -> nn.Module:
        """A network that several conditionals share, from x to features (*plates, features).

        It takes x (*plates, *event), or what stands beside x joined to it (see `join_inputs`).
        """
        net = self._reading(self.input_layer(self.x.mean(0)), features, 1.0)
        return nn.Sequential(nn.Flatten(-1 if self.mask or self.given else -len(self.event)), net, nn.ReLU())

    def input_layer(self, fill: Tensor | None = None) -> InputLayer | None:
        """Makes joined inputs those of a network of `joined_event`, `fill` in missing entries; None where they are already.

        Counts become logarithms, less their mean, which is also that of missing entries.
        """
        maps = self.network != "mlp" and bool(self.given)
        if self.likelihood in COUNTS:
            return InputLayer(self.event, self.mask, maps, None, log_counts(self.x).mean(0), self.size_factor)
        return InputLayer(self.event, self.mask, maps, fill if self.mask else None) if self.mask or maps else None

    def _reading(self, layer: InputLayer | None, outputs: int, gain: float) -> nn.Module:
        """The network's encoder of x and of what stands beside it."""
        options = [self.hidden, self.activation, gain, *([self.norm] if self.network == "mlp" else [])]
        net = network_pair(self.network).encoder(self.joined_event, outputs, *options)
        return net if layer is None else nn.Sequential(layer, *(net if isinstance(net, nn.Sequential) else [net]))

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
