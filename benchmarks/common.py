"""What the benchmarks share: running the command line, and keeping results."""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def command(*arguments: str) -> dict[str, Any]:
    """Runs `pyro-hvae ... --json` on one thread and returns its object.

    Trains eagerly, as what is published was, unless the environment says otherwise: compiled runs differ by rounding.
    """
    environment = {"PYRO_HVAE_TRAIN_COMPILE": "0", **os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "pyro_hvae", *arguments, "--json"]
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(call)} failed with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def cpu_seconds(*arguments: str) -> float:
    """What a command of its own process costs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def trained(out: Path, *arguments: str) -> float:
    """CPU seconds of `pyro-hvae train ... --out OUT`, which is only done where it has not been."""
    kept = out / "cpu_seconds.json"
    if not kept.exists():
        seconds = cpu_seconds("train", *arguments, "--out", str(out))
        kept.write_text(json.dumps(seconds))
    return json.loads(kept.read_text())


def measured(out: Path, metric: str, *options: str) -> dict[str, Any]:
    """What `pyro-hvae metrics OUT METRIC` gives, which is only measured where the run does not keep it."""
    kept = out / "eval" / f"{metric}.json"
    return json.loads(kept.read_text()) if kept.exists() else command("metrics", str(out), metric, *options)


def arguments(doc: str | None, name: str, seeds: str) -> argparse.ArgumentParser:
    """What every benchmark over seeds takes: --seeds, --jobs, --runs and --save."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=seeds, help="first-last")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path(f"runs/benchmark-{name}"))
    parser.add_argument("--save", type=Path, default=RESULTS / f"{name}.json")
    return parser


def over_seeds(names: Iterable[str], seeds: str) -> list[tuple[str, int]]:
    """(name, seed) for every name and every seed of "first-last"."""
    first, last = map(int, seeds.split("-"))
    return [(name, seed) for name in names for seed in range(first, last + 1)]


def flags(options: Iterable[str]) -> list[str]:
    """key=value options as -o flags."""
    return [part for option in options for part in ("-o", option)]


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of one call, and what it returned."""
    start = time.process_time()
    value = function()
    return time.process_time() - start, value


def peak_mib() -> float:
    """The largest memory of this process so far (Linux). `ru_maxrss` would be that of its parent too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def save(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")
