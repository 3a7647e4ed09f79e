"""Pictures of reconstructions: test data, and below them the same by one run or several, with the best that features allow."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_hvae.inference.sampling import reconstruct
from pyro_hvae.plots.figures import figure_titled, run_name
from pyro_hvae.plots.image_grid import tiles
from pyro_hvae.runs.run_loading import OpenRun
from pyro_hvae.runtime.random_state import fixed_seed

__all__ = ["ALONE", "FULL", "Reconstructions", "reconstruct_test", "reconstruction_panels"]

FULL = "reconstructions"
ALONE = "textures alone"
COLUMNS, TILE, TALLEST = 12, 0.8, 200  # images in a row; inches of one, less where a figure would be taller than:


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """Data as a run gives them back.

    Attributes:
        data: shape (n, *event). rows: what is shown below them, from above, of the same shape: "reconstructions" at the
            posterior means; before that, of a run that sees features, "textures alone", the data decoded from their own
            features, the best there can be.
    """

    data: Tensor
    rows: dict[str, Tensor]

    @property
    def rmse(self) -> dict[str, float]:
        """Root mean squared error per value, of each kind of row."""
        return {kind: (again - self.data).square().mean().sqrt().item() for kind, again in self.rows.items()}

    def __str__(self) -> str:
        error = self.rmse
        return f"RMS error per value {error[FULL]:.4f}" + (f", of {ALONE} {error[ALONE]:.4f}" if ALONE in error else "")


@torch.no_grad()
def reconstruct_test(runs: Sequence[OpenRun], count: int = COLUMNS) -> list[Reconstructions]:
    """Test data, the same for all runs, which have to be of the same data set, as each run gives them back."""
    test = runs[0].dataset.test.x  # often sorted, so from all over it
    with fixed_seed(0):  # some are binarised anew whenever they are read
        x = test[torch.linspace(0, len(test) - 1, min(count, len(test))).round().long()]
    found = []
    for run in runs:
        on, pixels = x.to(run.device), run.stage.pixels
        rows = {ALONE: pixels.reconstruct(on)} if pixels else {}
        rows[FULL] = reconstruct(run.model, run.guide, on)
        found.append(Reconstructions(x, {kind: again.cpu() for kind, again in rows.items()}))
    return found


def reconstruction_panels(runs: Sequence[OpenRun], found: Sequence[Reconstructions]) -> Figure:
    """Figures 6 and 7 of Sahoo 2020: test data above their reconstructions by each run, twelve in a row.

    Arguments:
        found: what `reconstruct_test` gave for the runs.
    """
    x, names = found[0].data, _names(runs)
    shown, beside = [runs[0].images(x)], ["test data"]
    for run, name, one in zip(runs, names, found, strict=True):
        shown += [run.images(again) for again in one.rows.values()]
        name = textwrap.fill(name, 20)
        beside += [*one.rows] if len(runs) == 1 else [name if kind == FULL else f"{name}:\n{kind}" for kind in one.rows]
    columns = min(COLUMNS, len(x))
    blocks = [part for parts in zip(*(images.split(columns) for images in shown), strict=True) for part in parts]
    blocks = [torch.cat([b, torch.full((columns - len(b), *b.shape[1:]), torch.nan)]) for b in blocks]
    if len(runs) == 1:
        title = [f"Reconstructions of {run_name(runs[0])}", str(found[0])]
    else:
        title = [f"Reconstructions of test data of {Path(runs[0].experiment.dataset).name}"]
        title += [f"{name}: {one}" for name, one in zip(names, found, strict=True)]
    tile = min(TILE, TALLEST / len(blocks))
    room = 0.15 + 0.07 * max(len(line) for label in beside for line in label.splitlines())
    width = max(columns * tile + room, 0.09 * max(map(len, title)))
    figure = figure_titled(width, tile * len(blocks) + 0.2 + 0.2 * len(title), "\n".join(title))
    tiles(figure.subplots(), torch.cat(blocks), columns, beside=beside * (len(blocks) // len(beside)))
    return figure


def _names(runs: Sequence[OpenRun]) -> list[str]:
    """The shortest that tells runs apart: recipe and seed, else what their folders are called, else where these are."""
    short = [f"{run.experiment.recipe or 'program'}, seed {run.experiment.train.seed}" for run in runs]
    folders = [run.directory.path.name for run in runs]
    places = [str(run.directory.path) for run in runs]
    return next((names for names in (short, folders) if len(set(names)) == len(runs)), places)
