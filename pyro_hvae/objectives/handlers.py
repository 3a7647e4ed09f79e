"""Effect handlers: small interpreters of Pyro programs, one idea each. Programs do not know them."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pyro_hvae.conditionals import FlowDistribution, GaussianMixture
from pyro_hvae.errors import NoMeanWarning

USUAL = (torch.distributions.Normal, torch.distributions.Laplace, torch.distributions.Bernoulli, dist.Delta)  # have means
CORRELATED = (torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal)
Site = Any  # Pyro's message: a dict with name, fn, value, scale, is_observed, cond_indep_stack, ...


class Record(Messenger):
    """Records the sample sites of a program, and replays given values at its latent sites.

    The lean sibling of `poutine.trace(poutine.replay(...))`: no graph, no copies, no validation. `sites` maps a name to
    Pyro's message (`fn`, `value`, `scale`, `is_observed`, ...) in the order of execution.

    >>> with Record() as record:
    ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
    >>> list(record.sites)
    ['z']
    """

    def __init__(self, replay: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.replay = dict(replay or {})
        self.sites: dict[str, Site] = {}

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.replay and not msg["is_observed"]:
            msg["value"], msg["done"] = self.replay[msg["name"]], True

    def _pyro_post_sample(self, msg: Site) -> None:
        # `pyro.deterministic` only names a value; it adds nothing to any density.
        if not site_is_subsample(msg) and not msg["infer"].get("_deterministic"):
            self.sites[msg["name"]] = msg


def scalar_family(fn: Any) -> Any:
    """The distribution inside `to_event`. Only there: the base of a flow or of a LogNormal is another distribution."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn


def is_point(msg: Site) -> bool:
    """Whether a recorded site's distribution has all its mass on one value, like the code of an autoencoder."""
    return isinstance(scalar_family(msg["fn"]), dist.Delta)


def common_scale(one: float | Tensor, two: float | Tensor) -> float | Tensor:
    """The weight that a site has in model and guide. A graph cannot ask whether tensors agree; where not, its weight is NaN."""
    if get_proxy_mode() is None or not (isinstance(one, Tensor) or isinstance(two, Tensor)):
        return one
    return torch.where(torch.eq(torch.as_tensor(one), torch.as_tensor(two)), one, torch.nan)


def find_mean(fn: Any) -> tuple[Tensor | None, str]:
    """The mean of a distribution or the nearest thing to it, and what that is: "mean", "mode", "image of its base's mean".

    A flow carries the mean of its base to a point that is neither mean nor mode. Other distributions without a closed form have
    nothing (None, "draw").
    """
    family = scalar_family(fn)
    if isinstance(family, torch.distributions.Categorical):
        return fn.mode, "mode"
    try:
        mean = fn.mean
    except NotImplementedError:
        if isinstance(family, FlowDistribution) and (centre := family.centre) is not None:
            return centre, "image of its base's mean"
        if not isinstance(family, torch.distributions.TransformedDistribution):
            return None, "draw"
        value = find_mean(family.base_dist)[0]
        for transform in family.transforms if value is not None else ():
            value = transform(value)
        return value, "draw" if value is None else "image of its base's mean"
    if isinstance(family, USUAL):
        return mean, "mean"
    try:  # heavy tails: Cauchy, StudentT with df <= 1, Pareto with alpha <= 1
        value = mean.where(mean.isfinite(), fn.mode)
    except NotImplementedError:
        return mean, "mean"
    lacking = get_proxy_mode() is None and not mean.isfinite().all()  # a graph that is recorded has no values
    return value, "mode" if lacking else "mean"


def _mean_or_else(msg: Site) -> Tensor:
    """The mean at a site, or what stands for it, after a `NoMeanWarning`."""
    value, what = find_mean(msg["fn"])
    if what != "mean":
        kind = type(scalar_family(msg["fn"])).__name__
        text = f"'{msg['name']}' is a {kind}, which has no mean in closed form: where one is asked for, the {what} is used."
        warnings.warn(text, NoMeanWarning, stacklevel=2)
    if value is not None:  # torch computes some parameters with gradients whatever the caller says (`lazy_property`)
        return value if torch.is_grad_enabled() else value.detach()
    return msg["fn"].sample() if msg["value"] is None else msg["value"]


def site_mean(msg: Site) -> Tensor:
    """The mean of a recorded site's distribution, in the shape of its value and as floating-point numbers: E[x | z] at x.

    Where there is none, the mode, or for a flow the image of its base's mean, or a draw; a `NoMeanWarning` says which.
    """
    value = _mean_or_else(msg).expand(msg["value"].shape)
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


