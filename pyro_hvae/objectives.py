"""One ELBO for the whole family: terms per site, particles, shared sites, Renyi alpha, weights per site."""

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer.elbo import ELBO as PyroELBO
from pyro.infer.elbo import ELBOModule
from torch import Tensor, nn

from pyro_hvae.contract import check_contract
from pyro_hvae.errors import ConfigError
from pyro_hvae.handlers import Record, Share, Site

__all__ = ["ELBO", "Estimate", "Objective", "MEASURES", "kl_is_valid"]

Weights = Mapping[str, "float | Tensor"]


def _event_flat(values: Tensor, fn: Any) -> Tensor:
    """(*plates, *event) -> (*plates, features), also for an event without dims."""
    dims = len(fn.event_shape)
    return values.flatten(-dims) if dims else values.unsqueeze(-1)


def _nats(x: Site) -> Tensor:
    """-log p(x | z) in nats per datum, shape (*plates,); a Gaussian's normaliser is left out."""
    fn, value = x["fn"], x["value"]
    base = getattr(fn, "base_dist", fn)
    if isinstance(base, torch.distributions.Normal):
        if base.scale.requires_grad:
            raise ConfigError(
                "the constraint in nats needs a Gaussian likelihood with a fixed scale: with a learned one it could be met by "
                "widening the scale. Use -o measure=rmse (kappa is then the root mean squared error per pixel)."
            )
        energy = 0.5 * ((value - base.loc) / base.scale) ** 2
        return _event_flat(energy, fn).sum(-1)
    return -fn.log_prob(value)


def _mean_square(x: Site) -> Tensor:
    """Mean over the pixels of (x - E[x | z])^2, shape (*plates,); its root is the paper's kappa on images."""
    fn = x["fn"]
    return _event_flat((x["value"] - fn.mean) ** 2, fn).mean(-1)


# name -> C of the constraint E[C] <= kappa^2 (Klushyn et al. 2019, eq. 9).
MEASURES: dict[str, Callable[[Site], Tensor]] = {"nats": _nats, "rmse": _mean_square}


def kl_is_valid(name: str, p: Mapping[str, Site], q: Mapping[str, Site]) -> bool:
    """Whether log q - log p at a site is a KL in the mean: all latents the model samples before it precede it in the guide too.

    Arguments:
        p, q: recorded sites of model and guide, in their order.
    """
    before_p = list(p)[: list(p).index(name)]
    before_q = set(list(q)[: list(q).index(name)])
    return all(n in before_q for n in before_p if not p[n]["is_observed"])


