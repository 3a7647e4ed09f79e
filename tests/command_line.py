"""Running the command line, in this process or as a real one."""

import os
import subprocess
import sys

TINY = "-o hidden=8 -o upper=8 -o particles=2 -o size=200 -o starts=1 --batch-size 20 -o eval_every=20".split()

QUICK = "--dataset pendulum -o hidden=8 -o size=100 --batch-size 10 --json".split()


def real(*arguments, cwd, env=None, timeout=120, **more):
    """The installed command as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    command = [sys.executable, "-m", "pyro_hvae", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout, **more)
