"""Adapters to stock `pyro.infer.SVI`, which trains nothing when it receives plain modules."""

import itertools
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import torch
from pyro.optim.optim import PyroOptim
from pyro.params.param_store import param_with_module_name
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from pyro_hvae.data import OBSERVED
from pyro_hvae.errors import ConfigError, ContractError
from pyro_hvae.objectives.data_entry import take_pass
from pyro_hvae.objectives.elbo import ELBO, Estimate
from pyro_hvae.objectives.given_inputs import inputs_for
from pyro_hvae.schedules import Constant, Schedule

_pairs = itertools.count()
_registered = WeakIdKeyDictionary()  # the parameters of this process's pairs; any others in the store were loaded


def for_svi(model: nn.Module, guide: nn.Module, name: str = "") -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The pair as programs that register their parameters with `pyro.module`, for `pyro.infer.SVI`.

    SVI steps only the parameters in the store. Those of a plain `nn.Module` are not there, so SVI would run and train
    *nothing*, without a warning. A store that was loaded gives its values to the pair of the same name in the pair's next pass.

    Arguments:
        name: of the pair in the store. Each call without one uses a name of its own, so that several pairs can live in one
            process; a store that is to be saved and loaded needs a name.

    >>> from pyro_hvae.conditionals.gaussian import Gaussian, StandardNormal
    >>> from pyro_hvae.guides import BottomUp
    >>> from pyro_hvae.models import Chain
    >>> model, guide = for_svi(Chain(StandardNormal(2), [], Gaussian(2, 4)), BottomUp([Gaussian(4, 2)]), name="vae")
    >>> from pyro.infer import SVI
    >>> svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), pyro.infer.Trace_ELBO())
    >>> isinstance(svi.step(torch.zeros(8, 4)), float)
    True
    """
    name = name or f"pyro_hvae.{next(_pairs)}"
    return _register(f"{name}.model", model), _register(f"{name}.guide", guide)


def _register(name: str, module: nn.Module) -> Callable[..., Any]:
    program: Any = partial(_run_registered, name, module)
    program.unregistered = module  # for further passes that leave the parameter store alone
    return program


def _run_registered(name: str, module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    if OBSERVED in kwargs and OBSERVED not in inputs_for(module, {}, kwargs[OBSERVED]):
        raise ContractError(
            f"'{name}' takes no mask, and Pyro's own bounds leave no entries of x out. Use hv.ELBO as the loss of SVI."
        )
    _restore(name, module)
    with warnings.catch_warnings():
        # Frozen parameters are left out on purpose.
        warnings.filterwarnings("ignore", message=".*was not registered in the param store.*")
        pyro.module(name, module)
    for parameter in module.parameters():
        _registered[parameter] = True
    return module(*args, **kwargs)


def _restore(name: str, module: nn.Module) -> None:
    """Gives the module the values that the store has under its name, if they are not its own: those of a loaded store."""
    store, known = pyro.get_param_store(), False
    held = dict(store.named_parameters())
    for key, parameter in module.named_parameters():
        full = param_with_module_name(name, key)
        known |= full in held
        if (stored := held.get(full, parameter)) is parameter:
            continue
        if stored.shape != parameter.shape:
            raise ConfigError(
                f"the parameter store holds '{full}' of shape {tuple(stored.shape)}, the pair's is {tuple(parameter.shape)}. "
                "Give every pair a name of its own (hv.for_svi(..., name=...)), or clear the store: pyro.clear_param_store()."
            )
        with torch.no_grad():
            parameter.copy_(stored)
        del store[full]  # `pyro.module` enters the module's own parameter, which SVI is to step
    if known or not any(parameter.requires_grad for parameter in module.parameters()):
        return
    pairs = {key: value for key, value in held.items() if key.partition("$$$")[0].endswith((".model", ".guide"))}
    foreign = [key for key, value in pairs.items() if value not in _registered]
    if foreign:
        warnings.warn(
            f"the parameter store holds values of another process (such as '{foreign[0]}') and none of '{name}', so nothing is "
            "restored. Save and load under one name: hv.for_svi(model, guide, name='...').",
            stacklevel=4,
        )


class ScheduledELBO(ELBO):
    """An `ELBO` for SVI that gives the constraint of every step to a schedule, and the schedule's weights to the loss.

    Parameters that REWO's initial phase holds back receive no gradient: torch optimisers neither step nor remember them.

    Arguments:
        elbo: the bound. schedule: its controller. reconstruction: parameters that are trained in the initial phase.
        on_estimate: called with every estimate and its loss, for logging. free_bits, balanced: see `Estimate.loss`.
    """

    def __init__(
        self,
        elbo: ELBO,
        schedule: Schedule | None = None,
        reconstruction: list[nn.Parameter] | None = None,
        on_estimate: Callable[[Estimate, Tensor], None] = lambda estimate, loss: None,
        free_bits: float = 0.0,
        balanced: bool = False,
    ) -> None:
        super().__init__(elbo.particles, elbo.shared, elbo.alpha, elbo.analytic_kl, elbo.gradient)
        self.estimate = elbo.estimate  # the bound's own, with what its class adds
        self.schedule, self.reconstruction, self.on_estimate = schedule or Constant(), reconstruction, on_estimate
        self.free_bits, self.balanced = free_bits, balanced

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        estimate = self.estimate(model, guide, take_pass(args, kwargs, model, guide))
        measure = self.schedule.measure
        self.schedule.update(estimate.constraint(measure) if measure else None)
        self.schedule.require_usable()
        loss = estimate.loss(self.schedule.weights(), self.free_bits, self.balanced)
        loss.backward(inputs=self.reconstruction if self.schedule.initial else None)
        self.on_estimate(estimate, loss.detach())
        return loss.item()


class FunctionOptim(PyroOptim):
    """A `PyroOptim`, which SVI requires, that steps by calling a function: one torch optimiser serves both engines."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__(torch.optim.Adam, {})
        self._step = step

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._step()
