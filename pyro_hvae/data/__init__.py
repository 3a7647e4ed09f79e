"""Data sets by name. A new one is a function returning a `Dataset` plus one entry in `DATASETS`."""

from collections.abc import Callable

from pyro_hvae.data.dataset import Batches as Batches
from pyro_hvae.data.dataset import Dataset as Dataset
from pyro_hvae.data.dataset import Split as Split
from pyro_hvae.data.pendulum import pendulum

__all__ = ["Batches", "Dataset", "Split", "DATASETS", "pendulum"]

DATASETS: dict[str, Callable[..., Dataset]] = {"pendulum": pendulum}
