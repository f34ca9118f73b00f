"""Every script tells what it does and refuses what it does not know, before it does anything."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
RUNNABLE = [path.name for path in sorted(SCRIPTS.glob("*.py")) if "__main__" in path.read_text()]


def called(function: ast.AST) -> list[str]:
    """The last names of what it calls, in order."""
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return [getattr(one, "attr", getattr(one, "id", "")) for one in calls]


@pytest.mark.parametrize("name", RUNNABLE)
def test_its_arguments_are_read_and_checked(name: str) -> None:
    text = (SCRIPTS / name).read_text()
    if found := re.search(r"from (experiments\.\w+\.__main__) import main", text):
        text = (SCRIPTS.parent / f"{found[1].replace('.', '/')}.py").read_text()
    tree = ast.parse(text)
    found = [name for node in tree.body for name in called(node)]
    assert {"parse_args", "parse_known_args"} & {*found}


def test_runs_lie_below_the_folder_of_the_call_for_every_script() -> None:
    """As for `run.py`, so that an id that it has printed is found."""
    for name in RUNNABLE:
        assert not re.search(r'ROOT / "results/runs"', (SCRIPTS / name).read_text()), name


def test_what_is_to_be_installed_is_on_an_index() -> None:
    """`lion-experiments` itself is not, so that an extra of it is no remedy."""
    root = SCRIPTS.parent
    code = [*root.glob("experiments/**/*.py"), *root.glob("scripts/**/*.py")]
    texts = [
        *code,
        root / "README.md",
        *root.glob("*/README.md"),
        *root.glob("experiments/*/README.md"),
    ]
    for path in texts:
        assert "pip install 'lion-experiments" not in path.read_text(), path
