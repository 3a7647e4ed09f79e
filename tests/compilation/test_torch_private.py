"""Private names of torch: where they may stand, that this torch has them, and what happens without them."""

import ast
import re
from pathlib import Path

import pytest
import torch
from both_ways import Body, assert_same, data, weight

import pyro_hvae
from pyro_hvae.compilation import torch_private
from pyro_hvae.compilation.torch_private import NAMES, find

PACKAGE = Path(pyro_hvae.__file__).parent


def private_names(path):
    """Dotted names of torch with a part that begins with an underscore, in the code and the imports of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if re.fullmatch(r"torch\.[\w.]+", name) and re.search(r"\._(?!_)", name):
                yield name


def test_private_names_stand_in_one_file():
    found = {str(path.relative_to(PACKAGE)): names for path in PACKAGE.rglob("*.py") if (names := list(private_names(path)))}
    assert not found
    assert all(name.startswith("torch.") for name in NAMES)


def test_the_search_finds_private_names(tmp_path):
    lines = [
        "from torch._inductor import compile",
        "import torch._dynamo",
        "torch._C._len()",
        "from torch import nn",
        "torch.jit.x()",
    ]
    (tmp_path / "some.py").write_text("\n".join(lines))
    assert set(private_names(tmp_path / "some.py")) == {"torch._inductor.compile", "torch._dynamo", "torch._C._len", "torch._C"}


@pytest.mark.parametrize("name", NAMES)
def test_this_torch_has_the_name(name):
    assert find(name) is not None, f"torch {torch.__version__} has no {name}: look for its new name, or take its way without it"


@pytest.fixture
def without(monkeypatch):
    """Hides names, as in a torch that has them no more."""

    def hide(*names):
        monkeypatch.setattr(torch_private, "find", lambda name: None if name in names else find(name))

    return hide


@pytest.mark.parametrize("names", [(torch_private.COMPILE,), (torch_private.ADAM, torch_private.ADAMW)])
def test_a_missing_name_is_told_once_and_changes_no_result(names, without, monkeypatch):
    without(*names)
    called = []
    monkeypatch.setattr(torch, "compile", lambda graph, **options: called.append(options) or graph)  # as fast as the test needs
    monkeypatch.setattr(torch_private, "find", _without_compiling(torch_private.find))
    module = Body(lambda self, x: (self.w * x * torch.randn(len(x), 4)).sum(), w=weight())
    says = rf"^torch \S+ has no {', '.join(names)}: a step takes longer, with the same results\.$"
    captured = assert_same(module, [(torch.randn(n, 4),) for n in (6, 6, 5)], says=says, compile=True)
    assert captured.graphs == 2 and captured.compile and len(called) == (2 if torch_private.COMPILE in names else 0)


def _without_compiling(found):
    """Inductor's compiler, where it is not hidden, returns the graph as it is."""

    def replacement(name):
        value = found(name)
        return (lambda graph, inputs, options: graph) if name == torch_private.COMPILE and value is not None else value

    return replacement


def test_without_names_of_modes_and_hooks_the_safe_way_is_taken(without):
    optimizer = torch.optim.Adam([weight()], fused=True)
    assert not torch_private.in_function_mode() and not torch_private.has_step_hooks(optimizer)
    without(*NAMES)
    assert torch_private.in_function_mode() and torch_private.has_step_hooks(optimizer)
    assert torch_private.direct_compiler() is None and torch_private.fused_adam(optimizer) is None


def test_a_graph_serves_the_threads_and_strides_that_it_was_compiled_for():
    """Nothing else checks them: Inductor's code is called directly."""
    module = Body(lambda self, x: (x @ self.w).sum(), w=torch.nn.Parameter(torch.randn(4, 3)))
    captured = assert_same(module, data(2))
    module.w.data = module.w.data.t().contiguous().t()
    captured(*data(1)[0])
    assert captured.graphs == 2
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        captured(*data(1)[0])
    finally:
        torch.set_num_threads(threads)
    assert captured.graphs == 3 and captured.eager is None
