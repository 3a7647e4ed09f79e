"""The last lines of `train`: a number says of how many data it is."""

import json

from pyro_hvae.reports.training_report import training_text


def test_the_bound_says_of_how_many_data_it_is(command, tmp_path):
    small = ["train", "vae", "--dataset", "digits", "-o", "hidden=8", "--steps", 4, "--batch-size", 32]
    code, out, err = command(*small, "--out", tmp_path / "run", "--json")
    report = json.loads(out)
    assert code == 0, err
    assert report["bound_of"].endswith(" validation data") and f"; {report['bound_of']}), beta" in training_text(report)
    rows = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert "validation_elbo" in json.loads(rows[-1])
