"""Data sets by name. A new one is a function returning a `Dataset` plus one entry in `DATASETS`."""

from collections.abc import Callable

from pyro_hvae.data.dataset import Batches as Batches
from pyro_hvae.data.dataset import Dataset as Dataset
from pyro_hvae.data.dataset import Split as Split
from pyro_hvae.data.digits import digits
from pyro_hvae.data.mnist import fashion_mnist, mnist
from pyro_hvae.data.mnist_static import mnist_static
from pyro_hvae.data.mocap import cmu_mocap
from pyro_hvae.data.pendulum import pendulum

__all__ = [
    "Batches",
    "Dataset",
    "Split",
    "DATASETS",
    "cmu_mocap",
    "digits",
    "fashion_mnist",
    "mnist",
    "mnist_static",
    "pendulum",
]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "pendulum": pendulum,
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "mnist-static": mnist_static,
    "cmu-mocap": cmu_mocap,
}
