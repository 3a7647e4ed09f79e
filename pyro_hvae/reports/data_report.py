"""Reports on data sets: the list of all, the contents of one, its files, and a preview of its data."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pyro_hvae.data import (
    DATASETS,
    Dataset,
    File,
    Source,
    class_numbers,
    download,
    factor_values,
    find,
    find_optional,
    find_source,
    is_identifier,
    list_splits,
    verify,
)
from pyro_hvae.errors import ConfigError, DataError, require_known
from pyro_hvae.reports.text_table import format_table
from pyro_hvae.runs import typed_options
from pyro_hvae.runtime import cache_folder, data_folder, fixed_seed

NAMED = 30  # columns named at most


def list_datasets() -> dict[str, Any]:
    """All data sets by name with summary, licence and status, and the folders of their files."""
    sets = {n: {"status": _status(s), "licence": s.licence, "summary": s.summary} for n, s in DATASETS.items()}
    return {"data": str(data_folder()), "cache": str(cache_folder()), "datasets": sets}


def _status(source: Source) -> str:
    """Whether the files of a data set are here, else where they come from."""
    if source.files and all(map(find_optional, source.files)):
        return "here"
    return source.origin if source.origin == "built in" else f"{source.origin}, not here"


def _load(name: str, options: Mapping[str, str]) -> Dataset:
    """A data set with options as typed; raises `ConfigError` for an unknown name, option or value."""
    source = find_source(name)
    return source.load(**typed_options(options, source.load, f"data set {name}"))


def describe_dataset(name: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Contents of a data set: counts before and after splitting, shape, range, factors, note, licence, files."""
    source, data = find_source(name), _load(name, options)
    some = data.train.x.alone.sample(2**22)
    known = some[~some.isnan()]
    return {
        "name": data.name,
        "summary": source.summary,
        "source": dict(data.counts),
        "splits": {part: len(split) for part, split in list_splits(data).items()},
        "shape": list(data.shape),
        "columns": list(data.columns),
        "range": [value.item() for value in known.aminmax()],
        "range_of": len(some),
        "missing": _measure_missing(data, some),
        "factors": {factor: _describe_factor(data, factor) for factor in _list_factors(data)},
        "note": data.note,
        "licence": source.licence,
        "files": {file.path: str(find_optional(file) or "missing") for file in source.files},
    }


def _measure_missing(data: Dataset, some: Tensor) -> dict[str, Any]:
    """The share of entries that are missing among data (n, *event), and that of each named column which lacks some."""
    shares = some.isnan().double().mean(0)
    return {
        "share": shares.mean().item(),
        "columns": {name: share for name, share in zip(data.columns, shares.tolist(), strict=False) if share},
    }


def _list_factors(data: Dataset) -> list[str]:
    return list(dict.fromkeys(factor for split in list_splits(data).values() for factor in split.factors))


def _describe_factor(data: Dataset, factor: str) -> str:
    """The number of values of a factor with their labels, or its range where it is continuous; which data have it."""
    values = factor_values(data, factor)
    having = [part for part, split in list_splits(data).items() if factor in split.factors]
    only = f", {' and '.join(having)} data only" if len(having) < 3 else ""
    extent = f"{values.min():.4g} to {values.max():.4g}"
    if class_numbers(data, factor, values) is None:
        return extent + only
    count = data.grid.sizes[factor] if data.grid else len(values.unique())
    names = data.labels.get(factor, ())
    labels = f": {', '.join(names[i] for i in (range(count) if data.grid else values.unique().tolist()))}" if names else ""
    between = f" from {extent}" if values.is_floating_point() else ""
    unused = f" in {len(values)} data, an identifier that metrics leave out" if is_identifier(data, factor) else ""
    return f"{count} value{'s' * (count != 1)}{between}{labels}{unused}{only}"


def download_datasets(names: Sequence[str]) -> dict[str, Any]:
    """Downloads the missing files of the named sets, with a progress bar for each.

    Raises:
        DataError: for a file that cannot be downloaded, saying what to do; the files before it stay.
    """
    sources = {name: find_source(name) for name in names}  # an unknown name fails before anything is downloaded
    places: dict[str, list[str]] = {name: [] for name in sources}
    for name, file in [(name, file) for name, source in sources.items() for file in source.files]:
        if path := find_optional(file):
            # A file of the published name is checked; one that replaces it was put there by the user.
            places[name].append(str(download(file) if path == data_folder() / file.path else path))
            continue
        with tqdm(total=file.size, unit="B", unit_scale=True, desc=Path(file.path).name, disable=None) as bar:
            places[name].append(str(download(file, partial(_update_bar, bar))))
    return {"files": places}


def _update_bar(bar: Any, done: int, total: int | None) -> None:
    bar.total = total or bar.total
    bar.update(done - bar.n)


