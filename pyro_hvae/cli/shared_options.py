"""Options that several commands share."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pyro_hvae.errors import ConfigError

__all__ = ["SEED", "data_dir_option", "data_options", "emit", "json_option", "key_values", "run_arguments", "runs_arguments"]


SEED = click.IntRange(0, 2**53 - 1)  # what every generator takes, and TOML and JSON keep


def key_values(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """`-o key=value` pairs as a dict."""
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"-o takes key=value, got '{text}'. Example: -o latent=2.")
        pairs[key.strip().replace("-", "_")] = value.strip()
    return pairs


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else on stdout.")


data_options = click.option(
    "-o", "options", multiple=True, callback=key_values, metavar="KEY=VALUE", help="Option of the data set; repeatable."
)


def _data_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Names the data folder for this process, as the environment variable would have."""
    if value:
        os.environ["PYRO_HVAE_DATA"] = value


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(),
    callback=_data_dir,
    expose_value=False,
    metavar="DIR",
    help="Folder of the data files; default: PYRO_HVAE_DATA, else the platform's data folder.",
)


def _opening(command: Callable[..., Any]) -> Callable[..., Any]:
    """How to open runs: --checkpoint, --program, --device; and --data-dir, --json."""
    for decorate in (
        data_dir_option,
        json_option,
        click.option("--device", default="cpu", show_default=True, metavar="auto|cpu|cuda[:i]|mps", help="Where to compute."),
        click.option("--program", metavar="FILE.py:FUNCTION", help="The pair of a run of your own program (runs your code)."),
        click.option("--checkpoint", default="last", show_default=True, metavar="last|best", help="Which checkpoint."),
    ):
        command = decorate(command)
    return command


def run_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """RUN and how to open it: --checkpoint, --program, --device, --data-dir, --json."""
    return click.argument("run")(_opening(command))


def runs_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """RUN... that stand side by side in one --picture, and how to open them: as `run_arguments`."""
    picture = click.option(
        "--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Default: in the first run's figures."
    )
    return click.argument("runs", nargs=-1, required=True, metavar="RUN...")(picture(_opening(command)))


def emit(values: dict[str, Any], as_json: bool, text: str) -> None:
    """One JSON object, or the text for people, on stdout."""
    from pyro_hvae.runs.run_directory import replace_nonfinite

    click.echo(json.dumps(replace_nonfinite(values)) if as_json else text)
