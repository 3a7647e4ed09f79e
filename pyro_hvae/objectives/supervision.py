"""Teacher and student: a pair that grows while a smaller, trained one holds its code and its Jacobian (Lezama 2019)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.elbo import ELBO
from pyro_hvae.objectives.handlers import Means, Record, Site, site_mean

__all__ = ["Supervision"]

Program = Callable[..., Any]
Codes = dict[str, Tensor]


class Supervision(ELBO):
    r"""The ELBO of a student, plus three penalties that make it do with the teacher's code what the teacher does.

    The teacher's latent sites are the factors z_f, by name the same sites in the student; the student's others are z_n, the
    nuisances. With $t = E_T(x)$ the teacher's posterior means, $m_f, m_n$ the student's, $D_T$ and $D_S$ the means of
    p(x | z), D observed scalars and a random permutation $\pi$ of the batch, the penalties are, in nats per datum,

    - `code`: $D \, w_c \, \mathrm{mean} (t - m_f)^2$ over batch and dimensions;
    - `cross`: $D \, w_x \, \lVert \bar m_n^T \bar m_f / B \rVert_F$, bars for centred over the batch;
    - `difference`: $D \, w_d \, \mathrm{mean} [(D_T(t) - D_T(t_\pi)) - (D_S(m_n, m_f) - D_S(m_n, m_{f,\pi}))]^2$ over batch and
      pixels: finite differences in the place of the two Jacobians.

    The paper's loss is one per pixel, (reconstruction + KL) / D plus the three terms, hence the factor D. The penalties count
    as reconstruction cost whatever beta is (see `Estimate.loss`), and no bound contains them. Of the teacher only means are
    used; it is put into evaluation mode and moved to the data's device, no gradient reaches it, and it is no part of the
    objective's parameters: it must be trained before the student is.

    Deviations: half the *square* of the norm is the usual cross-covariance penalty, the norm itself the author's code, which
    also leaves the teacher in training mode. Where a site's posterior depends on other latents (a chain), the student's mean
    is that given their draws.

    Arguments:
        teacher: (model, guide), a trained pair that keeps the contract.
        code, cross, difference: the weights $w_c, w_x, w_d$; a penalty whose weight is zero is left out.
        particles: 1; here to say why no other number will do.

    Raises:
        ConfigError: for a weight that is negative or no number, or several particles; at first use, when the teacher does not
            match the student: sites that are not some of the student's, or sites or x of another shape.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import Autoregressive, BottomUp
    >>> from pyro_hvae.models import Chain
    >>> teacher = Chain(StandardNormal(2), [], Gaussian(2, 4)), BottomUp([Gaussian(4, 2)])
    >>> student = Chain(StandardNormal(3), [Gaussian(3, 2)], Gaussian(5, 4), skip=True)
    >>> guide = Autoregressive({"z2": Gaussian(4, 3), "z1": Gaussian(7, 2)})
    >>> list(Supervision(teacher)(student, guide).estimate(torch.zeros(8, 4)).penalties)
    ['code', 'cross', 'difference']
    """

    def __init__(
        self,
        teacher: tuple[nn.Module, nn.Module],
        code: float = 0.25,
        cross: float = 1e-3,
        difference: float = 0.1,
        particles: int = 1,
    ) -> None:
        super().__init__(particles)
        if particles > 1:
            raise ConfigError(f"a teacher supervises posterior means, one a datum: particles={particles} have none. Use one.")
        self.weights = {"code": code, "cross": cross, "difference": difference}
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ConfigError(f"the weight of the {name} penalty must be a number of at least 0, got {weight!r}.")
        self.teacher = teacher
        self._matched: set[tuple[int, int]] = set()

    def check(self, model: Any, guide: Any, x: Tensor) -> None:
        """Also raises `ConfigError` when the teacher does not match the student."""
        super().check(model, guide, x)
        if (id(model), id(guide)) not in self._matched:
            teacher, encoder = self._trained(x.device)
            with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad():
                _match(_shapes(teacher), _shapes(model))
            super().check(teacher, encoder, x)
            self._matched.add((id(model), id(guide)))

    def penalties(self, model: Any, guide: Any, x: Tensor, p: dict[str, Site], q: dict[str, Site]) -> dict[str, Tensor]:
        order = torch.randperm(len(x), device=x.device)
        means = {name: site_mean(site) for name, site in q.items()}
        teacher, encoder = self._trained(x.device)
        with torch.no_grad(), Record() as record, Means():
            encoder(x)
        teaching = {name: site["value"] for name, site in record.sites.items()}
        factors = {name: means[name] for name in teaching}
        f, t = _flat(factors), _flat(teaching)
        n = _flat({name: mean for name, mean in means.items() if name not in teaching})
        scale = x[0].numel()
        found: dict[str, Tensor] = {}
        if self.weights["code"]:
            found["code"] = (t - f).square().mean()
        if self.weights["cross"]:
            found["cross"] = torch.linalg.matrix_norm((n - n.mean(0)).T @ (f - f.mean(0)) / len(x))
        if self.weights["difference"]:
            with torch.no_grad():
                wanted = _change(teacher, x, teaching, _ordered(teaching, order))
            found["difference"] = (wanted - _change(model, x, means, _ordered(factors, order))).square().mean()
        return {name: scale * self.weights[name] * value for name, value in found.items()}

    def _trained(self, device: torch.device) -> list[nn.Module]:
        """The teacher where the data are, in evaluation mode: the stage that trained it did not leave it there."""
        return [program.eval().to(device) for program in self.teacher]


def _flat(codes: Mapping[str, Tensor]) -> Tensor:
    """All sites side by side, (B, features)."""
    return torch.cat([code.flatten(1) for code in codes.values()], 1)


def _ordered(codes: Mapping[str, Tensor], order: Tensor) -> Codes:
    return {name: code[order] for name, code in codes.items()}


def _change(model: Program, x: Tensor, codes: Codes, other: Codes) -> Tensor:
    """E[x | codes] less E[x | codes with `other` in their place], (B, *event), in one pass."""
    both = {name: torch.cat([code, other.get(name, code)]) for name, code in codes.items()}
    with Record(both) as record:
        model(torch.cat([x, x]))  # only the shape of x matters; without it the model would draw one
    here, there = site_mean(record.sites["x"]).chunk(2)
    return here - there


def _shapes(model: Program) -> dict[str, tuple[int, ...]]:
    """Site -> event shape, x included, of what the model generates."""
    with pyro.validation_enabled(False), Record() as record:
        model(size=2)
    return {name: tuple(site["fn"].event_shape) for name, site in record.sites.items()}


def _match(teacher: Mapping[str, tuple[int, ...]], student: Mapping[str, tuple[int, ...]]) -> None:
    theirs, ours = ([name for name in shapes if name != "x"] for shapes in (teacher, student))
    if not set(theirs) < set(ours):
        raise ConfigError(
            f"a teacher's latent sites must be some of its student's, not all: the teacher has {theirs}, the student {ours}. "
            "Give the student the teacher's sites, by name, and at least one of its own."
        )
    for name, shape in teacher.items():
        if student.get(name, shape) != shape:
            raise ConfigError(
                f"the teacher does not match: its site '{name}' has shape {shape}, the student's {student[name]}. "
                + ("Train both on the same data." if name == "x" else "A student keeps the sites it inherits, and adds others.")
            )
