"""The history of a training: its metric rows, as a list, a table and a figure."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyro_hvae.errors import missing_extra
from pyro_hvae.runs import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("step", "loss", "elbo", "validation_elbo", "distortion", "rate_total", "beta")


class History(list[dict[str, Any]]):
    """The metric rows of a training in their order, in nats per datum, as `fit` returns them: `history[-1]["elbo"]`.

    Arguments:
        title: of figures. kappa: of a schedule that has one; figures show its square. ending: why the training ended before
            its last step, "" where it did not.

    >>> history = History([{"step": 1, "elbo": -9.0}, {"step": 5, "elbo": -2.5}])
    >>> history, history[-1]["elbo"]
    (History(2 rows to step 5, elbo -2.5), -2.5)
    """

    def __init__(self, rows: Iterable[dict[str, Any]], title: str = "", kappa: float | None = None, ending: str = "") -> None:
        super().__init__(rows)
        self.title, self.kappa, self.ending = title, kappa, ending

    def frame(self) -> Any:
        """The rows as a pandas `DataFrame`, whose index is the step; NaN where a row does not have a value.

        Raises:
            DeviceError: where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise missing_extra("tables", "a DataFrame of the history") from error
        return pandas.DataFrame(list(self)).set_index("step")

    def plot(self) -> "Figure":
        """beta, the bound of batches and validation data, and the rates over the steps, as a matplotlib figure."""
        from pyro_hvae.plots import plot_training_curves  # matplotlib takes a second

        return plot_training_curves(self, f"Training of {self.title}", self.kappa and self.kappa**2)

    def _last(self) -> dict[str, Any]:
        """The usual values of the last row."""
        return {key: self[-1][key] for key in SHOWN if key in self[-1]} if self else {}

    def __repr__(self) -> str:
        values = self._last()
        step = values.pop("step", 0)
        shown = "".join(f", {key} {value:.4g}" for key, value in values.items() if key in ("elbo", "validation_elbo"))
        return f"History({len(self)} rows to step {step}{shown})"

    def _repr_html_(self) -> str:
        """The last row as a table, for notebooks."""
        shown = {key: str(value) if key == "step" else f"{value:.4g}" for key, value in self._last().items()}
        return html_table(f"{self.title}: {len(self)} rows, the last of them. {self.ending}".strip(), shown)
