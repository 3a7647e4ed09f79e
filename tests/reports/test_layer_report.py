"""The report of the layers where their shares are not estimable."""

import shutil

from pyro_hvae import inference
from pyro_hvae.reports import layer_report
from pyro_hvae.runs import open_run


def test_a_variance_that_is_not_estimable_costs_no_picture(hvae_run, tmp_path, monkeypatch):
    def refuse(*arguments, **given):
        raise inference.NotEstimable("the variance of E[x | z] is not estimable: ...")

    run = open_run(shutil.copytree(hvae_run, tmp_path / "run"))
    monkeypatch.setattr(layer_report, "layer_shares", refuse)
    report = layer_report.draw_layers(run, 4, 0, None, None, 2, 2)
    assert report["text"].splitlines()[0] == "No shares: the variance of E[x | z] is not estimable: ..."
    assert (run.directory.path / "figures" / "layers.png").is_file()
    assert run.directory.read_json("eval/layers.json")["share"] == {}
