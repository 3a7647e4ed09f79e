"""encode, decode and score on runs of several recipes, of their own data and of files."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from command_line import train_once

import pyro_hvae as hv
from pyro_hvae.data import list_splits, read_rows
from pyro_hvae.inference import importance_sampling
from pyro_hvae.runs import open_run

KINDS = [".npz", ".csv", ".parquet", ".h5ad"]


def write_table(path, rows=60, seed=0):
    """Numbers with holes, a class, an identifier and a remark, in an order of columns of its own."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3)) * [1, 100, 0.01]
    x[3, 1] = np.nan
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["patient", "a", "b", "kind", "c", "row"])
        for i, (a, b, c) in enumerate(x):
            table.writerow([f"p{7 * i % rows:02}", a, "" if np.isnan(b) else b, "cat,dog,owl".split(",")[i % 3], c, 5 * i % 7])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    write_table(folder / "table.csv")
    write_table(folder / "other.csv", rows=9, seed=1)
    table = "--dataset table.csv -o columns=a,b,c -o standardize=true -o hidden=6 --batch-size 16 --steps 20"
    train_once(folder, "vae", *table.split(), "-o", "condition=kind", "-o", "latent=2", "--out", "table")
    train_once(folder, "vampprior", *"--dataset digits -o hidden=8 -o components=12 --steps 10 --out vamp".split())
    counts = np.random.default_rng(0).poisson(5, (50, 4)) + 1
    (folder / "counts.csv").write_text("\n".join(["a,b,c,d", *(",".join(map(str, row)) for row in counts)]))
    poisson = "-o likelihood=poisson -o size_factor=total -o latent=2 -o hidden=6 --steps 10 --out counts"
    train_once(folder, "vae", "--dataset", "counts.csv", *poisson.split())
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def ok(command, *words):
    code, out, err = command(*[word for line in words for word in str(line).split()])
    assert code == 0, err
    return out


def reconstructions(path, part="test"):
    run = open_run(path)
    split = list_splits(run.dataset)[part]
    x = hv.reconstruct(run.model, run.guide, split.x.to(run.device))
    return (run.dataset.inverse(x) if run.dataset.inverse else x).numpy()


@pytest.mark.parametrize("recipe", ["pendulum_run", "hvae_run"])
def test_codes_of_a_runs_own_data_decode_to_its_reconstructions(recipe, request, command, tmp_path):
    path = request.getfixturevalue(recipe)
    report = json.loads(ok(command, f"encode {path} --part test --out codes.npz --draws 2 --json"))
    run = open_run(path)
    held, n = np.load("codes.npz", allow_pickle=False), len(run.dataset.test)
    means = hv.latents(run.guide, run.dataset.test.x, mean=True)
    for name, values in means.items():
        assert np.array_equal(held[name], values.numpy())
        assert held[f"{name}_sd"].min() > 0 and held[f"{name}_draws"].shape == (n, 2, *values.shape[1:])
    assert report["n"] == n and report["columns"][:2] == ["part", "row"] and report["arrays"].keys() >= means.keys()
    assert set(held["part"]) == {"test"} and held["row"].tolist() == list(range(n))
    ok(command, f"decode {path} codes.npz --out decoded.npy")
    assert np.array_equal(np.load("decoded.npy"), reconstructions(path))
    scores = json.loads(ok(command, f"score {path} --particles 3 --draws 2 --lowest 2 --json"))
    assert scores["n"] == n and len(scores["lowest"]) == 2 and {f"rate_{name}" for name in means} & set(scores["scores"])
    assert scores["space"] == run.space
    parts = scores["scores"]
    rates = sum(values["mean"] for name, values in parts.items() if name.startswith("rate"))
    assert parts["elbo"]["mean"] == pytest.approx(-parts["distortion"]["mean"] - rates)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_encoded_in_its_order_with_all_that_stands_beside(kind, here, command, tmp_path):
    text = ok(command, f"encode table other.csv --out {tmp_path}/codes{kind} --draws 3")
    assert text.startswith("9 data of other.csv encoded: ") and "beside them: row, patient, kind, row_" in text
    held = read_rows(tmp_path / f"codes{kind}")
    assert held.read("patient").tolist() == [f"p{7 * i % 9:02}" for i in range(9)]
    assert held.read("kind").tolist() == ["cat", "dog", "owl"] * 3 and held.read("row").tolist() == list(range(9))
    run = open_run("table")
    batch = hv.data.read_batch(here / "other.csv", run.dataset, run.conditions)
    codes = hv.encode(run.guide, batch, draws=3)
    for name, values in codes.arrays().items():
        assert np.array_equal(held.read(name, values.shape[1:]).astype("float32"), values)
    expected = run.dataset.inverse(hv.reconstruct(run.model, run.guide, batch)).numpy()
    for end in (".npz", ".csv", ".parquet", ".h5ad"):
        text = ok(command, f"decode table {tmp_path}/codes{kind} --out {tmp_path}/x{end}")
        assert "patient, kind, row_" in text.splitlines()[1]
        found = read_rows(tmp_path / f"x{end}")
        for name in ("row", "patient", "kind", "row_"):
            assert found.read(name).tolist() == held.read(name).tolist()
        assert not any("z1" in name for name in found.arrays)
        if end == ".h5ad":
            decoded = hv.data.read_incomplete(tmp_path / "x.h5ad", ("a", "b", "c")).numpy()
        else:
            decoded = found.read("x", (3,)) if end == ".npz" else np.stack([found.read(name) for name in "abc"], 1)
        assert np.array_equal(decoded, expected)


