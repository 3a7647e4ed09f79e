"""`pyro-hvae compare` on a trained run."""

import json
import shutil


def test_compare(pendulum_run, command):
    code, out, _ = command("compare", pendulum_run, "--json")
    values = json.loads(out)
    assert code == 0 and values["methods"][0]["seeds"] == 1 and values["methods"][0]["paper"] == "0.054"
    code, out, _ = command("compare", pendulum_run)
    assert code == 0 and "vhp + rewo" in out and "0.054" in out


def test_a_likelihood_is_measured_on_request_only(pendulum_run, command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(pendulum_run, run)
    (run / "eval/likelihood.json").unlink(missing_ok=True)
    code, out, err = command("compare", run, "--metric", "likelihood")
    assert code == 3 and "run has no likelihood: it was not measured yet, and takes minutes: 5,000 samples for every" in err
    assert "Measuring" not in err and not (run / "eval/likelihood.json").exists()
    for advice in ("--particles 5000", "--limit N", f"pyro-hvae evaluate {run}"):
        assert advice in err
    code, out, err = command("compare", run, "--metric", "likelihood", "--particles", 20, "--limit", 10, "--json")
    assert code == 0 and "Measuring likelihood" in err, err
    stored = json.loads((run / "eval/likelihood.json").read_text())
    assert (stored["particles"], stored["n"]) == (20, 10)
    assert json.loads(out)["methods"][0]["mean"] == stored["log_likelihood"]
    code, _, err = command("compare", run, "--metric", "likelihood", "--particles", 30)  # what is stored is read
    assert code == 0 and "Measuring" not in err
    code, out, err = command("compare", run, "--metric", "angle", "--limit", 10)
    assert code == 2 and "no metric that is compared takes limit, only likelihood does" in err and not out
