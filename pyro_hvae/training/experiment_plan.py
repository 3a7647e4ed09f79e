"""An experiment built from its configuration: data, stages and schedules, not yet trained."""

from dataclasses import dataclass
from typing import Any

import torch

from pyro_hvae.compilation import decide_training
from pyro_hvae.data import Dataset
from pyro_hvae.errors import ConfigError
from pyro_hvae.inference import InformationFlow
from pyro_hvae.recipes import Stage, require_counts, stage_lengths
from pyro_hvae.runs import OPTIMIZERS, OWN, Experiment, build_stages, load_dataset, measure_conditions, program_from_file
from pyro_hvae.runtime import first_on_machine, fixed_seed, pick_device
from pyro_hvae.schedules import SCHEDULES, Schedule
from pyro_hvae.training.program_description import describe_program
from pyro_hvae.training.session import explain_batch_norm, require_warm_up, start_schedule


@dataclass(frozen=True)
class Plan:
    """An experiment built but not trained: its data, stages and schedules."""

    experiment: Experiment
    dataset: Dataset
    stages: list[Stage]
    schedules: list[Schedule]

    def describe(self) -> dict[str, Any]:
        """The shapes, parameter counts and configuration that a dry run prints; whether to compile is decided."""
        counts = {s.name: sum(p.numel() for p in s.objective.parameters()) for s in self.stages}
        lengths = stage_lengths(self.experiment.train.steps, self.stages)
        several = {"steps_at_most": dict(zip(counts, lengths, strict=True))} if len(lengths) > 1 else {}
        train, graphs = self.experiment.train, sum(schedule.pass_kinds for schedule in self.schedules)
        program = describe_program(self.stages, self.schedules, self.dataset.train.x, train)
        compile, _ = decide_training(train.compile, train.engine, lengths, graphs, pick_device(train.device), program)
        settings = self.experiment.replace_train(compile=compile).to_dict()
        return {"data_shape": list(self.dataset.train.x.shape), "parameters": counts, **several, **settings}


def plan(experiment: Experiment, start: int = 0) -> Plan:
    """Builds data, stages and schedules, and checks on two data that the schedule goes with the bound.

    Arguments:
        start: which of the seed's initialisations to build.

    Raises:
        ConfigError, ContractError: when the combination makes no sense, saying why.
    """
    if experiment.train.optimizer == OWN:
        raise ConfigError(
            f"optimizer={OWN} stands for an optimiser that a script hands over (hv.fit(..., optimizer=...)). Name one: "
            f"{', '.join(OPTIMIZERS)}."
        )
    if experiment.size_factor and (likelihood := experiment.recipe_options.get("likelihood")):
        require_counts(likelihood)  # before sizes are measured, which data of another kind may not have
    with first_on_machine():
        experiment = measure_conditions(experiment)
        dataset = load_dataset(experiment)
    with fixed_seed((experiment.train.seed + 1_000_003 * start) % 2**32):
        program = program_from_file(experiment.program, dataset.train.x.sample()) if experiment.program else None
        stages = build_stages(experiment, dataset, program)
        schedules = [SCHEDULES[experiment.schedule](**(experiment.schedule_options | dict(s.schedule))) for s in stages]
        for stage, schedule, steps in zip(stages, schedules, stage_lengths(experiment.train.steps, stages), strict=True):
            start_schedule(schedule, stage.objective, steps)
        first = stages[0].training_data(dataset.train.x, torch.device("cpu"))[:2]
        try:
            with explain_batch_norm(stages):
                estimate = stages[0].objective.estimate(first)
            estimate.loss(schedules[0].weights())
            if schedules[0].measure:
                estimate.constraint(schedules[0].measure)
        except ConfigError as error:
            raise ConfigError(f"--schedule {experiment.schedule} does not go with this bound: {error}") from error
        if experiment.train.free_bits:
            estimate.loss(free_bits=experiment.train.free_bits)
        if experiment.train.balance:
            require_warm_up(schedules[0])
            estimate.loss(balanced=True)
        if experiment.train.gradient:
            for stage in stages:
                stage.objective.elbo.set_gradient(experiment.train.gradient)
        if experiment.train.information_every:
            InformationFlow(first).row(stages[0].objective.guide)
    return Plan(experiment, dataset, stages, schedules)
