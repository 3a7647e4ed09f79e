"""How a training ends before its last step, by divergence, a signal or an error, and what the run then says of it."""

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from pyro_hvae.data import x_of
from pyro_hvae.errors import DataError, DivergenceError, HVAEError, Interrupted, LostProcessError
from pyro_hvae.runs import OWN, RunDirectory, TrainConfig, read_checkpoint
from pyro_hvae.runtime import GivenUp, Signals, own_command
from pyro_hvae.training.divergence import DivergenceDetector
from pyro_hvae.training.session import Session

HUGE = 1e12  # nats: no pair starts there on data that its likelihood can hold


@contextmanager
def record_failure(run: RunDirectory | None) -> Iterator[None]:
    """Writes into run.json that an error ended the training, and adds the last good checkpoint to an error about files."""
    try:
        yield
    except (DivergenceError, Interrupted):
        raise  # recorded already
    except BaseException as error:  # a second signal, too
        if run is None:
            raise
        with contextlib.suppress(DataError):
            run.update(status="failed", error=f"{type(error).__name__}: {error}")
        if isinstance(error, DataError | LostProcessError):
            raise type(error)(f"{error} {describe_last_checkpoint(run)}") from error
        raise


def describe_last_checkpoint(run: RunDirectory) -> str:
    """Where the last good checkpoint of a run is, and how to go on from it."""
    try:
        step = read_checkpoint(last := run.require_checkpoint())["step"]
    except HVAEError:
        return "No checkpoint of the run is left."
    return f"The last good checkpoint is kept: {last} (step {step}). Go on with: {own_command()} train --resume {run.path}"


def refuse_divergence(
    detector: DivergenceDetector, session: Session, run: RunDirectory | None, far: str = "", saving: int | None = None
) -> None:
    """Stops a run whose losses are no longer usable, or whose weights are not when they are to be saved (step `saving`).

    Arguments:
        far: what `describe_scale` found before the first step.

    Raises:
        DivergenceError: with the cause: the learning rate, or data and likelihood where no step had been made, or where the
            scale of the one is far from that of the other.
        ConfigError: for a constraint that is infinite, see `Schedule.require_usable`.
    """
    if divergence := detector.check():
        step, what = divergence
    elif saving is not None and not all(bool(p.isfinite().all()) for p in session.objective.parameters()):
        step, what = saving, f"weights became infinite or NaN at step {saving}"
    else:
        session.schedule.require_usable()
        return
    where = ""
    if run:
        run.update(status="diverged", step=step)
        last = run.checkpoint()
        where = f" The last good checkpoint is kept: {last}." if last.is_file() else ""
    if detector.starts_above(HUGE):
        largest = x_of(session.x[: session.batches.batch_size]).abs().max().item()
        advice = (
            f"The loss was so before the first step, so the learning rate is not the cause: data (up to {largest:.3g}) and "
            "likelihood do not go together in float32. Bring the data to values of about 1 (standardize=true), or give the "
            "likelihood a larger scale (sigma)."
        )
    else:
        # Clipping holds a step of SGD, which is as long as the gradient. Adam and the like make steps of lr whatever it is.
        lr = f"lr={min(session.lr / 10, TrainConfig.lr):.1g}" if session.config.optimizer != OWN else "a smaller learning rate"
        advice = f"Data and likelihood are far apart: {far} Also try " if far else "Try "
        advice += f"{lr} and grad_clip=10."
    raise DivergenceError(f"{what}.{where} {advice}")


def make_step_or_give_up(session: Session, signals: Signals, run: RunDirectory | None, step: int, steps: int) -> None:
    """Makes a step whose beginning (`step` of `steps`) is saved; a signal ends it, and the training, at once.

    The eager pass and the compilation of the step are given up. Weights that it may have changed are not saved.
    """
    try:  # around the whole block: the signal may also arrive where it is entered or left
        with signals.give_up():
            if not signals:
                session.step()
                return
    except GivenUp:
        pass
    interrupt(run, signals[0], step, steps)


def interrupt(run: RunDirectory | None, signum: int, step: int, steps: int) -> NoReturn:
    """Ends a training at a step after a signal, once its checkpoint has been written; raises `Interrupted`."""
    message = f"stopped by {signal.Signals(signum).name} at step {step} of {steps}."
    if run:
        run.update(status="interrupted", step=step)
        message += f" Saved {run.checkpoint()}; go on with: {own_command()} train --resume {run.path}"
    raise Interrupted(message, signum)
