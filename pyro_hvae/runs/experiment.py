"""An experiment: the full configuration of a run, as its config.toml has it."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pyro_hvae.errors import ConfigError
from pyro_hvae.runs.file_schema import CONFIG, find_misfit
from pyro_hvae.runs.options import known_options
from pyro_hvae.runs.train_config import SEEDS, TrainConfig


@dataclass(frozen=True)
class Experiment:
    """A fully resolved run: everything needed to build it again, in strings, numbers and lists only.

    Attributes:
        recipe: None for a user's own program. program: where that came from, for the record; never imported from here.
        recipe_options, schedule_options, data_options: each by its key.
        condition: names of the factors or columns that the programs are given beside x, for p(x | y).
        size_factor: the factor or column, or "total", that multiplies the means of counts.
        data_identity: of the user's own data when the run began (see `Dataset.identity`).
        standardization: mean and scale of standardised data (see `Standardization`).
        conditions: of each condition its name with its classes, or its mean and scale (see `Condition.from_dict`), and of the
            size factor what `SizeFactor` has. They are those of the training data, and None before these are read.
    """

    recipe: str | None
    dataset: str
    schedule: str
    train: TrainConfig = field(default_factory=TrainConfig)
    recipe_options: dict[str, Any] = field(default_factory=dict)
    schedule_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)
    condition: tuple[str, ...] = ()
    size_factor: str | None = None
    program: str | None = None
    data_identity: str | None = None
    standardization: dict[str, list[float]] | None = None
    conditions: list[dict[str, Any]] | None = None

    @property
    def method(self) -> str:
        """The recipe, or FILE.py:FUNCTION of a user's own program without its folder; "program" for a pair of a script."""
        return self.recipe or re.split(r"[/\\]", self.program or "program")[-1]

    def replace_train(self, **changes: Any) -> "Experiment":
        """The same experiment with other training settings."""
        return replace(self, train=replace(self.train, **changes))

    def to_dict(self) -> dict[str, Any]:
        """Nested dict of primitives (tuples become lists, absent values are left out)."""

        def plain(value: Any) -> Any:
            if hasattr(value, "tolist"):
                return value.tolist()
            if isinstance(value, dict):
                return {k: plain(v) for k, v in value.items() if v is not None}
            return [plain(v) for v in value] if isinstance(value, list | tuple) else value

        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Experiment":
        """The inverse of `to_dict`; raises `ConfigError` for entries that this version does not know."""
        if misfit := find_misfit(values, CONFIG, "it"):
            raise ConfigError(f"the run's configuration is not whole: {misfit}.")
        settings = values["train"]
        if unknown := set(values) - {f.name for f in fields(cls)}:
            raise ConfigError(f"the run's configuration has unknown entries {sorted(unknown)}.")
        if unknown := set(settings) - {f.name for f in fields(TrainConfig)}:
            raise ConfigError(
                f"the run's configuration has unknown training settings {sorted(unknown)}: another version wrote it."
            )
        typed = known_options(settings, TrainConfig)
        if "seed" in typed:
            typed["seed"] %= SEEDS  # as torch did for an older version, which took larger ones
        more: dict[str, Any] = {"train": TrainConfig(**typed), "condition": tuple(values.get("condition", ()))}
        if (identity := values.get("data_identity", "")).startswith("1 files "):  # as an older version wrote it
            more["data_identity"] = identity.replace("files", "file", 1)
        return cls(**{"recipe": None, **values, **more})


def read_toml(path: Path) -> dict[str, Any]:
    """The contents of a configuration file; raises `ConfigError` when it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file '{path}': {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the config file '{path}' is not valid TOML: {error}.") from error