def test_codes_under_another_condition_and_of_fewer_layers(here, hvae_run, command, tmp_path):
    ok(command, f"encode table other.csv --out {tmp_path}/codes.csv")
    text = ok(command, f"decode table {tmp_path}/codes.csv --out {tmp_path}/x.npz --given kind=owl")
    assert "decoded under kind=owl" in text
    run = open_run("table")
    batch = hv.data.read_batch(here / "other.csv", run.dataset, run.conditions)
    under = {"kind": torch.tensor([[0.0, 0.0, 1.0]])}
    expected = run.dataset.inverse(hv.reconstruct(run.model, run.guide, batch, under=under)).numpy()
    held = np.load(tmp_path / "x.npz")
    assert np.array_equal(held["x"], expected) and held["columns"].tolist() == ["a", "b", "c"]
    assert set(held["kind"]) == {"owl"} and held["patient"][1] == "p07"  # the condition that x is under
    ok(command, f"encode {hvae_run} --layers z2 --out {tmp_path}/top.npz --part validation")
    held = np.load(tmp_path / "top.npz")
    assert {"z2", "z2_sd", "class"} < set(held) and "z1" not in held
    text = ok(command, f"decode {hvae_run} {tmp_path}/top.npz --out {tmp_path}/top.npy")
    assert "Not in the file: z1; means given the layers above." in text
    assert np.array_equal(np.load(tmp_path / "top.npy"), hv.decode(open_run(hvae_run).model, {"z2": held["z2"]}))
    assert "Not in the file: z1; drawn given" in ok(
        command, f"decode {hvae_run} {tmp_path}/top.npz --out {tmp_path}/top.npy --draw --overwrite"
    )


def test_scores_of_a_file_name_its_outliers(here, command, tmp_path):
    text = ok(command, f"score table other.csv --out {tmp_path}/scores.csv --particles 20")
    assert "9 data of other.csv: log p(x | kind) of standardised data, of the observed entries, 20 importance samples" in text
    held = read_rows(tmp_path / "scores.csv")
    run = open_run("table")
    batch = hv.data.read_batch(here / "other.csv", run.dataset, run.conditions)
    scores = hv.score(run.model, run.guide, batch, particles=20)
    for name, values in scores.columns().items():
        assert np.array_equal(held.read(name), values)
    lowest = held.read("patient")[scores.values.argmin()]
    outliers = text.split("lowest log_likelihood")[1].splitlines()
    assert outliers[1].split() == ["row", "patient", "log_likelihood"] and lowest in outliers[2]
    values = json.loads(ok(command, "score table other.csv --particles 0 --lowest 1 --json"))
    assert values["by"] == "elbo" and values["n"] == 9 and values["given"] == ["kind"] and values["units"] == "nats per datum"
    assert values["scores"]["elbo"]["mean"] == pytest.approx(scores.elbo.mean())
    assert values["scores"]["elbo"]["stderr"] == pytest.approx(scores.elbo.std(ddof=1) / 3)


