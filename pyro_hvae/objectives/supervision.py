"""The teacher-student objective: a trained teacher supervises the code and the Jacobian of a larger student (Lezama 2019)."""

import math
from collections.abc import Callable, Collection
from typing import Any
from weakref import ref

import pyro
import torch
from torch import Tensor, nn

from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives.elbo import ELBO, Sites
from pyro_hvae.objectives.given_inputs import given_for, run_program
from pyro_hvae.objectives.handlers import Means, Record, site_mean
from pyro_hvae.objectives.program_contract import check_contract
from pyro_hvae.runtime import evaluation_mode

Program = Callable[..., Any]
Codes = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


class Supervision(ELBO):
    r"""The ELBO of a student, plus three penalties that make it use the teacher's code as the teacher does.

    The teacher's latent sites are the factors z_f, with the same names in the student; the student's other sites are the
    nuisances z_n. With $t = E_T(x)$ the teacher's posterior means, $m_f, m_n$ the student's, $D_T$ and $D_S$ the means of
    p(x | z), D observed scalars and a random permutation $\pi$ of the batch, the penalties are, in nats per datum,

    - `code`: $D \, w_c \, \mathrm{mean} (t - m_f)^2$ over batch and dimensions;
    - `cross`: $D \, w_x \, \lVert \bar m_n^T \bar m_f / B \rVert_F$, bars for centred over the batch;
    - `difference`: $D \, w_d \, \mathrm{mean} [(D_T(t) - D_T(t_\pi)) - (D_S(m_n, m_f) - D_S(m_n, m_{f,\pi}))]^2$ over batch and
      pixels: finite differences in the place of the two Jacobians.

    The paper's loss is per pixel, (reconstruction + KL) / D plus the three terms, hence the factor D. The penalties count as
    reconstruction cost whatever beta is (see `Estimate.loss`), and no bound contains them. The teacher must be trained before
    the student. Only its means are used; it is put into evaluation mode and moved to the data's device, no gradient reaches it,
    and its parameters are not among those of the objective.

    Deviations: the usual cross-covariance penalty is half the *square* of the norm, which is the author's code's; that code
    leaves the teacher in training mode. Where a posterior depends on other latents (a chain), its mean is given their draws.

    Arguments:
        teacher: (model, guide), a trained pair that keeps the contract.
        code, cross, difference: the weights $w_c, w_x, w_d$; a penalty whose weight is zero is left out.
        particles: must be 1; the error for other numbers says why.

    Raises:
        ConfigError: for a weight that is negative or not finite, or several particles; at first use, for a teacher that does
            not match the student: it has sites that the student lacks, or all of them, or sites or x of another shape.

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
            raise ConfigError(f"a teacher supervises one posterior mean a datum; particles={particles} have several. Use one.")
        self.weights = {"code": code, "cross": cross, "difference": difference}
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ConfigError(f"the weight of the {name} penalty must be a number of at least 0, got {weight!r}.")
        self.teacher = teacher
        self._matched: set[ref[Any]] = set()  # models that the teacher has been compared with

    def sites(self, model: Any, guide: Any, x: Tensor | Batch) -> tuple[Sites, Sites]:
        """As of `ELBO`; raises `ConfigError` at first use when the teacher does not match the student."""
        if ref(model) not in self._matched:
            teacher = self._teacher_on(x.device)[0]
            with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad(), evaluation_mode(model):
                _check_match(_event_shapes(teacher, x[:2]), _event_shapes(model, x[:2]))
            self._matched.add(ref(model))
        return super().sites(model, guide, x)

    def penalties(self, model: Any, guide: Any, x: Tensor | Batch, p: Sites, q: Sites) -> dict[str, Tensor]:
        order = torch.randperm(len(x), device=x.device)
        means = {name: site_mean(site) for name, site in q.items()}
        teacher, encoder = self._teacher_on(x.device)
        with torch.no_grad(), Record() as record, Means():
            run_program(encoder, x)
        check_contract(None, record.sites, x)
        targets = {name: site["value"] for name, site in record.sites.items()}
        factors = {name: means[name] for name in targets}
        f, t = _concatenate(factors), _concatenate(targets)
        n = _concatenate({name: mean for name, mean in means.items() if name not in targets})
        scale = x.shape[1:].numel()
        values: dict[str, Tensor] = {}
        if self.weights["code"]:
            values["code"] = (t - f).square().mean()
        if self.weights["cross"]:
            values["cross"] = torch.linalg.matrix_norm((n - n.mean(0)).T @ (f - f.mean(0)) / len(x))
        if self.weights["difference"]:
            with torch.no_grad():
                wanted = _output_difference(teacher, x, targets, targets, order)
            values["difference"] = (wanted - _output_difference(model, x, means, factors, order)).square().mean()
        return {name: scale * self.weights[name] * value for name, value in values.items()}

    def _teacher_on(self, device: torch.device) -> list[nn.Module]:
        """The teacher's programs on a device, in evaluation mode: the stage that trained it left it in training mode."""
        return [program.eval().to(device) for program in self.teacher]


def _concatenate(codes: Codes) -> Tensor:
    """All sites side by side, (B, features)."""
    return torch.cat([code.flatten(1) for code in codes.values()], 1)


def _output_difference(model: Program, x: Tensor | Batch, codes: Codes, permuted: Collection[str], order: Tensor) -> Tensor:
    """E[x | codes] minus E[x | codes with the named sites in another order], (B, *event), in one pass."""
    both = {name: torch.cat([code, code[order] if name in permuted else code]) for name, code in codes.items()}
    with Record(both) as record:
        # Only the shape of x matters, and what is given beside it; without x the model would draw one.
        run_program(model, x[torch.arange(len(x), device=x.device).repeat(2)])
    first, second = site_mean(record.sites["x"]).chunk(2)
    return first - second


def _event_shapes(model: Program, x: Tensor | Batch) -> Shapes:
    """Site -> event shape, x included, of the model's draws beside the given inputs of x."""
    with pyro.validation_enabled(False), Record() as record:
        model(size=len(x), **given_for(model, x))
    return {name: tuple(site["fn"].event_shape) for name, site in record.sites.items()}


def _check_match(teacher: Shapes, student: Shapes) -> None:
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
