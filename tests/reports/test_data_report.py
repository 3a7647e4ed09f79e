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


def test_a_text_names_some_of_many_columns(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(200)) + "\n" + "\n".join(",".join(["1.5"] * 200) for _ in range(9)))
    values = describe_dataset(str(path), {})
    assert len(values["columns"]) == 200
    assert "c58, c59 and 140 more\n" in dataset_text(values) and "c60" not in dataset_text(values)
