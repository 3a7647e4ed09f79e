"""Faults put into real runs of the command line, and a count of what they cost: `python tests/fault_injection.py --seed 0`.

Processes are killed (SIGKILL) at random times and inside writes, the disk is full, folders vanish or become read-only, two
processes train one run, bits of files are flipped and files are cut. A fault is *survived* when

- no command ends by a traceback or as "unexpected": its exit code is 0, 2, 3, 4 or that of a signal;
- after a kill, a full disk, a lost folder or a lost permission, the same command, or the `--resume` that it advises, finishes
  the run with the checkpoints, metric rows, configuration and program record of an unbroken run, bit for bit. run.json tells
  another command, a killed process may leave hidden `.part` files, and pictures are only there;
- of two processes exactly one trains, and the other ends with exit code 3 and the owner's process and host;
- after damage to a file every command either refuses (exit 2, 3 or 4), or warns of that file, or gives the numbers of the whole
  run; and neither checkpoints nor rows change that were not damaged.

Everything else is *lost*: one line names it, and the exit status is 1. The short test of the gate is tests/runs/test_faults.py.
"""

import argparse
import builtins
import contextlib
import io
import itertools
import json
import os
import random
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from small_runs import equal

PROGRAM = """
import pyro_hvae as hv

def build(x):
    model = hv.Chain(hv.StandardNormal(2), [], hv.Bernoulli(2, x.shape[1:], hidden=[8]))
    return model, hv.BottomUp([hv.Gaussian(x.shape[1:], 2, hidden=[8])])
"""
CADENCE = "--steps 40 --batch-size 10 --save-every 6 -o log_every=5 -o eval_every=10 --out run --no-compile".split()
OWN = ["--program", "own.py:build", "--dataset"]  # and the folder of images
RECIPE = ["hvae", "--dataset", "digits", "-o", "hidden=8"]
NOBODY = 65534
DAMAGE = ("bit", "cut", "empty")


# Damage to a file, and how it is counted; the short test uses these, too.


def damage(content, how, chance):
    """The content of a file with one bit flipped ("bit"), cut to a random length ("cut") or of no bytes ("empty")."""
    changed = bytearray(content)
    if how == "bit":
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed) if how == "bit" else bytes(changed[: chance.randrange(len(changed)) if how == "cut" else 0])


class Tally:
    """Faults by kind: how many were tried, and what was lost."""

    def __init__(self):
        self.tried, self.lost, self.skipped = defaultdict(int), defaultdict(list), {}

    def add(self, kind, problem=None):
        self.tried[kind] += 1
        if problem:
            self.lost[kind].append(problem)
            print(f"LOST {kind}: {problem}", flush=True)

    def table(self):
        lines = [f"{'fault':<52} {'tried':>5} {'survived':>8} {'lost':>4}"]
        for kind, tried in self.tried.items():
            lines.append(f"{kind:<52} {tried:>5} {tried - len(self.lost[kind]):>8} {len(self.lost[kind]):>4}")
        tried, lost = sum(self.tried.values()), sum(map(len, self.lost.values()))
        lines.append(f"{'all':<52} {tried:>5} {tried - lost:>8} {lost:>4}")
        return "\n".join([*lines, *(f"skipped: {kind}: {why}" for kind, why in self.skipped.items())])


# Processes: real ones (`python -m pyro_hvae`), and forks of this one, which have imported torch already.


