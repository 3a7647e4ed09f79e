"""What a run is made of: names, options and training settings, resolved from flags, file, preset and defaults."""

import inspect
import math
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pyro_hvae.data import find_source, is_path
from pyro_hvae.errors import ConfigError, unknown_name
from pyro_hvae.networks.mixed_precision import PRECISIONS
from pyro_hvae.recipes import RECIPES, preset
from pyro_hvae.schedules import SCHEDULES

__all__ = ["Experiment", "TrainConfig", "resolve", "read_toml", "to_toml"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `fit`.

    Attributes:
        steps: over all stages. batch_size: data per step. lr: of Adam.
        lr_decay: last fraction of the steps over which a cosine takes lr down to 2 % of itself; 0 keeps it constant.
        grad_clip: largest total gradient norm; 0 clips nothing.
        seed: governs noise and data order (and, for recipes, the initial weights).
        starts: how many initialisations are tried over the first tenth of the run; the best validation bound is trained.
        log_every, eval_every, save_every: steps between metric rows, validation bounds and checkpoints.
        information_every: steps between estimates of how much every layer knows of x; 0 makes none.
        information_points: training data they are about, at random (see `Flow`).
        device: auto, cpu, cuda, cuda:i or mps. threads: of torch on the CPU, 0 leaves torch's default.
        engine: "fit" (torch optimiser, fused Adam) or "svi" (stock `pyro.infer.SVI`; slower, same result in the mean).
        compile: whether a step's loss and gradients run as one compiled graph (see `capture`); None decides by the length of
            the run (see `decided`). precision: of the networks, float32 or bf16 (see `networks_in`).

    Raises:
        ConfigError: for a setting out of range.
    """

    steps: int = 10_000
    batch_size: int = 64
    lr: float = 1e-3
    lr_decay: float = 0.4
    grad_clip: float = 0.0
    seed: int = 0
    starts: int = 1
    log_every: int = 50
    eval_every: int = 500
    save_every: int = 1_000
    information_every: int = 0
    information_points: int = 5_000
    device: str = "auto"
    threads: int = 0
    engine: str = "fit"
    compile: bool | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "starts", "log_every", "eval_every", "save_every", "information_points"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name.replace('_', '-')} must be at least 1, got {value}.")
        for name in ("seed", "threads", "grad_clip", "information_every"):
            if (value := getattr(self, name)) < 0:
                raise ConfigError(f"{name.replace('_', '-')} must not be negative, got {value}.")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr must be positive and finite, got {self.lr}.")
        if not 0 <= self.lr_decay <= 1:
            raise ConfigError(f"lr_decay is a fraction of the run, between 0 and 1, got {self.lr_decay}.")
        if self.engine not in ("fit", "svi"):
            raise unknown_name("engine", self.engine, ("fit", "svi"))
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        if self.engine == "svi" and (self.compile or self.precision != "float32"):
            raise ConfigError(
                "engine=svi is stock pyro.infer.SVI, which neither compiles nor changes precision. Use --engine fit."
            )


@dataclass(frozen=True)
class Experiment:
    """A fully resolved run: everything needed to build it again, in strings, numbers and lists only.

    Attributes:
        recipe: None for a user's own program. program: where that came from, for the record; never imported from here.
        options: recipe, schedule and data-set options, each by its key.
        data_identity: of one's own data when the run began (see `Dataset.identity`).
    """

    recipe: str | None
    dataset: str
    schedule: str
    train: TrainConfig = field(default_factory=TrainConfig)
    recipe_options: dict[str, Any] = field(default_factory=dict)
    schedule_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)
    program: str | None = None
    data_identity: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Nested dict of primitives (tuples become lists, absent values are left out)."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: plain(v) for k, v in value.items() if v is not None}
            return [plain(v) for v in value] if isinstance(value, list | tuple) else value

        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Experiment":
        values = dict(values)
        if unknown := set(values) - {f.name for f in fields(cls)}:
            raise ConfigError(f"the run's configuration has unknown entries {sorted(unknown)}.")
        settings, known = values.pop("train", {}), parameters(TrainConfig)
        if unknown := set(settings) - set(known):
            raise ConfigError(
                f"the run's configuration has unknown training settings {sorted(unknown)}: another version wrote it."
            )
        train = TrainConfig(**{key: coerce(key, value, known[key].annotation) for key, value in settings.items()})
        return cls(**{"recipe": None, "program": None, **values, "train": train})


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options of a recipe, schedule or data set: those of its parameters that have a default."""
    with_default = inspect.signature(function).parameters.values()
    return {p.name: p for p in with_default if p.default is not inspect.Parameter.empty}


def coerce(key: str, value: Any, annotation: Any) -> Any:
    """The value (text from a flag, or a TOML value) as the annotated type; raises `ConfigError` naming key and type."""
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        annotation = next(a for a in typing.get_args(annotation) if a is not types.NoneType)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        return tuple(coerce(key, item, typing.get_args(annotation)[0]) for item in items if item != "")
    if annotation is Path:
        return str(Path(value).expanduser().resolve())  # a run is opened from anywhere
    try:
        if annotation is bool:
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if annotation is int and float(value) != int(float(value)):
            raise ValueError
        converted = int(float(value)) if annotation is int else annotation(value)
        if annotation is float and not math.isfinite(converted) or annotation is int and abs(converted) >= 2**53:
            raise ValueError
        return converted
    except (ValueError, KeyError, TypeError, OverflowError):
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(annotation, str(annotation))
        raise ConfigError(f"option {key}={value} is not {wanted}. Example: -o {key}={_example(annotation)}.") from None


def typed_options(options: Mapping[str, Any], function: Callable[..., Any], of: str) -> dict[str, Any]:
    """Options as typed, for one function; raises `ConfigError` for an unknown key (the nearest is suggested) or a bad value."""
    known = parameters(function)
    for key in options:
        if key not in known:
            raise unknown_name(f"option of {of}", key, known)
    return {key: coerce(key, value, known[key].annotation) for key, value in options.items()}


def _example(annotation: Any) -> str:
    return {int: "2", float: "0.5", bool: "true"}.get(annotation, "name")


def resolve(
    recipe: str | None,
    dataset: str | None,
    schedule: str | None = None,
    options: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    program: str | None = None,
) -> Experiment:
    """Joins what was asked for: flags and options over the config file, over the preset of (recipe, dataset), over defaults.

    Arguments:
        options: `-o` keys, those of the recipe, its schedule and its data set, and `preset` (cpu or paper).
        train: fields of `TrainConfig`. config: contents of a config file (see `read_toml`).

    Raises:
        ConfigError: for an unknown recipe, data set, schedule or option key (the nearest is suggested), a value of the wrong
            type, or a schedule the recipe refuses (with the reason).
    """
    config = dict(config or {})
    recipe, dataset = recipe or config.get("recipe"), dataset or config.get("dataset")
    if recipe is None and program is None:
        raise ConfigError("no recipe given. Name one: pyro-hvae train vhp --dataset pendulum ('pyro-hvae list recipes').")
    if recipe is not None and recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    if dataset is None:
        raise ConfigError("no data set given. Name one: --dataset pendulum ('pyro-hvae list datasets').")
    source = find_source(str(dataset))
    if is_path(dataset):
        dataset = str(Path(dataset).expanduser().resolve())  # a run is opened from anywhere
    options = dict(options or {})
    chosen = str(options.pop("preset", config.pop("preset", "cpu")))
    defaults = preset(recipe, "own" if is_path(dataset) else dataset, chosen) if recipe else {}
    row = RECIPES[recipe] if recipe else None
    schedule = schedule or config.get("schedule") or defaults.get("schedule") or (row.schedule if row else "constant")
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", str(schedule), SCHEDULES)
    if row and row.refused and schedule in row.refused:
        raise ConfigError(f"{recipe} does not go with --schedule {schedule}: {row.refused[schedule]}")

    takers = {
        "recipe_options": parameters(row.build) if row else {},
        "schedule_options": parameters(SCHEDULES[schedule]),
        "data_options": parameters(source.load),
        "train": {p.name: p for p in parameters(TrainConfig).values()},
    }
    asked = {**_flatten(config, takers), **options, **(train or {})}
    values: dict[str, dict[str, Any]] = {name: {} for name in takers}
    for key in asked:
        if not any(key in known for known in takers.values()):
            known = sorted({"preset", *(k for known in takers.values() for k in known)})
            raise unknown_name(f"option of {recipe or 'this program'} with schedule {schedule} on {dataset}", key, known)
    # A preset may depend on the schedule (geco.beta0) or the network (conv.hidden: widths mean channels there).
    network = asked.get("network", defaults.get("network"))
    for name, known in takers.items():
        for key, parameter in known.items():
            if key in asked:
                values[name][key] = coerce(key, asked[key], parameter.annotation)
            else:
                special = [defaults[k] for k in (f"{schedule}.{key}", f"{network}.{key}") if k in defaults]
                values[name][key] = special[0] if special else defaults.get(key, parameter.default)
    _positive(values["recipe_options"])
    settings = TrainConfig(**values.pop("train"))
    return Experiment(recipe, dataset, schedule, settings, **values, program=program, data_identity=None)


def _flatten(config: Mapping[str, Any], takers: Mapping[str, Any]) -> dict[str, Any]:
    """A config file's tables (as a run's config.toml has them) and plain keys, as one flat mapping."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in takers and isinstance(value, Mapping):
            flat.update(value)
        elif key not in ("recipe", "dataset", "schedule", "program", "data_identity"):
            flat[key] = value
    return flat


def _positive(options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(n, int | float) and not isinstance(n, bool) and n <= 0 for n in numbers):
            if key.endswith("_weight") and value == 0:
                continue  # the way to leave a penalty out
            raise ConfigError(f"option {key} must be positive, got {value}.")


def with_train(experiment: Experiment, **changes: Any) -> Experiment:
    return replace(experiment, train=replace(experiment.train, **changes))


def read_toml(path: Path) -> dict[str, Any]:
    """A configuration file; raises `ConfigError` when it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file '{path}': {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config file '{path}' is not valid TOML: {error}.") from error


def to_toml(values: Mapping[str, Any]) -> str:
    """TOML of a dict of primitives, lists and one level of tables (the standard library only reads TOML)."""
    import json

    def line(key: str, value: Any) -> str:
        # JSON's strings, numbers, booleans and flat lists are TOML's as well.
        return f"{key} = {json.dumps(value)}"

    plain = [line(k, v) for k, v in values.items() if not isinstance(v, Mapping)]
    tables = [
        "\n".join([f"\n[{name}]", *(line(k, v) for k, v in table.items())])
        for name, table in values.items()
        if isinstance(table, Mapping) and table
    ]
    return "\n".join([*plain, *tables]) + "\n"
