"""The figure of latent traversals: a row for each dimension in use, layers in brackets, a panel for each run."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_hvae.inference import Traversals
from pyro_hvae.plots.figure_base import new_figure, run_name
from pyro_hvae.plots.image_grid import add_blanks, draw_image_grid
from pyro_hvae.plots.vector_scale import find_scale
from pyro_hvae.runs import OpenRun

TILE = 0.62  # side of an image in inches; smaller where the figure would exceed:
WIDEST, TALLEST = 60, 30


def plot_traversals(runs: Sequence[OpenRun], traversals: Sequence[Traversals], about: str) -> Figure:
    """Figure 4 of Li et al. 2020: a panel for each run, from the top layer down, each layer's dimensions by variance.

    Arguments:
        traversals: the result of `traverse` for each run, with equal steps. about: whose code is varied, e.g. "test datum 3".
    """
    columns, rows = len(traversals[0].values), max(len(one.units) for one in traversals)
    tile = min(TILE, WIDEST / (columns * len(runs)), TALLEST / rows)
    size = len(runs) * (columns * tile + 2.1), rows * tile + 1.5
    if runs[0].images(traversals[0].images[:1, 0].cpu()).dim() == 2:  # vectors need width, and a colour bar below
        size = min(WIDEST, len(runs) * (columns + 2.1)), rows * tile + 2.5
    figure = new_figure(*size, f"Latent traversals of {about}")
    for axis, run, one in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, traversals, strict=True):
        _draw_run(axis, run, one, rows)
    return figure


def _draw_run(axis: Axes, run: OpenRun, one: Traversals, rows: int) -> None:
    """One run, with white below its last row so that the rows of all panels have one height."""
    steps, missing = len(one.values), rows - len(one.units)
    images = run.images(one.images.flatten(0, 1).cpu())
    images, scale = add_blanks(images, rows * steps), find_scale(run, images)
    beside = [f"{unit.name}  var {unit.variance:.2f}" for unit in one.units] + [""] * missing
    above = [f"{value:.3g}" for value in one.values.tolist()]
    _, down = draw_image_grid(axis, images, steps, above, beside, scale)
    axis.set_title(f"{run_name(run)}\n{one.describe_left_out()}", fontsize=9)  # two lines: all panels begin level
    axis.set_xlabel("noise of one dimension, all others at the code", fontsize=8)
    axis.xaxis.set_label_position("top")
    sites, gap = [unit.site for unit in one.units], rows * down - (axis.get_ylim()[0] + 0.5)
    for site in dict.fromkeys(sites):
        top = sites.index(site) * down - 0.5  # pixels are centred on whole numbers
        bottom = top + sites.count(site) * down - gap
        sides = axis.get_yaxis_transform()  # x in widths of the axes, y in data; a bracket lies to the right of the rows
        axis.plot([1.01, 1.02, 1.02, 1.01], [top, top, bottom, bottom], "k-", linewidth=1, transform=sides, clip_on=False)
        axis.text(1.03, (top + bottom) / 2, site, va="center", fontsize=9, transform=sides)