def test_scores_of_standardised_data_in_their_own_units(here, command, tmp_path):
    """log p(y) = log p(x) - sum of log s over the observed columns, for x = (y - m) / s."""
    ok(command, f"score table other.csv --out {tmp_path}/scores.csv --particles 5")
    held, by = read_rows(tmp_path / "scores.csv"), open_run("table").dataset.standardization
    with open("other.csv", newline="") as file:
        known = np.array([[row[name] != "" for name in "abc"] for row in csv.DictReader(file)])
    assert (~known).sum() == 1 and list(held.arrays)[4:6] == ["log_likelihood", "log_likelihood_own_units"]
    expected = held.read("log_likelihood") - known @ np.log(by.scale)
    assert np.allclose(held.read("log_likelihood_own_units"), expected, rtol=1e-12)
    report = json.loads(ok(command, "score table other.csv --particles 5 --json"))
    assert report["scores"]["log_likelihood_own_units"]["mean"] == pytest.approx(expected.mean()) and report["not_finite"] == {}
    assert "log_likelihood_own_units" not in ok(command, "score vamp --particles 2")
    assert "log_likelihood_own_units" not in ok(command, "score table other.csv --particles 0")


def test_rows_without_a_number_are_counted_and_named_first(here, command, tmp_path):
    text = (here / "other.csv").read_text()
    (tmp_path / "wild.csv").write_text(text + "p98,1,1e30,cat,1,0\np99,1,-1e33,owl,1,0\n")
    words = f"score table {tmp_path}/wild.csv --particles 5 --lowest 3"
    report = json.loads(ok(command, f"{words} --json --out {tmp_path}/scores.csv"))
    held = read_rows(tmp_path / "scores.csv")
    values = held.read("log_likelihood")
    assert np.isnan(values[9:]).all() and np.isfinite(values[:9]).all()
    assert [row["patient"] for row in report["lowest"]] == ["p98", "p99", held.read("patient")[values[:9].argmin()]]
    assert report["lowest"][0]["log_likelihood"] is None and report["not_finite"]["log_likelihood"] == 2
    assert report["scores"]["log_likelihood"]["mean"] == pytest.approx(values[:9].mean())
    assert report["scores"]["log_likelihood"]["stderr"] == pytest.approx(values[:9].std(ddof=1) / 3)
    lines = ok(command, words).splitlines()
    assert any(line.startswith("not finite, left out of the means: log_likelihood of 2 data") for line in lines)
    assert "elbo: the bound with one particle, averaged over 16 draws" in lines


def test_few_effective_samples_of_all_parts_are_told_once(here, command, monkeypatch):
    monkeypatch.setattr(importance_sampling, "FEW_EFFECTIVE", 100)
    code, out, err = command(*"score vamp --part all --particles 100 --draws 1".split())
    run, effective = open_run("vamp"), []
    for split in list_splits(run.dataset).values():
        with pytest.warns(hv.errors.FewEffectiveSamplesWarning):
            effective.append(hv.score(run.model, run.guide, split.x, particles=100, draws=1).effective)
    assert code == 0 and err.count("the log-likelihood is probably too low") == 1
    assert f"the median effective sample size is {np.median(np.concatenate(effective)):.1f} of 100" in err


