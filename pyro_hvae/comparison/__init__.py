"""Any metrics over several runs: gathered, tabulated by run and by method, written as CSV, drawn."""

from pyro_hvae.comparison.tables import compare as compare
from pyro_hvae.comparison.tables import compare_text as compare_text
from pyro_hvae.comparison.tables import write_csv as write_csv
from pyro_hvae.plots.comparison_figure import comparison_figure as comparison_figure

__all__ = ["compare", "compare_text", "comparison_figure", "write_csv"]