@dataclass(frozen=True)
class Estimate:
    """One Monte Carlo pass of a pair: everything a loss, a log line or an evaluation needs.

    Attributes:
        terms: site -> log p - log q (log p at x), unweighted; shape (B,), or (K, B) where it varies over the particles.
        scales: site -> weight that `ScaleSites` or `poutine.scale` put on it, where it is not one.
        latents: site -> the guide's draws, shape (B, *event), or (K, B, *event).
        x: the message of the observed site (its distribution is `x["fn"]`).
        particles, alpha: of the ELBO.
    """

    terms: dict[str, Tensor]
    scales: dict[str, Any]
    latents: dict[str, Tensor]
    x: Site
    particles: int
    alpha: float

    def log_weights(self) -> Tensor:
        """log p(x, z) - log q(z | x), unweighted, of shape (K, B): the data plate is never summed over.

        With one particle and an analytic KL (the default) it is a bound, no weight: use `ELBO(analytic_kl=False)`.
        """
        total = torch.stack(torch.broadcast_tensors(*self.terms.values())).sum(0)
        return total.expand(self.particles, -1) if total.dim() == 1 else total

    def bound(self, weights: Weights | None = None) -> Tensor:
        r"""The bound on log p(x), nats per datum, shape (B,), with weight w_s on the term of site s.

        $\sum_s w_s t_s + \frac{1}{1-\alpha} \log \frac1K \sum_k \exp\left((1-\alpha) \sum_r t_{rk}\right)$, where s runs over
        the sites whose terms are constant over the particles and r over those whose terms vary.

        Raises:
            ConfigError: for a weight on a term inside the log-mean-exp, where it would define another bound.
        """
        return self._bound(weights or {}, self.scales)

    def bound_unweighted(self) -> Tensor:
        """The true bound on log p(x) whatever weights the programs ran under, nats per datum, shape (B,)."""
        return self._bound({}, {})

    def _bound(self, weights: Weights, scales: Weights) -> Tensor:
        constant: list[Tensor] = []
        varying: list[Tensor] = []
        for name, term in self.terms.items():
            weighted = name in weights or name in scales
            if term.dim() > 1 and weighted:
                raise ConfigError(
                    f"site '{name}' varies over the {self.particles} particles: a weight does not commute with the "
                    "log-mean-exp there. Use one particle (-o particles=1), an unweighted bound (--schedule constant with "
                    "beta=1), or share the site's parents among the particles (as the VHP does with z1)."
                )
            if weighted:
                term = term * weights.get(name, 1.0) * scales.get(name, 1.0)
            (varying if term.dim() > 1 else constant).append(term)
        total = torch.stack(constant).sum(0) if constant else torch.zeros(())
        if varying:
            log_w = torch.stack(torch.broadcast_tensors(*varying)).sum(0)
            if self.alpha == 1.0:
                inner = log_w.mean(0)
            else:
                power = 1.0 - self.alpha
                inner = (torch.logsumexp(power * log_w, 0) - math.log(self.particles)) / power
            total = inner + total
        return total

    def loss(self, weights: Weights | None = None) -> Tensor:
        """Minus the weighted bound, nats per datum (mean over the batch), divided by max(1, weight of x).

        A schedule gives x the weight lambda = 1 / beta; the division makes this (C + beta F) / max(1, beta) with
        C = -E log p(x|z) and F the rate: the Lagrangian of Klushyn et al. 2019, eq. 9, up to a positive factor, with
        bounded gradients.
        """
        loss = -self.bound(weights).mean()
        if weights and "x" in weights:
            loss = loss / torch.as_tensor(weights["x"]).clamp(min=1.0).to(loss)
        return loss

    def rates(self) -> dict[str, Tensor]:
        """Site -> E[log q - log p], nats per datum: a KL only in the sum over a chain's sites; one can be negative."""
        return {name: -term.mean() for name, term in self.terms.items() if name != "x"}

    def distortion(self) -> Tensor:
        """-E log p(x | z) with all constants, nats per datum."""
        return -self.terms["x"].mean()

    def constraint(self, measure: str) -> Tensor:
        """Batch mean of C in the given measure (a key of `MEASURES`), detached."""
        return MEASURES[measure](self.x).detach().mean()


class Objective(ELBOModule):
    """A model/guide pair with its bound: an `nn.Module` with `.parameters()` and `loss(x)`; no parameter store."""

    elbo: "ELBO"

    def estimate(self, x: Tensor) -> Estimate:
        return self.elbo.estimate(self.model, self.guide, x)

    def reconstruction_parameters(self, x: Tensor) -> list[nn.Parameter]:
        """The parameters that reach log p(x | z) in autograd: theta and phi of the VHP, whatever the pair."""
        # The check consumes random numbers; the caller's stream must not notice.
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.enable_grad():
            term = self.estimate(x[:2]).terms["x"].sum()
        if not term.requires_grad:
            return []
        params = [p for p in self.parameters() if p.requires_grad]
        grads = torch.autograd.grad(term, params, allow_unused=True)
        return [p for p, g in zip(params, grads, strict=True) if g is not None]