def test_a_run_on_features_has_codes_of_pixels_and_scores_of_features(monkeypatch, command, tmp_path):
    texture = "--dataset triangles -o size=40 -o hidden=2,2,2,2,8 -o texture_hidden=8,8 -o overlap=false -o patch=8"
    train_once(tmp_path, "texture", *texture.split(), *"--steps 4 --batch-size 8 --out texture".split())
    monkeypatch.chdir(tmp_path)
    run = open_run("texture")
    images = run.dataset.test.x[:6]
    np.save("images.npy", images.numpy())
    ok(command, "encode texture images.npy --out codes.npz")
    ok(command, "decode texture codes.npz --out decoded.npz")
    assert np.array_equal(np.load("decoded.npz")["x"], hv.reconstruct(run.model, run.guide, images).numpy())
    text = ok(command, "score texture images.npy --particles 4 --out scores.npz")
    assert "log p(x) of z1, the codes of 8 x 8 patches, 16 each, 4 importance samples" in text
    features = run.view_of(hv.data.Rows.of(images))
    expected = hv.score(run.objective.model, run.objective.guide, features, particles=4)
    assert np.array_equal(np.load("scores.npz")["log_likelihood"], expected.log_likelihood)


def test_means_of_scores_are_those_of_evaluate(pendulum_run, command):
    """The bound with inner particles that the run trained is what one particle with as many inner ones estimates."""
    run, scores = open_run(pendulum_run), json.loads(ok(command, f"score {pendulum_run} --particles 30 --inner 2 --json"))
    test = run.dataset.test.x
    weights = hv.inference.importance_weights(run.model, run.guide, test, 30, 2, {"z1"}, seed=0)
    expected = torch.cat([w.log_likelihood for w in weights]).mean().item()
    assert scores["scores"]["log_likelihood"]["mean"] == pytest.approx(expected)
    assert run.objective.elbo.shared == {"z1"} and scores["inner"] == 2


def test_components_of_a_mixture_prior_and_a_size_that_is_the_total(here, command, tmp_path):
    ok(command, f"encode vamp --part test --out {tmp_path}/codes.npz")
    held, run = np.load(tmp_path / "codes.npz"), open_run("vamp")
    highest, component = hv.responsibilities(run.model, run.guide, run.dataset.test.x).max(1)
    assert np.array_equal(held["z1_component"], component.numpy())
    assert np.array_equal(held["z1_component_probability"], highest.numpy()) and 0 <= held["z1_component"].min()
    ok(command, f"encode counts --part test --out {tmp_path}/codes.csv")
    total = read_rows(tmp_path / "codes.csv").read("total")
    assert np.allclose(total, open_run("counts").dataset.test.x.alone[:].sum(1), rtol=1e-6)
    ok(command, f"decode counts {tmp_path}/codes.csv --out {tmp_path}/x.npz")
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], reconstructions("counts"))


def test_all_parts_and_other_data(here, hvae_run, command, tmp_path):
    text = ok(command, f"encode {hvae_run} --out {tmp_path}/codes.parquet")
    assert text.startswith("1,797 data, all parts, of digits encoded")
    held = read_rows(tmp_path / "codes.parquet")
    assert [*dict.fromkeys(held.read("part"))] == ["training", "validation", "test"]
    first = int((held.read("part") == "training").sum())
    assert held.read("row")[[0, first, first + 1]].tolist() == [0, 0, 1]
    test = open_run(hvae_run).dataset.test
    assert held.read("class")[held.read("part") == "test"].tolist() == test.factors["class"].tolist()
    ok(command, f"encode table --dataset other.csv --force --out {tmp_path}/other.csv")
    assert sorted(read_rows(tmp_path / "other.csv").read("row")) == list(range(9))
    np.save(tmp_path / "images.npy", np.asarray(test.x[:5]))
    assert "5 data of images.npy" in ok(command, f"score {hvae_run} {tmp_path}/images.npy --particles 2")
    ok(command, f"encode {hvae_run} {tmp_path}/images.npy --out {tmp_path}/five.npz")
    expected = hv.latents(open_run(hvae_run).guide, test.x[:5], mean=True)["z1"].numpy()
    assert np.allclose(np.load(tmp_path / "five.npz")["z1"], expected, atol=1e-6)


