"""Every example runs, and the commands of the README and of the help texts exist."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pyro_hvae.cli.command_group import COMMANDS, cli
from pyro_hvae.runs.experiment import read_toml

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
@pytest.mark.filterwarnings("default")  # as outside of tests
def test_example_runs(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--fast"])
    runpy.run_path(str(path), run_name="__main__")
    assert re.search(r"-?\d+\.\d+", capsys.readouterr().out)
    assert len(path.read_text().splitlines()) < 80


def test_own_model_through_the_command_line(command):
    program = f"{ROOT}/examples/own_model.py:build"
    options = "--dataset pendulum --steps 30 -o size=200 --schedule warmup --out mine"
    code, _, err = command("train", "--program", program, *options.split())
    assert code == 0, err
    evaluate = "evaluate mine --particles 20 --limit 20".split()
    # The run does not import the program that its configuration names; the user gives it again.
    code, _, err = command(*evaluate)
    assert code == 2 and "--program FILE.py:FUNCTION" in err
    code, out, err = command(*evaluate, "--program", program)
    assert code == 0 and "log-likelihood" in out, err
    code, _, err = command("train", "--resume", "mine", "--steps", "40", "--program", program)
    assert code == 0, err


def _commands(text):
    for line in text.splitlines():
        line = line.strip().lstrip("$ ")
        if line.startswith("pyro-hvae "):
            yield shlex.split(line.split("#")[0].replace("\\", ""))[1:]


def _parse(arguments):
    """Parses a command without running it."""
    if arguments[0].startswith("-"):
        return
    assert arguments[0] in COMMANDS, arguments
    context = cli.make_context("pyro-hvae", [arguments[0]], resilient_parsing=True)
    command = cli.get_command(context, arguments[0])
    command.make_context(arguments[0], arguments[1:], parent=context)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_texts_parse(name):
    text = CliRunner().invoke(cli, [name, "--help"]).output
    found = list(_commands(text.split("Examples:")[1]))
    assert len(found) >= 2
    for arguments in found:
        _parse(arguments)


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_documentation_parse(page):
    found = list(_commands((ROOT / page).read_text()))
    assert len(found) >= {"README.md": 7, "docs/command_line.md": 20}.get(page, 0)
    for arguments in found:
        _parse(arguments)


@pytest.mark.parametrize("pages", [["README.md", "docs/python.md"], ["docs/extending.md"]], ids=lambda pages: pages[-1])
def test_python_of_the_documentation_runs(pages, tmp_path):
    """The blocks of the pages are one script; the README's is shortened."""
    script = "\n".join("\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)) for page in pages)
    if pages[0] == "README.md":
        pytest.importorskip("arviz_base")  # of an extra
        assert "steps=1_500," in script and "particles=1000)" in script
        script = script.replace("steps=1_500", "steps=20").replace("particles=1000", "particles=50")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_recipe_table_of_the_documentation_is_the_codes():
    from pyro_hvae.reports.option_catalogue import recipe_table

    assert recipe_table() in (ROOT / "docs/recipes.md").read_text(), f"put this into docs/recipes.md:\n{recipe_table()}"


def test_data_table_of_the_documentation_is_the_codes():
    from pyro_hvae.reports.option_catalogue import data_table

    assert data_table() in (ROOT / "docs/datasets.md").read_text(), f"put this into docs/datasets.md:\n{data_table()}"


def test_metric_table_of_the_documentation_is_the_codes():
    from pyro_hvae.reports.option_catalogue import metric_table

    assert metric_table() in (ROOT / "docs/evaluation.md").read_text(), f"put this into docs/evaluation.md:\n{metric_table()}"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_files_of_the_documentation_exist(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_project_metadata_is_consistent():
    import pyro_hvae

    project = read_toml(ROOT / "pyproject.toml")["project"]
    assert project["requires-python"] == ">=3.11"
    assert pyro_hvae.__version__ in (ROOT / "CHANGELOG.md").read_text()
    assert pyro_hvae.__version__ in (ROOT / "CITATION.cff").read_text()


@pytest.mark.filterwarnings("default")
def test_the_notebook_runs_and_holds_the_output_of_every_cell(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    cells = [cell for cell in json.loads((ROOT / "examples/digits.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    monkeypatch.chdir(tmp_path)
    source = "\n".join("".join(cell["source"]) for cell in cells)
    assert "STEPS = 4_000" in source
    exec(compile(source.replace("STEPS = 4_000", "STEPS = 600"), "digits.ipynb", "exec"), {})
    out = capsys.readouterr().out
    assert "decode(encode(x)) equals reconstruct: True" in out and "the same scores to the last digit: True" in out