def environment(folder):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYRO_HVAE_") or key == "PYRO_HVAE_DATA"}
    return {**kept, "PYRO_HVAE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def start(folder, arguments, hook=None):
    """A real process of the command; with a hook, one that this file starts (see `install`)."""
    program = ["-m", "pyro_hvae"] if hook is None else [__file__, "--hook", json.dumps(hook)]
    out = open(folder / "out.txt", "w+")  # noqa: SIM115, read when the process has ended
    command = [sys.executable, *program, *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=out, stderr=subprocess.STDOUT, text=True)
    process.text = out
    return process


def finish(process):
    """Exit code and output of a process from `start`."""
    code = process.wait()
    process.text.seek(0)
    with process.text as file:
        return code, file.read()


def fork(folder, arguments, limit=None, user=None, function=None):
    """Starts the command, or a function, in a fork of this process: returns its id.

    Arguments:
        limit: no file may grow beyond so many bytes. user: the user it runs as.
    """
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.environ.clear()
        os.environ.update(environment(folder))
        os.chdir(folder)
        for number, name in ((1, f"out-{os.getpid()}.txt"), (2, f"err-{os.getpid()}.txt")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        if limit is not None:
            import resource  # Unix has it

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if function:
            function()
            code = 0
        else:
            from pyro_hvae.cli import main

            main(list(arguments))
    except SystemExit as caught:
        code = int(caught.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def join(pid, folder):
    """Exit code, stdout and stderr of a process from `fork`."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = []
    for name in ("out", "err"):
        path = folder / f"{name}-{pid}.txt"
        texts.append(path.read_text(errors="replace") if path.exists() else "")
        path.unlink(missing_ok=True)
    return code, *texts


def call(folder, *arguments, **how):
    return join(fork(folder, arguments, **how), folder)


# Faults inside writes, in the process of the command.


def install(hook):
    """Puts a fault into the writes of this process: the `write`-th of its files that are replaced as a whole.

    hook: {"log": FILE} notes name and size of every such file. {"write": i, "at": AT} strikes at "bytes" (after the fraction
    "share" of "size"), "fsync", "replace" (before the file has its name), "replaced" (after), or "fill" (the item "item" of an
    array of the cache); it kills the process, or with {"remove": FOLDER} removes that folder and goes on.
    """
    number, items, plain_open, replace, fsync = itertools.count(), itertools.count(), io.open, os.replace, os.fsync
    current = -1

    def strike():
        if folder := hook.get("remove"):
            hook["at"] = None
            shutil.rmtree(folder, ignore_errors=True)
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    def strikes(at):
        return hook.get("at") == at and current == hook.get("write")

    class Dying(io.FileIO):
        left = int(hook.get("share", 0) * hook.get("size", 0))

        def write(self, data):
            view = memoryview(data).cast("B")
            written = super().write(view[: self.left] if len(view) > self.left else view)
            self.left -= written
            if not self.left and hook["at"]:
                strike()
            return len(view) if written == len(view) else written + (super().write(view[written:]) or 0)

    def open_(file, mode="r", *more, **options):
        nonlocal current
        if str(file).endswith(".part") and mode.startswith("w"):
            current = next(number)
            if strikes("bytes"):
                return Dying(file, mode.replace("b", ""))
        return plain_open(file, mode, *more, **options)

    def fsync_(file):
        if strikes("fsync"):
            strike()
        fsync(file)

    def replace_(source, target, **more):
        if "log" in hook:
            with plain_open(hook["log"], "a") as log:
                log.write(json.dumps([Path(target).name, os.path.getsize(source)]) + "\n")
        if strikes("replace"):
            strike()
        replace(source, target, **more)
        if strikes("replaced"):
            strike()

    io.open = builtins.open = open_
    os.fsync, os.replace = fsync_, replace_
    if hook.get("at") == "fill":
        import numpy as np

        open_memmap = np.lib.format.open_memmap

        class DyingArray(np.memmap):
            def __setitem__(self, index, value):
                if next(items) == hook["item"]:
                    strike()
                super().__setitem__(index, value)

        np.lib.format.open_memmap = lambda *arguments, **more: open_memmap(*arguments, **more).view(DyingArray)


# Whole runs, and what must be found again.


class Whole:
    """An unbroken run and how it was made: `inputs` for its repetition, the files that it replaced, and its time."""

    def __init__(self, folder, arguments):
        self.folder, self.arguments, self.path = folder, ["train", *arguments, *CADENCE], folder / "run"
        self.program = arguments[:2] if arguments[0] == "--program" else []
        self.fresh(folder)
        process, begun = start(folder, self.arguments, {"log": str(folder / "log")}), time.monotonic()
        while process.poll() is None and not self.path.exists():
            time.sleep(0.01)
        first = time.monotonic()
        code, text = finish(process)
        if code:
            raise SystemExit(f"the unbroken run failed:\n{text}")
        self.before, self.seconds = first - begun, time.monotonic() - first
        self.writes = [json.loads(line) for line in (folder / "log").read_text().splitlines()]

    def fresh(self, folder):
        """An empty folder with the program of the run."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "own.py").write_text(PROGRAM)
        return folder

    def finish(self, folder, real=False):
        """Runs the same command, and if it says so `--resume`; what is not as in the unbroken run, or None."""

        def run(*arguments):
            if real:
                return finish(start(folder, arguments))
            code, out, err = call(folder, *arguments)
            return code, out + err

        code, text = run(*self.arguments)
        if code == 2 and "Go on with it by --resume run" in text:
            code, text = run("train", "--resume", "run", *self.program)
        if code:
            return f"exit {code}: {last_line(text)}"
        return self.find_difference(folder / "run")

    def find_difference(self, run):
        """What is not as in the unbroken run; None where all is."""
        from pyro_hvae.runs.checkpoints import load_checkpoint

        for which in ("last", "best"):
            one, other = (load_checkpoint(path / f"checkpoints/{which}.pt") for path in (run, self.path))
            if not equal(one, other):
                return f"another {which}.pt"
        for name in ("metrics.jsonl", "config.toml", "program.json"):
            if (self.path / name).exists() and (run / name).read_bytes() != (self.path / name).read_bytes():
                return f"another {name}"
        if json.loads((run / "run.json").read_text()).get("status") != "finished":
            return "run.json does not say that it finished"
        pictures = {path.name for path in (self.path / "figures").iterdir()}
        return None if pictures <= {path.name for path in (run / "figures").iterdir()} else "pictures are missing"


def make_images(folder):
    """A folder of 60 images."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder.mkdir()
    for number, image in enumerate(load_digits().images[:60]):
        Image.fromarray((image * 15).astype("uint8")).save(folder / f"{number:02}.png")
    return folder


def import_everything(whole, folder):
    """Runs the command once in this process, so that its forks find all that it imports."""
    from pyro_hvae.cli import main

    with (
        contextlib.chdir(whole.fresh(folder)),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        before, os.environ["PYRO_HVAE_CACHE"] = os.environ.get("PYRO_HVAE_CACHE"), str(folder / "cache")
        with contextlib.suppress(SystemExit):
            main(whole.arguments)
        with contextlib.suppress(SystemExit):
            main(["evaluate", "run", "--particles", "20", *whole.program])
        os.environ.pop("PYRO_HVAE_CACHE") if before is None else os.environ.update(PYRO_HVAE_CACHE=before)


def last_line(text):
    return next((line for line in reversed(text.splitlines()) if line.startswith("Error")), text[-300:]).strip()[:300]


def unclean(code, text, allowed=(0, 2, 3, 4)):
    """What is wrong with the end of a command; None for one of the allowed exit codes without a traceback."""
    if code in allowed and "unexpected" not in text and "Traceback" not in text:
        return None
    return f"exit {code}: {last_line(text)}"


# The faults.


def kill_at_moments(wholes, folder, moments, chance, tally):
    """Kills at random times, inside the writes of files and inside the building of the cache."""
    ways = ["at a random time", "inside a write", "inside a write", "inside the building of the cache"]
    for moment in range(moments):
        way = ways[moment % len(ways)]
        whole = wholes[0] if way.endswith("cache") else wholes[moment // len(ways) % 2]
        trial = whole.fresh(folder / "trial")
        if way == "at a random time":
            process = start(trial, whole.arguments)
            limit = time.monotonic() + 10 * (whole.before + whole.seconds)
            while process.poll() is None and not (trial / "run").exists() and time.monotonic() < limit:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, whole.seconds))
            process.kill()
            when = way
        else:
            cache = [i for i, (name, _) in enumerate(whole.writes) if name.endswith(".npy")]
            write = chance.choice(cache if way.endswith("cache") else range(len(whole.writes)))
            name, size = whole.writes[write]
            ats = [*2 * ["fill" if write in cache else "bytes"], "fsync", "replace"]  # an array is filled through its mapping
            hook = {"write": write, "at": chance.choice([*ats, "replaced"]), "share": chance.random(), "size": size}
            hook |= {"item": chance.randrange(60)}
            process, when = start(trial, whole.arguments, hook), f"write {write} ({name}) at {hook['at']}"
        code, text = finish(process)
        kind = f"SIGKILL {way}"
        if code != -signal.SIGKILL and not (code == 0 and way == "at a random time"):
            tally.add(kind, f"{when}: not killed, but exit {code}: {last_line(text)}")
            continue
        problem = whole.finish(trial, real=moment % 5 == 0)  # forks take a third of the time
        tally.add(kind, problem and f"{when}: {problem}")
        print(f"moment {moment + 1} of {moments}: {when}", flush=True)


def fill_the_disk(wholes, folder, count, chance, tally):
    for number in range(count):
        whole = wholes[number % 2]
        trial = whole.fresh(folder / "trial")
        limit = chance.randrange(200, int(1.1 * max(size for _, size in whole.writes)))
        code, out, err = call(trial, *whole.arguments, limit=limit)
        problem = unclean(code, out + err, (0, 3)) or whole.finish(trial)
        tally.add("file-size limit", problem and f"limit {limit}: {problem}")
    for number in range(count):
        whole, kind = wholes[number % 2], "disk full (tmpfs)"
        trial, size = folder / "small", chance.randrange(30, 400)
        shutil.rmtree(trial, ignore_errors=True)
        trial.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(trial)]
        if os.name != "posix" or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            tally.skipped[kind] = "nothing can be mounted here"
            return
        try:
            (trial / "own.py").write_text(PROGRAM)
            ballast, room = trial / "ballast", shutil.disk_usage(trial).free - 1024 * size
            ballast.write_bytes(bytes(room))
            code, out, err = call(trial, *whole.arguments)
            problem = unclean(code, out + err, (0, 3))
            ballast.unlink()
            problem = problem or whole.finish(trial)
            tally.add(kind, problem and f"{size} kB free: {problem}")
        finally:
            subprocess.run(["umount", str(trial)], capture_output=True)


def take_folders_away(wholes, folder, count, chance, tally):
    for number in range(count):
        whole = wholes[number % 2]
        for target in ("run", "run/checkpoints"):
            trial = whole.fresh(folder / "trial")
            inside = [i for i, (name, _) in enumerate(whole.writes) if name.endswith((".pt", ".json", ".toml"))]
            hook = {"write": chance.choice(inside), "at": chance.choice(["fsync", "replace", "replaced"]), "remove": target}
            code, text = finish(start(trial, whole.arguments, hook))
            problem = unclean(code, text, (0, 3))
            if not problem and target == "run/checkpoints" and code:  # the run is lost by the user's own hand
                if (trial / "run/metrics.jsonl").exists():
                    shutil.rmtree(trial / "run")
            if not problem and code:
                problem = whole.finish(trial)
            tally.add(f"folder {target} deleted while running", problem and f"{hook}: {problem}")


def take_permissions_away(wholes, folder, chance, tally):
    """Read-only folders, as a user who is not root."""
    kind, user = "permission removed", NOBODY if os.getuid() == 0 else None
    for number, name in enumerate(("run", "run/checkpoints", "run/eval", "run/metrics.jsonl", "cache", ".")):
        whole = wholes[0]
        trial = whole.fresh(folder / "trial")
        os.chmod(folder, 0o755)
        finish(start(trial, whole.arguments, {"write": len(whole.writes) - 3, "at": "replace"}))
        for path in (trial, *trial.rglob("*")):
            if user is not None:
                os.chown(path, user, user)
        target = trial / name
        (trial / "err.txt").touch()
        mode = target.stat().st_mode
        if name == ".":  # a run cannot be begun
            shutil.rmtree(trial / "run")
        os.chmod(target, 0o555 if target.is_dir() else 0o444)
        arguments = whole.arguments if name == "." else ["train", "--resume", "run", *whole.program]
        pid = fork_outside(trial, folder / f"output-{number}", arguments, user)
        code, text = pid
        if number == 0 and code == 1 and "Permission" in text and "unexpected" not in text and "site-packages" in text:
            tally.skipped[kind] = "another user cannot read the packages"
            return
        os.chmod(target, mode)
        problem = unclean(code, text, (0, 3))
        if not problem and name in ("run", "run/checkpoints", ".") and code != 3:
            problem = f"exit {code} instead of 3"
        problem = problem or whole.finish(trial)
        tally.add(kind, problem and f"{name}: {problem}")


def fork_outside(folder, output, arguments, user):
    """Runs the command in a folder that it may not be able to write, with its output elsewhere; (exit code, text)."""
    output.mkdir(exist_ok=True)
    os.chmod(output, 0o777)

    def run():
        os.chdir(folder)
        os.environ["PYRO_HVAE_CACHE"] = str(folder / "cache")
        from pyro_hvae.cli import main

        main(list(arguments))

    code, out, err = call(output, user=user, function=run)
    return code, out + err


def start_two(wholes, folder, count, chance, tally):
    here = socket.gethostname()
    for number in range(count):
        for kind in ("two start one run", "two resume one run"):
            whole = wholes[number % 2]
            trial, arguments = whole.fresh(folder / "trial"), whole.arguments
            if "resume" in kind:
                last = [i for i, (name, _) in enumerate(whole.writes) if name == "last.pt"]
                finish(start(trial, arguments, {"write": chance.choice(last[1:4]), "at": "replaced"}))
                arguments = ["train", "--resume", "run", *whole.program]
            pids = [fork(trial, arguments), fork(trial, arguments)]
            ends = [join(pid, trial) for pid in pids]
            codes = sorted(code for code, _, _ in ends)
            losers = [(pids[1 - i], err) for i, (code, _, err) in enumerate(ends) if code]
            problem = None
            if codes == [0, 0] and "resume" in kind:
                pass  # one after the other: the second found a finished run
            elif codes == [0, 2] and "start" in kind and "is not empty" in losers[0][1]:
                pass  # one after the other
            elif codes != [0, 3]:
                problem = f"exit codes {codes}: {[last_line(err) for _, err in losers]}"
            elif not re.search(f"process {losers[0][0]} on {here}|its process has only just begun", losers[0][1]):
                problem = last_line(losers[0][1])
            tally.add(kind, problem or whole.find_difference(trial / "run"))


class Probe:
    """Commands that read a run; what they give for the whole run is what they must give for a damaged one, if anything."""

    def __init__(self, whole):
        self.whole, program = whole, whole.program
        self.commands = {
            "rows": None,
            "compare": ["compare", "run", "--json"],  # before `evaluate` writes what it reads
            "evaluate": ["evaluate", "run", "--particles", "20", "--json", *program],
            "evaluate best": ["evaluate", "run", "--particles", "20", "--checkpoint", "best", "--json", *program],
            "resume": ["train", "--resume", "run", "--steps", "48", *program],
        }

    def prepare(self):
        """Evaluates the whole run, so that all its files are there, and goes on with a copy of it."""
        folder = self.whole.folder
        call(folder, *self.commands["evaluate"])
        self.expected = {name: self.ask(folder, name) for name in self.commands if name != "resume"}
        shutil.copytree(folder / "run", folder / "kept")
        assert self.ask(folder, "resume")[0] == 0
        (folder / "run").rename(folder / "longer")
        (folder / "kept").rename(folder / "run")
        for name, (code, _, err) in self.expected.items():
            if code:
                raise SystemExit(f"{name} failed on the whole run:\n{err}")

    def ask(self, folder, name):
        if name == "rows":

            def print_rows():
                from pyro_hvae.runs import RunDirectory

                print(json.dumps(RunDirectory("run").rows()))

            return call(folder, function=print_rows)
        return call(folder, *self.commands[name])

    def check(self, folder, damaged):
        """What is lost in a folder with one damaged file; None where nothing is."""
        run = folder / "run"
        kept = {name: (run / name).read_bytes() for name in ("checkpoints/last.pt", "checkpoints/best.pt", "metrics.jsonl")}
        for name in self.commands:
            code, out, err = self.ask(folder, name)
            if problem := unclean(code, err):
                return f"{name}: {problem}"
            noticed = code != 0 or Path(damaged).name in err or Path(damaged).stem in err
            if name == "resume":
                if not code and not noticed and (other := self.find_difference(run)):
                    return f"{name}: {other}"
            elif not noticed and out != self.expected[name][1]:
                return f"{name}: other numbers in silence"
            elif name == "rows" and noticed and code == 0:
                whole = json.loads(self.expected[name][1])
                if not all(row in whole for row in json.loads(out)):
                    return "rows: other numbers beside the warning"
            if name != "resume" and any((run / path).read_bytes() != content for path, content in kept.items()):
                return f"{name}: changed a checkpoint or metrics.jsonl"
        return None

    def find_difference(self, run):
        longer = Whole.__new__(Whole)
        longer.path = self.whole.folder / "longer"
        return longer.find_difference(run)


def damage_files(whole, folder, count, chance, tally):
    """Damages every file of a run and of its cache in turn, but for pictures, which no command reads."""
    probe = Probe(whole)
    probe.prepare()
    files = [path.relative_to(whole.folder) for top in ("run", "cache") for path in sorted((whole.folder / top).rglob("*"))]
    for path in [path for path in files if (whole.folder / path).is_file() and path.suffix != ".png"]:
        for how in (*["bit"] * count, *["cut"] * (count // 3 + 1), "empty"):
            trial = whole.fresh(folder / "trial")
            for top in ("run", "cache"):
                shutil.copytree(whole.folder / top, trial / top)
            content = (trial / path).read_bytes()
            state = chance.getstate()
            (trial / path).write_bytes(damage(content, how, chance))
            name = re.sub(r"-[0-9a-f-]{8,}", "-*", path.as_posix())
            problem = probe.check(trial, path.name)
            if problem:
                shown, after = random.Random(), bytearray()
                shown.setstate(state)
                after = damage(content, how, shown)
                at = next((i for i, (a, b) in enumerate(zip(content, after, strict=False)) if a != b), len(after))
                problem = f"byte {at} ({content[max(0, at - 20) : at + 20]!r}): {problem}"
            tally.add(f"{how}: {name}", problem)


def main():
    parser = argparse.ArgumentParser(description="Puts faults into real runs and counts what is lost.")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the damage")
    parser.add_argument("--moments", type=int, default=50, help="kills")
    parser.add_argument("--count", type=int, default=6, help="repetitions of every other fault")
    parser.add_argument("--only", choices=["kills", "disk", "folders", "permissions", "writers", "damage"], action="append")
    asked = parser.parse_args()
    begun, tally = time.monotonic(), Tally()
    with tempfile.TemporaryDirectory(prefix="pyro-hvae-faults-") as name:
        folder = Path(name)
        images = make_images(folder / "images")
        wholes = [Whole(folder / "own", [*OWN, str(images)]), Whole(folder / "recipe", RECIPE)]
        import_everything(wholes[0], folder / "trial")
        faults = {
            "kills": lambda c: kill_at_moments(wholes, folder, asked.moments, c, tally),
            "disk": lambda c: fill_the_disk(wholes, folder, asked.count, c, tally),
            "folders": lambda c: take_folders_away(wholes, folder, asked.count, c, tally),
            "permissions": lambda c: take_permissions_away(wholes, folder, c, tally),
            "writers": lambda c: start_two(wholes, folder, asked.count, c, tally),
            "damage": lambda c: damage_files(wholes[0], folder, asked.count, c, tally),
        }
        for part in asked.only or faults:
            faults[part](random.Random(f"{asked.seed} {part}"))
            print(f"{part}: after {time.monotonic() - begun:.0f} s", flush=True)
    print(f"\n{tally.table()}\nseed {asked.seed}, {time.monotonic() - begun:.0f} s")
    sys.exit(any(tally.lost.values()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hook"]:
        install(json.loads(sys.argv[2]))
        sys.argv[1:3] = []
        runpy.run_module("pyro_hvae", run_name="__main__", alter_sys=True)
    else:
        main()
