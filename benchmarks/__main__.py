"""Measures the library's speed against other ways to do the same work.

    python -m benchmarks                           # all measures, twenty minutes
    python -m benchmarks --quick                   # fewer rounds, a minute and a half
    python -m benchmarks --only steps --only chains
    python -m benchmarks --list                    # lists all measures and studies; a study has its own command

All sides of a measure take turns in one process on one thread. A ratio is the median over rounds of CPU-time ratios; on a GPU,
of times between events (if torch sees one; CUDA_VISIBLE_DEVICES= hides it). Results go to benchmarks/results/speed.json, one
object a measure; measures of other benchmarks stay in the file. Exits with 1 if a bar is not met.
"""

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

from benchmarks.result_files import parser, read_measures, save
from pyro_hvae.errors import ConfigError, unknown_name

# name of `--only` -> module
SPEED = {
    "steps": "training_steps",
    "commands": "command_overhead",
    "trainers": "pythae_trainer",
    "gradients": "captured_gradients",
    "chains": "gibbs_chains",
    "importance": "importance_sampling",
    "metrics": "disentanglement_metrics",
    "graphs": "shortest_paths",
    "data": "data_loading",
}
STUDIES = (
    "pendulum",
    "stacked",
    "likelihood",
    "gibbs",
    "texture",
    "vlae",
    "disentangling",
    "imputation",
    "conditional",
    "pipelines",
)


def selected(only: list[str] | None) -> list[str]:
    """The benchmarks to run, in their order; raises `ConfigError` for an unknown name."""
    for name in only or ():
        if name in STUDIES:
            raise ConfigError(f"'{name}' is a study with its own options. Start it by: python -m benchmarks.{name}")
        if name not in SPEED:
            raise unknown_name("benchmark", name, (*SPEED, *STUDIES))
    return [name for name in SPEED if not only or name in only]


def listing() -> str:
    """A table of all benchmarks with the first line of their docstrings."""
    from pyro_hvae.reports import format_table

    rows = []
    for name in (*SPEED, *STUDIES):
        source = Path(__file__).with_name(f"{SPEED.get(name, name)}.py").read_text()
        command = f"--only {name}" if name in SPEED else f"python -m benchmarks.{name}"
        rows.append({"benchmark": name, "run by": command, "what": (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]})
    return format_table(rows)


def run(names: list[str], quick: bool, path: Path) -> int:
    """Runs benchmarks, stores their measures one benchmark at a time, prints the table; 1 if a bar is not met."""
    import torch

    from benchmarks.timing import Measure, environment
    from pyro_hvae.reports import format_table

    torch.set_num_threads(1)
    where = environment()
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    measures: list[Measure] = []
    for name in names:
        print(f"  {name} ...", file=sys.stderr, flush=True)
        new = importlib.import_module(f"benchmarks.{SPEED[name]}").measures(quick)
        measures += new
        about: dict[str, Any] = {"benchmark": name, "quick": quick, **where}
        others = [entry for entry in read_measures(path) if entry["benchmark"] != name]
        save(path, {"measures": others + [measure.to_dict() | about for measure in new]})
    print(format_table([measure.row() for measure in measures]))
    return int(any(measure.ok is False for measure in measures))


if __name__ == "__main__":
    flags = parser(__doc__, "speed")
    flags.add_argument("--only", action="append", metavar="NAME", help="repeatable")
    flags.add_argument("--quick", action="store_true", help="fewer rounds")
    flags.add_argument("--list", action="store_true", help="list all measures and studies")
    args = flags.parse_args()
    if args.list:
        print(listing())
        sys.exit()
    try:
        names = selected(args.only)
        read_measures(args.save)
    except ConfigError as error:
        flags.error(str(error))
    sys.exit(run(names, args.quick, args.save))
