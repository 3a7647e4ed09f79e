"""Resolves an experiment from flags, a config file, a preset and defaults."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pyro_hvae.data import is_path
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.recipes import preset
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.options import absolute_path, check_recipe_options, coerce, parameters, split_names
from pyro_hvae.runs.train_config import TrainConfig


class Tables(NamedTuple):
    """What experiments are made of: rows of recipes, schedules by name, and the function that loads the data of a name."""

    recipes: Mapping[str, Any]
    schedules: Mapping[str, Callable[..., Any]]
    find_loader: Callable[[str], Callable[..., Any]]


def _package_tables() -> Tables:
    # Imported here, for it takes seconds: with tables of another source (see `cli.source_tables`) nothing here needs torch.
    from pyro_hvae.data import find_source
    from pyro_hvae.recipes import RECIPES
    from pyro_hvae.schedules import SCHEDULES

    return Tables(RECIPES, SCHEDULES, lambda name: find_source(name).load)


def resolve(
    recipe: str | None,
    dataset: str | None,
    schedule: str | None = None,
    options: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    program: str | None = None,
    tables: Tables | None = None,
) -> Experiment:
    """Flags and options win over the config file, it over the preset of (recipe, dataset), that over the defaults.

    Arguments:
        options: `-o` keys, those of the recipe, its schedule and its data set, `preset` (cpu or paper), `condition`: names of
            factors or columns that the programs are given beside x, and `size_factor` (see `condition_on`).
        train: fields of `TrainConfig`. config: contents of a config file (see `read_toml`).
        tables: other ones than the package's.

    Raises:
        ConfigError: for an unknown recipe, data set, schedule or option key (the nearest is suggested), a value of the wrong
            type, or a schedule the recipe refuses (with the reason).
    """
    config, options = dict(config or {}), dict(options or {})
    for key in ("recipe", "dataset", "schedule"):
        if not isinstance(config.get(key, ""), str):
            raise ConfigError(f"the config file has {key} = {config[key]!r}, which is no name. Write it in quotes.")
    recipe, dataset = recipe or config.get("recipe"), dataset or config.get("dataset")
    if recipe is not None and program is not None:
        raise ConfigError(f"'{recipe}' and --program both name what to train. Use one of them.")
    tables = tables or _package_tables()
    row = _find_recipe(recipe, program, tables)
    if dataset is None:
        raise ConfigError("no data set given. Name one: --dataset pendulum ('pyro-hvae list datasets').")
    load = tables.find_loader(dataset)
    if is_path(dataset):
        dataset = absolute_path(dataset)  # a run is opened from anywhere
    name = str(options.pop("preset", config.pop("preset", "cpu")))
    defaults = preset(recipe, "own" if is_path(dataset) else dataset, name) if recipe else {}
    schedule = _find_schedule(schedule or config.get("schedule") or defaults.get("schedule"), recipe, row, tables)
    known_options = {
        "recipe_options": parameters(row.build) if row else {},
        "schedule_options": parameters(tables.schedules[schedule]),
        "data_options": parameters(load),
        "train": parameters(TrainConfig),
    }
    asked = {**_flatten(config, known_options), **options, **(train or {})}
    for key in asked:
        what = f"option of {recipe or 'this program'} with schedule {schedule} on {dataset}"
        require_known(what, key, {"preset", "condition", "size_factor"}.union(*known_options.values()))
    # A preset may depend on the schedule (geco.beta0), the network (conv.hidden: widths mean channels there) or the prior.
    chosen = (asked.get(key, defaults.get(key)) for key in ("network", "prior"))
    prefixes = (f"{schedule}.", *(f"{name}." for name in chosen), "")
    values: dict[str, Any] = {name: {} for name in known_options}
    for name, known in known_options.items():
        for key, parameter in known.items():
            if key in asked:
                values[name][key] = coerce(key, asked[key], parameter.annotation)
            else:
                preset_values = (defaults[prefix + key] for prefix in prefixes if prefix + key in defaults)
                values[name][key] = next(preset_values, parameter.default)
    check_recipe_options(values["recipe_options"])
    condition = split_names(asked.get("condition", ()))
    options_of = (values[name] for name in ("recipe_options", "schedule_options", "data_options"))
    return Experiment(
        recipe,
        dataset,
        schedule,
        TrainConfig(**values["train"]),
        *options_of,
        condition=condition,
        size_factor=str(asked.get("size_factor") or "") or None,
        program=program,
    )


def _find_recipe(recipe: str | None, program: str | None, tables: Tables) -> Any:
    if recipe is None and program is None:
        raise ConfigError("no recipe given. Name one: pyro-hvae train vhp --dataset pendulum ('pyro-hvae list recipes').")
    if recipe is None:
        return None
    require_known("recipe", recipe, tables.recipes)
    return tables.recipes[recipe]


def _find_schedule(asked: str | None, recipe: str | None, row: Any, tables: Tables) -> str:
    schedule = asked or (row.schedule if row else "constant")
    require_known("schedule", schedule, tables.schedules)
    if row and row.refused and schedule in row.refused:
        raise ConfigError(f"{recipe} does not go with --schedule {schedule}: {row.refused[schedule]}")
    return schedule


def _flatten(config: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """A config file's tables (as a run's config.toml has them) and plain keys, as one flat mapping."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in tables and isinstance(value, Mapping):
            flat.update(value)
        elif key not in ("recipe", "dataset", "schedule", "program", "data_identity", "standardization", "conditions"):
            flat[key] = value
    return flat