class ELBO(PyroELBO):
    r"""The evidence lower bound and its importance-weighted relatives, for every pair that keeps the contract.

    $\mathcal L_\alpha(x) = E\left[\frac{1}{1-\alpha} \log \frac1K \sum_k w_k^{1-\alpha}\right]$ with
    $w_k = p(x, z_k) / q(z_k \mid x)$.

    Arguments:
        particles: K. With alpha = 0 this is the IWAE bound (Burda et al. 2016); K = 1 is the ELBO.
        shared: latent sites drawn once for all particles. `shared={"z1"}` with K particles is the VHP bound (Klushyn et al.
            2019, eq. 8-9): one z, K draws of zeta in the inner importance-weighted bound.
        alpha: Renyi order (Li and Turner 2016); 1 is the K-particle average of the ELBO.
        analytic_kl: with one particle, take KL(q || p) in closed form at sites where that is valid, that is where
            everything the model has sampled before the site precedes it in the guide too. Elsewhere Monte Carlo.

    Values are nats per datum: the mean over the batch of `loss` (Pyro's own ELBOs sum over it). Works under
    `pyro.infer.SVI` as well as by `ELBO(...)(model, guide)`, which is an `nn.Module` for any torch optimiser.

    Raises:
        ConfigError: for fewer than one particle, or sites shared among one particle.
        ContractError: at first use, when the pair breaks the program contract.

    >>> from pyro_hvae.conditionals import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model = Chain(StandardNormal(2), [], Gaussian(2, 4))
    >>> loss = ELBO(particles=8)(model, BottomUp([Gaussian(4, 2)]))
    >>> loss(torch.zeros(3, 4)).shape
    torch.Size([])
    """

    def __init__(self, particles: int = 1, shared: Collection[str] = (), alpha: float = 0.0, analytic_kl: bool = True) -> None:
        super().__init__()
        if not isinstance(particles, int) or particles < 1:
            raise ConfigError(f"particles must be a whole number of at least 1, got {particles!r}.")
        if shared and particles == 1:
            raise ConfigError(f"sites {sorted(shared)} cannot be shared among one particle. Use particles=2 or more.")
        self.particles, self.shared, self.alpha, self.analytic_kl = particles, frozenset(shared), float(alpha), analytic_kl
        self._checked: set[tuple[int, int]] = set()

    def __call__(self, model: nn.Module, guide: nn.Module) -> Objective:
        return Objective(model, guide, self)

    def estimate(self, model: Callable[..., Any], guide: Callable[..., Any], x: Tensor) -> Estimate:
        """Runs guide and model once on x of shape (B, *event) and returns the terms of all sites."""
        self.check(model, guide, x)
        p, q = self.sites(model, guide, x)
        terms, scales = {}, {}
        for name, site in p.items():
            terms[name] = self._term(name, p, q)
            if isinstance(site["scale"], Tensor) or site["scale"] != 1.0:
                scales[name] = site["scale"]
        latents = {name: site["value"] for name, site in q.items()}
        return Estimate(terms, scales, latents, p["x"], self.particles, self.alpha)

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[dict[str, Site], dict[str, Site]]:
        """Pyro's abstract name for it."""
        return self.sites(model, guide, *args)

    def sites(self, model: Any, guide: Any, x: Tensor) -> tuple[dict[str, Site], dict[str, Site]]:
        """The recorded sites of the model (replaying the guide's latents) and of the guide."""
        with Record() as q, self._particle_plate():
            guide(x)
        with Record({name: site["value"] for name, site in q.sites.items()}) as p, self._particle_plate():
            model(x)
        return p.sites, q.sites

    def check(self, model: Any, guide: Any, x: Tensor) -> None:
        """Raises `ContractError` when a pair, seen for the first time, breaks the program contract."""
        if (id(model), id(guide)) in self._checked:
            return
        x = x[:2]  # an extra pass over two data, whose random numbers the caller's stream does not notice
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad():
            with Record() as q, self._particle_plate():
                guide(x)
            check_contract(None, q.sites, x, self.particles, self.shared)
            check_contract(self.sites(model, guide, x)[0], q.sites, x, self.particles, self.shared)
        self._checked.add((id(model), id(guide)))

    def _particle_plate(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.particles == 1 else Share(self.shared, self.particles)

    def _term(self, name: str, p: dict[str, Site], q: dict[str, Site]) -> Tensor:
        site = p[name]
        if site["is_observed"]:
            return site["fn"].log_prob(site["value"])
        if self.particles == 1 and self.analytic_kl and kl_is_valid(name, p, q):
            try:
                return -torch.distributions.kl_divergence(q[name]["fn"], site["fn"])
            except NotImplementedError:
                pass  # no closed form registered for this pair of distributions
        return site["fn"].log_prob(site["value"]) - q[name]["fn"].log_prob(site["value"])

    # The interface of pyro.infer.SVI and ELBOModule.

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        return self.estimate(model, guide, *args, **kwargs).loss()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()
