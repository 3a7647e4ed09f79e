"""The model card of an export: Markdown with the front matter of the Hugging Face Hub, every name in it escaped."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import tomli_w
import torch
from torch import Tensor

from pyro_hvae.data import DATASETS, is_read
from pyro_hvae.networks import SIZE_FACTOR
from pyro_hvae.recipes import RECIPES
from pyro_hvae.reports.evaluation_rows import list_evaluations
from pyro_hvae.runs import Experiment, read_conditions

_MARKS = re.compile(r"([\\`*_\[\]|<>~&$:@])")
_SHOWN = 20  # names of columns or classes


def escape(text: Any) -> str:
    """A text that Markdown shows as it is, in one line.

    >>> print(escape("a_b |<b>\\n# c"))
    a\\_b \\|\\<b\\> # c
    """
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))


def card_text(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The text of README.md from the values of config.json and the tensors by name."""
    experiment = Experiment.from_dict(values["experiment"])
    recipe = RECIPES[experiment.recipe] if experiment.recipe else None
    tags = ["pyro-hvae", "variational-autoencoder", "pyro", "safetensors", *([experiment.recipe] if experiment.recipe else [])]
    matter = ["library_name: pyro-hvae", "tags:", *(f"- {json.dumps(tag, ensure_ascii=False)}" for tag in tags)]
    weights = sum(tensor.numel() for tensor in tensors.values())
    about = f"{escape(recipe.summary)} ({escape(recipe.paper)})" if recipe else "a program of its author's own"
    lines = [
        "---",
        *matter,
        "---",
        "",
        f"# {escape(experiment.method)} on {escape(experiment.dataset)}",
        "",
        f"A variational autoencoder, a Pyro model and guide: {about}. {weights:,} numbers, after "
        f"{values['step']:,} steps of seed {experiment.train.seed} (checkpoint {escape(values['checkpoint'])}). "
        f"{values['early_end']}".rstrip(),
        "",
        "## Data",
        "",
        *_describe_data(values["data"], experiment),
        "",
        _say_rows(tensors, recipe is None),
        "",
        "## Evaluation",
        "",
        *_list_evaluations(values["evaluations"]),
        "",
        "## How to load it",
        "",
        "Python, without the data and without running code from these files:",
        "",
        "```python",
        "import pyro_hvae as hv",
        "",
        *_python_lines(values["data"], experiment),
        "```",
        "",
        "Command line:",
        "",
        "```sh",
        *_command_lines(values["data"], experiment),
        "```",
        "",
        "## Training",
        "",
        "What was asked for, with all defaults:",
        "",
        "```toml",
        tomli_w.dumps(values["experiment"]).rstrip(),
        "```",
        "",
        f"Versions: {', '.join(f'{escape(name)} {escape(version)}' for name, version in values['versions'].items())}.",
        "",
        "## Licence",
        "",
        "Its author has not stated one yet: add `license:` to the lines at the top. The licence of the data may restrict it.",
        "",
    ]
    return "\n".join(lines)


def _say_rows(tensors: Mapping[str, Tensor], own: bool) -> str:
    """What of the data's rows is in the files. Only recipes are known to put none into their weights."""
    pseudo = sum(len(tensor) for name, tensor in tensors.items() if name.endswith(".pseudo_inputs"))
    if pseudo:
        return (
            f"The {pseudo:,} pseudo-inputs of the prior are in these files. They started at rows of the training data and may "
            "still resemble them: do not share them where such rows must not be shared."
        )
    return "No row of the data is in these files" + (", unless the program keeps some in its weights." if own else ".")


def _python_lines(data: Mapping[str, Any] | None, experiment: Experiment) -> list[str]:
    program = "" if experiment.recipe else ", program=(model, guide)"
    lines = [f'pair = hv.load("DIR"{program})  # this folder', "model, guide, config = pair"]
    if data is None:
        return [*lines, "z = hv.latents(guide, x, mean=True)  # x as its script has it", 'x = hv.generate(model, 10)["x"]']
    kinds = "a DataFrame or a path, columns by name" if data["columns"] else "an array or a path"
    beside, values = "", _example_values(experiment)
    if (read := [c.name for c in read_conditions(experiment) if is_read(c)]) and not data["columns"]:
        kinds, beside = "an array, values: one for each row", f", {{{', '.join(f'{name!r}: values' for name in read)}}}"
    lines.append(f"z = hv.latents(guide, pair.prepare(data{beside}), mean=True)  # data: {kinds}")
    if not values:
        return [*lines, 'x = pair.restore(hv.generate(model, 10)["x"])']
    return [
        *lines,
        f"given = {values!r}  # a class by its name, or a number",
        "y = {c.key: c.parse(given[c.name])[None] for c in pair.run.conditions}",
        'x = pair.restore(hv.generate(model, 10, given=y)["x"])',
    ]


def _command_lines(data: Mapping[str, Any] | None, experiment: Experiment) -> list[str]:
    given = ",".join(f"{name}={value}" for name, value in _example_values(experiment).items())
    program = "" if experiment.recipe else f" --program {shlex.quote(experiment.program or 'FILE.py:FUNCTION')}"
    handed = "" if data else " --dataset PATH"
    return [
        f"pyro-hvae sample DIR{program}{handed}{f' --given {shlex.quote(given)}' if given else ''}",
        f"pyro-hvae evaluate DIR{program} --dataset {experiment.dataset if experiment.dataset in DATASETS else 'PATH'}",
    ]


def _example_values(experiment: Experiment) -> dict[str, str]:
    """A value of each condition as it is typed: the first class, or the mean number or size, which is encoded as 0 or 1."""
    means = {c: torch.tensor([float(c.key == SIZE_FACTOR)]) for c in read_conditions(experiment)}
    return {c.name: c.classes[0] if c.classes else c.describe(mean) for c, mean in means.items()}


def _describe_data(data: Mapping[str, Any] | None, experiment: Experiment) -> list[str]:
    if data is None:
        return ["Data of a script, of which nothing is recorded."]
    scaled = " (standardised)" if data["standardization"] else ""
    extent = f"from {data['low']:.4g} to {data['high']:.4g}{scaled}"
    lines = [f"- {escape(experiment.dataset)}: x of shape {tuple(data['shape'])}, {extent}"]
    if data["note"]:
        lines.append(f"- {escape(data['note'])}")
    if data["columns"]:
        lines.append(f"- columns: {_list_names(data['columns'])}")
    if data["standardization"]:
        lines.append("- standardised: each column less its mean, divided by its standard deviation; both are in `config.json`")
    if data["incomplete"]:
        lines.append("- some entries are missing")
    for condition in read_conditions(experiment):
        kind = f" with the classes {_list_names(condition.classes)}" if condition.classes else ""
        lines.append(f"- beside x the programs are given {escape(condition.name)}{kind}")
    return lines


def _list_names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(escape, names[:_SHOWN])) + more


def _list_evaluations(evaluations: Mapping[str, Any]) -> list[str]:
    rows = list_evaluations(evaluations)
    if not rows:
        return ["None was measured before the export."]
    head = ["| metric | value | error | protocol |", "|---|---|---|---|"]
    lines = [f"| {' | '.join(map(escape, (row.metric, row.value, row.error, row.protocol)))} |" for row in rows]
    return [*head, *lines, "", "All values and their protocols are in `config.json`."]
