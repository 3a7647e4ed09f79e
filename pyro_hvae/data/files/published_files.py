"""The table of published files: sizes, checksums and mirrors.

Sizes and SHA-256 are those of TensorFlow Datasets. For MNIST and Fashion-MNIST they were also computed from the files, whose
MD5s are those of the publishers. Comments mark entries with weaker sources.
"""

from collections.abc import Mapping

from pyro_hvae.data.files.data_file import File


def _describe_files(
    folder: str,
    files: Mapping[str, tuple[int | None, str]],
    mirrors: tuple[str, ...] = (),
    instead: tuple[str, ...] = (),
    how: str = "",
    dataset: str = "",
) -> list[File]:
    """The files of one folder.

    Arguments:
        files: name -> size in bytes, and SHA-256 or (of half the length) MD5.
        mirrors: folders that have all these files.
        instead: paths that serve as well, with {name}, and {stem} for the name without its suffix.
        how: how to get the files; default: by `data download` of the data set.
    """
    return [
        File(
            f"{folder}/{name}",
            size,
            sha256=checksum if len(checksum) == 64 else None,
            md5=checksum if len(checksum) == 32 else None,
            urls=tuple(f"{mirror}/{name}" for mirror in mirrors),
            how=how or f"Fetch it by 'pyro-hvae data download {dataset}'.",
            instead=tuple(path.format(name=name, stem=name.rsplit(".", 1)[0]) for path in instead),
        )
        for name, (size, checksum) in files.items()
    ]


_CELEBA = "The authors give it out for research that is not commercial, at mmlab.ie.cuhk.edu.hk/projects/CelebA.html."
_FILES = [
    *_describe_files(
        "MNIST/raw",
        {
            "train-images-idx3-ubyte.gz": (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            "train-labels-idx1-ubyte.gz": (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            "t10k-images-idx3-ubyte.gz": (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            "t10k-labels-idx1-ubyte.gz": (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        },
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        instead=("MNIST/raw/{stem}",),
        dataset="mnist",
    ),
    *_describe_files(
        "FashionMNIST/raw",
        {
            "train-images-idx3-ubyte.gz": (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            "train-labels-idx1-ubyte.gz": (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            "t10k-images-idx3-ubyte.gz": (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            "t10k-labels-idx1-ubyte.gz": (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        },
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ),
        dataset="fashion-mnist",
        instead=("FashionMNIST/raw/{stem}",),
    ),
    *_describe_files(
        "MNIST_static",
        {
            "binarized_mnist_train.amat": (78_400_000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
            "binarized_mnist_valid.amat": (15_680_000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
            "binarized_mnist_test.amat": (15_680_000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
        },
        mirrors=("http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist",),
        instead=("MNIST_static/binarized_mnist_packed.npz",),
        dataset="mnist-static",
    ),
    *_describe_files(
        "OMNIGLOT",
        {
            "images_background.zip": (9_464_212, "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"),
            "images_evaluation.zip": (6_462_886, "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"),
        },
        mirrors=(
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python",
            "https://github.com/brendenlake/omniglot/raw/master/python",
        ),
        dataset="omniglot",
        instead=("OMNIGLOT/{stem}", "omniglot-py/{name}", "omniglot-py/{stem}"),
    ),
    # The size is unknown; the MD5 comes from one public project.
    *_describe_files(
        "OMNIGLOT",
        {"chardata.mat": (None, "21ecaf34373511aa7691cf2e0802aa3d")},
        mirrors=(
            "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT",
            "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT",
        ),
        how="It is part of github.com/yburda/iwae; without it, -o source=images reads the official drawings.",
    ),
    *_describe_files(
        "SVHN",
        {
            "train_32x32.mat": (182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
            "test_32x32.mat": (64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
            "extra_32x32.mat": (1_329_278_602, "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3"),
        },
        mirrors=("http://ufldl.stanford.edu/housenumbers",),
        instead=("svhn/{name}",),
        dataset="svhn",
    ),
    *_describe_files(
        "celeba",
        {"img_align_celeba.zip": (1_443_490_838, "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74")},
        instead=("celeba/{stem}",),
        how=_CELEBA,
    ),
    *_describe_files(
        "celeba",
        {
            "list_eval_partition.txt": (2_836_386, "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7"),
            "list_attr_celeba.txt": (26_721_026, "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0"),
        },
        how=_CELEBA,
    ),
    # The size is unknown; the MD5 comes from several public projects.
    *_describe_files(
        "dsprites",
        {"dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz": (None, "7da33b31b13a06f4b04a70402ce90c2e")},
        mirrors=(
            "https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/master",
            "https://github.com/google-deepmind/dsprites-dataset/raw/master",
        ),
        how="Fetch it by 'pyro-hvae data download dsprites', or use the data set 'sprites', which needs no file.",
    ),
    *_describe_files(
        "3dshapes",
        {"3dshapes.h5": (267_573_662, "0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785")},
        mirrors=("https://storage.googleapis.com/3d-shapes",),
        how="Fetch it by 'pyro-hvae data download shapes3d', or use the data set 'rooms', which needs no file.",
    ),
]
FILES: dict[str, File] = {file.path: file for file in _FILES}


def list_files(folder: str) -> tuple[File, ...]:
    """All files of the table in one folder, such as "MNIST".

    >>> [file.path for file in list_files("3dshapes")]
    ['3dshapes/3dshapes.h5']
    """
    return tuple(file for path, file in FILES.items() if path.startswith(f"{folder}/"))
