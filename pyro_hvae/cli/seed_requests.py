"""The request of `pyro-hvae train ... --seeds 0:5`: a run for each seed, those that are done already kept, and their table."""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyro_hvae.cli.train_request import TrainRequest, require_same_run
from pyro_hvae.errors import CheckpointError, DivergenceError, HVAEError, Interrupted
from pyro_hvae.reports import format_table
from pyro_hvae.runs import RunDirectory, read_config

VALUES = ("elbo", "validation_elbo", "angle")
LAST_PICTURE = "figures/samples.png"  # of a run that is trained and drawn


@dataclass(frozen=True)
class SeedRequests:
    """Requests for runs that differ in the seed alone."""

    requests: Sequence[TrainRequest]

    def describe(self) -> dict[str, Any]:
        """The plan of a dry run: that of the first seed, with the directories of all."""
        return {**self.requests[0].describe(), "out": [str(request.out) for request in self.requests]}

    def run(self, track: tuple[str, ...] = ()) -> tuple[dict[str, Any], str, HVAEError | None]:
        """Trains the runs one after the other; one that diverges or is damaged does not stop those after it.

        Returns:
            a row for each run with mean and standard deviation of its values, their text, and an error where runs failed.

        Raises:
            HVAEError: for what would fail for all seeds alike. Interrupted: after a signal; nothing that is finished is lost.
        """
        rows, failed = list[dict[str, Any]](), dict[str, HVAEError]()
        for number, request in enumerate(self.requests, 1):
            _tell(f"Run {number} of {len(self.requests)}: {request.out}")
            try:
                _train_or_keep(request, track)
                rows.append(_row(request))
            except Interrupted as error:
                message = f"{error} The same command goes on with it, and keeps the runs that are finished."
                raise Interrupted(message, error.exit_code - 128) from error
            except HVAEError as error:
                if number == 1 and not isinstance(error, DivergenceError | CheckpointError):
                    raise
                _tell(f"Error: {error}")
                failed[str(request.out)] = error
        values = {"runs": rows, "failed": {run: str(error) for run, error in failed.items()}, **_summary(rows)}
        first = next(iter(failed.values()), None)
        if first is None:
            return values, _text(values), None
        count = f"{len(failed)} of {len(self.requests)} runs failed ({', '.join(failed)})"
        message = f"{count}; the reasons are above." + (" The others are kept." if rows else "")
        return values, _text(values), type(first)(message)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _train_or_keep(request: TrainRequest, track: tuple[str, ...]) -> None:
    """Trains a run, goes on with one that was interrupted, or keeps one that is finished."""
    run = RunDirectory(request.out)
    if not run.checkpoint().is_file():
        request.run(track)
        return
    stored = read_config(run.path)
    require_same_run(stored, request.experiment, run)
    finished = run.read_json("run.json").get("status") == "finished" and (run.path / LAST_PICTURE).is_file()
    if finished and stored.train.steps == request.experiment.train.steps:
        _tell("It is finished, and kept as it is.")
    else:
        replace(request, resume=True).run(track)


def _row(request: TrainRequest) -> dict[str, Any]:
    """The last metric row of a finished run, and the angle error where it was measured."""
    run = RunDirectory(request.out)
    last = run.rows()[-1]
    row = {"run": str(run.path), "seed": request.experiment.train.seed, "step": last["step"]}
    angle = run.read_json("eval/angle.json").get("mae_rad")
    found = last | ({} if angle is None else {"angle": angle})
    shown = {key: found[key] for key in VALUES if key in found}
    if "validation_elbo" in shown:
        del shown["elbo"]  # of one batch
    return row | shown


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over the runs of the values that all have."""
    columns = {key: [row[key] for row in rows] for key in VALUES if rows and all(key in row for row in rows)}
    mean = {key: statistics.fmean(values) for key, values in columns.items()}
    deviation = {key: statistics.stdev(values) for key, values in columns.items()} if len(rows) > 1 else {}
    return {"mean": mean, "std": deviation}


def _text(values: dict[str, Any]) -> str:
    """A table with a row for each run, then mean and standard deviation."""
    if not (rows := values["runs"]):
        return "No run is finished."
    columns = ["run", "seed", "step", *(key for key in VALUES if any(key in row for row in rows))]
    lines = [*rows, *({"run": name, "seed": "", "step": "", **values[name]} for name in ("mean", "std") if values[name])]
    table = format_table({key: line.get(key) for key in columns} for line in lines)
    return f"{table}\nTest likelihoods: pyro-hvae compare {' '.join(row['run'] for row in rows)} --particles 500"
