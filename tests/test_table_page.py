"""The page about a table of one's own is run from top to bottom, shortened."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs/tables.md").read_text()
SHORTER = {
    "--steps 600": "--steps 30",
    "steps=200": "steps=3",
    "particles=1000": "particles=20",
    "--particles 1000": "--particles 20",
}


@pytest.mark.filterwarnings("ignore:the log-likelihood is probably too low", "ignore:the imputed values are uncertain")
def test_the_page_runs(command, tmp_path):
    for long in SHORTER:
        assert long in PAGE
    text = PAGE
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    names, outputs = {"__name__": "page"}, []
    for kind, block in re.findall(r"```(python|sh)\n(.*?)```", text, flags=re.S):
        if kind == "python":
            exec(block, names)
            continue
        for line in block.replace("\\\n", " ").splitlines():
            arguments = shlex.split(line)
            assert arguments[0] == "pyro-hvae"
            code, out, err = command(*arguments[1:])
            assert code == 0, err
            outputs.append(out)
    assert "missing" in outputs[0] and "factors  cultivar (3 values: a, b, c)" in outputs[0]
    assert "log p(x | cultivar), of the observed entries" in "".join(outputs)
    before, after = ((tmp_path / name).read_text().splitlines() for name in ("wine.csv", "filled.csv"))
    assert before[0] == after[0] and [line[-1] for line in before] == [line[-1] for line in after]
    assert all(
        old in ("", new)
        for a, b in zip(before, after, strict=True)
        for old, new in zip(a.split(","), b.split(","), strict=True)
    )
    assert sorted(path.name for path in tmp_path.glob("drawn*")) == [f"drawn-{i}.csv" for i in range(1, 6)]
    drawn = [np.genfromtxt(tmp_path / f"drawn-{i}.csv", delimiter=",", skip_header=1)[:, :-1] for i in (1, 2)]
    assert (drawn[0] != drawn[1]).any() and np.isfinite(drawn).all() and names["error"] < 1.1
