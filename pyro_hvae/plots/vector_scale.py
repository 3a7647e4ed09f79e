"""How vectors are coloured and labelled: on the scale of their data set, with a colour bar and the names of their columns."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from torch import Tensor

from pyro_hvae.data import AbsentRows, Dataset
from pyro_hvae.runs import OpenRun

ALIKE = 10  # columns share one scale if all values lie within so many times the range of one column
MEASURED = 2**22  # numbers of the training data at most
SERIES = 8  # columns of a series at least
TAIL, FAR = 0.005, 3  # a share of the values at either end is far if it makes the range so many times as long
NAMED = 20  # columns named in a line of text
TICKS = 40  # columns named along an axis


@dataclass(frozen=True, eq=False)
class VectorScale:
    """The scale of vectors (n, d).

    Attributes:
        low, high: range of each column. names: of the columns, or their indices. named: whether they are names.
        shared: all columns have one scale, in their own unit: their values are alike, or they are a series, whose neighbouring
            columns are close. Else each goes from its lowest to its highest value.
        ends: of a shared scale, else 0 and 1. Where few values are far from all others, it ends before these (`TAIL`, `FAR`).
        of: what the ranges are of, in words.
    """

    low: np.ndarray
    high: np.ndarray
    names: Sequence[str]
    shared: bool
    named: bool
    ends: tuple[float, float]
    of: str = "in the training data"

    @classmethod
    def measure(cls, x: Tensor, names: Sequence[str] = ()) -> "VectorScale":
        """The scale of vectors (n, d).

        >>> import torch
        >>> scale = VectorScale.measure(torch.tensor([[0.0, -2.0], [1.0, 3.0]]))
        >>> scale.shared, scale.limits, scale.labels
        (True, (-3.0, 3.0), ['0', '1'])
        >>> VectorScale.measure(torch.tensor([[0.0, -1437.0], [1.0, 2205.0]]), ["salt", "depth"]).labels
        ['salt (0 to 1)', 'depth (-1437 to 2205)']
        """
        x = x.detach().cpu().double()
        low, high = (bound.numpy() for bound in x.aminmax(dim=0))
        spans = (high - low)[high > low]
        # A tenth of the columns may vary little, as the pixels in the corners of images do.
        shared = not len(spans) or bool(high.max() - low.min() < ALIKE * np.quantile(spans, 0.1, method="lower"))
        shared = shared or _is_series(x)
        ends = _find_ends(x.numpy()) if shared else (0.0, 1.0)
        return cls(low, high, list(names) or [str(i) for i in range(len(low))], shared, bool(names), ends)

    @property
    def limits(self) -> tuple[float, float]:
        """The values at the ends of the colours; the middle one stands for zero where a shared scale has both signs."""
        low, high = self.ends
        if min(-low, high) > 1e-3 * max(-low, high):  # rounding has no sign
            high = max(-low, high)
            low = -high
        return (low, high) if low < high else (low - 0.5, high + 0.5)

    @property
    def labels(self) -> list[str]:
        """The columns' names, with their ranges where each has a scale of its own."""
        if self.shared:
            return list(self.names)
        return [f"{n} ({_format_range(*ends)})" for n, *ends in zip(self.names, self.low, self.high, strict=True)]

    def values(self, x: Tensor) -> Tensor:
        """What is coloured of vectors (n, d): their values, or where they lie between the ends of their column."""
        if self.shared:
            return x
        middle, span = (self.low + self.high) / 2, np.where(self.high > self.low, self.high - self.low, 1.0)
        x = x.detach().cpu().double()
        return (x - x.new_tensor(middle)) / x.new_tensor(span) + 0.5

    @property
    def colours(self) -> str:
        return "coolwarm" if self.shared and self.limits[0] == -self.limits[1] else "viridis"

    def draw_bar(self, axis: Axes, image: AxesImage, strips: bool) -> None:
        """A colour bar beside the axes; or, for many strips, below them, with a line that names the columns of a strip."""
        values = np.asarray(image.get_array())
        beyond = bool((values < self.limits[0]).any()), bool((values > self.limits[1]).any())  # NaN is neither
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[beyond]
        where = {"location": "bottom", "aspect": 60, "pad": 0.02} if strips else {"location": "right", "aspect": 40}
        bar = axis.figure.colorbar(image, ax=axis, extend=extend, **where)
        if not self.shared:
            bar.set_ticks([0, 0.5, 1], labels=["lowest", "middle", "highest"])
        bar.ax.tick_params(labelsize=7)
        unit = "value" if self.shared else f"range of each column {self.of}"
        if strips:
            width = int(14 * axis.figure.bbox.width / axis.figure.dpi / max(1, len(axis.figure.axes) // 2))
            unit = textwrap.fill(f"{unit}; a strip from left to right: {self._list_columns()}", max(40, width))
        else:
            unit = textwrap.fill(unit, 24)  # the bar may be short
        bar.set_label(unit.replace("$", r"\$"), fontsize=7)

    def _list_columns(self) -> str:
        labels = self.labels
        if len(labels) <= NAMED:
            return ", ".join(labels)
        if self.shared and not self.named:
            return f"columns 0 to {len(labels) - 1}"
        return f"{', '.join(labels[: NAMED - 1])}, ..., {labels[-1]} ({len(labels)} columns)"

    def label_columns(self, axis: Axes, across: float) -> None:
        """Names the columns along an axis; `across` is the width of a column in units of the axis."""
        step = -(-len(self.names) // (TICKS if self.named or not self.shared else TICKS // 3))
        places = range(0, len(self.names), step)
        labels = [self.labels[i].replace("$", r"\$") for i in places]
        axis.set_xticks([(i + 0.5) * across - 0.5 for i in places], labels, fontsize=7)
        axis.tick_params(axis="x", labeltop=False, labelbottom=True, rotation=90 if max(map(len, labels)) > 3 else 0)
        axis.set_xlabel("column", fontsize=8)


def _find_ends(x: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest value, or the quantiles of `TAIL` where most of the range between those is empty."""
    low, tail, head, high = np.quantile(x, [0, TAIL, 1 - TAIL, 1]).tolist()
    return (tail, head) if 0 < FAR * (head - tail) < high - low else (low, high)


def _is_series(x: Tensor) -> bool:
    """Whether of vectors (n, d) most neighbouring columns differ by less than half of what either varies by, as in a series."""
    if x.shape[1] < SERIES:
        return False
    spread = (x - x.mean(0)).abs().mean(0)
    steps = x.diff(dim=1).abs().mean(0)
    return bool((2 * steps < spread[1:].minimum(spread[:-1])).double().mean() > 0.9)


def _format_range(low: float, high: float) -> str:
    """The ends of a range; what is below a millionth of it is the rounding of scaled data, and 0."""
    span = high - low
    return " to ".join(f"{end if abs(end) > 1e-6 * span else 0:.4g}" for end in (low, high))


def find_scale(run: OpenRun, images: Tensor) -> VectorScale | None:
    """The scale of a run's vectors; None where they are drawn as images."""
    return dataset_scale(run.dataset, images) if images.dim() == 2 else None


def dataset_scale(data: Dataset, images: Tensor) -> VectorScale | None:
    """The scale of a data set's vectors by its training data, or by those drawn where it has no rows; None for images."""
    if images.dim() != 2:
        return None
    if isinstance(data.train.x, AbsentRows):
        return replace(VectorScale.measure(images, data.columns), of="among those drawn")
    x = data.draw(data.train.x.alone.sample(MEASURED))
    return VectorScale.measure(x.where(~x.isnan(), x.nanmean(0)), data.columns)  # the range is that of the known entries
