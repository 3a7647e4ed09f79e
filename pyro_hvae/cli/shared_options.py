"""Options that several commands share, and the output of results."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pyro_hvae.errors import ConfigError

SEED = click.IntRange(0, 2**53 - 1)  # valid for every generator, and exact in TOML and JSON


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
    """Sets the environment variable of the data folder for this process."""
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


def _opening_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that open runs: --checkpoint, --program, --device, --data-dir; and --json."""
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
    """Adds the argument RUN and the options that open it."""
    return click.argument("run")(_opening_options(command))


def runs_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the arguments RUN..., the options that open them, and --picture, which shows them side by side."""
    picture = click.option(
        "--picture",
        type=click.Path(path_type=Path),
        metavar="FILE.png",
        help="Picture; default: in the first run's figures.",
    )
    return click.argument("runs", nargs=-1, required=True, metavar="RUN...")(picture(_opening_options(command)))


def emit(values: dict[str, Any], as_json: bool, text: str) -> None:
    """Prints one JSON object, or the text for people, on stdout."""
    from pyro_hvae.runs import replace_nonfinite

    click.echo(json.dumps(replace_nonfinite(values)) if as_json else text)
