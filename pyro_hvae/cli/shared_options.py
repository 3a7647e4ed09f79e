"""Options that several commands share, and the output of results."""

import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from pyro_hvae.cli.early_checks import check_dataset, check_runs
from pyro_hvae.errors import ConfigError, DataError, require_known
from pyro_hvae.plots import check_picture_path
from pyro_hvae.runs import CHECKPOINTS
from pyro_hvae.runtime import require_device_name

# values for --json, their text for people, and what is missing of what was asked for: printed, then exit 2
Result = tuple[dict[str, Any], str] | tuple[dict[str, Any], str, str]


class WholeNumber(click.IntRange):
    """A whole number in a range; one outside is answered by one line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = click.INT.convert(value, param, ctx)
        if number < (self.min or 0) or (self.max is not None and number > self.max):
            limits = f"at least {self.min}" if self.max is None else f"from {self.min} to {self.max}"
            raise ConfigError(f"{param.opts[0] if param else 'the number'} must be {limits}, got {number}.")
        return number


SEED = click.IntRange(0, 2**32 - 1)  # as many bits as torch and NumPy use
COUNT, INDEX = WholeNumber(1), WholeNumber(0)


def key_values(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """`-o key=value` pairs as a dict."""
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"-o takes key=value, got '{text}'. Example: -o latent=2.")
        pairs[key.strip().replace("-", "_")] = value.strip()
    return pairs


def _given(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """`--given name=value,name=value` as a dict. A part without "=" goes on with the value before it, which has a comma."""
    parts = list[str]()
    for text in values:
        first, *more = text.split(",")
        parts.append(first)
        for part in more:
            if "=" in part:
                parts.append(part)
            else:
                parts[-1] += f",{part}"
    pairs = dict[str, str]()
    for text in parts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise ConfigError(f"--given takes name=value, got '{text}'. Example: --given class=3.")
        if name in pairs:
            raise ConfigError(f"--given has two values of '{name}', {pairs[name]} and {value}. Give one.")
        pairs[name] = value
    return pairs


def given_option(default: str) -> Callable[[Any], Any]:
    """The option --given, whose help says what is given without it."""
    help = f"Condition of a conditional RUN: a class by name or number, or a number; repeatable. Default: {default}."
    return click.option("--given", multiple=True, callback=_given, metavar="NAME=VALUE,...", help=help)


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


def checked(check: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that passes a value on, once a check has raised no error for it."""

    def check_value(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is not None:
            check(value)
        return value

    return check_value


DEVICE = "auto|cpu|cuda[:i]|mps"
device_option = click.option(
    "--device", default="cpu", callback=checked(require_device_name), metavar=DEVICE, help="Where to compute."
)
checkpoint_option = click.option(
    "--checkpoint",
    default="last",
    callback=checked(lambda name: require_known("checkpoint", name, CHECKPOINTS)),
    metavar="last|best",
    help="Which checkpoint.",
)


overwrite_option = click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
force_option = click.option(
    "--force", is_flag=True, help="Take another program or other data than the run recorded, and replace its results."
)
_handed_over = (
    click.option(
        "--data-option",
        "data_options",
        multiple=True,
        callback=key_values,
        metavar="KEY=VALUE",
        help="Option of the data of --dataset, or condition=NAME,... for a conditional run of a script; repeatable.",
    ),
    click.option("--dataset", metavar="NAME|PATH", help="Data of the shape that RUN was trained on, for a run of a script."),
    click.option("--program", metavar="FILE.py:FUNCTION", help="The pair of a run of your own program (runs your code)."),
)


def run_arguments(command: Callable[..., Result]) -> Callable[..., None]:
    """Adds the argument RUN and the options that open it; the command gets a function that opens it, and returns its result."""
    return click.argument("run")(_print_result(command))


def runs_arguments(command: Callable[..., Result]) -> Callable[..., None]:
    """Adds the arguments RUN...; else as `run_arguments`."""
    return click.argument("runs", nargs=-1, required=True, metavar="RUN...")(_print_result(command))


def picture_option(default: str, several: bool = False) -> Callable[[Any], Any]:
    """The option --picture, whose help names the kinds of files and where the picture goes by default.

    Arguments:
        several: the command draws a second picture.
    """
    second = "; the second one goes beside it" if several else ""
    help = f"Picture, a .png, .pdf or .svg file{second}; default: {default}."
    kind = click.Path(path_type=Path)
    return click.option("--picture", type=kind, callback=checked(check_picture_path), metavar="FILE", help=help)


def _print_result(command: Callable[..., Result]) -> Callable[..., None]:
    @wraps(command)
    def run_command(
        as_json: bool,
        checkpoint: str,
        program: str | None,
        device: str,
        run: str = "",
        runs: tuple[str, ...] = (),
        dataset: str | None = None,
        data_options: dict[str, str] | None = None,
        force: bool = False,
        **rest: Any,
    ) -> None:
        check_runs(runs or [run], checkpoint)
        if dataset is not None:
            beside = ("condition", "size_factor")  # of the run, no options of a loader
            check_dataset(dataset, {key: value for key, value in (data_options or {}).items() if key not in beside})

        def open_one(name: str) -> Any:
            from pyro_hvae.runs import find_run, has_recipe, open_run

            # Among several runs the program is for those that have none of the library's recipes.
            own = program if not runs or not has_recipe(find_run(name)) else None
            return open_run(name, checkpoint, own, device, dataset=dataset, data_options=data_options, force=force)

        def open_all() -> Any:
            return [open_one(name) for name in runs] if runs else open_one(run)

        values, text, *missing = command(open_all, **rest)
        emit(values, as_json, text)
        if any(missing):
            raise ConfigError(missing[0])

    for decorate in (data_dir_option, json_option, force_option, device_option, *_handed_over, checkpoint_option):
        run_command = decorate(run_command)
    return run_command


def emit(values: dict[str, Any], as_json: bool, text: str) -> None:
    """Prints one JSON object, or the text for people, on stdout."""
    from pyro_hvae.runs import replace_nonfinite

    try:
        click.echo(json.dumps(replace_nonfinite(values)) if as_json else text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DataError(f"cannot write the result to stdout: {error.strerror}. Make room, or send it elsewhere.") from error
