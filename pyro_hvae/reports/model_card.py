"""The model card of an export: Markdown with the front matter of the Hugging Face Hub, every name in it escaped."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tomli_w

from pyro_hvae.evaluation import METRICS
from pyro_hvae.recipes import RECIPES
from pyro_hvae.reports.text_table import format_number, format_option
from pyro_hvae.runs import Experiment, read_conditions

_MARKS = re.compile(r"([\\`*_\[\]|<>~&$:@])")
_SHOWN = 20  # names of columns or classes


def escape(text: Any) -> str:
    """A text that Markdown shows as it is, in one line.

    >>> print(escape("a_b |<b>\\n# c"))
    a\\_b \\|\\<b\\> # c
    """
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))


def card_text(values: Mapping[str, Any], weights: int) -> str:
    """The text of README.md from the values of config.json.

    Arguments:
        weights: numbers in all tensors.
    """
    experiment = Experiment.from_dict(values["experiment"])
    recipe = RECIPES[experiment.recipe] if experiment.recipe else None
    tags = ["pyro-hvae", "variational-autoencoder", "pyro", "safetensors", *([experiment.recipe] if experiment.recipe else [])]
    matter = ["library_name: pyro-hvae", "tags:", *(f"- {json.dumps(tag, ensure_ascii=False)}" for tag in tags)]
    program = "" if recipe else f", program={'(model, guide)'}"
    option = "" if recipe else f" --program {escape(experiment.program or 'FILE.py:FUNCTION')}"
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
        "No row of the data is in these files.",
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
        f'pair = hv.load("DIR"{program})  # this folder',
        "model, guide, config = pair",
        "z = hv.latents(guide, pair.prepare(data), mean=True)  # data: an array, a DataFrame or a path",
        *(['x = pair.restore(hv.generate(model, 10)["x"])'] if not read_conditions(experiment) else []),
        "```",
        "",
        f"Command line: `pyro-hvae sample DIR`, `pyro-hvae evaluate DIR --dataset NAME|PATH`{', each with' if option else ''}"
        f"{option}.",
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


def _describe_data(data: Mapping[str, Any] | None, experiment: Experiment) -> list[str]:
    if data is None:
        return ["Data of a script, of which nothing is recorded."]
    lines = [f"- {escape(experiment.dataset)}: x of shape {tuple(data['shape'])}, from {data['low']:.4g} to {data['high']:.4g}"]
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
        lines.append(f"- given {escape(condition.name)}{kind}")
    return lines


def _list_names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(escape, names[:_SHOWN])) + more


def _list_evaluations(evaluations: Mapping[str, Any]) -> list[str]:
    rows = [row for name, values in evaluations.items() if name in METRICS and (row := _row(name, values))]
    if not rows:
        return ["None was measured before the export."]
    head = ["| metric | value | error | protocol |", "|---|---|---|---|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows), "", "All values and their protocols are in `config.json`."]


def _row(name: str, values: Mapping[str, Any]) -> list[str] | None:
    value: Any = values
    for part in METRICS[name].headline.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return None
    unit, number = METRICS[name].unit, f"{value:.4f}" if name == "likelihood" else format_number(value)
    errors = [f"standard error {values['stderr']:.4f}"] if isinstance(values.get("stderr"), float) else []
    if isinstance(values.get("importance_bias"), float):
        errors.append(f"too low by about {values['importance_bias']:.4f} or more")
    data = values.get("data", {})
    protocol = {key: values[key] for key in ("split", "n", "space") if key in values} | dict(values.get("options", {}))
    texts = [f"{key}={format_option(option)}" for key, option in protocol.items() if option not in ((), [], "")]
    beside = f" given {', '.join(values['given'])}" if "given" in values else ""
    about = f"{data.get('name', '')}{beside}; {', '.join(texts)}"
    return [escape(name), f"{number} {escape(unit)}".strip(), escape(", ".join(errors) or "not known"), escape(about)]
