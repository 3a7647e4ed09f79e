"""Values of a run's conditions: those that are typed, and those of the training data."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_hvae.data import AbsentRows
from pyro_hvae.errors import ConfigError, DataError, require_known
from pyro_hvae.networks import SIZE_FACTOR
from pyro_hvae.objectives import inputs_for
from pyro_hvae.runs.opened_run import OpenRun


def parse_given(run: OpenRun, typed: Mapping[str, str]) -> dict[str, Tensor]:
    """Encoded values of conditions, one row each, from texts such as {"class": "3"}: a class by name or number, or a number.

    Raises:
        ConfigError: for a run without conditions, an unknown condition or class, or a text that is no number.
    """
    known = {condition.name: condition for condition in run.conditions}
    if typed and not known:
        text = ",".join(f"{name}={value}" for name, value in typed.items())
        raise ConfigError(
            f"the programs of '{run.directory.path}' are given nothing beside x, so {text} would change nothing. Leave it out, "
            f"or name a run that was trained with condition={','.join(typed)}."
        )
    for name in typed:
        require_known("condition of the run", name, known)
    return {known[name].key: known[name].parse(text)[None].to(run.device) for name, text in typed.items()}


def draw_given(run: OpenRun, count: int, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Inputs of the model for samples without x, (count, ...) each: those of random training data, but for what is `given`.
    A size is the mean one.

    They are empty where the programs are given nothing. The data are chosen by the global random stream.
    """
    fixed = {name: value.expand(count, *value.shape[1:]) for name, value in (mean_size(run) | dict(given or {})).items()}
    if not set(run.dataset.train.x.given) - set(fixed):
        return fixed
    return inputs_for(run.model, draw_beside(run, count)) | fixed


def mean_size(run: OpenRun) -> dict[str, Tensor]:
    """The mean size of the training data, one row, for what is drawn or decoded without a datum; nothing in other runs."""
    sized = any(condition.key == SIZE_FACTOR for condition in run.conditions)
    return inputs_for(run.model, {SIZE_FACTOR: torch.ones(1, 1, device=run.device)}) if sized else {}


def draw_beside(run: OpenRun, count: int) -> dict[str, Tensor]:
    """What stands beside `count` random training data, for model and guide."""
    train = run.dataset.train.x
    if not train.given:
        return {}
    if isinstance(train, AbsentRows):
        values = ",".join(f"{condition.name}=..." for condition in run.conditions)
        raise DataError(f"{train.why} Or give all conditions, where that is an option: --given {values}")
    drawn = train.given_at(torch.randint(len(train), (count,)))
    return {name: value.to(run.device) for name, value in drawn.items()}


def describe_values(run: OpenRun, given: Mapping[str, Tensor]) -> str:
    """Encoded conditions, of one row each, in words, such as "class=3, age=40"."""
    known = (condition for condition in run.conditions if condition.key in given)
    return ", ".join(f"{condition.name}={condition.describe(given[condition.key][0])}" for condition in known)


def describe_given(run: OpenRun, given: Mapping[str, Tensor] | None = None) -> str:
    """What `draw_given` gives, such as "given class=3 and age of random training data"; empty where that is nothing."""
    given, names = mean_size(run) | dict(given or {}), {condition.key: condition.name for condition in run.conditions}
    drawn = ", ".join(names.get(key, key) for key in run.dataset.train.x.given if key not in given)
    parts = [describe_values(run, given), f"{drawn} of random training data" if drawn else ""]
    text = " and ".join(filter(None, parts))
    return f"given {text}" if text else ""
