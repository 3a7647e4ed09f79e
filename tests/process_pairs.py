"""Two real processes (gloo, one thread each) that run functions of this module together: `start(folder, "train", ...)`.

Noise is the same for every datum, so that losses do not depend on how a batch is split, and one process can be compared.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

import pyro_hvae as hv
from pyro_hvae import recipes
from pyro_hvae.compilation import capture
from pyro_hvae.data import Rows, pendulum
from pyro_hvae.errors import HVAEError
from pyro_hvae.runs import TrainConfig
from pyro_hvae.runtime import fixed_seed, is_writer, leave_processes, noise_seed, process_rank
from pyro_hvae.training.session import Session

CONFIG = TrainConfig(steps=40, batch_size=20, lr=5e-3, log_every=4, eval_every=20, save_every=15, seed=3, device="cpu")
LADDER = {"dims": (2, 2), "width": 8}
VHP = {"hidden": (16,), "upper": (8,), "particles": 3, "posterior": "isotropic"}
CHAIN = {"dims": (4, 2), "hidden": (16,), "upper": (8,)}


def rewo():
    return hv.Rewo(beta0=0.05, kappa=3.5, nu=2e-2, alpha=0.5)


def geco():
    return hv.Geco(kappa=3.5, nu=1e-2)


def rmse():
    return hv.Rewo(beta0=0.05, kappa=0.166, nu=20.0, alpha=0.5, measure="rmse")


def progressive():
    return hv.schedules.Progressive(fade=0.5)


def warm_up():
    return hv.WarmUp(30)


# name -> recipe, its options, schedule, settings
CASES = {
    "vae": ("vae", {"hidden": (16,)}, None, {"grad_clip": 5.0}),
    "odd batch": ("vae", {"hidden": (16,)}, None, {"batch_size": 21, "optimizer": "sgd", "lr": 1e-4}),
    "rewo": ("vhp", VHP, rewo, {}),
    "rewo captured": ("vhp", VHP, rewo, {"compile": True}),
    "rewo svi": ("vhp", VHP, rewo, {"engine": "svi"}),
    "gates": ("pro-vlae", LADDER, progressive, {}),
    "gates captured": ("pro-vlae", LADDER, progressive, {"compile": True}),
    "free bits": ("hvae", CHAIN, warm_up, {"free_bits": 1.0, "balance": True}),
    "geco": ("vae", {"hidden": (8,)}, geco, {"compile": True}),
    "norms": ("lvae", {"dims": (4, 2), "widths": (8, 8)}, warm_up, {}),
    "holes": ("hvae", CHAIN | {"holes": True}, rmse, {}),
}


def data(holes=False):
    x = pendulum(size=205).train.x[:]
    if not holes:
        return x
    hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    hidden[::7] = True  # nothing is known of these
    return Rows(x.masked_fill(hidden, float("nan")), incomplete=True)


def _noise(shape, dtype, device):
    return torch.linspace(-1.5, 1.5, shape[-1] if shape else 1, dtype=dtype, device=device).expand(shape)


@contextmanager
def same_noise(compile=False):
    """The same noise for all data. Without `compile` graphs run as they were recorded, for a compiler takes seconds."""
    captured = partial(capture, compile=compile)
    with patch("torch.distributions.normal._standard_normal", _noise), patch("pyro_hvae.training.session.capture", captured):
        yield


def digest(module):
    total = hashlib.sha256()
    for value in module.state_dict().values():
        total.update(value.numpy().tobytes())
    return total.hexdigest()


def train(name, out=None, x=None, validation=None, resume=False, hidden=None, **changes):
    """Trains a case; returns its rows, and a digest of its weights and buffers."""
    recipe, options, schedule, settings = CASES[name]
    options = dict(options) | ({"hidden": (hidden,)} if hidden else {})
    x = data(options.pop("holes", False)) if x is None else x
    torch.manual_seed(process_rank())  # the first process's weights are those of all
    stages = recipes.build(recipe, Rows.of(x).sample(), options)
    config = replace(CONFIG, **{**settings, **changes})
    held = data()[:51] if validation is None else validation
    with warnings.catch_warnings(action="ignore"):  # REWO's, that its phase lasts
        rows = hv.fit(stages, x, config, schedule and schedule(), out, validation=held, resume=resume, progress=False)
    return {"rows": list(rows), "weights": digest(stages[-1].objective)}


def all_cases():
    with same_noise():
        result = {name: train(name) for name in CASES if name not in ("geco", "norms")}
        result["early"] = train("vae", patience=2, eval_every=2, lr=0.05)
        result["huge"] = attempt(lambda: train("vae", lr=1e9))
    return result


def compiled(folder):
    with same_noise(compile=True):
        return train("geco")


def attempt(action):
    """What came of an action: its value, or the name and message of the error."""
    try:
        return action()
    except HVAEError as error:
        return [type(error).__name__, str(error)]


@contextmanager
def at_step(number, action):
    """Calls a function before a step of the second process."""
    step = Session.step

    def stepped(self):
        if self.t + 1 == number and process_rank() == 1:
            action()
        step(self)

    with patch.object(Session, "step", stepped):
        yield


def stopped(folder):
    with at_step(17, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        return attempt(lambda: train("rewo", folder / "stopped"))


def killed(folder):
    with at_step(22, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        return attempt(lambda: train("rewo", folder / "killed"))


def resumed(folder):
    return train("rewo", folder / "killed", resume=True)


def refused(folder):
    """Attempts that must fail alike in both processes, and write nothing."""
    other = data() * (1 if is_writer() else 0.5)
    (folder / "taken").mkdir(exist_ok=True)
    (folder / "taken/file").write_text("")
    return {
        "data": attempt(lambda: train("vae", folder / "none", x=other)),
        "validation": attempt(lambda: train("vae", folder / "none", validation=other[:20])),
        "settings": attempt(lambda: train("vae", folder / "none", lr=1e-3 if is_writer() else 1e-2)),
        "weights": attempt(lambda: train("vae", folder / "none", hidden=16 if is_writer() else 8)),
        "batch": attempt(lambda: train("vae", folder / "none", batch_size=1)),
        "taken": attempt(lambda: train("vae", folder / "taken")),
    }


def all_at_once(folder):
    """What one pair of processes does one after the other, for starting it takes seconds."""
    result = {"cases": all_cases(), "refused": refused(folder)}
    result["whole"] = train("rewo", folder / "whole")
    result["stopped"] = stopped(folder)
    result["gone on"] = train("rewo", folder / "stopped", resume=True)
    result["joined"] = train("rewo", folder / "single", resume=True)
    result["norms"] = train("norms")
    result["noise"] = [seeded(seed) for seed in (0, 1)]
    leave_processes()
    result["threads"] = threads()
    return result


def threads():
    """Names of the threads of this process, as Linux keeps them."""
    tasks = Path("/proc/self/task")
    return [(task / "comm").read_text().strip() for task in tasks.iterdir()] if tasks.is_dir() else []


def seeded(seed):
    with fixed_seed(noise_seed(seed)):
        return torch.rand(3).tolist()


def start(action, folder, count=2, timeout=240):
    """Runs a function of this module in processes that train together; returns their results and exit codes, in order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    command = [sys.executable, __file__, action, str(folder)]
    processes = [subprocess.Popen(command, env={**shared, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(count)]
    try:
        codes = [process.wait(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    files = [folder / f"{action}-{rank}.json" for rank in range(count)]
    return [json.loads(file.read_text()) if file.is_file() else None for file in files], codes


if __name__ == "__main__":
    torch.set_num_threads(1)
    action, folder = sys.argv[1], Path(sys.argv[2])
    result = globals()[action](folder)
    (folder / f"{action}-{process_rank()}.json").write_text(json.dumps(result))
