"""The history of a training: a list, a table, a figure and what a notebook shows."""

import builtins

import pytest
from small_runs import CONFIG, data, rewo, vhp

import pyro_hvae as hv
from pyro_hvae.errors import DeviceError


@pytest.fixture(scope="module")
def history():
    return hv.fit(vhp(), data(), CONFIG, rewo(), validation=data(50), progress=False)


def test_it_is_the_list_of_its_rows(history):
    assert history[-1]["step"] == 60 == history[-1]["step"] and isinstance(history, list)
    assert repr(history).startswith(f"History({len(history)} rows to step 60, elbo {history[-1]['elbo']:.4g}, validation_elbo")
    assert repr(hv.History([])) == "History(0 rows to step 0)"


def test_its_table_has_a_row_for_each_logged_step(history):
    pytest.importorskip("pandas")
    frame = history.frame()
    assert list(frame.index) == [row["step"] for row in history] and frame["elbo"].iloc[-1] == history[-1]["elbo"]
    assert frame["validation_elbo"].isna().sum() == sum("validation_elbo" not in row for row in history)


def test_without_pandas_it_says_what_to_install(history, monkeypatch):
    def refuse(name, *more):
        if name == "pandas":
            raise ImportError
        return imported(name, *more)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DeviceError, match="a DataFrame of the history needs the extra 'tables'"):
        history.frame()


def test_its_figure_shows_kappa_and_displays_in_a_notebook(history):
    figure = history.plot()
    labels = figure.axes[1].get_legend_handles_labels()[1]
    assert r"$\kappa^2$ = 13" in labels and "program" in figure.get_suptitle()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_notebook_shows_a_short_table_with_nothing_of_its_own():
    html = hv.History([{"step": 5, "elbo": -2.0}], title="<b>x</b>", ending="a < b")._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in html and "a &lt; b" in html and "<td>-2</td>" in html
