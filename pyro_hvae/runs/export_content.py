"""What an export holds: the tensors of all stages, each once, and the configuration without the paths of this machine."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pyro_hvae.data import Dataset, Description
from pyro_hvae.errors import CheckpointError
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.export_format import EXPORT_FORMAT, EXPORT_VERSION
from pyro_hvae.runs.run_directory import package_versions
from pyro_hvae.runs.saved_pair import SavedPair, data_label, tensor_name

DTYPES = (  # complex64 only newer releases
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def collect_tensors(programs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of all stages by name, and for each name of a tensor that has another one already, that one.

    A tensor that shares a part of its memory with another is a copy: the module that takes it shares the memory itself.

    Raises:
        CheckpointError: for a state that safetensors cannot hold: no tensor, a name that is empty, or another dtype.

    >>> weight = torch.arange(6.0)
    >>> state = {"one": weight, "same": weight, "part": weight[2:]}
    >>> tensors, aliases = collect_tensors([{"model": state, "guide": {}}])
    >>> list(tensors), aliases
    (['stages.0.model.one', 'stages.0.model.part'], {'stages.0.model.same': 'stages.0.model.one'})
    """
    tensors, aliases, places = dict[str, Tensor](), dict[str, str](), dict[Any, str]()
    for stage, pair in enumerate(programs):
        for program in ("model", "guide"):
            for key, value in pair[program].items():
                name = tensor_name(stage, program, key)
                if not isinstance(value, Tensor) or value.dtype not in DTYPES or not key or value.layout != torch.strided:
                    kind = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                    raise CheckpointError(
                        f"'{program}.{key}' is {kind}, which the file format safetensors cannot hold. Make it a tensor of real "
                        f"numbers, and train again."
                    )
                place = value.data_ptr(), value.dtype, tuple(value.shape), value.stride()
                if value.numel() and place in places:
                    aliases[name] = places[place]
                    continue
                places[place] = name
                tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
    return tensors, aliases


def describe_export(
    saved: SavedPair, data: Dataset | None, checkpoint: str, evaluations: Mapping[str, Any], aliases: Mapping[str, str]
) -> dict[str, Any]:
    """The values of config.json, but for the size and checksum of the weights."""
    experiment, described = saved.experiment, Description.of(data) if data else None
    paths = {experiment.dataset: data_label(experiment.dataset), experiment.program or "": experiment.method}
    paths = {path: name for path, name in paths.items() if path and path != name}
    return {
        "format": EXPORT_FORMAT,
        "format_version": EXPORT_VERSION,
        "library_name": "pyro-hvae",
        "experiment": _portable(experiment).to_dict(),
        "data": replace(described, note=_replace(described.note, paths)).to_dict() if described else None,
        "checkpoint": checkpoint,
        "step": saved.step,
        "early_end": saved.directory.describe_early_end(),
        "stages": len(saved.programs),
        "aliases": dict(aliases),
        "program": dict(saved.record) if experiment.recipe is None else None,
        "evaluations": _replace(evaluations, paths),
        "versions": package_versions(),
    }


def _portable(experiment: Experiment) -> Experiment:
    """The experiment with the names of files in the place of their paths."""
    tables = ("recipe_options", "schedule_options", "data_options")
    options = {table: {key: _last_part(value) for key, value in getattr(experiment, table).items()} for table in tables}
    program = experiment.method if experiment.program else None
    return replace(experiment, dataset=data_label(experiment.dataset), program=program, **options)


def _last_part(value: Any) -> Any:
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


def _replace(values: Any, paths: Mapping[str, str]) -> Any:
    """The same values with names in the place of paths in all texts."""
    if isinstance(values, Mapping):
        return {key: _replace(value, paths) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_replace(value, paths) for value in values]
    if isinstance(values, str):
        for path, name in paths.items():
            values = values.replace(path, name)
    return values
