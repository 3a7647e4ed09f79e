"""Pictures of a run, each a function that returns a matplotlib figure; labelled, colour-blind safe, no global state."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter, SymmetricalLogLocator
from torch import Tensor

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.inference.sampling import generate
from pyro_hvae.plots.image_grid import tiles
from pyro_hvae.runs.run_loading import OpenRun
from pyro_hvae.runtime.random_state import fixed_seed

__all__ = [
    "changes",
    "check_picture",
    "figure_titled",
    "in_order",
    "run_name",
    "samples",
    "save",
    "sheet",
    "training_curves",
    "training_pictures",
]

# Okabe-Ito: distinguishable with every common colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00")  # of the layers, from the bottom up


def figure_titled(width: float, height: float, title: str) -> Figure:
    """An empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def run_name(run: OpenRun) -> str:
    """Recipe, schedule, data set and seed, for titles."""
    e = run.experiment
    return f"{e.recipe or 'program'} ({e.schedule}) on {Path(e.dataset).name}, seed {e.train.seed}"


KINDS = (".png", ".pdf", ".svg")


def check_picture(path: Path) -> None:
    """Raises `ConfigError` for the name of a file that is no picture."""
    if path.suffix.lower() not in KINDS:
        raise ConfigError(f"--picture is the name of a {', '.join(KINDS)} file, got '{path}'. Example: --picture figure.png.")


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG, raising `DataError` when that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # Names of a user's classes may be in any script; what the font lacks is drawn as a box.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(path)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}.") from error
    return path


def in_order(names: Iterable[str]) -> list[str]:
    """Names that end in numbers, z10 after z9."""
    return sorted(names, key=lambda name: (len(name), name))


def changes(rows: Sequence[Mapping[str, Any]], sites: Sequence[str]) -> list[tuple[int, str]]:
    """The last logged steps before a stage begins or a layer enters, from the top down, and the name of that."""
    stages = [(last["step"], f"stage {row['stage'] + 1}") for last, row in pairwise(rows) if row["stage"] != last["stage"]]
    top_down = [*reversed(sites)]
    layers = []
    for last, row in pairwise(row for row in rows if "layers" in row):
        entering = top_down[int(last["layers"]) : int(row["layers"])]
        if entering and row["stage"] == last["stage"]:
            layers.append((last["step"], f"{', '.join(entering)} {'enters' if len(entering) == 1 else 'enter'}"))
    return sorted(stages + layers)


def training_curves(rows: Sequence[Mapping[str, Any]], title: str, kappa2: float | None = None) -> Figure:
    """beta, the constraint's average, and the bound over the steps, with the end of the initial phase marked."""
    steps = np.array([row["step"] for row in rows])
    rates = in_order({key for row in rows for key in row if key.startswith("rate.")})
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
    axes["bound"].set(ylabel="bound (nats)", title="unweighted bound")
    if "rates" in axes:
        for key, colour in zip(rates, cycle(COLOURS), strict=False):
            axes["rates"].plot(
                steps, [row.get(key, np.nan) for row in rows], linewidth=0.8, color=colour, label=key.removeprefix("rate.")
            )
        axes["rates"].set_yscale("symlog", linthresh=1)
        axes["rates"].yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 2, 5)))
        axes["rates"].yaxis.set_major_formatter(ScalarFormatter())
        axes["rates"].set(ylabel="log q - log p (nats)", title="rate per site")
    axes[panels[-1]].set_xlabel("step")
    # Show where the bound moves.
    late = [row["elbo"] for row in rows[len(rows) // 10 :]]
    late += [value for step, value in held_out if step >= steps[len(steps) // 2]]
    axes["bound"].set_ylim(min(late) - 1, max(late) + 1)
    if min(row["elbo"] for row in rows) < min(late) - 1:
        axes["bound"].set_title("unweighted bound (its start, far below, is cut off)")
    change = next((row["step"] for row in rows if row.get("main")), None)
    events = changes(rows, [key.removeprefix("rate.") for key in rates])
    above = axes["beta"].secondary_xaxis("top")
    above.set_xticks([step for step, _ in events], [name for _, name in events], fontsize=8)
    for axis in axes.values():
        for step, _ in events:
            axis.axvline(step, color=GREY, linestyle=":", linewidth=1)
        if change is not None and "main" in rows[0] and not rows[0]["main"]:
            axis.axvline(change, color=ORANGE, linestyle=":", label=f"initial phase ends (step {change})")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize=8)
    return figure


def training_pictures(run: OpenRun, rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Name of a picture -> curves: of the whole training, or, of a run that sees features, of each stage.

    Nats per patch and nats per map of features are on scales that have nothing in common.
    """
    kappa, title = run.experiment.schedule_options.get("kappa"), f"Training of {run_name(run)}"
    kappa2 = kappa**2 if kappa else None
    if not run.stage.pixels:
        return {"training": training_curves(rows, title, kappa2)}
    pictures = {}
    for number, stage in enumerate(run.stages):
        about = f"{title}\nstage {number + 1} of {len(run.stages)}: {stage.name}"
        name = "training" if stage is run.stage else f"training_{stage.name}"
        pictures[name] = training_curves([row for row in rows if row["stage"] == number], about, kappa2)
    return pictures


def samples(run: OpenRun, count: int = 64, seed: int = 0) -> Figure:
    """E[x | z] of ancestral samples of the whole prior, in a grid."""
    with fixed_seed(seed):
        images = generate(run.model, count)["x"].cpu()
    return sheet(run.images(images), f"Samples E[x|z] of {run_name(run)}")


def sheet(images: Tensor, title: str) -> Figure:
    """Images (n, channels, height, width), or vectors, in a grid as square as their number allows."""
    columns = int(np.ceil(np.sqrt(len(images))))
    side = max(4.5, columns * 0.7)
    figure = figure_titled(side, side * np.ceil(len(images) / columns) / columns + 0.6, title)
    tiles(figure.subplots(), images, columns)
    return figure
