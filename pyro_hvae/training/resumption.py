"""The checkpoint with which a run goes on."""

import warnings
from typing import Any

from pyro_hvae.errors import CheckpointError, ConfigError
from pyro_hvae.runs import Experiment, RunDirectory, find_other_settings, read_checkpoint, require_same_settings


def load_saved(run: RunDirectory, experiment: Experiment, stages: int, pair: tuple[Any, Any]) -> dict[str, Any]:
    """The last checkpoint of a run to resume; warns of a `pair` (model, guide) that is another than the run's.

    Raises:
        CheckpointError: for one of other settings or stages. ConfigError: where its length does not go with the settings.
    """
    saved = read_checkpoint(path := run.require_checkpoint())
    if (number := len(saved["programs"])) != stages:
        raise CheckpointError(f"checkpoint '{path}' does not fit its configuration: it has {number} stages, not {stages}.")
    require_same_settings(saved, experiment, run.path, whole=False)
    config = experiment.train
    if saved["step"] > config.steps or (stages > 1 and saved["steps"] != config.steps):
        raise ConfigError(
            f"the run is at step {saved['step']} of {saved['steps']}; it cannot go on with {config.steps} steps. Only a "
            "run of one stage can be made longer, and none shorter than it is. Leave the steps out to go on as planned."
        )
    if other := find_other_settings(*pair, run.read_json("program.json")):
        warnings.warn(f"this is not the pair of the run '{run.path}', which goes on with it: {other}.", stacklevel=3)
    return saved
