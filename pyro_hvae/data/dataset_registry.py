"""The table of data sets by name, and a user's data by path. A new set is a function that returns a `Dataset`, and an entry."""

import os
from functools import partial
from pathlib import Path

from pyro_hvae.data.dataset import Source
from pyro_hvae.data.dataset_names import require_dataset
from pyro_hvae.data.files.published_files import list_files
from pyro_hvae.data.generated.pendulum import pendulum
from pyro_hvae.data.generated.rooms import rooms
from pyro_hvae.data.generated.sprites import sprites
from pyro_hvae.data.generated.textures import textures, triangles
from pyro_hvae.data.sets.celeba import celeba
from pyro_hvae.data.sets.chairs3d_and_faces3d import CHAIRS, FACES, chairs3d, faces3d
from pyro_hvae.data.sets.cmu_mocap import ARCHIVE, cmu_mocap
from pyro_hvae.data.sets.digits import digits
from pyro_hvae.data.sets.dsprites_and_shapes3d import dsprites, shapes3d
from pyro_hvae.data.sets.mnist import fashion_mnist, mnist
from pyro_hvae.data.sets.mnist_static import mnist_static
from pyro_hvae.data.sets.omniglot import omniglot
from pyro_hvae.data.sets.svhn import svhn
from pyro_hvae.data.sets.user_data import identify_data, load_user_data

DATASETS: dict[str, Source] = {
    "pendulum": Source(pendulum),
    "digits": Source(digits, licence="CC BY 4.0 (bundled with scikit-learn)"),
    "sprites": Source(sprites),
    "rooms": Source(rooms),
    "triangles": Source(triangles),
    "textures": Source(textures),
    "mnist": Source(mnist, list_files("MNIST"), "CC BY-SA 3.0"),
    "mnist-static": Source(mnist_static, list_files("MNIST_static"), "derived from MNIST"),
    "fashion-mnist": Source(fashion_mnist, list_files("FashionMNIST"), "MIT"),
    "omniglot": Source(omniglot, tuple(file for file in list_files("OMNIGLOT") if file.path.endswith("zip")), "MIT"),
    "svhn": Source(svhn, list_files("SVHN"), "for research that is not commercial"),
    "celeba": Source(celeba, list_files("celeba")[:2], "for research that is not commercial"),
    "dsprites": Source(dsprites, list_files("dsprites"), "Apache-2.0"),
    "shapes3d": Source(shapes3d, list_files("3dshapes"), "Apache-2.0"),
    "cmu-mocap": Source(cmu_mocap, (ARCHIVE,), "free for any use; acknowledge mocap.cs.cmu.edu, NSF EIA-0196217"),
    "faces3d": Source(faces3d, (FACES,), "Basel face model: for research, not to be passed on"),
    "chairs3d": Source(chairs3d, (CHAIRS,), "none stated by its authors"),
}


def find_source(name: str) -> Source:
    """The entry of a data set: from the table, or made for a path of a user's own data (see `load_user_data`).

    Raises:
        ConfigError: for an unknown name, suggesting the nearest.
        DataError: for a path that does not exist.
    """
    require_dataset(name, DATASETS)
    if name in DATASETS:
        return DATASETS[name]
    path = Path(os.path.expanduser(name))
    return Source(partial(load_user_data, path), licence="your own", identify=partial(identify_data, path))
