"""Wrong commands are answered before torch is imported, by the same sentences as later; tables are read from the source."""

import compileall
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_hvae as hv
from pyro_hvae.cli.source_tables import find_loader, read_chain_starts, read_datasets, read_metrics, source_tables
from pyro_hvae.data import DATASETS, find_source
from pyro_hvae.evaluation import METRICS
from pyro_hvae.evaluation.gibbs_evaluation import STARTING_POINTS
from pyro_hvae.recipes import RECIPES
from pyro_hvae.runs import parameters, resolve
from pyro_hvae.schedules import SCHEDULES

# what is typed, with RUN for a trained run -> exit code, and a part of the answer
WRONG = {
    "train vae --dataset digits --steps -5": (2, "steps must be at least 1, got -5."),
    "train vae --dataset digits --lr inf": (2, "option lr=inf is not a number."),
    "train vae --dataset digits --epochs 0": (2, "--epochs must be at least 1, got 0."),
    "train vae --dataset digits --epochs 3 --steps 5": (2, "Use one of them."),
    "train vae --dataset digits -o latent=0": (2, "option latent must be positive, got 0."),
    "train vae --dataset digits -o sigma=1e39": (2, "option sigma=1e+39 is beyond the range of float32"),
    "train vae --dataset digits -o latent=two": (2, "option latent=two is not a whole number."),
    "train vae --dataset digits -o seed=-1": (2, "seed must not be negative"),
    "train vae --dataset digits -o preset=huge": (2, "no preset of vae on digits called 'huge'"),
    "train vhp --dataset pendulum -o betta0=1": (2, "called 'betta0'. Did you mean 'beta0'?"),
    "train vae --dataset digits -o conditoin=class": (2, "called 'conditoin'. Did you mean 'condition'?"),
    "train vae --dataset own.npy -o siez=3": (2, "Did you mean 'size'?"),
    "train vaex --dataset digits": (2, "no recipe called 'vaex'. Did you mean 'vae'?"),
    "train vae": (2, "no data set given."),
    "train": (2, "no recipe given."),
    "train vae --dataset digts": (2, "no dataset called 'digts'. Did you mean 'digits'?"),
    "train vae --dataset no/such": (3, "there is no file or folder 'no/such'"),
    "train vae --dataset digits --schedule foo": (2, "no schedule called 'foo'."),
    "train beta-vae --dataset digits --schedule geco": (2, "Use 'train vae' with it instead."),
    "train vae --dataset digits --device foo": (2, "no device called 'foo'. Use auto, cpu"),
    "train vae --dataset digits --device cuda:-1": (2, "no device called 'cuda:-1'."),
    "train vae --dataset digits --precision half": (2, "no precision called 'half'."),
    "train vae --dataset digits --engine svii": (2, "no engine called 'svii'. Did you mean 'svi'?"),
    "train vae --dataset digits --engine svi --compile": (2, "Use --engine fit."),
    "train vae --dataset digits --track tensorbord": (2, "no tracker called 'tensorbord'."),
    "train vae --dataset digits --force": (2, "Leave it out."),
    "train vae --dataset digits --program a.py:b": (2, "both name what to train"),
    "train --dataset digits --program a.py:b": (2, "is not FILE.py:FUNCTION of an existing file."),
    f"train vae --dataset {'x' * 300}": (2, "no dataset called 'xxx"),
    f"train vae --dataset ./{'x' * 300}": (3, "there is no file or folder './xxx"),
    f"train --dataset digits --program {'x' * 300}.py:b": (2, "is not FILE.py:FUNCTION of an existing file."),
    "train vae --dataset ~nobody-of-that-name/a.npy": (3, "there is no file or folder '~nobody-of-that-name/a.npy'"),
    "train --config no.toml": (2, "cannot read the config file 'no.toml'"),
    "train --resume nowhere": (3, "there is no run 'nowhere'"),
    "train --resume RUN -o latent=2": (2, "so -o cannot be given with it"),
    "evaluate nowhere": (3, "there is no run 'nowhere'"),
    "evaluate RUN --particles 0": (2, "--particles must be at least 1, got 0."),
    "evaluate RUN --device gpu": (2, "no device called 'gpu'."),
    "evaluate RUN --checkpoint worst": (2, "no checkpoint called 'worst'."),
    "evaluate RUN --dataset digts": (2, "Did you mean 'digits'?"),
    "evaluate RUN --dataset digits --data-option siez=2": (2, "no option of data set digits called 'siez'."),
    "metrics nowhere mig": (3, "there is no run 'nowhere'"),
    "metrics RUN nosuchmetric": (2, "no metric called 'nosuchmetric'."),
    "metrics RUN mig factor -o pionts=3": (2, "no option of mig, factor called 'pionts'. Did you mean 'points'?"),
    "metrics RUN mig -o points=many": (2, "option points=many is not a whole number."),
    "compare nowhere a": (3, "there is no run 'nowhere'"),
    "compare RUN --metric migg": (2, "no metric called 'migg'."),
    "compare RUN --picture table.txt": (2, "--picture is the name of a .png, .pdf, .svg file"),
    "sample nowhere": (3, "there is no run 'nowhere'"),
    "sample RUN --given class": (2, "--given takes name=value, got 'class'."),
    "sample RUN --n 0": (2, "--n must be at least 1, got 0."),
    "sample RUN --picture samples.jpg": (2, "got 'samples.jpg'"),
    "reconstruct RUN nowhere": (3, "there is no run 'nowhere'"),
    "interpolate RUN --nodes 1": (2, "--nodes must be at least 2, got 1."),
    "gibbs RUN --init nois": (2, "no init called 'nois'. Did you mean 'noise'?"),
    "gibbs RUN --thin 0": (2, "--thin must be at least 1, got 0."),
    "layers RUN --outer 1": (2, "--outer must be at least 2, got 1."),
    "layers RUN --cells 5": (2, "--cells needs --grid"),
    "traverse RUN --steps 1": (2, "--steps must be from 2 to 100, got 1."),
    "traverse nowhere": (3, "there is no run 'nowhere'"),
    "report nowhere": (3, "there is no run 'nowhere'"),
    "report RUN --points 0": (2, "--points must be at least 1, got 0."),
    "data info digts": (2, "Did you mean 'digits'?"),
    "data info digits -o siez=2": (2, "no option of data set digits called 'siez'."),
    "data download nosuch": (2, "no dataset called 'nosuch'."),
    "data preview digits --n 0": (2, "--n must be from 1 to 2500, got 0."),
    "data preview digits --split tset": (2, "no split called 'tset'. Did you mean 'test'?"),
    "data preview digits --out sheet.gif": (2, "--out is the name of a .png, .pdf, .svg file"),
    "list recipies": (2, "no list called 'recipies'. Did you mean 'recipes'?"),
}

