"""Per-site log-density terms of one Monte Carlo pass of a model/guide pair, with the bound, loss and constraint they give."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pyro_hvae.conditionals import FlowDistribution
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.handlers import Site, find_mean, location_scale, scalar_family, standard_noise
from pyro_hvae.objectives.kl_balance import balance
from pyro_hvae.objectives.site_masks import apply_mask, is_entry_mask, site_log_prob
from pyro_hvae.runtime import evaluation_mode, share_mean

Weights = Mapping[str, "float | Tensor"]
Measure = Callable[[Tensor, Any], Tensor]


# What sets the unit of a density, by its family. Where that is trained, a smaller -log p need not be a better reconstruction.
SPREADS: dict[type, Callable[[Any], tuple[Tensor, ...]]] = {
    torch.distributions.Normal: lambda fn: (fn.scale,),
    torch.distributions.Laplace: lambda fn: (fn.scale,),
    torch.distributions.StudentT: lambda fn: (fn.scale, fn.df),
    torch.distributions.Beta: lambda fn: (fn.concentration1 + fn.concentration0,),
    torch.distributions.MultivariateNormal: lambda fn: (fn.scale_tril,),
    torch.distributions.LowRankMultivariateNormal: lambda fn: (fn.cov_factor, fn.cov_diag),
}
MEANLESS = "Use a likelihood with a mean, such as hv.Gaussian, or a schedule without a constraint, such as warmup."


def _flatten_event(values: Tensor, fn: Any) -> Tensor:
    """(*plates, *event) -> (*plates, features), also for an event without dims."""
    dims = len(fn.event_shape)
    return values.flatten(-dims) if dims else values.unsqueeze(-1)


def _is_spread_learned(fn: Any) -> bool:
    """Whether what sets the unit of a density is trained; the map of a flow is."""
    family = scalar_family(fn)
    if isinstance(family, FlowDistribution):
        return torch.is_grad_enabled()
    values = [value for kind, spread in SPREADS.items() if isinstance(family, kind) for value in spread(family)]
    if isinstance(family, torch.distributions.TransformedDistribution):
        for transform in family.transforms:
            values += transform.parameters() if isinstance(transform, nn.Module) else [getattr(transform, "scale", None)]
        if _is_spread_learned(family.base_dist):
            return True
    return any(isinstance(value, Tensor) and value.requires_grad for value in values)


def _nats(x: Site) -> Tensor:
    """-log p(x | z) of the observed entries, nats per datum, (*plates,), without the normaliser of a Gaussian or Laplace."""
    base, known = location_scale(x["fn"]), _known_entries(x)
    if _is_spread_learned(x["fn"]):
        advice = MEANLESS
        if find_mean(x["fn"])[1] == "mean":
            advice = "Use measure=rmse (kappa is then the root mean squared error per pixel)."
        raise ConfigError(
            f"the constraint in nats needs a likelihood with a fixed scale, but that of this {_family_name(x['fn'])} is "
            f"learned, and the constraint could be met by widening it. {advice}"
        )
    if base is None:
        return -site_log_prob({**x, "mask": known})
    off = standard_noise(x)
    energy = 0.5 * off**2 if isinstance(base, torch.distributions.Normal) else off.abs()
    return _flatten_event(apply_mask(energy, known), x["fn"]).sum(-1)


def _mean_square(x: Site) -> Tensor:
    """Mean over observed pixels of (x - E[x | z])^2, shape (*plates,); its root is the paper's kappa on images."""
    fn, known = x["fn"], _known_entries(x)
    if isinstance(scalar_family(fn), torch.distributions.Categorical):
        raise ConfigError("the constraint rmse is a distance from the mean of x, which classes do not have. Use measure=nats.")
    try:
        square = (x["value"] - fn.mean) ** 2
    except NotImplementedError as error:
        raise ConfigError(
            f"the constraint rmse is a distance from the mean of x, which a {_family_name(fn)} does not have in closed form. "
            f"{MEANLESS}"
        ) from error
    if known is None:
        return _flatten_event(square, fn).mean(-1)
    counts = _flatten_event(known.expand_as(square), fn).sum(-1)
    return _flatten_event(apply_mask(square, known), fn).sum(-1) / counts.clamp(min=1)


def _measured(x: Site, measure: Measure) -> Tensor:
    """C of a function of one's own, checked."""
    if is_entry_mask(x):
        raise ConfigError(
            "x has missing entries, and a measure of one's own is of the whole x. Use measure=rmse or measure=nats, which "
            "leave them out, or fill the entries in."
        )
    with torch.no_grad(), evaluation_mode(*[measure] if isinstance(measure, nn.Module) else []):
        values, plates = measure(x["value"], x["fn"]), x["fn"].batch_shape
    if get_proxy_mode() is None and (not isinstance(values, Tensor) or values.shape != plates):
        found = f"a tensor of shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise ConfigError(
            f"the measure of the constraint gave {found}, but it gives one number for each datum, shape {tuple(plates)}. Sum "
            "or average over the dimensions of x, such as .flatten(-3).mean(-1) of images."
        )
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def _family_name(fn: Any) -> str:
    return type(scalar_family(fn)).__name__