def verify_datasets(names: Sequence[str]) -> dict[str, Any]:
    """Checks the files of the named sets against their checksums, then loads each set, which checks what is in them.

    Returns:
        "verified": name -> the state of its files, the sizes of its splits and its note; "wrong": name -> why it is not.
    """
    sources = {name: find_source(name) for name in names}  # an unknown name fails before anything is read
    verified, wrong = {}, {}
    for name, source in sources.items():
        try:
            states = {file.path: _file_state(file) for file in source.files}
            data = source.load()
        except DataError as error:
            wrong[name] = str(error)
            continue
        splits = [len(split) for split in list_splits(data).values()]
        verified[name] = {"files": states, "splits": splits, "note": data.note}
        if others := [path for path, state in states.items() if state == "wrong checksum"]:
            wrong[name] = (
                f"{name} loads as {_sum_text(splits)} data, but {' and '.join(others)} have not the "
                "published bytes. If it was not you who packed them anew, remove them and get them again."
            )
    return {"verified": verified, "wrong": wrong}


def _sum_text(splits: Sequence[int]) -> str:
    return " + ".join(f"{size:,}" for size in splits)


def _file_state(file: File) -> str:
    """The result of `verify`, or the name of the file that replaces it; raises `DataError` for a missing file."""
    state = verify(file)
    return state if state != "missing" else f"{find(file).name} instead, no checksum of the file known"


def preview_dataset(
    name: str, options: Mapping[str, str], out: Path, count: int, split: str = "training", seed: int = 0
) -> dict[str, Any]:
    """Draws a contact sheet of random data of a split into a PNG, PDF or SVG file.

    Raises:
        ConfigError: for a count below one or an unknown split. DataError: when the picture cannot be written.
    """
    if not 1 <= count <= 2_500:
        raise ConfigError(f"--n is the number of data on the sheet, from 1 to 2,500, got {count}.")
    from pyro_hvae.plots import check_picture_path, dataset_scale, plot_image_sheet, save_figure  # matplotlib takes a second

    check_picture_path(out, "--out")
    data = _load(name, options)
    parts = list_splits(data)
    require_known("split", split, parts)
    rows = parts[split].x
    count = min(count, len(rows))
    pick = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
    with fixed_seed(seed):  # for dynamic binarisation
        x = rows.alone[pick]
    images = data.draw(x)
    shape = f"vectors of {data.shape[0]}" if len(data.shape) == 1 else "x".join(map(str, data.shape))
    title = f"{data.name}: {count} of {len(rows):,} {split} data, {shape}"
    sheet = plot_image_sheet(images, title, dataset_scale(data, images), pick.tolist(), f"index in the {split} data")
    return {"figure": str(save_figure(sheet, out)), "n": count}


def dataset_list_text(values: Mapping[str, Any]) -> str:
    rows = [{"name": n, "status": entry["status"], "summary": entry["summary"]} for n, entry in values["datasets"].items()]
    return f"{format_table(rows)}\n\nData folder: {values['data']}\nCache: {values['cache']}"


def dataset_text(values: Mapping[str, Any]) -> str:
    counts = {key: ", ".join(f"{part} {count:,}" for part, count in values[key].items()) for key in ("source", "splits")}
    some = "" if values["range_of"] == values["splits"]["training"] else f" (of {values['range_of']:,} random training data)"
    lines = counts | {
        "shape": " x ".join(map(str, values["shape"])),
        "columns": _list_columns(values["columns"]),
        "range": "{:.4g} to {:.4g}".format(*values["range"]) + some,
        "missing": _missing_text(values["missing"]) + some if values["missing"]["share"] else "",
        "factors": ", ".join(f"{factor} ({extent})" for factor, extent in values["factors"].items()) or "none",
        "note": values["note"],
        "licence": values["licence"],
        "files": "; ".join(dict.fromkeys(values["files"].values())),
    }
    return "\n".join([f"{values['name']}: {values['summary']}", *(f"  {k:8} {v}" for k, v in lines.items() if v)])


def _missing_text(missing: Mapping[str, Any]) -> str:
    """The share of missing entries, and the columns that lack most."""
    most = sorted(missing["columns"].items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {100 * share:.3g} %" for name, share in most[:NAMED])
    more = f", and {len(most) - NAMED:,} more columns" if len(most) > NAMED else ""
    return f"{100 * missing['share']:.3g} % of the entries of training data" + (f": {listed}{more}" if listed else "")


def _list_columns(names: Sequence[str]) -> str:
    """The names of columns; of many, the first and the last."""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: NAMED - 1])}, ..., {names[-1]} ({len(names):,} columns)"


def download_text(values: Mapping[str, Any]) -> str:
    places = {name: ", ".join(dict.fromkeys(paths)) or "needs no files" for name, paths in values["files"].items()}
    return "\n".join(f"{name}: {text}" for name, text in places.items())


def verification_text(values: Mapping[str, Any]) -> str:
    blocks = []
    for name, entry in values["verified"].items():
        lines = [f"{name}: loads as {_sum_text(entry['splits'])} data. {entry['note']}".rstrip()]
        blocks.append("\n".join([*lines, *(f"  {path}: {state}" for path, state in entry["files"].items())]))
    return "\n".join([*blocks, *(f"{name}: NOT VERIFIED" for name in values["wrong"])])
