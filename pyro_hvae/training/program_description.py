"""The description of a training by which its compiled code is known again."""

from collections.abc import Sequence

from torch import Tensor

from pyro_hvae import __version__
from pyro_hvae.data import Batch, Rows
from pyro_hvae.recipes import Stage
from pyro_hvae.runs import TrainConfig
from pyro_hvae.schedules import Schedule


def describe_program(
    stages: Sequence[Stage], schedules: Sequence[Schedule], x: Tensor | Batch | Rows, config: TrainConfig
) -> str:
    """All that the graphs of a training depend on, as text: networks, bounds, kinds of schedules, shapes and settings.

    Numbers inside conditionals (such as sigma) are left out, for they can be anything: two programs that differ in one of them
    have one description, and the second one compiles longer than it was counted on.
    """
    lines = [__version__]
    for stage, schedule in zip(stages, schedules, strict=True):
        bound = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in vars(stage.objective.elbo).items()}
        lines += [stage.name, repr(stage.objective), repr(bound), f"{type(schedule).__name__} {schedule.pass_kinds}"]
    event = tuple((x.x if isinstance(x, Batch) else x).shape[1:])
    settings = (config.batch_size, config.gradient, config.precision, bool(config.free_bits), config.balance)
    return "\n".join([*lines, repr((event, *settings))])
