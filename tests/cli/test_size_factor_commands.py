"""Runs of counts with a size: kept, resumed, asked on the command line, on other data, and with missing entries."""

import json

import numpy as np
import pytest
import torch

import pyro_hvae as hv
from pyro_hvae.data import Batch, read_batch
from pyro_hvae.runs import draw_given, open_run, read_experiment, resolve

SMALL = "-o likelihood=negative-binomial -o dims=2,2 -o hidden=8 -o upper=8 --batch-size 32"


def write_counts(path, seed=0, holes=0.0, rows=120):
    random = np.random.default_rng(seed)
    size = np.exp(0.7 * random.normal(size=rows))
    x = 1.0 + random.poisson(size[:, None] * random.gamma(1, 3, (3, 5))[random.integers(3, size=rows)])
    x[random.random(x.shape) < holes] = np.nan
    x[:, 0] = np.nan_to_num(x[:, 0], nan=1.0)
    size = (100 * size).round() + 1
    lines = [
        "a,b,c,d,e,depth",
        *(",".join("" if np.isnan(v) else f"{v:g}" for v in [*row, s]) for row, s in zip(x, size, strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, holes in {"counts.csv": 0.0, "holes.csv": 0.2}.items():
        write_counts(tmp_path / name, holes=holes)
    write_counts(tmp_path / "other.csv", seed=1)
    (tmp_path / "real.csv").write_text("a,b\n" + "1,-2\n3,-3\n" * 60)
    (tmp_path / "empty.csv").write_text("a,b\n" + "1,2\n0,0\n" * 60)
    return tmp_path


def ok(command, words):
    code, out, err = command(*words.split())
    assert code == 0, err
    return out


@pytest.mark.parametrize("size", ["total", "depth"])
def test_a_run_with_sizes_answers_every_question(size, folder, command):
    typed = f"train hvae --dataset counts.csv {SMALL} -o size_factor={size} --out run"
    ok(command, f"{typed} -o lr=0.02 --steps 60")
    ok(command, "train --resume run --steps 120")
    experiment = read_experiment(folder / "run")
    (kept,) = experiment.conditions
    run = open_run(folder / "run")
    (condition,) = run.conditions
    mean = condition.scale
    assert experiment.size_factor == size and kept["name"] == size and len(kept["means"]) == (6 if size == "total" else 0)
    assert torch.equal(draw_given(run, 3)["size_factor"], torch.ones(3, 1))  # the mean size, not that of random data
    evaluated = ok(command, "evaluate run --particles 5")
    assert "NegativeBinomial" in evaluated
    assert json.loads((folder / "run/eval/likelihood.json").read_text())["given"] == [size]
    assert f"given {size}={mean:.4g}" in ok(command, "sample run")
    assert f"given {size}=500" in ok(command, f"sample run --given {size}=500")
    ok(command, "reconstruct run")
    ok(command, f"traverse run --given {size}=50")
    assert f"{size}={mean:.4g}" in ok(command, "layers run --outer 32 --inner 2")
    ok(command, "gibbs run --steps 20 --burn-in 0 --chains 4")
    ok(command, "interpolate run --nodes 50 --from 0 --to 1")
    evaluated = ok(command, "evaluate run --particles 5 --dataset other.csv --force")
    given = open_run(folder / "run", dataset="other.csv", force=True).dataset.test.x[:].given["size_factor"]
    assert given.shape == (12, 1) and (given > 0).all()
    ok(command, "impute run holes.csv --out filled.csv --particles 5")
    code, _, err = command("sample", "run", "--given", f"{size}=0")
    assert code and f"{size}=0 is no size of a datum, which is a positive number. Example: {size}={mean:.4g}" in err


def test_a_run_of_incomplete_counts(folder, command):
    ok(
        command,
        "train vae --dataset holes.csv -o likelihood=poisson -o latent=2 -o hidden=8 -o size_factor=total --steps 10 --out run",
    )
    ok(command, "evaluate run --particles 5")
    ok(command, "impute run holes.csv --out filled.csv --particles 5")


@pytest.mark.parametrize("size", ["total", "depth", "none"])
def test_another_file_is_scored_in_python_as_on_the_command_line(size, folder, command):
    option = "" if size == "none" else f"-o size_factor={size}"
    ok(command, f"train hvae --dataset counts.csv {SMALL} {option} --steps 5 --out run")
    for file in ("other.csv", "holes.csv"):
        compare_rows(folder, file)


def compare_rows(folder, file):
    run, other = (open_run(folder / "run", dataset=name, force=bool(name)) for name in (None, file))
    rows = read_batch(folder / file, run.dataset, run.conditions)
    data = other.dataset
    again = [split.x[:] for split in (data.train, data.validation, data.test)]

    def by_values(batch):
        batch = batch if isinstance(batch, Batch) else Batch(batch)
        observed = torch.ones_like(batch.x) if batch.observed is None else batch.observed
        return torch.cat([batch.x, observed.float(), *(batch.given[name] for name in sorted(batch.given))], 1)

    mine, theirs = by_values(rows), torch.cat([by_values(part) for part in again])
    assert len(mine) == len(theirs) == 120
    mine, theirs = (values[np.lexsort(values.numpy().T)] for values in (mine, theirs))
    torch.testing.assert_close(mine, theirs)
    assert hv.log_likelihood(run.model, run.guide, rows, particles=5).shape == (120,)


def test_what_is_typed_wrongly(folder, command):
    for words, said in {
        f"train hvae --dataset counts.csv {SMALL} -o size_factor=dpth": "Did you mean 'depth'",
        # Sizes are measured only of a likelihood of counts, whatever the data.
        "train hvae --dataset real.csv -o size_factor=total": "but the likelihood is gaussian. Leave it out",
        f"train hvae --dataset real.csv {SMALL} -o size_factor=total": "of the training data are negative or fractional",
        f"train hvae --dataset empty.csv {SMALL} -o size_factor=total": "training data have no counts, so that",
        f"train hvae --dataset counts.csv {SMALL} -o standardize=true": "'a' among them. The data are standardised: use -o",
        f"train hvae --dataset real.csv {SMALL}": "-2 in 'b' among them. Where 'b' is no part of x: -o labels=b, or",
        "train hvae --dataset counts.csv -o size_factor=total -o dims=2": "size_factor multiplies the means of counts, but the",
        "train texture --dataset digits -o size_factor=total": "size_factor multiplies the means of counts, but the",
    }.items():
        code, out, err = command(*f"{words} --steps 5 --out wrong".split())
        assert code and said in err and "Traceback" not in err and err.count("\n") == 1, err
    ok(command, f"train hvae --dataset counts.csv {SMALL} --steps 2 --out plain")
    code, _, err = command(*"evaluate plain --dataset other.csv --data-option size_factor=depth --force".split())
    assert code and "knows its own size factor (none)" in err
    assert resolve("vae", "digits", options={"size_factor": ""}).size_factor is None
