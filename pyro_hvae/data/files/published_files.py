"""The table of published files, published_files.toml: sizes, checksums and mirrors."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from pyro_hvae.data.files.data_file import File


def _read_table() -> Iterator[File]:
    groups = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["group"]
    for group in groups:
        for name, known in group["files"].items():
            urls = tuple(f"{mirror}/{name}" for mirror in group.get("mirrors", ()))
            instead = tuple(path.format(name=name, stem=name.rpartition(".")[0]) for path in group.get("instead", ()))
            yield File(f"{group['folder']}/{name}", **known, urls=urls, how=group["how"], instead=instead)


FILES: dict[str, File] = {file.path: file for file in _read_table()}


def list_files(folder: str) -> tuple[File, ...]:
    """All files of the table in one folder, such as "MNIST".

    >>> [file.path for file in list_files("3dshapes")]
    ['3dshapes/3dshapes.h5']
    """
    return tuple(file for path, file in FILES.items() if path.startswith(f"{folder}/"))
