"""Any metrics over several runs: gathered, tabulated by run and by method, written as CSV, drawn."""

from pyro_hvae.comparison.scatter import comparison_figure as comparison_figure
from pyro_hvae.comparison.tables import compare as compare
from pyro_hvae.comparison.tables import compare_text as compare_text
from pyro_hvae.comparison.tables import write_csv as write_csv

__all__ = ["compare", "compare_text", "comparison_figure", "write_csv"]