class Means(Messenger):
    """Replaces the draw at every latent site by the mean of its distribution. Around a guide: the posterior-mean encoding.

    Where there is no mean it takes what `site_mean` takes.

    >>> with Means():
    ...     float(pyro.sample("z", dist.Normal(3.0, 1.0)))
    3.0
    """

    def _pyro_sample(self, msg: Site) -> None:
        if not msg["done"] and not msg["is_observed"] and not site_is_subsample(msg):
            msg["value"], msg["done"] = _mean_or_else(msg), True


def location_scale(fn: Any) -> Any | None:
    """The base distribution where value = loc + scale * noise, else None."""
    base = scalar_family(fn)
    return base if isinstance(base, torch.distributions.Normal | torch.distributions.Laplace) else None


def _location_and_scale(fn: Any) -> tuple[Tensor, Tensor] | None:
    """Those of the standard noise of independent dimensions; of a mixture prior its mean and standard deviation."""
    if isinstance(fn, GaussianMixture):
        return fn.mean, fn.stddev
    base = location_scale(fn)
    return None if base is None else (base.loc, base.scale)


def standard_noise(msg: Site) -> Tensor:
    """The noise behind a site's value: (value - loc) / scale, or the value itself for a distribution without that form.

    A correlated Gaussian has the Cholesky factor of its covariance as its scale, a mixture prior its own mean and standard
    deviation. The value itself is right only at a site without parents, such as a flow as the prior.
    """
    fn, parts = msg["fn"], _location_and_scale(msg["fn"])
    if isinstance(fn, CORRELATED):
        off = (msg["value"] - fn.loc).unsqueeze(-1)
        return torch.linalg.solve_triangular(fn.scale_tril.expand(*off.shape[:-1], -1), off, upper=False).squeeze(-1)
    return msg["value"] if parts is None else (msg["value"] - parts[0]) / parts[1]


def _from_noise(fn: Any, noise: Tensor) -> Tensor:
    """The value of which `standard_noise` is `noise`."""
    if isinstance(fn, CORRELATED):
        return fn.loc + (fn.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    parts = _location_and_scale(fn)
    return noise if parts is None else parts[0] + parts[1] * noise


class Noise(Messenger):
    r"""Draws latent sites from given noise, $z = \mu(\text{parents}) + \sigma(\text{parents}) \epsilon$ (see `standard_noise`).

    With the noise of every site but one held fixed, the variation of x is that layer's contribution.

    Arguments:
        noise: site -> standard noise, shape (*plates, *event).

    >>> with Noise({"z": torch.tensor(2.0)}):
    ...     float(pyro.sample("z", dist.Normal(1.0, 0.5)))
    2.0
    """

    def __init__(self, noise: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.noise = dict(noise)

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.noise and not msg["is_observed"]:
            msg["value"], msg["done"] = _from_noise(msg["fn"], self.noise[msg["name"]]), True


class ScaleSites(Messenger):
    r"""Multiplies the log-density of named sites by a weight: $\log p \to w_s \log p$ at site s.

    Around both model and guide it weighs the site's term log p - log q, so that beta, lambda and annealing never appear
    inside a program. Unlike `poutine.scale` a weight may be zero, a tensor, and different at every site.

    Arguments:
        weights: site name -> non-negative number or 0-dim tensor; sites not named keep their scale.

    >>> from pyro import poutine
    >>> def program():
    ...     pyro.sample("z", dist.Normal(0.0, 1.0))
    >>> trace = poutine.trace(ScaleSites({"z": 0.25})(program)).get_trace()
    >>> trace.nodes["z"]["scale"]
    0.25
    """

    def __init__(self, weights: Mapping[str, float | Tensor]) -> None:
        super().__init__()
        self.weights = dict(weights)

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.weights:
            msg["scale"] = msg["scale"] * self.weights[msg["name"]]


class Share(pyro.plate):
    """A particle plate (dim -2) that the shared sites stay out of: they are drawn once for all particles.

    An observed site stays out too when its distribution does not vary over the particles, that is when all its parents
    are shared; else the likelihood would be computed `particles` times for nothing. With z1 shared this is the inner
    importance-weighted bound of the VHP (Klushyn et al. 2019, eq. 8): one z per datum, K draws of zeta.

    Arguments:
        sites: shared. particles: K. dim, name: of the plate; another plate may lie around it.

    Shapes: sites inside have batch shape (particles, B), sites outside (B,).
    """

    def __init__(self, sites: Collection[str], particles: int, dim: int = -2, name: str = "particles") -> None:
        super().__init__(name, particles, dim=dim)
        self.sites, self.outer_dims = frozenset(sites), -dim

    def _process_message(self, msg: Site) -> None:
        if msg["type"] != "sample" or site_is_subsample(msg) or not self._stays_out(msg):
            super()._process_message(msg)

    def _stays_out(self, msg: Site) -> bool:
        constant = bool(self.sites) and msg["is_observed"] and len(msg["fn"].batch_shape) < self.outer_dims
        return msg["name"] in self.sites or constant
