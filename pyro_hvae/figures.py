"""Pictures of a run, each a function that returns a matplotlib figure; labelled, colour-blind safe, no global state."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from pyro_hvae.dependencies import parents
from pyro_hvae.devices import seeded
from pyro_hvae.errors import DataError
from pyro_hvae.evaluation import largest_jump, path_between
from pyro_hvae.experiments import OpenRun
from pyro_hvae.inference import generate, latents, reconstruct
from pyro_hvae.interpolation import Interpolation, coordinates
from pyro_hvae.tiles import tiles

__all__ = [
    "draw_all",
    "figure_titled",
    "latent_space",
    "path_strip",
    "reconstructions",
    "run_name",
    "samples",
    "save",
    "training_curves",
]

# Okabe-Ito: distinguishable with every common colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
CYCLIC = "twilight"


def figure_titled(width: float, height: float, title: str) -> Figure:
    """An empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def run_name(run: OpenRun) -> str:
    """Recipe, schedule, data set and seed, for titles."""
    e = run.experiment
    return f"{e.recipe or 'program'} ({e.schedule}) on {e.dataset}, seed {e.train.seed}"


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG, raising `DataError` when that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}.") from error
    return path


def _plane(points: np.ndarray, name: str) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[str, str]]:
    """Maps latents to two axes: themselves when two-dimensional, else the first principal components of `points`."""
    if points.shape[1] == 2:
        return lambda z: z, (f"first dimension of {name}", f"second dimension of {name}")
    if points.shape[1] == 1:
        return lambda z: np.c_[z, np.zeros(len(z))], (name, "")
    pca = PCA(2).fit(points)
    return pca.transform, (f"first principal component of {name}", "second principal component")


