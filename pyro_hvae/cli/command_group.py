"""The command group: loads the module of a command on demand (torch takes seconds), and maps errors to exit codes."""

import importlib
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from functools import partial
from typing import Any

import click

import pyro_hvae
from pyro_hvae.errors import ConfigError, FewEffectiveSamplesWarning, HVAEError, LostProcessError, NoMeanWarning, unknown_name
from pyro_hvae.runtime import launched_count, launched_rank

# command -> (module of pyro_hvae.cli that defines it, one line for the overview)
COMMANDS = {
    "train": ("train_command", "Train a recipe or your own pair, with pictures."),
    "evaluate": ("evaluate_commands", "Test log-likelihood, bounds, rate per site, active units."),
    "metrics": ("evaluate_commands", "Metrics by name: disentanglement, information, probes, paths."),
    "compare": ("compare_command", "Metrics over several runs and methods, beside the paper's numbers."),
    "interpolate": ("picture_commands", "Graph-based interpolation along the prior, drawn."),
    "sample": ("picture_commands", "Samples of the generative model, drawn."),
    "reconstruct": ("picture_commands", "Test data and their reconstructions, drawn."),
    "encode": ("code_commands", "Codes of data in a file: means and deviations of every layer."),
    "decode": ("code_commands", "Data of a file of codes."),
    "score": ("code_commands", "Log-likelihood, distortion and rates of single data; outliers."),
    "impute": ("impute_command", "Missing entries of a table filled in, by means or draws."),
    "gibbs": ("gibbs_command", "Gibbs chains on the bottom layer or on all, beside ancestral samples."),
    "layers": ("layers_command", "What the noise of each layer does to x, drawn and measured."),
    "traverse": ("traverse_command", "One latent dimension at a time, drawn, for one or several runs."),
    "report": ("report_command", "A page about one or several runs, with a map of their codes to touch."),
    "export": ("export_command", "A run as a folder to share, without its data; or on the Hub."),
    "data": ("data_command", "Data sets: list, info, download, verify, preview."),
    "list": ("list_command", "Recipes, data sets, schedules or metrics."),
}


TOLD = (NoMeanWarning, FewEffectiveSamplesWarning)  # warnings for the user of a command, who sees no lines of code
CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PYRO_HVAE", "show_default": True}


class _LazyGroup(click.Group):
    """A group that imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            raise click.UsageError(str(unknown_name("command", cmd_name, COMMANDS)), ctx)
        module = importlib.import_module(f"pyro_hvae.cli.{COMMANDS[cmd_name][0]}")
        return getattr(module, f"{cmd_name}_command")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings=CONTEXT)
@click.version_option(pyro_hvae.__version__, prog_name="pyro-hvae")
@click.option("--traceback", is_flag=True, help="Show the Python traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, traceback: bool) -> None:
    """Hierarchical variational autoencoders as Pyro model/guide pairs.

    \b
    Examples:
      pyro-hvae train vhp --dataset pendulum
      pyro-hvae evaluate last --particles 5000
      pyro-hvae compare runs/*
    """
    if launched_count() > 1 and ctx.invoked_subcommand != "train":
        raise ConfigError(
            f"{launched_count()} processes were started (WORLD_SIZE, as torchrun sets it), and only 'train' shares its work "
            f"among them. Start '{ctx.invoked_subcommand}' without torchrun."
        )


def main(argv: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 success, 1 unexpected error, 2 usage, 3 data, 4 divergence, 5 device, 128 + signal."""
    _open_missing_streams()
    arguments = sys.argv[1:] if argv is None else argv
    show = "--traceback" in arguments or bool(os.environ.get("PYRO_HVAE_TRACEBACK"))
    before = signal.signal(signal.SIGTERM, _terminate)  # a command stores what it has; training handles the signal itself
    try:
        with warnings.catch_warnings():
            for category in TOLD:
                warnings.simplefilter("always" if launched_rank() == 0 else "ignore", category)
            warnings.showwarning = partial(_show_warning, set(), warnings.showwarning)
            cli.main(args=arguments, prog_name="pyro-hvae", standalone_mode=False)
        code = 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        if _may_speak():
            error.show()
        code = error.exit_code
    except _Terminated as error:
        lost = _find_loss(error)
        code = _report(lost, lost.exit_code, show) if lost else _report("stopped by SIGTERM.", 143, show)
    except (KeyboardInterrupt, click.Abort):
        code = _report("stopped by SIGINT.", 130, show)
    except HVAEError as error:
        code = _report(str(error), error.exit_code, show)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of the output has ended, e.g. `| head`
        code = 1
    except MemoryError as error:
        code = _report(f"out of memory: {error}. Ask for less (smaller networks, fewer nodes, samples or particles).", 1, show)
    except Exception as error:
        hint = "This is a bug; run again with 'pyro-hvae --traceback ...' to see where."
        code = _report(f"unexpected {type(error).__name__}: {error}. {hint}", 1, show)
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code)


def _open_missing_streams() -> None:
    """Opens the null device in the place of standard streams that the caller closed, whose numbers files would get."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115, for the process


def _show_warning(shown: set[str], show_other: Any, message: Any, category: Any, *where: Any, **more: Any) -> None:
    """Prints a warning about results as one line, once in a command; other modules reset what Python itself remembers."""
    if not issubclass(category, TOLD):
        show_other(message, category, *where, **more)
    elif str(message) not in shown:
        shown.add(str(message))
        click.echo(f"Warning: {message}", err=True)


class _Terminated(BaseException):
    """SIGTERM. A class of its own, so that no handler of errors or of SIGINT catches it."""


def _terminate(signum: int, frame: Any) -> None:
    raise _Terminated


def _find_loss(error: BaseException | None) -> LostProcessError | None:
    """The loss of another process that was being dealt with when torchrun ended this one, too."""
    while error is not None and not isinstance(error, LostProcessError):
        error = error.__context__
    return error


def _report(message: Any, code: int, show: bool) -> int:
    if show:
        traceback.print_exc()
    if _may_speak():
        with suppress(OSError):  # the terminal may be closed
            click.echo(f"Error: {message}", err=True)
    return code


def _may_speak() -> bool:
    """Whether no other process of the same training has said already how it ended."""
    if launched_count() == 1:
        return True
    from pyro_hvae.runtime import may_speak  # torch takes seconds

    return may_speak()
