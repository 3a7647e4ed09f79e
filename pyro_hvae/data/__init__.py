"""Data sets by name or path, as `Dataset`s of compactly stored `Rows`; see `table` for adding one."""

from pyro_hvae.data.batches import Batches as Batches
from pyro_hvae.data.dataset import Dataset as Dataset
from pyro_hvae.data.dataset import FactorGrid as FactorGrid
from pyro_hvae.data.dataset import Source as Source
from pyro_hvae.data.dataset import Split as Split
from pyro_hvae.data.dataset_registry import DATASETS as DATASETS
from pyro_hvae.data.dataset_registry import find_source as find_source
from pyro_hvae.data.dataset_registry import is_path as is_path
from pyro_hvae.data.generated.pendulum import pendulum as pendulum
from pyro_hvae.data.generated.textures import cut_crops as cut_crops
from pyro_hvae.data.rows import Drawn as Drawn
from pyro_hvae.data.rows import Rows as Rows
from pyro_hvae.data.sets.cmu_mocap import cmu_mocap as cmu_mocap
from pyro_hvae.data.sets.digits import digits as digits
from pyro_hvae.data.sets.mnist import fashion_mnist as fashion_mnist
from pyro_hvae.data.sets.mnist import mnist as mnist
from pyro_hvae.data.sets.mnist_static import mnist_static as mnist_static

__all__ = [
    "DATASETS",
    "Batches",
    "Dataset",
    "Drawn",
    "FactorGrid",
    "Rows",
    "Source",
    "Split",
    "cmu_mocap",
    "cut_crops",
    "digits",
    "fashion_mnist",
    "find_source",
    "is_path",
    "mnist",
    "mnist_static",
    "pendulum",
]
