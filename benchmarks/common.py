"""What the benchmarks share: running the command line, and keeping results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def command(*arguments: str) -> dict[str, Any]:
    """Runs `pyro-hvae ... --json` on one thread and returns its object."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "pyro_hvae", *arguments, "--json"]
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(call)} failed with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def save(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")
