"""One ELBO for the whole family: terms per site, particles, shared sites, Renyi alpha, weights per site."""

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import reduce
from operator import and_
from typing import Any

import torch
from pyro.infer.elbo import ELBO as PyroELBO
from pyro.infer.elbo import ELBOModule
from torch import Tensor, nn

from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.objectives.data_entry import take_data, take_pass
from pyro_hvae.objectives.data_support import check_batch, check_site, observed_log_prob
from pyro_hvae.objectives.estimate import Estimate
from pyro_hvae.objectives.given_inputs import run_program
from pyro_hvae.objectives.handlers import Record, Share, Site, common_scale, is_point
from pyro_hvae.objectives.path_gradients import GRADIENTS, Paths, detached_parameters
from pyro_hvae.objectives.program_contract import check_contract, explain_errors
from pyro_hvae.objectives.program_module import as_module
from pyro_hvae.objectives.site_masks import is_entry_mask, mask_missing, site_log_prob
from pyro_hvae.runtime import evaluation_mode

Sites = dict[str, Site]


def kl_is_valid(name: str, p: Mapping[str, Site], q: Mapping[str, Site]) -> bool:
    """Whether log q - log p at a site is a KL in the mean: all latents that precede it in the model precede it in the guide.

    Arguments:
        p, q: recorded sites of model and guide, in their order.
    """
    before_q = list(q)[: list(q).index(name)]
    return all(n in before_q or p[n]["is_observed"] for n in list(p)[: list(p).index(name)])


