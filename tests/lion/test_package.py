"""The package can be published alone: it imports torch and the standard library; its docs run."""

import ast
import doctest
import importlib
import sys
from pathlib import Path

import pytest

import lion

FILES = sorted(Path(lion.__file__).parent.glob("*.py"))
MODULES = ["lion" if f.stem == "__init__" else f"lion.{f.stem}" for f in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_imports_only_torch_and_the_standard_library(file):
    roots = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    optional = {"triton"} if file.stem == "triton_kernel" else set()
    assert roots <= {"torch", "lion"} | optional | set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    if name == "lion.triton_kernel":
        pytest.importorskip("triton")
    module = importlib.import_module(name) if name != "lion.param_groups" else None
    module = module or sys.modules[name]
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", ["Lion", "HeroLion", "PowerSign", "AddSign"])
def test_public_optimizers_have_examples(name):
    examples = doctest.DocTestFinder(recurse=False).find(getattr(lion, name))
    assert examples and examples[0].examples


def test_types_are_published():
    assert (Path(lion.__file__).parent / "py.typed").exists()
