"""Shared parts of all figures: colours, the empty figure, the name of a run in titles, and saving."""

import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from pyro_hvae.errors import DataError
from pyro_hvae.runs import OpenRun

# Okabe-Ito: distinguishable with every common colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00")


class _ShownFigure(Figure):
    """A figure that a notebook shows without pyplot, which alone would teach it how."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of a size in inches."""
    figure = _ShownFigure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def run_name(run: OpenRun) -> str:
    """Recipe or program, schedule, data set and seed, for titles."""
    e = run.experiment
    return f"{e.method} ({e.schedule}) on {Path(e.dataset).name}, seed {e.train.seed}"


def sort_sites(names: Iterable[str]) -> list[str]:
    """Sorts names that end in numbers: z10 comes after z9."""
    return sorted(names, key=lambda name: (len(name), name))


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure, and its folder where needed. Raises `DataError` when that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # Class names of a user's data may be in any script; matplotlib draws a box for what the font lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(path)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}.") from error
    return path