class Objective(ELBOModule):
    """A model/guide pair with its bound: an `nn.Module` with `.parameters()` and `loss(x)`; no parameter store.

    Inputs that the programs take beside x are given by name, `loss(x, y=y)`. Entries of x that are NaN, or false in
    `loss(x, observed=mask)`, are missing: the bound is that of log p(x_observed), with one particle the ELBO and with K the
    bound of MIWAE (Mattei and Frellsen 2019).
    """

    elbo: "ELBO"

    def estimate(self, x: Tensor | Batch) -> Estimate:
        return self.elbo.estimate(self.model, self.guide, x)

    def take_arguments(self, *args: Any, **kwargs: Any) -> tuple[Tensor | Batch]:
        """The argument of a pass, for `capture`: a graph is of floats, whatever was given."""
        x = take_pass(args, kwargs, self.model, self.guide)
        check_batch(x, self.model)
        return (x,)

    def reconstruction_parameters(self, x: Tensor | Batch) -> list[nn.Parameter]:
        """The parameters that reach log p(x | z) in autograd: theta and phi of the VHP, whatever the pair."""
        # A pass that leaves the caller's random stream as it was.
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.enable_grad(), evaluation_mode(self):
            term = self.estimate(x).terms["x"].sum()
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
        alpha: Renyi order (Li and Turner 2016); 1 is the K-particle average of the ELBO, -inf their maximum (VR-max).
        gradient: of the bound with respect to the guide.
            - "reparameterised": the gradient of the estimate itself.
            - "stl": the densities of the guide are those of constant parameters, so that only the path through the draws counts
              (Roeder et al. 2017, sticking the landing). It vanishes where the guide is the posterior. It is unbiased for one
              particle and for alpha = 1, and biased for K > 1: use "dreg" there.
            - "dreg": the doubly reparameterised gradient (Tucker et al. 2019): the path of particle k has the factor
              $\alpha + (1 - \alpha) \tilde w_k$ besides its weight. Unbiased for every K; for one particle it is "stl".
              Of the VHP's bound the inner particles have the factor, and z1 is as in "stl"; to q(z2 | z1), whose particles they
              are, z1 is a constant parameter.
            Both take no KL in closed form, and run the guide twice. A guide that draws noise beside its sites, such as dropout,
            has another one in its second pass.
        analytic_kl: with one particle, take KL(q || p) in closed form at sites where that is valid, that is where
            everything the model has sampled before the site precedes it in the guide too. Elsewhere Monte Carlo.

    Values are nats per datum: the mean over the batch of `loss` (Pyro's own ELBOs sum over it). Works under
    `pyro.infer.SVI` as well as by `ELBO(...)(model, guide)`, which is an `nn.Module` for any torch optimiser.

    Raises:
        ConfigError: for fewer than one particle, or sites shared among one particle.
        ContractError: in every pass in which the pair breaks the program contract.
        DataError: for data that are not finite, or where p(x | z) has no density (on the CPU; elsewhere the bound is NaN).

    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model = Chain(StandardNormal(2), [], Gaussian(2, 4))
    >>> loss = ELBO(particles=8)(model, BottomUp([Gaussian(4, 2)]))
    >>> loss(torch.zeros(3, 4)).shape
    torch.Size([])
    """

    def __init__(
        self,
        particles: int = 1,
        shared: Collection[str] = (),
        alpha: float = 0.0,
        analytic_kl: bool = True,
        gradient: str = "reparameterised",
    ) -> None:
        super().__init__()
        if not isinstance(particles, int) or particles < 1:
            raise ConfigError(f"particles must be a whole number of at least 1, got {particles!r}.")
        if math.isnan(alpha):
            raise ConfigError("alpha, the Renyi order, must be a number, got nan. 0 is the importance-weighted bound.")
        if shared and particles == 1:
            raise ConfigError(f"sites {sorted(shared)} cannot be shared among one particle. Use particles=2 or more.")
        self.particles, self.shared, self.alpha, self.analytic_kl = particles, frozenset(shared), float(alpha), analytic_kl
        self.set_gradient(gradient)

    def set_gradient(self, gradient: str) -> None:
        """Chooses the gradient; raises `ConfigError` for an unknown one, or "dreg" of an infinite Renyi order."""
        require_known("gradient", gradient, GRADIENTS)
        if gradient == "dreg" and math.isinf(self.alpha):
            raise ConfigError(f"the gradient 'dreg' needs a finite Renyi order, got alpha={self.alpha}. Use 'reparameterised'.")
        self.gradient = gradient

    def __call__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> Objective:
        """The pair with this bound; methods of a module and functions are trained with the modules that they use."""
        return Objective(as_module(model), as_module(guide), self)

    def estimate(self, model: Callable[..., Any], guide: Callable[..., Any], x: Tensor | Batch) -> Estimate:
        """Runs guide and model once on x of shape (B, *event) and returns the terms of all sites."""
        x = take_data(x, model, guide)
        p, q = self.sites(model, guide, x)
        terms = {name: self._term(name, p, q) for name in p}
        if (paths := p["x"].get("paths")) and self.gradient == "dreg":
            varying = [term for term in terms.values() if term.dim() > 1]
            if varying:
                paths.weigh(torch.stack(torch.broadcast_tensors(*varying)).sum(0), self.alpha)
        weights = {name: common_scale(site["scale"], q.get(name, site)["scale"]) for name, site in p.items()}
        scales = {name: weight for name, weight in weights.items() if isinstance(weight, Tensor) or weight != 1.0}
        latents = {name: site["value"] for name, site in q.items()}
        penalties = self.penalties(model, guide, x, p, q)
        return Estimate(terms, self.particles, self.alpha, penalties, scales=scales, latents=latents, x=p["x"])

    def penalties(self, model: Any, guide: Any, x: Tensor | Batch, p: Sites, q: Sites) -> dict[str, Tensor]:
        """Additions of a subclass to the reconstruction cost (see `Terms.penalties`), given the sites of this pass."""
        return {}

    def sites(self, model: Any, guide: Any, x: Tensor | Batch) -> tuple[Sites, Sites]:
        """The recorded sites of the model (replaying the guide's latents) and of the guide, checked against the contract."""
        with explain_errors(guide, model, x), Record() as q, self._particle_plate():
            run_program(guide, x)
        check_contract(None, q.sites, x, self.particles, self.shared)  # before the model gets the guide's values
        paths = Paths(q.sites) if self.gradient != "reparameterised" and torch.is_grad_enabled() else None
        replay = paths.values if paths else {name: site["value"] for name, site in q.sites.items()}
        with explain_errors(model, model, x, q.sites), Record(replay) as p, self._particle_plate():
            run_program(model, x)
        check_contract(p.sites, q.sites, x, self.particles, self.shared)
        mask_missing(p.sites["x"], x)
        if paths:
            parents = paths.parents(self.shared if self.gradient == "dreg" else ())
            with detached_parameters(guide), Record(parents) as density, self._particle_plate():
                run_program(getattr(guide, "unregistered", guide), x)
                for name, site in density.sites.items():  # here: a flow runs its networks when it is asked for a density
                    q.sites[name]["path_log_prob"] = site_log_prob({**site, "value": paths.values[name]})
            p.sites["x"]["paths"] = paths
        check_site(model, p.sites["x"])
        return p.sites, q.sites

    def check(self, model: Any, guide: Any, x: Tensor | Batch) -> None:
        """Checks the program contract by a pass that changes neither the random stream nor the modules."""
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad(), evaluation_mode(model, guide):
            self.sites(model, guide, x)

    def _particle_plate(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.particles == 1 else Share(self.shared, self.particles)

    def _term(self, name: str, p: Sites, q: Sites) -> Tensor:
        site = p[name]
        if site["is_observed"]:
            return observed_log_prob(site)
        # Pyro's KL of a Delta leaves its log_density out; one draw of it is exact anyway.
        closed = self.particles == 1 and self.analytic_kl and not is_point(q[name]) and kl_is_valid(name, p, q)
        closed = closed and self.gradient == "reparameterised"
        if closed and not is_entry_mask(site) and not is_entry_mask(q[name]):
            with suppress(NotImplementedError):  # no closed form registered for this pair of distributions
                return self._masked_kl(site, q[name])
        log_q = q[name]["path_log_prob"] if "path_log_prob" in q[name] else site_log_prob(q[name])
        return site_log_prob(site) - log_q

    def _masked_kl(self, p: Site, q: Site) -> Tensor:
        """Minus the KL in closed form; log p - log q of the draw where a mask leaves one of them out."""
        kl = torch.distributions.kl_divergence(q["fn"], p["fn"])
        masks = [site["mask"] for site in (p, q) if site["mask"] is not None]
        if all(mask is True for mask in masks):
            return -kl
        return torch.where(reduce(and_, map(torch.as_tensor, masks)).to(kl.device), -kl, site_log_prob(p) - site_log_prob(q))

    # The interface of pyro.infer.SVI and ELBOModule.

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Sites, Sites]:
        return self.sites(model, guide, take_pass(args, kwargs, model, guide))

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        return self.estimate(model, guide, take_pass(args, kwargs, model, guide)).loss()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()