def latent_space(run: OpenRun, found: Interpolation | None = None, shown: int = 3000) -> Figure:
    """Posterior means (coloured by the first factor) beside prior samples and the k-NN graph with its shortest path."""
    split = run.dataset.test
    x = run.on_device(split.x[:shown])
    sites = found.sites if found is not None else tuple(parents(run.model, x))
    codes = coordinates(latents(run.guide, x, mean=True), sites)
    with seeded(0):
        prior = coordinates(generate(run.model, 1000), sites)
    name = ", ".join(sites)
    plane, names = _plane(codes, name)
    panels = 3 if found is not None else 2
    figure = figure_titled(4.3 * panels, 5.0, f"Latent space of {run_name(run)}")
    axes = figure.subplots(1, panels, squeeze=False)[0]

    factor = next(iter(split.factors), None)
    xy = plane(codes)
    if factor is None:
        axes[0].scatter(*xy.T, s=4, color=BLUE)
    else:
        values = split.factors[factor][:shown].numpy()
        cyclic = run.dataset.read_angles is not None
        values = np.degrees(values) if cyclic else values
        look, ticks = _colours(values, cyclic)
        dots = axes[0].scatter(*xy.T, s=4, c=values, **look)
        figure.colorbar(dots, ax=axes[0], label=f"{factor} (degrees)" if cyclic else factor, ticks=ticks, shrink=0.8)
    axes[0].set_title("posterior means of test data")
    prior_xy = plane(prior)
    axes[1].scatter(*prior_xy.T, s=4, color=GREY)
    axes[1].set_title(f"1000 samples of the prior of {name}")
    if found is not None:
        _draw_graph(axes[2], found, plane)
    # The same square in every panel: equal scales without the layout having to guess at shapes.
    shown_xy = np.concatenate([xy, prior_xy, *([plane(found.path.nodes)] if found is not None else [])])
    low, high = shown_xy.min(0), shown_xy.max(0)
    middle, reach = (low + high) / 2, 0.53 * (high - low).max() or 1.0
    for axis in axes:
        axis.set(xlabel=names[0], xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
        axis.set_box_aspect(1)
    axes[0].set_ylabel(names[1])
    return figure


def _colours(values: np.ndarray, cyclic: bool) -> tuple[dict[str, Any], list[float] | None]:
    """How to colour a factor's values: an angle by a cycle, up to twenty classes by distinct colours, the rest by a ramp."""
    if cyclic:
        return {"cmap": CYCLIC, "vmin": 0, "vmax": 360}, [0, 90, 180, 270, 360]
    count = int(values.max()) + 1 if np.issubdtype(values.dtype, np.integer) else 0
    if 0 < count <= 20:
        colours = colormaps["tab10" if count <= 10 else "tab20"](np.arange(count))
        return {"cmap": ListedColormap(colours), "vmin": -0.5, "vmax": count - 0.5}, [float(i) for i in range(count)]
    return {"cmap": "viridis"}, None


def _draw_graph(axis: Axes, found: Interpolation, plane: Callable[[np.ndarray], np.ndarray]) -> None:
    path, nodes = found.path, plane(found.path.nodes)
    axis.add_collection(LineCollection(nodes[path.edges].tolist(), colors=BLUE, linewidths=0.3, alpha=0.35))
    way = plane(path.points)
    axis.plot(*way.T, color=ORANGE, linewidth=2, label="shortest path")
    axis.plot(*way[0], "o", color="black", markersize=6, linestyle="none", label="start")
    axis.plot(*way[-1], "s", color="black", markersize=6, linestyle="none", label="end")
    axis.set_title(f"{path.neighbours}-NN graph of {len(nodes) - 2} prior samples")
    axis.legend(loc="best", fontsize=8)


def path_strip(run: OpenRun, found: Interpolation, count: int = 16) -> Figure:
    """Decoded images at equidistant points of a path, with the largest jump of the 200-point version in the title."""
    jump = largest_jump(run, found.dense)
    if "max_jump_deg" in jump:
        error = jump["max_squared_error"]
        what = f"largest angular jump {jump['max_jump_deg']:.1f} deg, largest squared error to a pendulum {error:.2f}"
    else:
        what = f"largest step between neighbours of 200 points {jump['max_pixel_change']:.3f} (RMS per pixel)"
    picks = np.linspace(0, len(found.dense) - 1, count).round().astype(int)
    figure = figure_titled(count * 0.75, 1.9, f"Graph interpolation of {run_name(run)}\n{what}")
    arc = np.linspace(0, 1, len(found.dense))
    axis = figure.subplots()
    tiles(axis, found.dense[picks], count, above=[f"{arc[pick]:.2f}" for pick in picks])
    axis.set_xlabel("fraction of the path's length (above)", fontsize=8)
    return figure


def training_curves(rows: Sequence[Mapping[str, Any]], title: str, kappa2: float | None = None) -> Figure:
    """beta, the constraint's average, and the bound over the steps, with the end of the initial phase marked."""
    steps = np.array([row["step"] for row in rows])
    rates = sorted(key for key in rows[0] if key.startswith("rate."))
    panels = ["beta", *(["constraint"] if "constraint" in rows[0] else []), "bound", *(["rates"] if len(rates) > 1 else [])]
    figure = figure_titled(8, 2.2 * len(panels), title)
    axes = dict(zip(panels, figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], strict=True))
    axes["beta"].plot(steps, [row["beta"] for row in rows], color=BLUE)
    axes["beta"].set(ylabel=r"$\beta$", title="weight of the rate")
    if "constraint" in axes:
        axes["constraint"].plot(steps, [row["constraint"] for row in rows], color=BLUE, label=r"$\hat C_t$")
        if kappa2 is not None:
            axes["constraint"].axhline(kappa2, color=GREEN, linestyle="--", label=rf"$\kappa^2$ = {kappa2:.3g}")
        axes["constraint"].set(yscale="log", ylabel="average of C", title="reconstruction constraint")
    axes["bound"].plot(steps, [row["elbo"] for row in rows], color=GREY, linewidth=0.8, label="batch")
    held_out = [(row["step"], row["validation_elbo"]) for row in rows if "validation_elbo" in row]
    if held_out:
        axes["bound"].plot(*zip(*held_out, strict=True), color=ORANGE, marker="o", markersize=3, label="validation")
    axes["bound"].set(ylabel="bound (nats)", title="unweighted bound (its start, far below, is cut off)")
    if "rates" in axes:
        for key, colour in zip(rates, (BLUE, ORANGE, GREEN, GREY, "#CC79A7", "#56B4E9"), strict=False):
            axes["rates"].plot(steps, [row[key] for row in rows], linewidth=0.8, color=colour, label=key.removeprefix("rate."))
        axes["rates"].set(yscale="symlog", ylabel="log q - log p (nats)", title="rate per site")
    axes[panels[-1]].set_xlabel("step")
    # Show where the bound moves.
    late = [row["elbo"] for row in rows[len(rows) // 10 :]]
    late += [value for step, value in held_out if step > rows[-1]["step"] // 2]
    axes["bound"].set_ylim(min(late) - 1, max(late) + 1)
    change = next((row["step"] for row in rows if row.get("main")), None)
    for axis in axes.values():
        if change is not None and "main" in rows[0] and not rows[0]["main"]:
            axis.axvline(change, color=ORANGE, linestyle=":", label=f"initial phase ends (step {change})")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize=8)
    return figure


def reconstructions(run: OpenRun, count: int = 12) -> Figure:
    """Test data above their reconstructions at the posterior means, twelve pairs in a row."""
    x = run.dataset.test.x[:count]
    again = reconstruct(run.model, run.guide, run.on_device(x)).cpu()
    error = (again - x).square().mean().sqrt().item()
    columns = min(12, len(x))
    blocks = [part for pair in zip(x.split(columns), again.split(columns), strict=True) for part in pair]
    blocks = [torch.cat([b, torch.full((columns - len(b), *b.shape[1:]), torch.nan)]) for b in blocks]
    figure = figure_titled(
        columns * 0.8 + 1.2, 0.8 * len(blocks) + 0.6, f"Reconstructions of {run_name(run)}\nRMS error per pixel {error:.4f}"
    )
    tiles(figure.subplots(), torch.cat(blocks), columns, beside=["test data", "reconstructions"] * (len(blocks) // 2))
    return figure


def samples(run: OpenRun, count: int = 64, seed: int = 0) -> Figure:
    """E[x | z] of ancestral samples of the whole prior, in a grid."""
    with seeded(seed):
        images = generate(run.model, count)["x"].cpu()
    columns = int(np.ceil(np.sqrt(count)))
    side = max(4.5, columns * 0.7)
    figure = figure_titled(side, side * np.ceil(count / columns) / columns + 0.6, f"Samples E[x|z] of {run_name(run)}")
    tiles(figure.subplots(), images, columns)
    return figure


def draw_all(run: OpenRun) -> list[Path]:
    """The standard pictures of a run, into its figures folder; what cannot be drawn for this run is left out."""
    folder = run.directory.path / "figures"
    rows = run.directory.rows()
    kappa = run.experiment.schedule_options.get("kappa")
    paths = []
    if rows:
        curves = training_curves(rows, f"Training of {run_name(run)}", kappa**2 if kappa else None)
        paths.append(save(curves, folder / "training.png"))
    found = None
    try:
        found = path_between(run)
    except DataError:
        pass  # ends not connected through the prior: the latent space is still worth looking at
    paths.append(save(latent_space(run, found), folder / "latent_space.png"))
    if found is not None:
        paths.append(save(path_strip(run, found), folder / "interpolation.png"))
    paths.append(save(reconstructions(run), folder / "reconstructions.png"))
    paths.append(save(samples(run), folder / "samples.png"))
    return paths