DRIVER = """
import contextlib, io, json, sys
from pyro_hvae.cli import main
answers = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(arguments)
        except SystemExit as error:
            answers.append((error.code, err.getvalue(), sorted({"torch", "numpy", "matplotlib"} & set(sys.modules))))
print(json.dumps(answers))
"""


def test_wrong_commands_are_answered_without_torch_as_they_are_with_it(command, tmp_path, vae_run):
    (tmp_path / "own.npy").touch()
    typed = [text.replace("RUN", str(vae_run)).split() for text in WRONG]
    done = subprocess.run([sys.executable, "-c", DRIVER, json.dumps(typed)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for text, arguments, (code, err, imported) in zip(WRONG, typed, answers, strict=True):
        assert not imported and (code, WRONG[text][1] in err) == (WRONG[text][0], True), (text, code, err, imported)
        late_code, out, late = command(*arguments)
        assert (code, err, "") == (late_code, late, out), text


def same_options(read, real):
    assert {key: (p.default, p.annotation) for key, p in parameters(read).items()} == {
        key: (p.default, p.annotation) for key, p in parameters(real).items()
    }


def test_tables_read_from_the_source_are_the_tables(tmp_path):
    recipes, schedules, _ = source_tables()
    assert list(recipes) == list(RECIPES) and list(schedules) == list(SCHEDULES)
    assert list(read_datasets()) == list(DATASETS) and list(read_metrics()) == list(METRICS)
    assert read_chain_starts() == list(STARTING_POINTS)
    for name, row in RECIPES.items():
        same_options(recipes[name].build, row.build)
        assert (recipes[name].schedule, recipes[name].refused) == (row.schedule, row.refused)
    for name, schedule in SCHEDULES.items():
        same_options(schedules[name], schedule)
    for name, metric in METRICS.items():
        same_options(read_metrics()[name].measure, metric.measure)
    for name in (*DATASETS, str(tmp_path)):
        same_options(find_loader(name), find_source(name).load)


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_experiment_resolved_from_the_source_is_the_experiment(recipe):
    for dataset in ("pendulum", "digits", "mnist"):
        assert resolve(recipe, dataset, tables=source_tables()) == resolve(recipe, dataset)


def test_entries_that_a_program_adds_are_known(command, monkeypatch):
    monkeypatch.setitem(RECIPES, "mine", RECIPES["vae"])
    assert command("train", "mine", "--dataset", "digits", "--dry-run")[0] == 0


def test_a_package_without_its_source_checks_later(tmp_path):
    package = shutil.copytree(Path(hv.__file__).parent, tmp_path / "pyro_hvae", ignore=shutil.ignore_patterns("__pycache__"))
    assert compileall.compile_dir(package, quiet=1, legacy=True)
    for path in package.rglob("*.py"):
        path.unlink()

    def run(*arguments):
        line = [sys.executable, "-m", "pyro_hvae", "train", "vae", "--dataset", "digits", "--dry-run", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert run().returncode == 0
    assert (done := run("--steps", "-5")).returncode == 2 and "steps must be at least 1" in done.stderr
