"""Tools of the studies: train runs over seeds by the command line, several at a time, and keep one table.

A study has `measure(args, name, seed)`, which trains one run and returns its row, and `summarise(rows)`, which returns the
table's lines for rows that differ in the seed alone.
"""

import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.result_files import parser, save

Args = Namespace
Row = dict[str, Any]
Job = tuple[Any, ...]  # (name, seed, ...), the arguments of `measure`
Summarise = Callable[[list[Row]], list[Row]]


def command(*arguments: str) -> dict[str, Any]:
    """Runs `pyro-hvae ... --json` on one thread and returns its object.

    Trains eagerly, as the published runs did, unless the environment says otherwise. Compiled runs differ by rounding.
    """
    environment = {"PYRO_HVAE_TRAIN_COMPILE": "0", **os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "pyro_hvae", *arguments, "--json"]
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(call)} failed with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def cpu_seconds(*arguments: str) -> float:
    """CPU seconds of a command, which runs in its own process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(out: Path, *arguments: str) -> float:
    """CPU seconds of `pyro-hvae train ... --out OUT`. A finished run is not trained again."""
    stored = out / "cpu_seconds.json"
    if not stored.exists():
        stored.write_text(json.dumps(cpu_seconds("train", *arguments, "--out", str(out))))
    return json.loads(stored.read_text())


def train_without_cpu_time(out: Path, *arguments: str) -> float | None:
    """Wall seconds of `pyro-hvae train ... --out OUT`, None where the run has its last figure already."""
    if (out / "figures" / "samples.png").exists():
        return None
    start = time.perf_counter()
    command("train", *arguments, "--out", str(out))
    return time.perf_counter() - start


def run_metric(out: Path, metric: str, *options: str) -> dict[str, Any]:
    """Result of `pyro-hvae metrics OUT METRIC`. A result that the run holds is read instead."""
    stored = out / "eval" / f"{metric}.json"
    return json.loads(stored.read_text()) if stored.exists() else command("metrics", str(out), metric, *options)


def metric_rows(out: Path) -> list[Row]:
    """The rows that training wrote to metrics.jsonl."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def study_parser(doc: str | None, name: str, seeds: str, jobs: int | None = 2, **choices: Iterable[str]) -> ArgumentParser:
    """Command line of a study: --save, --seeds, --jobs (unless None), --runs, and a flag for each list of choices."""
    made = parser(doc, name)
    made.add_argument("--seeds", default=seeds, help="first-last")
    if jobs:
        made.add_argument("--jobs", type=int, default=jobs, help="runs at a time")
    made.add_argument("--runs", type=Path, default=Path(f"runs/benchmark-{name}"))
    for flag, names in choices.items():
        made.add_argument(f"--{flag}", nargs="+", default=list(names), choices=list(names))
    return made


def over_seeds(names: Iterable[str], seeds: str) -> list[Job]:
    """(name, seed) for every name and every seed of "first-last"."""
    first, last = map(int, seeds.split("-"))
    return [(name, seed) for name in names for seed in range(first, last + 1)]


def run_study(args: Args, jobs: list[Job], measure: Callable[..., Row], summarise: Summarise, **settings: Any) -> list[Row]:
    """Measures all jobs, `args.jobs` at a time, and reports them. Each job is a process and counts its children's CPU time."""
    rows: list[Row] = []
    with ProcessPoolExecutor(args.jobs) as pool:
        for row in pool.map(functools.partial(measure, args), *zip(*jobs, strict=True)):
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    report(args.save, summaries(jobs, rows, summarise), rows, **settings)
    return rows


def summaries(jobs: Iterable[Job], rows: Iterable[Row], summarise: Summarise) -> list[Row]:
    """The lines of `summarise` for every group of rows whose jobs differ in the seed alone."""
    groups: dict[Job, list[Row]] = {}
    for (name, _, *rest), row in zip(jobs, rows, strict=True):
        groups.setdefault((name, *rest), []).append(row)
    return [line for mine in groups.values() for line in summarise(mine)]


def mean_and_deviation(values: list[float], digits: int) -> str:
    """Mean and, of more than one value, standard deviation with one digit less."""
    deviation = f" +- {statistics.stdev(values):.{digits - 1}g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}g}{deviation}"


def mean_cpu_seconds(rows: Iterable[Row]) -> int:
    return round(statistics.fmean(row["cpu_seconds"] for row in rows))


def count_units(rows: Sequence[Row]) -> Row:
    """Two columns, active units and units with a KL above 0.05 nats of every site, runs separated by bars."""

    def join(key: str) -> str:
        return " | ".join(", ".join(f"{site} {n}" for site, n in sorted(row[key].items())) for row in rows)

    return {"active units": join("active_units"), "KL > 0.05": join("informative_units")}


def flags(options: Iterable[str]) -> list[str]:
    """key=value options as -o flags."""
    return [part for option in options for part in ("-o", option)]


def report(path: Path, summary: list[Row], rows: list[Row], **settings: Any) -> None:
    """Prints the summary and stores it beside all rows and the settings."""
    from pyro_hvae.reports import format_table

    print(format_table(summary))
    save(path, {"summary": summary, "runs": rows, **settings})
