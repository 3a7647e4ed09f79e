"""The figure of reconstructions: test data above their reconstructions by one run or several."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_hvae.data import Batch, x_of
from pyro_hvae.inference import reconstruct
from pyro_hvae.plots.figure_base import new_figure, run_name
from pyro_hvae.plots.image_grid import add_blanks, draw_image_grid, mark_missing
from pyro_hvae.plots.vector_scale import find_scale
from pyro_hvae.runs import OpenRun, describe_values
from pyro_hvae.runtime import fixed_seed

FULL = "reconstructions"
FEATURES = "textures alone"
COLUMNS, TILE, TALLEST = 12, 0.8, 200  # images in a row; inches of an image, fewer where the figure would be taller than this


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """Test data and their reconstructions by one run.

    Attributes:
        data: shape (n, *event), NaN where an entry is missing.
        rows: kind -> images of the same shape, in the order of the figure: "reconstructions" at the posterior means; above
            them, for a run on features, "textures alone", decoded from the data's own features, which is the best possible
            result.
        indices: of the data among the test data.
        space: what the errors are of, data or standardised data.
        under: the conditions of the decoder, such as "class=5", where they are not those of the data.
    """

    data: Tensor
    rows: dict[str, Tensor]
    indices: Sequence[int]
    space: str = "data"
    under: str = ""

    @property
    def rmse(self) -> dict[str, float]:
        """Root mean squared error per observed value, of each kind of row."""
        return {kind: (images - self.data).square().nanmean().sqrt().item() for kind, images in self.rows.items()}

    def __str__(self) -> str:
        error = self.rmse
        features = f", of {FEATURES} {error[FEATURES]:.4f}" if FEATURES in error else ""
        of = "" if self.space == "data" else f" of {self.space}"
        observed = "observed " if self.data.isnan().any() else ""
        under = f", decoded under {self.under}" if self.under else ""
        return f"RMS error per {observed}value{of} {error[FULL]:.4f}{features} (these {len(self.data)} data{under})"


@torch.no_grad()
def reconstruct_test_data(
    runs: Sequence[OpenRun], count: int = COLUMNS, given: Sequence[Mapping[str, Tensor]] | None = None
) -> list[Reconstructions]:
    """Reconstructs test data by each run. All runs get the same data, so they must have the same data set.

    Arguments:
        given: for each run encoded conditions, one row each, under which the codes are decoded instead of the data's own.
    """
    reconstructions = []
    for run, under in zip(runs, given or [{}] * len(runs), strict=True):
        test = run.dataset.test.x  # often sorted, so the choice is spread over all of it
        with fixed_seed(0):  # some data sets are binarised anew whenever they are read
            data = test[picks := torch.linspace(0, len(test) - 1, min(count, len(test))).round().long()]
        on_device, pixels = data.to(run.device), run.stage.pixels
        rows = {FEATURES: pixels.reconstruct(x_of(on_device))} if pixels else {}
        rows[FULL] = reconstruct(run.model, run.guide, on_device, under=under)
        rows = {kind: images.cpu() for kind, images in rows.items()}
        x = data.with_nan() if isinstance(data, Batch) else data
        about = describe_values(run, under)
        reconstructions.append(Reconstructions(x, rows, picks.tolist(), run.dataset.space, about))
    return reconstructions


def plot_reconstructions(runs: Sequence[OpenRun], reconstructions: Sequence[Reconstructions]) -> Figure:
    """Figures 6 and 7 of Sahoo 2020: test data above the results of `reconstruct_test_data` for each run, twelve in a row.

    Vectors are drawn one below the other, beside their reconstructions.
    """
    x, names = reconstructions[0].data, _short_names(runs)
    shown, labels = [runs[0].images(x)], ["test data"]
    for run, name, one in zip(runs, names, reconstructions, strict=True):
        shown += [run.images(images) for images in one.rows.values()]
        name = textwrap.fill(name, 20)
        kinds = [f"under {one.under}" if one.under and kind == FULL else kind for kind in one.rows]
        labels += kinds if len(runs) == 1 else [name if kind == FULL else f"{name}:\n{kind}" for kind in one.rows]
    if len(runs) == 1:
        title = [f"Reconstructions of {run_name(runs[0])}", str(reconstructions[0])]
    else:
        title = [f"Reconstructions of test data of {Path(runs[0].experiment.dataset).name}"]
        title += [f"{name}: {one}" for name, one in zip(names, reconstructions, strict=True)]
    shown[0], missing = mark_missing(shown[0])
    title += [missing] if missing else []
    if shown[0].dim() == 2:  # vectors: a row for each, beside its reconstructions
        width, height = max(3 * len(shown) + 1, 0.09 * max(map(len, title))), 0.2 * len(title) + 1.6
        figure = new_figure(width, min(TALLEST, 0.25 * len(x) + height), "\n".join(title))
        rows, numbers = torch.stack(shown, 1).flatten(0, 1), [str(i) for i in reconstructions[0].indices]
        axis = figure.subplots()
        draw_image_grid(axis, rows, len(shown), labels, numbers, find_scale(runs[0], rows))
        axis.set_ylabel("index in the test data", fontsize=8)
        return figure
    if len({images.shape[1] for images in shown}) > 1:  # only grey images with missing entries became coloured
        shown = [images.expand(-1, 3, -1, -1) for images in shown]
    columns = min(COLUMNS, len(x))
    parts = zip(*(images.split(columns) for images in shown), strict=True)
    blocks = [add_blanks(block, columns) for part in parts for block in part]
    tile = min(TILE, TALLEST / len(blocks))
    margin = 0.15 + 0.07 * max(len(line) for label in labels for line in label.splitlines())
    width = max(columns * tile + margin, 0.09 * max(map(len, title)))
    figure = new_figure(width, tile * len(blocks) + 0.2 + 0.2 * len(title), "\n".join(title))
    draw_image_grid(figure.subplots(), torch.cat(blocks), columns, beside=labels * (len(blocks) // len(labels)))
    return figure


def _short_names(runs: Sequence[OpenRun]) -> list[str]:
    """The shortest names that differ: recipe and seed, else names of the run directories, else their paths."""
    short = [f"{run.experiment.method}, seed {run.experiment.train.seed}" for run in runs]
    paths = [run.directory.path for run in runs]
    choices = (short, [path.name for path in paths])
    return next((names for names in choices if len(set(names)) == len(runs)), [*map(str, paths)])
