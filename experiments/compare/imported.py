"""The modules that a script imports from where it lies: they are the user's program, too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

MOST_FILES = 100
"""The nearest; what they import beyond is a library."""


def modules(script: Path, root: Path) -> list[Path]:
    """What a script imports, and what that imports, as far as it lies below a folder.

    Args:
        script: Of Python.
        root: Where Python looks first: the folder of the script, of `-m` that of the call.
    """
    found, waiting = dict[Path, None](), [script]
    while waiting and len(found) < MOST_FILES:
        for path in _imported_by(waiting.pop(0), root):
            if path not in found and path != script:
                found[path] = None
                waiting.append(path)
    return list(found)[:MOST_FILES]


def file_of(module: str, root: Path) -> Path | None:
    """The file that `python -m` runs, if it lies there."""
    path = root.joinpath(*module.split("."))
    places = (path.with_name(f"{path.name}.py"), path / "__main__.py")
    return next((place for place in places if place.is_file()), None)


def _imported_by(script: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):  # Python will say it
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            above = script.parents[: node.level]  # fewer where it goes beyond the call's folder
            base = above[-1] if above else root
            module = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files(base, [*module, alias.name])


def _files(base: Path, parts: list[str]) -> Iterator[Path]:
    """`a/__init__.py` and `a/b.py` of `a.b`; none of a name that is no module."""
    for number in range(1, len(parts) + 1):
        path = base.joinpath(*parts[:number])
        for place in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if place.is_file():
                yield place
