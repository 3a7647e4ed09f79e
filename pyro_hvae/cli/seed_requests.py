"""The request of `pyro-hvae train ... --seeds 0:5`: a run for each seed, those that are done already kept, and their table."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyro_hvae.cli.train_request import TrainRequest
from pyro_hvae.errors import CheckpointError, ConfigError, DataError, HVAEError, Interrupted
from pyro_hvae.reports import report_comparison
from pyro_hvae.runs import Experiment, RunDirectory, read_checkpoint, read_config, require_same_settings


@dataclass(frozen=True)
class SeedRequests:
    """Runs of one experiment that differ in the seed, with their directories."""

    requests: Sequence[TrainRequest]

    def describe(self) -> dict[str, Any]:
        """The plan of a dry run: that of the first seed, with the directories of all."""
        return {**self.requests[0].describe(), "runs": [str(request.out) for request in self.requests]}

    def run(self, track: tuple[str, ...] = ()) -> tuple[dict[str, Any], str, list[str]]:
        """Trains the runs one after the other; a run that fails does not stop those after it.

        Returns:
            the values of `compare` with the reports of the runs, its text, and the failures as text.
        """
        reports, failures = list[dict[str, Any]](), list[str]()
        for number, request in enumerate(self.requests, 1):
            tell(f"Run {number} of {len(self.requests)}: {request.out}")
            try:
                reports.append(_train_or_keep(request, track))
            except Interrupted as error:
                raise Interrupted(f"{error} The same command goes on with the runs that are not finished.", error.exit_code - 128)
            except (ConfigError, DataError) if not reports else () as error:  # the settings of all, or no room for any
                raise error
            except HVAEError as error:
                failures.append(f"{request.out}: {error}")
                tell(f"Error: {error}")
        if not reports:
            return {"runs": [], "failed": failures}, "", failures
        values, text = report_comparison([report["run"] for report in reports], tell=tell)
        return {**values, "trained": reports, "failed": failures}, text, failures


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _train_or_keep(request: TrainRequest, track: tuple[str, ...]) -> dict[str, Any]:
    """Trains a run, goes on with one that was interrupted, or keeps one that is finished, pictures and all."""
    run = RunDirectory(request.out)
    if not run.checkpoint().is_file():
        return request.run(track)
    _require_same_run(run, request.experiment)
    state = run.read_json("run.json")
    if state.get("status") == "finished" and state.get("reported"):
        tell("It is finished and kept.")
        return {"run": str(run.path), "step": state.get("step"), "kept": True}
    return replace(request, resume=True).run(track)
