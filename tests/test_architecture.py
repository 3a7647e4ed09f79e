"""The structure: who may import whom, what is public, what the text may not say."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_hvae

ROOT = Path(pyro_hvae.__file__).parent
# From low to high: a room may import only from rooms above it in this list.
ROOMS = [
    "errors",
    "runtime",
    "networks",
    "conditionals",
    "data",
    "compilation",
    "schedules",
    "objectives",
    "models",
    "guides",
    "metrics",
    "inference",
    "recipes",
    "runs",
    "evaluation",
    "plots",
    "training",
    "estimators",
    "reports",
    "cli",
    "__main__",
    "__init__",
]
FILES = sorted(ROOT.rglob("*.py"))


def unit(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path):
    """Rooms that a module imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pyro_hvae":
            parts = node.module.split(".")[1:]
            yield from [parts[0]] if parts else [a.name for a in node.names if a.name in ROOMS]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("pyro_hvae."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downwards_only(path):
    room = unit(path)
    for imported in imports(path):
        assert imported == room or ROOMS.index(imported) < ROOMS.index(room), f"{room} imports {imported}"


def test_models_and_guides_know_neither_traces_nor_each_other():
    for path in [path for room in ("models", "guides", "conditionals", "networks") for path in ROOT.glob(f"{room}/*.py")]:
        text = path.read_text()
        code = "\n".join(line for line in text.splitlines() if ">>>" not in line)
        assert "poutine" not in code
        assert "beta" not in code.lower().replace("beta-vae", "") or path.name == "beta.py"  # the distribution


def test_files_know_no_data_set_and_sets_and_generated_do_not_import_each_other():
    for part, above in {
        "files": "sets|generated|dataset",
        "sets": "generated|dataset_registry",
        "generated": "sets|dataset_registry",
    }.items():
        for path in ROOT.glob(f"data/{part}/*.py"):
            assert not re.search(rf"pyro_hvae\.data\.({above})\b", path.read_text()), path


def test_only_rooms_lie_at_the_root():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= set(ROOMS)


def test_no_two_modules_have_the_same_name():
    names = [path.stem for path in FILES if path.stem != "__init__"]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / room).is_dir()])
def test_the_public_names_of_a_room_exist(room):
    module = importlib.import_module(f"pyro_hvae.{room}")
    for name in module.__all__:
        # A module of that name would take the place of the function or class when it is imported.
        assert getattr(module, name) is not None and not (ROOT / room / f"{name}.py").exists(), name


def test_every_module_says_what_it_is_and_stays_small():
    for path in FILES:
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)), path
        assert len(text.splitlines()) <= 300, path


def test_public_names_exist_and_are_documented():
    assert len(set(pyro_hvae.__all__)) == len(pyro_hvae.__all__)
    for name in pyro_hvae.__all__:
        value = getattr(pyro_hvae, name)
        if callable(value):
            assert value.__doc__, name
    assert set(pyro_hvae.__all__) <= set(dir(pyro_hvae))
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = pyro_hvae.nothing


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_uses_the_public_names_of_others(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pyro_hvae."):
            _, room, *modules = node.module.split(".")
            if room != unit(path) and (ROOT / room).is_dir():
                assert not modules and {alias.name for alias in node.names} <= set(importlib.import_module(node.module).__all__)


def test_importing_changes_no_global_setting():
    code = (
        "import torch, pyro, warnings; from torch.distributions import Distribution as D\n"
        "before = torch.get_default_dtype(), D._validate_args, torch.get_num_threads(), len(pyro.get_param_store())\n"
        "import pyro_hvae; [getattr(pyro_hvae, n) for n in pyro_hvae.__all__]; import pyro_hvae.cli.train_request\n"
        "after = torch.get_default_dtype(), D._validate_args, torch.get_num_threads(), len(pyro.get_param_store())\n"
        "assert before == after, (before, after)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_contributing_lists_the_rooms_in_order_with_their_sentences():
    table = re.findall(r"^\| `(\w+)/` \| (.*) \|$", (ROOT.parent / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    rooms = [room for room in ROOMS if (ROOT / room).is_dir()]
    docs = {room: ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text())) for room in rooms}
    assert table == [(room, doc.split("\n\n")[0].replace("\n", " ")) for room, doc in docs.items()]
