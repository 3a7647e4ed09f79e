"""Figures of the latent space and of interpolation paths in it: figures 3 to 6 of Klushyn et al. 2019."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.decomposition import PCA
from torch import Tensor

from pyro_hvae.data import factor_values
from pyro_hvae.evaluation import discontinuities, largest_jump
from pyro_hvae.inference import Interpolation, generate, join_sites, latents
from pyro_hvae.objectives import parents
from pyro_hvae.plots.figure_base import BLUE, GREY, new_figure, run_name
from pyro_hvae.plots.image_grid import draw_image_grid
from pyro_hvae.plots.vector_scale import find_scale
from pyro_hvae.runs import OpenRun, describe_given, draw_given
from pyro_hvae.runtime import fixed_seed

CLASSES = 20  # distinct colours
LETTERS = 10  # of a path's title in an inch of its figure
SHORT, LONG = 8, 40  # letters of a class name: those that fit beside a panel, and those that are shown
CYCLIC = "twilight"
# The paper's black, orange, red and maroon, shifted towards hues that everyone can tell apart.
PATH_COLOURS = ("black", "#E69F00", "#D55E00", "#882255", "#009E73", "#CC79A7")


def plot_latent_space(
    run: OpenRun, paths: Mapping[str, Interpolation], shown: int = 3000, given: Mapping[str, Tensor] | None = None
) -> Figure:
    """Posterior means (coloured by a factor) beside prior samples, and the k-NN graph with the shortest paths.

    Arguments:
        paths: by name; without any, the graph is left out. shown: how many test data, at random where there are more.
        given: encoded conditions of the prior, one row each; others are those of random training data.
    """
    split = run.dataset.test
    pick = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:shown].sort().values
    x = split.x[pick].to(run.device)
    first = next(iter(paths.values()), None)
    sites = first.sites if first is not None else tuple(parents(run.model, x))
    codes = join_sites(latents(run.guide, x, mean=True), sites)
    with fixed_seed(0):
        prior = join_sites(generate(run.model, 1000, given=draw_given(run, 1000, given)), sites)
    name = ", ".join(sites)
    project, axis_names = _projection(codes, name)
    panels = 2 if first is None else 3
    figure = new_figure(4.3 * panels, 5.0, f"Latent space of {run_name(run)}")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    points, prior_points = project(codes), project(prior)
    longest = _draw_codes(axes[0], run, points, pick)
    figure.set_figwidth(4.3 * panels + 0.08 * max(0, longest - SHORT))
    axes[1].scatter(*prior_points.T, s=4, color=GREY)
    about = describe_given(run, given)
    axes[1].set_title(f"1000 samples of the prior of {name}" + (f",\n{about}" if about else ""))
    if first is not None:
        _draw_graph(axes[2], paths, project)
    # The same square in every panel: equal scales, and the layout does not have to guess shapes.
    everything = np.concatenate([points, prior_points, *(project(one.path.nodes) for one in paths.values())])
    low, high = everything.min(0), everything.max(0)
    middle, reach = (low + high) / 2, 0.53 * (high - low).max() or 1.0
    across, up = ((m - reach, m + reach) for m in middle)
    for axis in axes:
        axis.set(xlabel=axis_names[0].replace(" (", "\n("), xlim=across, ylim=up, box_aspect=1)
    axes[0].set_ylabel(axis_names[1].replace(" (", "\n("))
    return figure


def _projection(points: np.ndarray, name: str) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[str, str]]:
    """Maps latents to two axes: themselves when two-dimensional, else the first principal components of `points`."""
    if points.shape[1] == 2:
        return lambda z: z, (f"first dimension of {name}", f"second dimension of {name}")
    if points.shape[1] == 1:
        return lambda z: np.c_[z, np.zeros(len(z))], (name, "")
    with np.errstate(invalid="ignore", divide="ignore"):  # codes without variance have no shares of it
        pca = PCA(min(2, len(points))).fit(points)  # one datum has no second component
    missing = 2 - pca.n_components_
    of = "of the posterior means' variance"  # the panels of the prior have these axes, too
    shares = [f" ({share:.0%} {of})" if np.isfinite(share) else "" for share in pca.explained_variance_ratio_]
    first, second = (shares + ["", ""])[:2]
    axes = (f"first principal component of {name}{first}", f"second principal component{second}")
    return lambda z: np.pad(pca.transform(z), ((0, 0), (0, missing))), axes


def _draw_codes(axis: Axes, run: OpenRun, points: np.ndarray, pick: Tensor) -> int:
    """Posterior means of the chosen test data, coloured by the first factor with few values, else by the first factor.

    Returns:
        the length of the longest class name beside the colour bar.
    """
    of = "" if len(points) == len(run.dataset.test) else f"{len(points)} of {len(run.dataset.test)} "
    axis.set_title(f"posterior means of {of}test data")
    factors = run.dataset.test.factors

    def levels(name: str) -> Tensor:
        return factor_values(run.dataset, name).unique()  # of data that are not drawn, too

    few = (name for name, held in factors.items() if not held.is_floating_point() and len(levels(name)) <= CLASSES)
    factor = next(few, next(iter(factors), None))
    if factor is None:
        axis.scatter(*points.T, s=4, color=BLUE)
        return 0
    values, cyclic = factors[factor][pick].numpy(), run.dataset.read_angles is not None
    classes = levels(factor).numpy()
    style: dict[str, Any] = {"cmap": "viridis"}
    ticks: Any = None
    labels: list[str] = []
    if cyclic:
        values, style, ticks = np.degrees(values), {"cmap": CYCLIC, "vmin": 0, "vmax": 360}, [0, 90, 180, 270, 360]
    elif np.issubdtype(classes.dtype, np.integer) and len(classes) <= CLASSES:
        values, ticks = np.searchsorted(classes, values), np.arange(len(classes))
        colours = colormaps["tab10" if len(classes) <= 10 else "tab20"](ticks)
        style = {"cmap": ListedColormap(colours), "vmin": -0.5, "vmax": len(classes) - 0.5}
        names = run.dataset.labels.get(factor)
        labels = [textwrap.shorten(names[int(i)], LONG, placeholder="...") if names else str(i) for i in classes]
    dots = axis.scatter(*points.T, s=4, c=values, **style)
    bar = axis.figure.colorbar(dots, ax=axis, ticks=ticks, shrink=0.8)
    bar.ax.set_title(f"{factor}\n(degrees)" if cyclic else factor, fontsize=9)
    if labels:
        bar.set_ticks(ticks, labels=labels)
    return max(map(len, labels), default=0)


def _draw_graph(axis: Axes, paths: Mapping[str, Interpolation], project: Callable[[np.ndarray], np.ndarray]) -> None:
    """The graph of the first path, longer edges darker, and all paths on it (each has two end nodes of its own)."""
    path = next(iter(paths.values())).path
    nodes = project(path.nodes)
    lengths = np.linalg.norm(path.nodes[path.edges[:, 0]] - path.nodes[path.edges[:, 1]], axis=1)
    shade = colormaps["Blues"](0.3 + 0.7 * lengths / lengths.max())
    axis.add_collection(LineCollection(nodes[path.edges].tolist(), colors=shade.tolist(), linewidths=0.4, zorder=1))
    for (name, one), colour in zip(paths.items(), PATH_COLOURS * len(paths), strict=False):
        xy = project(one.path.points)
        axis.plot(*xy.T, color=colour, linewidth=2, label=name)
        axis.plot(*xy[0], "o", *xy[-1:].T, "s", color=colour, markersize=6)
    axis.set_title(f"{path.neighbours}-NN graph of {len(nodes) - 2} prior samples\n(longer edges are darker)")
    axis.legend(loc="best", fontsize=8)


def plot_interpolation(run: OpenRun, paths: Mapping[str, Interpolation], count: int = 16) -> Figure:
    """Decoded data at equidistant points of every path, with its largest jump.

    A blue frame is around two neighbours between which one of the 199 steps of the dense path is one of the `discontinuities`.
    """
    vectors = run.images(next(iter(paths.values())).dense[:1]).dim() == 2  # drawn one below the other
    size = (9.5, 0.65 + 4.2 * len(paths)) if vectors else (count * 0.8, 0.65 + 1.3 * len(paths))
    figure = new_figure(*size, f"Graph interpolation of {run_name(run)}")
    axes = figure.subplots(len(paths), 1, squeeze=False)[:, 0]
    for axis, (name, one), colour in zip(axes, paths.items(), PATH_COLOURS * len(paths), strict=False):
        picks = np.linspace(0, len(one.dense) - 1, count).round().astype(int)
        fractions = np.linspace(0, 1, len(one.dense))[picks]
        images, labels = run.images(one.dense[picks]), [f"{f:.2f}" for f in fractions]
        above, beside = (None, labels) if vectors else (labels, None)
        across, down = draw_image_grid(axis, images, 1 if vectors else count, above, beside, find_scale(run, images))
        title = f"{name}: {describe_jump(largest_jump(run, one.dense), run.dataset.space)}"
        axis.set_title(textwrap.fill(title, int(LETTERS * size[0])), fontsize=9, color=colour)
        for step in discontinuities(one.dense):
            first = min(int(np.searchsorted(picks, step, side="right")) - 1, count - 2)
            place = (-0.5, first * down - 0.5, across, 2 * down) if vectors else (first * across - 0.5, -0.5, 2 * across, down)
            frame = Rectangle(place[:2], *place[2:], fill=False, edgecolor="blue", linewidth=1.5)
            axis.add_patch(frame)
    if vectors:
        for axis in axes:
            axis.set_ylabel("fraction of the path's length", fontsize=8)
    else:
        axes[0].set_xlabel("fraction of the path's length", fontsize=8)
        axes[0].xaxis.set_label_position("top")
    return figure


def describe_jump(jump: Mapping[str, float], space: str) -> str:
    """The result of `largest_jump` in words, with its unit; `space` is what the data are in (`Dataset.space`)."""
    if "max_jump_deg" in jump:
        error = jump["max_squared_error"]
        error = f"largest squared error to a pendulum {error:.2f} (sum over pixels)"
        return f"largest angular jump {jump['max_jump_deg']:.1f} deg, {error}"
    of = "" if space == "data" else f" of {space}"
    return f"largest step between neighbours of 200 points {jump['max_pixel_change']:.2g} (RMS per value{of})"