def _known_entries(x: Site) -> Tensor | None:
    """The mask of entries of x, where it has one."""
    return x["mask"] if is_entry_mask(x) else None


def renyi_mean(log_w: Tensor, alpha: float) -> Tensor:
    r"""$\frac{1}{1-\alpha} \log \frac1K \sum_k w_k^{1-\alpha}$ over the first dimension of log w (Li and Turner 2016).

    Orders near 1 cancel: there it is $m + \log(1 + \mathrm{mean}(e^{(1-\alpha)(\log w - m)} - 1)) / (1-\alpha)$ with the
    mean m of log w. The limits are the mean (alpha = 1), the maximum (-inf, VR-max) and the minimum (inf).

    >>> log_w = torch.tensor([0.0, 2.0])
    >>> [round(renyi_mean(log_w, alpha).item(), 3) for alpha in (-math.inf, 0.0, 0.999999, 1.0, math.inf)]
    [2.0, 1.434, 1.0, 1.0, 0.0]
    """
    power, count = 1.0 - alpha, math.log(len(log_w))
    if math.isinf(power):
        return log_w.amax(0) if power > 0 else log_w.amin(0)
    if power == 0:
        return log_w.mean(0)
    if power == 1:
        return torch.logsumexp(log_w, 0) - count
    mean = log_w.mean(0)
    off = power * (log_w - mean)
    near = torch.log1p(torch.expm1(off.clamp(-1, 1)).mean(0))
    inner = near.where(off.detach().abs().amax(0) < 1, torch.logsumexp(off, 0) - count)
    return mean + inner / power


# name -> C of the constraint E[C] <= kappa^2 (Klushyn et al. 2019, eq. 9).
MEASURES: dict[str, Callable[[Site], Tensor]] = {"nats": _nats, "rmse": _mean_square}


@dataclass(frozen=True)
class Terms:
    """Per-site terms of one Monte Carlo pass: enough for bounds and log lines.

    Attributes:
        terms: site -> log p - log q (log p at x), unweighted; shape (B,), or (K, B) where it varies over the particles.
        particles, alpha: of the ELBO.
        penalties: name -> addition to the reconstruction cost, 0-dim, nats per datum: in the loss, not in bounds or weights.
    """

    terms: dict[str, Tensor]
    particles: int
    alpha: float
    penalties: dict[str, Tensor] = field(default_factory=dict)

    def log_weights(self) -> Tensor:
        """log p(x, z) - log q(z | x), unweighted, of shape (K, B): the data plate is never summed over.

        With one particle and an analytic KL (the default) it is a bound and no weight: use `ELBO(analytic_kl=False)`.
        """
        total = torch.stack(torch.broadcast_tensors(*self.terms.values())).sum(0)
        return total.expand(self.particles, -1) if total.dim() == 1 else total

    def bound_unweighted(self) -> Tensor:
        """The bound on log p(x) without any weights, also those of the programs; nats per datum, shape (B,)."""
        return self._bound({})

    def _bound(self, weights: Weights) -> Tensor:
        constant, varying = list[Tensor](), list[Tensor]()
        for name, term in self.terms.items():
            if name in weights:
                if term.dim() > 1:
                    raise ConfigError(
                        f"site '{name}' varies over the {self.particles} particles: a weight does not commute with the "
                        "log-mean-exp there. Use one particle (particles=1), an unweighted bound (the schedule constant with "
                        "beta=1), or share the site's parents among the particles (as the VHP does with z1)."
                    )
                term = term * weights[name]
            (varying if term.dim() > 1 else constant).append(term)
        total = torch.stack(constant).sum(0) if constant else torch.zeros(())
        return renyi_mean(torch.stack(torch.broadcast_tensors(*varying)).sum(0), self.alpha) + total if varying else total

    def rates(self) -> dict[str, Tensor]:
        """Site -> E[log q - log p], nats per datum: a KL only in the sum over a chain's sites; one can be negative."""
        return {name: -term.mean() for name, term in self.terms.items() if name != "x"}

    def distortion(self) -> Tensor:
        """-E log p(x | z) with all constants, nats per datum."""
        return -self.terms["x"].mean()


