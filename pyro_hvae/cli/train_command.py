"""The command `pyro-hvae train`."""

from pathlib import Path
from typing import Any

import click

from pyro_hvae.cli.early_checks import check_experiment, check_resumption, check_trackers
from pyro_hvae.cli.shared_options import COUNT, DEVICE, SEED, checked, data_dir_option, emit, json_option, key_values
from pyro_hvae.errors import ConfigError
from pyro_hvae.runs import RESUMABLE, SEEDS, find_run
from pyro_hvae.runtime import launched_count, require_device_name


def _seeds(ctx: click.Context, param: click.Parameter, text: str | None) -> range | None:
    """`A:B` as the seeds A, ..., B - 1, as Python counts."""
    if text is None:
        return None
    first, _, end = text.partition(":")
    if end.isdecimal() and int(end) > SEEDS:
        raise ConfigError(f"--seeds {text} goes beyond the largest seed, {SEEDS - 1} (2^32 - 1): B is at most {SEEDS}.")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ConfigError(
            f"--seeds takes A:B with A below B, the seeds A to B - 1 as Python counts, got '{text}'. Example: --seeds 0:5 is "
            "0, 1, 2, 3, 4."
        )
    return range(int(first), int(end))


@click.command(name="train")
@click.argument("recipe", required=False)
@click.option(
    "--dataset", metavar="NAME|PATH", help="Data set ('pyro-hvae data list'), or a path: folder of images, CSV, .npy, ..."
)
@data_dir_option
@click.option("--schedule", metavar="NAME", help="A schedule of 'pyro-hvae list schedules'; default: the recipe's own.")
@click.option(
    "-o",
    "options",
    multiple=True,
    callback=key_values,
    metavar="KEY=VALUE",
    help="Option of recipe, schedule, data or training (condition, lr_decay, patience, optimizer, ...); repeatable.",
)
@click.option("--steps", type=int, metavar="N", help="Gradient steps in total.")
@click.option("--epochs", type=COUNT, metavar="N", help="Passes over the training data; with several stages, of the last.")
@click.option("--batch-size", type=int, metavar="N", help="Data per step.")
@click.option("--lr", type=float, metavar="F", help="Learning rate of the optimiser.")
@click.option("--seed", type=SEED, metavar="N", help="Of initial weights, noise and data order.")
@click.option(
    "--seeds",
    callback=_seeds,
    metavar="A:B",
    help="A run for each seed from A to B - 1 and their table; again: the rest of it.",
)
@click.option("--device", callback=checked(require_device_name), metavar=DEVICE, help="Where to train.")
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Run each step as one compiled graph; default: where the run is long enough to gain time.",
)
@click.option("--precision", metavar="float32|bf16", help="Of the networks' products; densities are always float32.")
@click.option("--engine", metavar="fit|svi", help="The library's loop, or stock pyro.infer.SVI.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Run directory; default: below runs/ or PYRO_HVAE_RUNS."
)
@click.option("--save-every", type=int, metavar="N", help="Steps between checkpoints.")
@click.option(
    "--resume",
    metavar="RUN",
    help="Continue a run (directory, name or 'last'); only length, device, --compile and save intervals may change.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE.toml", help="Settings from a file, such as a run's config.toml."
)
@click.option(
    "--program",
    metavar="FILE.py:FUNCTION",
    help="Your own pair instead of a recipe: build(x) -> (model, guide[, ELBO]). Runs your code.",
)
@click.option("--force", is_flag=True, help="With --resume: go on with another --program than the run recorded.")
@click.option("--track", multiple=True, metavar="tensorboard", help="Also log to TensorBoard; repeatable.")
@click.option("--dry-run", is_flag=True, help="Print the resolved plan, shapes and parameter counts, and stop.")
@json_option
def train_command(
    recipe: str | None,
    dataset: str | None,
    schedule: str | None,
    options: dict[str, str],
    epochs: int | None,
    seeds: range | None,
    out: Path | None,
    resume: str | None,
    config: Path | None,
    program: str | None,
    force: bool,
    track: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train RECIPE on a data set and draw what it learned.

    -o takes the keys of the recipe, its schedule, its data set ('pyro-hvae list ...' shows them) and the training settings, and
    preset=cpu (default) or preset=paper, the papers' sizes. --dry-run shows what a run would use.
    A --config file holds such keys in TOML, or is a run's config.toml. Precedence: flag, environment PYRO_HVAE_TRAIN_*, file,
    preset of (recipe, data set), default.

    -o condition=NAME,... gives the programs factors or columns of the data beside x, for p(x | y): classes one-hot, numbers
    standardised. -o size_factor=total|NAME multiplies the means of counts by the datum's total, or by a factor or column. Empty
    cells and NaN of one's own data are missing entries, of which nothing has to be said.

    The FUNCTION of --program takes the training data x and returns (model, guide) or (model, guide, ELBO). With conditions or
    missing entries x is a pyro_hvae.Batch, and the programs take what is beside its x.

    \b
    Examples:
      pyro-hvae train vhp --dataset pendulum
      pyro-hvae train vhp --dataset pendulum --schedule warmup -o warmup=0.8 --seed 3
      pyro-hvae train iwae --dataset pendulum -o levels=2 -o particles=16 --steps 5000
      pyro-hvae train hvae --dataset digits -o condition=class
      pyro-hvae train --program examples/own_model.py:build --dataset pendulum
      pyro-hvae train vae --dataset digits --seeds 0:5
      pyro-hvae train --resume last
      torchrun --nproc-per-node 2 -m pyro_hvae train hvae --dataset digits

    --seeds A:B trains a run for each of the seeds A, ..., B - 1, below --out or runs/ by the names that single runs have, and
    ends with a table. A run that fails does not stop the others. The same command again keeps runs that are finished, goes on
    with those that were interrupted, and starts the rest.

    Under torchrun all processes train one run, each on its share of every batch.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if epochs is not None and "steps" in given:
        raise ConfigError("--epochs and --steps both give the length. Use one of them.")
    if seeds is not None and "seed" in given:
        raise ConfigError("--seed and --seeds both give the seed. Use one of them.")
    if seeds is not None and launched_count() > 1:
        raise ConfigError(
            f"--seeds trains run after run, and torchrun has started {launched_count()} processes for one. Use --seed, with a "
            "torchrun for each seed."
        )
    check_trackers(track)
    if resume is not None:
        named = {
            "a recipe": recipe,
            "--dataset": dataset,
            "--schedule": schedule,
            "-o": options,
            "--config": config,
            "--out": out,
            "--seeds": seeds,
        }
        if extra := [name for name, value in named.items() if value]:
            text = f"--resume takes everything from the run, so {' and '.join(extra)} cannot be given with it."
            if may := [key for key in options if key in RESUMABLE]:
                text += f" Edit {' and '.join(may)} in {find_run(resume) / 'config.toml'}, which the resumed run follows."
            raise ConfigError(text)
        check_resumption(resume, given)
    else:
        if force:
            raise ConfigError("--force is for --resume with another --program. Leave it out.")
        check_experiment(recipe, dataset, schedule, options, given, config, program)
    from pyro_hvae.cli.seed_requests import SeedRequests
    from pyro_hvae.cli.train_request import plan_text, resolve_request
    from pyro_hvae.reports import training_text
    from pyro_hvae.runtime import is_writer, join_processes

    join_processes()
    request = resolve_request(recipe, dataset, schedule, options, given, epochs, out, resume, config, program, force)
    if seeds is not None:
        request = SeedRequests(request.over_seeds(seeds, out))
    if dry_run:
        plan = request.describe()
        if not is_writer():
            return
        emit(plan, as_json, plan_text(plan))
    elif isinstance(request, SeedRequests):
        values, text, error = request.run(track)
        emit(values, as_json, text)
        if error:
            raise error
    else:
        report = request.run(track)
        if report:
            emit(report, as_json, training_text(report))
