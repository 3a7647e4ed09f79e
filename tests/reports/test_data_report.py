"""Texts about data sets."""

import torch

from pyro_hvae.data import Dataset, Split
from pyro_hvae.reports.data_report import dataset_text, describe_dataset


def test_labels_are_those_of_the_values(monkeypatch):
    """A part of a set's classes: the last motion alone is not called by the name of the first."""
    split = Split(torch.zeros(4, 3), {"motion": torch.tensor([2, 0, 2, 2])})
    data = Dataset("own", split, split, split, labels={"motion": ("walking", "running", "jumping")})
    monkeypatch.setattr("pyro_hvae.reports.data_report._load", lambda name, options: data)
    assert describe_dataset("digits", {})["factors"] == {"motion": "2 values: walking, jumping"}


def test_of_many_columns_the_first_and_the_last_are_named(monkeypatch):
    split = Split(torch.zeros(4, 150))
    data = Dataset("own", split, split, split, columns=[f"gene {i}" for i in range(150)])
    monkeypatch.setattr("pyro_hvae.reports.data_report._load", lambda name, options: data)
    values = describe_dataset("digits", {})
    assert len(values["columns"]) == 150  # JSON has all
    (line,) = (line for line in dataset_text(values).splitlines() if "columns" in line)
    assert line.startswith("  columns  gene 0, gene 1,") and line.endswith("gene 28, ..., gene 149 (150 columns)")