def test_codes_of_a_runs_own_table_join_it_by_row_and_by_identifier(here, command, tmp_path):
    """What the run's own rows are called and hold is what they have where the table is handed over."""
    report = json.loads(ok(command, f"encode table --out {tmp_path}/own.csv --json"))
    assert report["columns"] == ["part", "row", "patient", "kind", "row_"]
    ok(command, f"encode table table.csv --out {tmp_path}/handed.csv")
    own, handed = (read_rows(tmp_path / f"{name}.csv") for name in ("own", "handed"))
    rows = own.read("row")
    assert sorted(rows) == handed.read("row").tolist() == list(range(60)) and rows.tolist() != sorted(rows)
    for name in ("patient", "kind", "row_"):
        assert own.read(name).tolist() == handed.read(name)[rows].tolist()
    assert np.allclose(own.read("z1", (2,)), handed.read("z1", (2,))[rows], atol=1e-6)
    lowest = json.loads(ok(command, "score table --particles 2 --lowest 1 --json"))["lowest"][0]
    assert lowest["patient"] == handed.read("patient")[lowest["row"]]


# what is typed -> exit code and a part of the message
WRONG = {
    "encode table --out c.xlsx": (2, "no kind of file called '.xlsx'"),
    "encode table --out nowhere/c.csv": (3, "cannot write 'nowhere/c.csv'"),
    "encode table --out other.csv": (2, "is there already"),
    "encode table --out table.csv --overwrite": (2, "holds the data of the run"),
    "encode table other.csv --out other.csv --overwrite": (2, "is the file that is read"),
    "encode table --out c.csv --layers z9": (2, "no layer called 'z9'. Known: z1"),
    "encode table --out c.csv --layers ,": (2, "names no layer"),
    "encode table --out c.csv --part tets": (2, "no part called 'tets'. Did you mean 'test'?"),
    "encode table other.csv --out c.csv --part test": (2, "--part test is of the run's own data"),
    "encode table --out c.csv --draws -1": (2, "--draws must be at least 0"),
    "encode table gone.csv --out c.csv": (3, "there is no file 'gone.csv'"),
    "encode table lacking.csv --out c.csv": (3, "has no column 'b', only"),
    "encode table classless.csv --out c.csv": (3, "has no column 'kind'"),
    "encode table word.csv --out c.csv": (3, "'n/k' in column 'b', line 4, where a number is needed. Write a number such as"),
    "score table word.csv": (3, "Write a number such as 1234.5, or leave the cell empty."),
    "score table kindless.csv": (3, "has no 'kind' in line 3, and p(x | kind) says nothing"),
    "encode table wide.npy --out c.csv": (3, "have the shape (5,), those of the run (3,)"),
    "encode vamp table.csv --out c.csv": (3, "is a table, but the run is of arrays of shape (1, 8, 8)"),
    "encode vamp words.txt --out c.csv": (3, "of no kind that data are read from"),
    "score table lacking.csv": (3, "has no column 'b', only"),
    "score table --out other.csv": (2, "is there already"),
    "score table --particles -1": (2, "--particles must be at least 0"),
    "score table --draws 0": (2, "--draws must be at least 1"),
    "decode vamp codes.csv --out x.h5ad": (2, "holds vectors, but a datum has the shape (1, 8, 8)"),
    "decode table codes.csv --out .csv": (2, "'.csv' is the end of a name without a name before it"),
    "encode table --out .csv.gz": (2, "without a name before it. Put one there: codes.csv.gz"),
    "score table --out .npz": (2, "without a name before it"),
    "decode table wider.csv --out x.csv": (
        3,
        "has 'z1_2', but 'z1' of the run has the shape (2,), z1_0 to z1_1. Is it of",
    ),
    "decode table huge.csv --out x.csv": (3, "the codes of 'z1' are NaN, infinite or beyond 3.403e+38"),
    "decode table empty.csv --out x.csv": (3, "has the names of 3 columns, but no rows"),
    "decode table empty.npz --out x.csv": (3, "empty.npz has no rows: its codes are of 0 data"),
    "decode table codes.csv --out other.csv": (2, "is there already"),
    "decode table codes.csv --out codes.csv --overwrite": (2, "is the file that is read"),
    "decode table gone.csv --out x.csv": (3, "there is no file 'gone.csv'"),
    "decode table words.txt --out x.csv": (2, "no kind of file called '.txt'"),
    "decode table other.csv --out x.csv": (3, "holds no codes of the run's layers, which are z1 (2,)"),
    "decode table narrow.csv --out x.csv": (3, "has the columns z1_0, but no 'z1_1'"),
    "decode table nan.csv --out x.csv": (3, "is NaN, infinite or empty in 1 of 2 rows"),
    "decode table texts.csv --out x.csv": (3, "holds texts, but numbers are needed"),
    "decode table unknown.csv --out x.csv": (3, "the class 'emu' of 'kind'"),
    "decode table bare.csv --out x.csv": (3, "no column 'kind', under which the run decodes 2 codes"),
    "decode table bare.csv --out x.csv --given kind=emu": (2, "no class of 'kind' called 'emu'"),
    "decode table pickled.npz --out x.csv": (3, "pickled objects, which are not opened"),
    "decode table ragged.npz --out x.csv": (3, "no column 'kind'"),
    "decode table broken.npz --out x.csv": (3, "cannot read broken.npz"),
}


