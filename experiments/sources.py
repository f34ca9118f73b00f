"""Which code a run's parts are made of: a hash of the files behind each `_target_`.

A file that lies where packages are installed is not looked at: the versions in the ledger tell of
those. From a file of one's own the imports are followed to other files of one's own; in
`experiments`, whose commit the ledger has, they are not. Nothing but packages' `__init__` is
imported for it. Standard library only.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from experiments.config import RunConfig

SECTIONS = ("task", "data", "model", "optimizer")
_OURS = __name__.partition(".")[0]


def hashes(config: RunConfig) -> dict[str, str]:
    """For each section with code of one's own the hash of its files."""
    found = {section: hash_of(targets(getattr(config, section))) for section in SECTIONS}
    return {section: code for section, code in found.items() if code}


def hash_of(targets: Iterable[str]) -> str:
    """Hash of one's own files behind dotted paths; "" where there are none."""
    files: dict[str, bytes] = {}
    for target in targets:
        _collect(_module_of(target), files)
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return whole.hexdigest()[:16] if files else ""


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """How the code of two sessions differs, in a few words; "" where it does not.

    Args:
        before: A session of a run's header, with `sources` and `commit`.
        now: The same of now.
    """
    theirs, ours = before.get("sources"), now["sources"]
    if isinstance(theirs, dict) and theirs != ours:
        changed = [name for name in SECTIONS if theirs.get(name) != ours.get(name)]
        is_gone = not set(changed) & set(ours)
        what = (
            "is an installed one now, or not found (PYTHONPATH?)"
            if is_gone
            else "has changed since"
        )
        return f"the code of its {', '.join(changed)} {what}"
    if before.get("commit") and now["commit"] and before["commit"] != now["commit"]:
        return f"it was trained at commit {before['commit']}, and this is {now['commit']}"
    return ""


def targets(section: Any) -> Iterator[str]:
    """Every `_target_` in a section, however deep."""
    if isinstance(section, dict):
        if isinstance(section.get("_target_"), str):
            yield section["_target_"]
        section = list(section.values())
    if isinstance(section, list):
        for part in section:
            yield from targets(part)


def _module_of(target: str) -> str:
    """The longest part of a dotted path that is a module of one's own; "" where none is."""
    parts = target.split(".")
    names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return next((name for name in reversed(names) if _file_of(name) is not None), "")


def _collect(module: str, files: dict[str, bytes]) -> None:
    """Adds the content of a module's file, and of the files of one's own that it imports."""
    path = _file_of(module)
    if module in files or path is None:
        return
    try:
        files[module] = content = path.read_bytes()
    except OSError:
        return
    if module.partition(".")[0] == _OURS:
        return
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for name in _foreign(content, package):
        _collect(name, files)


@lru_cache(maxsize=1024)
def _foreign(content: bytes, package: str) -> tuple[str, ...]:
    """What a file imports from elsewhere. Remembered: a sweep asks for each of its runs."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return ()
    names = dict.fromkeys(_imported(tree, package))
    return tuple(name for name in names if name.partition(".")[0] != _OURS)


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join(filter(None, [*above, base]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> Path | None:
    """The file of a module of one's own; None for others, and where there is none."""
    parts = module.split(".")
    if not module or not _is_own(parts[0]):
        return None
    spec = None
    for end in range(1, len(parts) + 1):
        if spec is not None and spec.submodule_search_locations is None:
            return None  # not a package: what follows is no module, and need not be imported
        try:
            spec = importlib.util.find_spec(".".join(parts[:end]))
        except (ImportError, ValueError, AttributeError):
            return None
        if spec is None:
            return None
    origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


@cache
def _is_own(package: str) -> bool:
    """Whether a top-level package lies elsewhere than where packages are installed."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or [])]
    places = [place for place in places if place not in ("", "built-in", "frozen")]
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    return bool(places) and not any(
        {"site-packages", "dist-packages"} & set(Path(place).parts)
        or any(Path(place).is_relative_to(folder) for folder in installed)
        for place in places
    )
