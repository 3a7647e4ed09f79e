"""What the library's speed is, measured here, against other ways to do the same.

    python -m benchmarks                           # all of them, twenty minutes
    python -m benchmarks --quick                   # fewer rounds, a minute and a half
    python -m benchmarks --only steps --only chains
    python -m benchmarks --list                    # and the studies of hours, which are started by their names

All sides of a measure take turns in one process on one thread; a ratio is the median over rounds of CPU-time ratios, on a GPU
(if torch sees one; CUDA_VISIBLE_DEVICES= hides it) of times between events. Results go to benchmarks/results/speed.json, one
object a measure, where those of other benchmarks stay. Exits with 1 where a bar is not met.
"""

import argparse
import ast
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, save
from pyro_hvae.errors import ConfigError, unknown_name

SPEED = ("steps", "commands", "trainers", "gradients", "chains", "importance", "metrics", "graphs", "data")
STUDIES = ("pendulum", "stacked", "likelihood", "gibbs", "texture", "vlae", "disentangling")


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="repeatable")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--save", type=Path, default=RESULTS / "speed.json")
    args = parser.parse_args()
    if args.list:
        print(listing())
        return
    try:
        names = chosen(args.only)
        stored(args.save)
    except ConfigError as error:
        parser.error(str(error))
    sys.exit(run(names, args.quick, args.save))


def chosen(only: list[str] | None) -> list[str]:
    """The benchmarks to run, in their order; raises `ConfigError` for an unknown one."""
    for name in only or ():
        if name in STUDIES:
            raise ConfigError(
                f"'{name}' is a study of hours, with options of its own. Start it by: python -m benchmarks.{name}"
            )
        if name not in SPEED:
            raise unknown_name("benchmark", name, (*SPEED, *STUDIES))
    return [name for name in SPEED if not only or name in only]


def listing() -> str:
    """Every benchmark with the first line of what it says of itself."""
    from pyro_hvae.reports import format_table

    rows = []
    for name in (*SPEED, *STUDIES):
        said = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text())) or ""
        how = f"--only {name}" if name in SPEED else f"python -m benchmarks.{name}"
        rows.append({"benchmark": name, "run by": how, "what": said.splitlines()[0]})
    return format_table(rows)


def run(names: list[str], quick: bool, path: Path) -> int:
    """Measures, stores after every benchmark, prints; 1 where a bar is not met."""
    import torch

    from benchmarks.measures import Measure, header, report

    torch.set_num_threads(1)
    where = header()
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    found: list[Measure] = []
    for name in names:
        print(f"  {name} ...", file=sys.stderr, flush=True)
        measured = importlib.import_module(f"benchmarks.{name}").measures(quick)
        found += measured
        about: dict[str, Any] = {"benchmark": name, "quick": quick, **where}
        kept = [entry for entry in stored(path) if entry["benchmark"] != name]
        save(path, {"measures": kept + [measure.to_dict() | about for measure in measured]})
    print(report(found))
    return int(any(measure.ok is False for measure in found))


def stored(path: Path) -> list[dict[str, Any]]:
    """The measures that a file holds; raises `ConfigError` for a file of something else."""
    values = json.loads(path.read_text()) if path.exists() else {"measures": []}
    if any("benchmark" not in entry for entry in values.get("measures", [{}])):
        raise ConfigError(f"'{path}' holds no measures of this command. Store them elsewhere (--save).")
    return values["measures"]


if __name__ == "__main__":
    main()
