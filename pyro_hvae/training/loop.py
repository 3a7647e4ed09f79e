"""The training of all recipes: `fit` checks what it is given, opens the run and trains its stages."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from typing import Any

import pyro
from torch import Tensor

from pyro_hvae.compilation import decide_training, note_compiled
from pyro_hvae.data import Batch, Rows
from pyro_hvae.errors import ConfigError
from pyro_hvae.objectives import Objective, take_data
from pyro_hvae.recipes import Stage, stage_lengths
from pyro_hvae.runs import OWN, Experiment, Progress, Tracker, TrainConfig, record_program, shared_run
from pyro_hvae.runtime import (
    defer_signals,
    fail_together,
    fixed_seed,
    gather,
    is_writer,
    join_processes,
    limit_threads,
    noise_seed,
    pick_device,
    require_shares,
)
from pyro_hvae.schedules import Constant, Schedule
from pyro_hvae.training.early_stopping import describe_idle_patience, require_validation
from pyro_hvae.training.endings import record_failure
from pyro_hvae.training.equal_starts import require_equal, require_equal_starts
from pyro_hvae.training.history import History
from pyro_hvae.training.optimizers import MakeOptimizer, check_optimizer
from pyro_hvae.training.program_description import describe_program
from pyro_hvae.training.resumption import load_saved
from pyro_hvae.training.session import explain_batch_norm, start_schedule
from pyro_hvae.training.stage_loop import StageLoop


def fit(
    objective: Objective | Sequence[Stage],
    x: Tensor | Batch | Rows,
    config: TrainConfig | None = None,
    schedule: Schedule | Sequence[Schedule] | None = None,
    out: str | PathLike[str] | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    observed: Any = None,
    validation: Tensor | Batch | Rows | None = None,
    optimizer: MakeOptimizer | str | None = None,
    resume: bool = False,
    trackers: Sequence[Tracker] = (),
    experiment: Experiment | None = None,
    progress: bool = True,
) -> History:
    """Trains a pair (or the stages of a recipe) on x and returns the metric rows, the last of which is of the last step.

    Arguments:
        objective: `ELBO(...)(model, guide)`, or stages trained one after the other.
        x: training data of shape (n, *event): a tensor, or `Rows` such as a data set's `train.x`. NaN are missing entries.
        given: inputs of the programs beside x, name -> values of shape (n, ...). observed: a mask of the entries of x.
        config: see `TrainConfig`. schedule: one per stage; default `Constant(1)`, the bound itself.
        out: run directory for metrics and checkpoints; None keeps nothing.
        validation: data for the unweighted bound that chooses `checkpoints/best.pt`, and ends the training where `patience` is
            set: the pair then has the weights of the best bound if `out` is None. With given inputs a `Batch`.
        optimizer: parameters -> any torch optimiser that needs no closure, instead of that of `config`. Its learning rates are
            its own, and `lr_decay` lowers them. It is called once for each stage, and to resume a run it is handed over again.
            A name is that of `config.optimizer`.
        resume: go on from `out`'s last checkpoint. On the CPU the result is bit-identical to an uninterrupted run.
        trackers: told of every step (see `Tracker`). experiment: the configuration to write into the run, for recipes.
        progress: without trackers, show a bar in a terminal or notebook, elsewhere a few lines on stderr.

    The `History` is the list of rows, with a table and a figure of them. Rows hold step, stage, loss (weighted), elbo
    (unweighted bound), distortion, rate.SITE, rate_total, the values that the schedule logs (beta, constraint, ...),
    penalty.NAME and lr, in nats per datum of the step's batch; at some steps also validation_elbo and information.SITE (see
    `InformationFlow`).

    Under torchrun, or in a `torch.distributed` process group of the caller's, all processes call `fit` alike and train one
    run together: each has a share of every batch, and the first one writes (see docs/many_processes.md).

    The caller's random streams stay as they are; noise comes from `config.seed`. The pair is in training mode while it is
    trained, and in evaluation mode afterwards, as a run that `load` opens.

    Raises:
        ContractError, ConfigError, DataError: for a pair, data or a combination that cannot be trained.
        DivergenceError: when the loss is not finite or above a million times the first one seen (at least 1e6 nats), or
            weights to be saved are not finite; the last checkpoint stays.
        Interrupted: after SIGINT, SIGTERM or SIGHUP, once a resumable checkpoint has been written. A step that
            may compile is given up at once where the last checkpoint is of the step before.
    """
    join_processes()
    config = config or TrainConfig()
    if optimizer is not None:
        check_optimizer(optimizer)
        config = replace(config, optimizer=optimizer if isinstance(optimizer, str) else OWN)
    own = None if isinstance(optimizer, str) else optimizer
    require_validation(config, validation is not None)
    stages = [Stage("main", objective)] if isinstance(objective, Objective) else list(objective)
    pair = stages[0].objective.model, stages[0].objective.guide
    programs = [program for stage in stages for program in (stage.objective.model, stage.objective.guide)]
    x = take_data(x, *programs, given=given, observed=observed, wait=True)
    validation = None if validation is None else take_data(validation, *programs, wait=True)
    if schedule is None:
        schedule = [Constant() for _ in stages]
    schedules = [schedule] if isinstance(schedule, Schedule) else list(schedule)
    if len(schedules) != len(stages):
        raise ConfigError(f"{len(stages)} stages need as many schedules, got {len(schedules)}.")
    lengths, device = stage_lengths(config.steps, stages), pick_device(config.device)
    run = shared_run(out) if out is not None else None
    require_shares(min(config.batch_size, len(x)))
    whole = replace(experiment or Experiment(None, "own data", type(schedules[0]).__name__.lower()), train=config)
    require_equal_starts(whole, stages, x, validation)
    with ExitStack() as stack:
        with fail_together():
            if run:
                run.require_checkpoint() if resume else run.require_empty()
                stack.enter_context(run.lock())
            saved = load_saved(run, whole, len(stages), pair) if run and resume else None
        require_equal({"last checkpoint": saved and saved["step"]})
        if run and saved:
            if config.compile is None:
                config = replace(config, compile=saved.get("compile", False))  # older runs were trained eagerly
            lengths[: saved["stage"]] = saved.get("lengths", lengths)[: saved["stage"]]  # older runs have none
            run.resume(saved["step"], saved.get("rows"))
            if experiment:
                run.write_config(experiment)  # the length may have changed
        for stage, each, length in zip(stages, schedules, lengths, strict=True):
            start_schedule(each, stage.objective, length)  # sets the number of kinds of passes
        graphs = sum(each.pass_kinds for each in schedules)
        described = describe_program(stages, schedules, x, config)
        compile, why = decide_training(config.compile, config.engine, lengths, graphs, device, described)
        whole, rows = replace(whole, train=replace(config, compile=compile)), run.rows() if run else []
        if run and not resume:
            run.create(whole, record_program(whole.program, *pair) if whole.recipe is None else None)
        if not is_writer():
            trackers = [Tracker()]  # is told everything, and says nothing
        shown = list(trackers) or ([Progress()] if progress else [])
        loop = StageLoop(stages, schedules, lengths, whole, run, shown, saved, rows, own, not trackers)
        loop.signals = stack.enter_context(defer_signals())  # also while a failure is recorded
        stack.enter_context(record_failure(run))
        stack.enter_context(fixed_seed(noise_seed(config.seed)))
        stack.enter_context(limit_threads(config.threads))
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(pyro.get_param_store().scope())  # programs may announce their parameters by `pyro.module`
        for tracker in loop.trackers:
            tracker.start(sum(lengths), saved["step"] if saved else 0)
            stack.callback(tracker.close)
        loop.tell(why)
        if (experiment is None or trackers) and (idle := describe_idle_patience(config, lengths[-1])):
            loop.warn(idle, depth=3)  # an estimator has a patience by default, which is no mistake of the caller
        with explain_batch_norm(stages):
            loop.run_stages(x, validation, device)
            if loop.compiled:
                note_compiled(described)
            gather(None)  # the run is written when it returns, in whatever process
    for stage in stages:
        stage.objective.eval()
    return History(loop.rows, whole.method, getattr(schedules[-1], "kappa", None), loop.ending)
