"""Texts about data sets."""

import torch

from pyro_hvae.data import Dataset, Split
from pyro_hvae.reports.data_report import describe_dataset


def test_labels_are_those_of_the_values(monkeypatch):
    """A part of a set's classes: the last motion alone is not called by the name of the first."""
    split = Split(torch.zeros(4, 3), {"motion": torch.tensor([2, 0, 2, 2])})
    data = Dataset("own", split, split, split, labels={"motion": ("walking", "running", "jumping")})
    monkeypatch.setattr("pyro_hvae.reports.data_report._load", lambda name, options: data)
    assert describe_dataset("digits", {})["factors"] == {"motion": "2 values: walking, jumping"}
