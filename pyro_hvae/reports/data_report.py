"""The library side of the `data` commands: what data sets there are, what is in one, its files, and a look at it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from pyro_hvae.data import DATASETS, Dataset, Source, Split, find_source
from pyro_hvae.data.files.data_file import File, find, find_optional
from pyro_hvae.data.files.download import download, verify
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.plots.figures import save, sheet
from pyro_hvae.reports.run_report import table
from pyro_hvae.runs.options import typed_options
from pyro_hvae.runtime.folders import cache_folder, data_folder
from pyro_hvae.runtime.random_state import fixed_seed

__all__ = [
    "available",
    "available_text",
    "describe",
    "described_text",
    "download_files",
    "downloaded_text",
    "load",
    "preview",
    "verified_text",
    "verify_files",
]


def _status(source: Source) -> str:
    """Whether a set can be loaded as things are, by its files alone."""
    if source.files and all(map(find_optional, source.files)):
        return "here"
    return source.origin if source.origin == "built in" else f"{source.origin}, not here"


def available() -> dict[str, Any]:
    """All data sets by name with summary, licence and status, and the folders that hold them."""
    sets = {
        name: {"status": _status(source), "licence": source.licence, "summary": source.summary}
        for name, source in DATASETS.items()
    }
    return {"data": str(data_folder()), "cache": str(cache_folder()), "datasets": sets}


def load(name: str, options: Mapping[str, str]) -> Dataset:
    """A data set with options as typed; raises `ConfigError` for an unknown name, option or value."""
    source = find_source(name)
    return source.load(**typed_options(options, source.load, f"data set {name}"))


def describe(name: str, options: Mapping[str, str]) -> dict[str, Any]:
    """What is in a data set: counts before and after splitting, shape, range, factors, note, licence, files."""
    source, data = find_source(name), load(name, options)
    some = data.train.x.sample(2**22)
    low, high = (value.item() for value in some.aminmax())
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    return {
        "name": data.name,
        "summary": source.summary,
        "source": dict(data.counts),
        "splits": {part: len(split) for part, split in splits.items()},
        "shape": list(data.shape),
        "range": [low, high],
        "factors": {factor: _extent(data, factor) for factor in data.train.factors},
        "note": data.note,
        "licence": source.licence,
        "files": {file.path: str(find_optional(file) or "missing") for file in source.files},
    }


def _extent(data: Dataset, factor: str) -> str:
    """How many values an integer factor has, or the range of a continuous one."""
    values = torch.cat([split.factors[factor] for split in (data.train, data.validation, data.test) if factor in split.factors])
    if values.is_floating_point():
        return f"{values.min():.4g} to {values.max():.4g}"
    count = data.grid.sizes[factor] if data.grid else len(values.unique())
    return f"{count} value{'s' * (count != 1)}" + (
        f": {', '.join(data.labels[factor][:count])}" if data.labels.get(factor) else ""
    )


def download_files(names: Sequence[str]) -> dict[str, Any]:
    """Fetches what is missing of the named sets, with a bar per file.

    Raises:
        DataError: for a file that cannot be had, saying what to do; the files before it stay.
    """
    sources = {name: find_source(name) for name in names}  # a name mistyped is told before anything is fetched
    places: dict[str, list[str]] = {name: [] for name in sources}
    for name, file in [(name, file) for name, source in sources.items() for file in source.files]:
        if path := find_optional(file):
            # What does instead was put there by somebody; what has the right name is checked before it is called present.
            places[name].append(str(download(file) if path == data_folder() / file.path else path))
            continue
        with tqdm(total=file.size, unit="B", unit_scale=True, desc=Path(file.path).name, disable=None) as bar:
            places[name].append(str(download(file, _advance(bar))))
    return {"files": places}


def _advance(bar: Any) -> Callable[[int, int | None], None]:
    def advance(done: int, total: int | None) -> None:
        bar.total = total or bar.total
        bar.update(done - bar.n)

    return advance


def verify_files(names: Sequence[str]) -> dict[str, Any]:
    """Checks the files of the named sets against their checksums, then loads each set, which checks what is in them.

    Returns:
        "verified": name -> the state of its files, the sizes of its splits and its note; "wrong": name -> why it is not.
    """
    sources = {name: find_source(name) for name in names}  # a name mistyped is told before anything is read
    verified: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, source in sources.items():
        try:
            states = {file.path: _state(file) for file in source.files}
            data = source.load()
        except DataError as error:
            wrong[name] = str(error)
            continue
        splits = [len(split) for split in (data.train, data.validation, data.test)]
        verified[name] = {"files": states, "splits": splits, "note": data.note}
        if others := [path for path, state in states.items() if state == "wrong checksum"]:
            wrong[name] = (
                f"{name} loads as {_sum(splits)} data, but {' and '.join(others)} have not the "
                "published bytes. If it was not you who packed them anew, remove them and get them again."
            )
    return {"verified": verified, "wrong": wrong}


def _sum(splits: Sequence[int]) -> str:
    return " + ".join(f"{size:,}" for size in splits)


def _state(file: File) -> str:
    """As `verify`, or what is there instead; raises `DataError` for a file that is missing."""
    state = verify(file)
    if state == "missing":
        state = f"{find(file).name} instead, no checksum of the file known"
    return state


def preview(
    name: str, options: Mapping[str, str], out: Path, count: int, split: str = "training", seed: int = 0
) -> dict[str, Any]:
    """A contact sheet of data drawn at random from a split, written as a picture.

    Raises:
        ConfigError: for a count below one or an unknown split. DataError: when the picture cannot be written.
    """
    if not 1 <= count <= 2_500:
        raise ConfigError(f"--n is the number of data on the sheet, from 1 to 2,500, got {count}.")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is the name of a PNG file, got '{out}'. Example: --out preview.png.")
    data = load(name, options)
    parts: dict[str, Split] = {"training": data.train, "validation": data.validation, "test": data.test}
    if split not in parts:
        raise ConfigError(f"--split is training, validation or test, not '{split}'.")
    rows = parts[split].x
    count = min(count, len(rows))
    pick = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
    with fixed_seed(seed):  # of dynamic binarisation
        x = rows[pick]
    images = data.picture(x) if data.picture else x
    title = f"{data.name}: {count} of {len(rows):,} {split} data, {'x'.join(map(str, data.shape))}"
    return {"figure": str(save(sheet(images, title), out)), "n": count}


def available_text(values: Mapping[str, Any]) -> str:
    rows = [{"name": name, **{k: entry[k] for k in ("status", "summary")}} for name, entry in values["datasets"].items()]
    return f"{table(rows)}\n\nData folder: {values['data']}\nCache: {values['cache']}"


def described_text(values: Mapping[str, Any]) -> str:
    def counts(parts: Mapping[str, int]) -> str:
        return ", ".join(f"{part} {count:,}" for part, count in parts.items())

    low, high = values["range"]
    lines = {
        "source": counts(values["source"]),
        "splits": counts(values["splits"]),
        "shape": " x ".join(map(str, values["shape"])),
        "range": f"{low:.4g} to {high:.4g}",
        "factors": ", ".join(f"{factor} ({extent})" for factor, extent in values["factors"].items()) or "none",
        "note": values["note"],
        "licence": values["licence"],
        "files": "; ".join(dict.fromkeys(values["files"].values())),
    }
    return "\n".join([f"{values['name']}: {values['summary']}", *(f"  {k:8} {v}" for k, v in lines.items() if v)])


def downloaded_text(values: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{name}: {', '.join(dict.fromkeys(places)) or 'needs no files'}" for name, places in values["files"].items()
    )


def verified_text(values: Mapping[str, Any]) -> str:
    blocks = []
    for name, entry in values["verified"].items():
        lines = [f"{name}: loads as {_sum(entry['splits'])} data. {entry['note']}".rstrip()]
        blocks.append("\n".join([*lines, *(f"  {path}: {state}" for path, state in entry["files"].items())]))
    return "\n".join([*blocks, *(f"{name}: NOT VERIFIED" for name in values["wrong"])])
