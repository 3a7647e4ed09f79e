"""`pyro-hvae compare` on a trained run."""

import json


def test_compare(pendulum_run, command):
    code, out, _ = command("compare", pendulum_run, "--json")
    values = json.loads(out)
    assert code == 0 and values["methods"][0]["seeds"] == 1 and values["methods"][0]["paper"] == "0.054"
    code, out, _ = command("compare", pendulum_run)
    assert code == 0 and "vhp + rewo" in out and "0.054" in out
