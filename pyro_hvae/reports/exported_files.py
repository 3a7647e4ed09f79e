"""Exports a trained run: its weights, configuration and model card, in a folder that needs neither the run nor its data."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from pyro_hvae.errors import CheckpointError, ConfigError, DataError
from pyro_hvae.recipes import Stage
from pyro_hvae.reports.evaluation_rows import read_evaluations
from pyro_hvae.reports.hub_upload import require_hub, upload
from pyro_hvae.reports.model_card import card_text
from pyro_hvae.runs import (
    EXPORT_CARD,
    EXPORT_CONFIG,
    EXPORT_FORMAT,
    EXPORT_WEIGHTS,
    SavedPair,
    add_checksum,
    collect_tensors,
    describe_export,
    find_other_settings,
    find_run,
    has_known_data,
    is_export,
    load_dataset,
    open_run,
    read_saved,
    record_program,
    replace_data,
    replace_nonfinite,
)
from pyro_hvae.runtime import read_blocks

FILES = (EXPORT_WEIGHTS, EXPORT_CARD, EXPORT_CONFIG)  # the configuration last: without it there is no export


def export(
    run: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    checkpoint: str = "last",
    *,
    dataset: str | None = None,
    overwrite: bool = False,
    hub: str | None = None,
    private: bool = False,
) -> dict[str, Any]:
    """Writes a trained run into a folder to share: `model.safetensors`, `config.json` and a model card, `README.md`.

    `hv.load(directory)` and the command line open it without the run and without its data: their shape, standardisation, the
    names of columns and classes travel with it. No row does, but the pseudo-inputs of a VampPrior do, which start at rows. Of
    a recipe the export is opened again before its files get their names, and its weights and settings are compared with the
    run's.

    Arguments:
        run: a run by path, unique prefix or `last`. directory: made where it is missing; other files in it stay.
        checkpoint: `last`, or `best` by validation bound.
        dataset: where the data of the run are now, if they have moved.
        overwrite: replace an export that is there; other files of these names, links and folders are never replaced.
        hub: OWNER/NAME of a repository on the Hugging Face Hub, to which the folder is uploaded then (the extra `hub`, and
            the login of `hf auth login`). private: make that repository a private one.

    Returns:
        `directory`, its `files`, `bytes`, the repository `hub` or None, the `step` of the weights, and `early_end`, a sentence
        where the training of the run goes on, diverged or was stopped, which the model card has, too.

    Raises:
        ConfigError: for a folder with an export or a run in it, an export in the place of a run, and other data.
        CheckpointError: for a run that is not trained to its last stage, and weights that safetensors cannot hold.
        DataError: where the data are no longer there, and when files cannot be written or uploaded.
        DeviceError: without the extra `hub`.

    >>> import pyro_hvae as hv  # doctest: +SKIP
    >>> hv.export("last", "shared")["files"]  # doctest: +SKIP
    ['model.safetensors', 'README.md', 'config.json']
    """
    out = Path(directory)
    if not str(directory):
        raise ConfigError("the folder of the export has no name. Give one, such as shared/model.")
    _check_folder(out, overwrite)
    if private and not hub:
        raise ConfigError("private is of the repository that hub names. Give both, or neither.")
    if hub:
        require_hub(hub)
    path = find_run(run)
    if is_export(path):
        raise ConfigError(f"'{path}' is an export already. Copy the folder, or name the run that it was exported from.")
    saved = read_saved(path, checkpoint)
    if saved.stage < len(saved.programs) - 1:
        raise CheckpointError(
            f"'{path}' is still in stage {saved.stage + 1} of {len(saved.programs)}, so that it cannot be exported yet. Go on "
            f"with it: pyro-hvae train --resume {path}"
        )
    tensors, aliases = collect_tensors(saved.programs)
    experiment = saved.experiment
    if dataset is not None:
        experiment = replace_data(saved.directory, experiment, dataset, {}, force=None)
    data = load_dataset(experiment) if has_known_data(experiment) else None
    values = describe_export(saved, data, checkpoint, _read_evaluations(saved), aliases)
    with _new_files(out) as part:
        (part / EXPORT_WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))  # `save_file` lets no one else read it
        values["weights"] = {"sha256": _hash(part / EXPORT_WEIGHTS), "bytes": (part / EXPORT_WEIGHTS).stat().st_size}
        config = json.dumps(add_checksum(replace_nonfinite(values)), indent=2)
        (part / EXPORT_CONFIG).write_text(config + "\n", encoding="utf-8")
        card = card_text(values, tensors)
        (part / EXPORT_CARD).write_text(card, encoding="utf-8")
        if experiment.recipe:
            _compare(open_run(part).stages, open_run(path, checkpoint, dataset=dataset).stages)
        else:
            read_saved(part, checkpoint)
    if hub:
        upload(out, hub, private, FILES)
    size = sum((out / name).stat().st_size for name in FILES)
    about = {"step": saved.step, "early_end": values["early_end"]}
    return {"directory": str(out), "files": [*FILES], "bytes": size, "hub": hub, **about}


def _check_folder(out: Path, overwrite: bool) -> None:
    if os.path.exists(out) and not out.is_dir():
        raise ConfigError(f"'{out}' is a file, not a folder. Choose another place.")
    if (out / "config.toml").exists():
        raise ConfigError(f"'{out}' is a run, which would no longer be one. Choose another folder.")
    there = [out / name for name in FILES if os.path.lexists(out / name)]
    for file in there:
        if file.is_symlink() or not file.is_file():
            kind = "link" if file.is_symlink() else "folder"
            raise ConfigError(f"'{file}' is a {kind}, which is not replaced. Choose another folder, or move that {kind}.")
        if not _holds_export(out):
            raise ConfigError(f"'{file}' is not of an earlier export. Choose another folder, or move that file.")
        if not overwrite:
            raise ConfigError(
                f"'{out}' has a {file.name} already. Choose another folder, or overwrite it (--overwrite on the command line, "
                "overwrite=True in Python)."
            )


def _holds_export(out: Path) -> bool:
    """Whether the config.json of a folder, whole or not, is one of an export."""
    try:
        with open(out / EXPORT_CONFIG, "rb") as file:
            return json.dumps(EXPORT_FORMAT).encode() in file.read(1000)
    except OSError:
        return False


@contextmanager
def _new_files(out: Path) -> Iterator[Path]:
    """A folder within `out` whose files go into `out` after the block, and are removed after an error."""
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=out) as part:
            yield Path(part)
            for name in FILES:
                with open(Path(part, name), "rb+") as file:
                    os.fsync(file.fileno())
            for name in FILES:
                os.replace(Path(part, name), out / name)
    except OSError as error:
        raise DataError(
            f"cannot write to '{out}': {error.strerror or error}. Choose a folder that exists and that you may write to."
        ) from error
    finally:
        for folder in missing:
            with suppress(OSError):  # not empty: written
                folder.rmdir()


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in read_blocks(file, path.stat().st_size):
            digest.update(block)
    return digest.hexdigest()


def _read_evaluations(saved: SavedPair) -> dict[str, Any]:
    """The results that the run keeps of these weights, by the names of their files."""
    results = read_evaluations(saved.directory)
    return {name: values for name, values in results.items() if values.get("step") == saved.step}


def _compare(exported: list[Stage], trained: list[Stage]) -> None:
    """Raises `CheckpointError` where a pair that was opened from an export is not the one of its run, bit for bit."""
    for one, other in zip(exported, trained, strict=True):
        pairs = ((stage.objective.model, stage.objective.guide) for stage in (one, other))
        (model, guide), (own_model, own_guide) = pairs
        differs = find_other_settings(model, guide, record_program(None, own_model, own_guide))
        for new, old in ((model, own_model), (guide, own_guide)):
            differs = differs or _find_other_tensor(new, old)
        if differs:
            raise CheckpointError(
                f"this run cannot be exported: opened without its data, its pair would be another ({differs}). Share the run "
                "together with its data instead."
            )


def _find_other_tensor(new: nn.Module, old: nn.Module) -> str | None:
    mine, theirs = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (new, old))
    if mine.keys() != theirs.keys():
        return f"it has {sorted(mine.keys() ^ theirs.keys())[0]} or has it not"
    return next((name for name in mine if not torch.equal(_bits(mine[name]), _bits(theirs[name]))), None)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return torch.nan_to_num(tensor.detach().cpu(), nan=12345.0) if tensor.is_floating_point() else tensor.detach().cpu()
