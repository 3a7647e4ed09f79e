"""Result files: one JSON object each, in benchmarks/results/."""

import argparse
import json
from pathlib import Path
from typing import Any

from pyro_hvae.errors import ConfigError

RESULTS = Path(__file__).parent / "results"


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Command line of a benchmark that writes results/NAME.json unless `--save` names another file."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--save", type=Path, default=RESULTS / f"{name}.json")
    return made


def save(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")


def read_measures(path: Path) -> list[dict[str, Any]]:
    """The measures in a file of `python -m benchmarks`; raises `ConfigError` if the file holds something else."""
    values = json.loads(path.read_text()) if path.exists() else {"measures": []}
    if any("benchmark" not in entry for entry in values.get("measures", [{}])):
        raise ConfigError(f"'{path}' holds no measures of this command. Store them elsewhere (--save).")
    return values["measures"]