@pytest.fixture(scope="module")
def wrong(folder):
    write = {
        "lacking.csv": "a,c,kind\n1,2,cat\n",
        "classless.csv": "a,b,c\n1,2,3\n4,5,6\n",
        "word.csv": "a,b,c,kind\n1,2,3,cat\n4,5,6,dog\n7,n/k,9,owl\n",
        "kindless.csv": "a,b,c,kind\n1,2,3,cat\n4,5,6,\n7,8,9,owl\n",
        "words.txt": "hello",
        "codes.csv": "z1_0,z1_1,kind\n0,0,cat\n1,1,dog\n",
        "narrow.csv": "z1_0,kind\n0,cat\n1,dog\n",
        "nan.csv": "z1_0,z1_1,kind\n0,,cat\n1,1,dog\n",
        "texts.csv": "z1_0,z1_1,kind\na,0,cat\nb,1,dog\n",
        "unknown.csv": "z1_0,z1_1,kind\n0,0,cat\n1,1,emu\n",
        "bare.csv": "z1_0,z1_1\n0,0\n1,1\n",
        "wider.csv": "z1_0,z1_1,z1_2,kind\n0,0,0,cat\n1,1,1,dog\n",
        "huge.csv": "z1_0,z1_1,kind\n0,1e300,cat\n1,1,dog\n",
        "empty.csv": "z1_0,z1_1,kind\n",
    }
    for name, text in write.items():
        (folder / name).write_text(text)
    np.save(folder / "wide.npy", np.zeros((4, 5)))
    np.savez(folder / "pickled.npz", z1=np.array([[{}, {}]], dtype=object))
    np.savez(folder / "ragged.npz", z1=np.zeros((3, 2)))
    np.savez(folder / "empty.npz", z1=np.zeros((0, 2)))
    (folder / "broken.npz").write_bytes(b"PK nothing")
    return folder


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_is_one_sentence_and_writes_nothing(line, wrong, monkeypatch, command):
    monkeypatch.chdir(wrong)
    before = {path.name: path.read_bytes() for path in wrong.iterdir() if path.is_file()}
    code, out, err = command(*line.split())
    assert (code, out) == (WRONG[line][0], "") and WRONG[line][1] in err and "Traceback" not in err
    assert before == {path.name: path.read_bytes() for path in wrong.iterdir() if path.is_file()}


def test_a_run_of_which_weights_are_nan_is_refused(here, command, tmp_path):
    shutil.copytree("table", tmp_path / "broken")
    for name in ("last", "best"):
        for file in (tmp_path / "broken").rglob(f"{name}*.pt"):
            saved = hv.runs.load_checkpoint(file)
            for values in saved["programs"][-1].values():
                for weights in values.values() if isinstance(values, dict) else [values]:
                    if torch.is_tensor(weights) and weights.is_floating_point():
                        weights.fill_(torch.nan)
            hv.runs.save_checkpoint(file, saved)
    for words in ("encode {} --out c.csv", "score {}", f"decode {{}} {here}/codes.csv --out x.csv"):
        code, _, err = command(*words.format(tmp_path / "broken").split())
        assert code == 4 and "Error" in err
