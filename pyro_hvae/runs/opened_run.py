"""A trained run that is open: its configuration, data, stages, model and guide."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from pyro_hvae.data import Condition, Dataset, Rows
from pyro_hvae.inference import ancestral
from pyro_hvae.objectives import Objective, inputs_for
from pyro_hvae.recipes import Stage
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.notebook_tables import html_table
from pyro_hvae.runs.run_data import load_dataset, read_conditions
from pyro_hvae.runs.run_directory import RunDirectory
from pyro_hvae.runs.saved_pair import data_label
from pyro_hvae.runtime import fixed_seed


@dataclass(frozen=True, eq=False, repr=False)
class OpenRun:
    """A trained run with its data, for evaluation; puts the objectives of its stages in evaluation mode."""

    directory: RunDirectory
    experiment: Experiment
    stages: list[Stage]
    step: int
    held: Dataset | None = None  # data handed over, or a description of those it was trained on; else they are loaded

    def __post_init__(self) -> None:
        for stage in self.stages:
            stage.objective.eval()

    def _sites(self) -> dict[str, str]:
        """x and the latents -> their shapes, in the model's order."""
        given = {condition.key: torch.ones(1, condition.width, device=self.device) for condition in self.conditions}
        with fixed_seed(0), torch.no_grad():
            sites = ancestral(self.model, given=inputs_for(self.model, given))
        shapes = {name: str(tuple(site["value"].shape[1:])) for name, site in sites.items()}
        return {"x": shapes.pop("x"), **shapes}

    def describe(self) -> str:
        """What it is, in one line: recipe, data, shapes of x and the latents, conditions and step."""
        about = [f"{name} {shape}" for name, shape in self._sites().items()]
        if self.conditions:
            about.append(f"given {', '.join(condition.name for condition in self.conditions)}")
        label = f"{self.experiment.method} on {data_label(self.experiment.dataset)}"
        return f"{label}: {', '.join(about)}, step {self.step:,}"

    def __repr__(self) -> str:
        return f"OpenRun({self.describe()})"

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        given = {"given": ", ".join(condition.name for condition in self.conditions)} if self.conditions else {}
        weights = sum(p.numel() for p in self.objective.parameters())
        values = {
            "method": self.experiment.method,
            "data": data_label(self.experiment.dataset),
            **self._sites(),
            **given,
            "step": f"{self.step:,}",
            "weights": f"{weights:,}",
        }
        return html_table(self.directory.path.name, values)

    @property
    def stage(self) -> Stage:
        """The last stage."""
        return self.stages[-1]

    @cached_property
    def dataset(self) -> Dataset:
        return self.held or load_dataset(self.experiment)

    def images(self, x: Tensor) -> Tensor:
        """Images of data: x in its own units, or the pictures of its data set (stick figures for joint angles)."""
        return self.dataset.draw(x)

    @property
    def space(self) -> str:
        """What the densities of the trained pair are of: the data, standardised data, or a stage's features."""
        return self.stage.pixels.space if self.stage.pixels else self.dataset.space

    def view_of(self, x: Rows) -> Rows:
        """The view of x on which the objective was trained: x itself, or features of x."""
        return self.stage.view_of(x, self.device)

    @property
    def objective(self) -> Objective:
        """The trained pair and its bound."""
        return self.stage.objective

    @property
    def model(self) -> nn.Module:
        """The model of x: the trained one, or for a stage trained on features the one over pixels."""
        return self.stage.pixels.model if self.stage.pixels else self.objective.model

    @property
    def guide(self) -> nn.Module:
        return self.stage.pixels.guide if self.stage.pixels else self.objective.guide

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the programs are given beside x."""
        return read_conditions(self.experiment)

    @property
    def device(self) -> torch.device:
        return next(self.objective.parameters()).device