@dataclass(frozen=True, kw_only=True)
class Estimate(Terms):
    """One Monte Carlo pass of a pair: `Terms` with what a loss, a log line or an evaluation needs besides.

    Attributes:
        scales: site -> weight from `ScaleSites` or `poutine.scale` around the programs, where it is not one.
        latents: site -> the guide's draws, shape (B, *event), or (K, B, *event).
        x: the message of the observed site (its distribution is `x["fn"]`).
    """

    scales: dict[str, Any]
    latents: dict[str, Tensor]
    x: Site

    def bound(self, weights: Weights | None = None) -> Tensor:
        r"""The bound on log p(x), nats per datum, shape (B,), with weight w_s on the term of site s.

        $\sum_s w_s t_s + \frac{1}{1-\alpha} \log \frac1K \sum_k \exp\left((1-\alpha) \sum_r t_{rk}\right)$, where s runs over
        the sites whose terms are constant over the particles and r over those whose terms vary. The weights multiply `scales`.

        Raises:
            ConfigError: for a weight on a term inside the log-mean-exp, where it would define another bound.
        """
        weights = weights or {}
        return self._bound({name: weights.get(name, 1.0) * self.scales.get(name, 1.0) for name in {**weights, **self.scales}})

    def loss(self, weights: Weights | None = None, free_bits: float = 0.0, balanced: bool = False) -> Tensor:
        r"""Minus the weighted bound, plus the penalties with the weight of x, divided by max(1, weight of x); nats per datum.

        A schedule gives x the weight $\lambda = 1 / \beta$; the division makes this $(C + \beta F) / \max(1, \beta)$ with
        $C = -E \log p(x|z) + \sum \text{penalties}$ and F the rate, means over the batch: the Lagrangian of Klushyn et al.
        2019, eq. 9, up to a positive factor, with bounded gradients.

        Arguments:
            free_bits: the least rate of each latent site in F, $F = \sum_l \max(\lambda, \bar F_l)$ with $\bar F_l$ the mean
                over the batch (Kingma et al. 2016); nats. A loss with free bits is no bound.
            balanced: multiply the rates by the weights of `balance` while beta is below 1. Such a loss is no bound either.

        Raises:
            ConfigError: as `bound`; for free bits of a site that varies over the particles.
        """
        weights = dict(weights or {})
        if balanced:
            # Of one particle, (B, *event): the bound refuses weights of sites that vary over several.
            sizes = {name: value.shape[1:].numel() for name, value in self.latents.items()}
            rates = {name: share_mean(rate.detach(), self._size) for name, rate in self.rates().items()}
            weights |= balance(rates, sizes, weights)
        loss = -self.bound(weights).mean()
        if free_bits:
            loss = loss + self._raise_to(free_bits, weights)
        for penalty in self.penalties.values():
            loss = loss + (weights.get("x", 1.0) * self.scales.get("x", 1.0) * penalty).mean()
        if "x" in weights:
            loss = loss / torch.as_tensor(weights["x"]).clamp(min=1.0).to(loss)
        return loss

    def _raise_to(self, least: float, weights: Weights) -> Tensor:
        """What the weighted rates lack to at least `least` nats a site."""
        lacking = list[Tensor]()
        for name, term in self.terms.items():
            if name == "x":
                continue
            if term.dim() > 1:
                raise ConfigError(
                    f"site '{name}' varies over the {self.particles} particles, inside whose log-mean-exp no rate has free "
                    "bits. Use one particle (particles=1), or free_bits=0."
                )
            rate = -term.mean()
            weight = weights.get(name, 1.0) * self.scales.get(name, 1.0)
            lacks = share_mean(rate.detach(), self._size) < least
            lacking.append((weight * (least - rate).where(lacks, 0.0)).mean())
        return torch.stack(lacking).sum()

    @property
    def _size(self) -> int:
        """Data in the batch."""
        return self.terms["x"].shape[-1]

    def constraint(self, measure: str | Measure) -> Tensor:
        """Batch mean of C in the given measure, detached; of the data that `poutine.mask` leaves in.

        Arguments:
            measure: a key of `MEASURES`, or a function (x, p(x | z)) -> C of shape (*plates,), whose values that are not finite
                count as inf, or as NaN where log p(x | z) is not finite either.

        Raises:
            ConfigError: for nats of a density whose scale is learned, rmse where x has no mean, and values of another shape.
        """
        if isinstance(measure, str):
            values = MEASURES[measure](self.x).detach()
        else:
            # Infinite where the function alone fails, for the schedule to report; NaN where the pair has diverged.
            sound = self.terms["x"].detach().isfinite().all()
            values = _measured(self.x, measure)
            values = values.where(values.isfinite(), torch.where(sound, math.inf, math.nan).to(values))
        mask = self.x["mask"]
        if is_entry_mask(self.x):  # data of which nothing is known are left out
            fn = self.x["fn"]
            mask = mask.expand(fn.batch_shape + fn.event_shape).flatten(-len(fn.event_shape)).any(-1)
        if not isinstance(mask, Tensor):
            return share_mean(values.mean(), self._size)
        kept = mask.expand_as(values)
        count = kept.sum()
        return share_mean(values.where(kept, 0.0).sum() / count.clamp(min=1), count)
