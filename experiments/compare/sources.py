"""The program's own files: whether they have changed while it was compared, so that its runs are of
two programs, and whether they build the baseline where they build no other."""

from __future__ import annotations

import hashlib
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from experiments.compare import imported
from experiments.compare.ledger import Ledger

MOST_BYTES = 1_000_000
"""Larger files that a command names are data."""


def files_of(command: str, folder: Path) -> dict[str, str]:
    """The scripts and settings that a command names, and the modules beside them that the scripts
    import, with a digest of each."""
    try:
        words = shlex.split(command)
    except ValueError:  # the shell will say it
        words = command.split()
    found, went = {}, Path()
    for before, one in itertools.pairwise(["", *words]):
        if before == "cd" and "{" not in one:
            went /= one.rstrip(";")
        for word in filter(None, (one, one.partition("=")[2])):
            name = word.removeprefix("$OLDPWD/")
            name = name if name != word else str(went / word)
            if digest := _digest(folder / name):
                found |= _with_modules(folder / name, (folder / name).parent, folder)
                found[name] = digest
    for module in (after for word, after in itertools.pairwise(words) if word == "-m"):
        if path := imported.file_of(module, folder):
            found |= _with_modules(path, folder, folder)
            found[str(path.relative_to(folder))] = _digest(path)
    return found


def _with_modules(script: Path, root: Path, folder: Path) -> dict[str, str]:
    if script.suffix != ".py":
        return {}
    paths = imported.modules(script, root)
    return {
        str(path.relative_to(folder) if path.is_relative_to(folder) else path): digest
        for path in paths
        if (digest := _digest(path))
    }


def _digest(path: Path) -> str:
    """Of a file that is no data; empty: there is none."""
    try:
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except (OSError, ValueError):  # no name of a file
        pass
    return ""


def changed(ledger: Ledger, files: dict[str, str]) -> list[str]:
    """Notes the files of now; which of them were others when runs that count have ended."""
    now, others = {}, set[str]()
    for event in ledger.events():
        if event["event"] == "sources":
            now = event["files"]
        elif event["event"] == "ended" and event in ledger.known.values():
            others |= {name for name in files if now.get(name, files[name]) != files[name]}
    if now != files:
        ledger.note("sources", files=files)
    return sorted(others)


def remarks(names: list[str]) -> list[str]:
    """What to say of it, in the beginning and beside the verdict."""
    if not names:
        return []
    verb = "has" if len(names) == 1 else "have"
    return [
        f"Beware: {', '.join(names)} {verb} changed since some of these runs: they are of two "
        "programs; with another --name all are run anew."
    ]


def left_behind(files: Iterable[str], folder: Path, names: Sequence[str]) -> Iterator[str]:
    """What to say of a script that builds the baseline in more places than another: a second model,
    or a second phase, may stay with it whatever {optimizer} says.

    Args:
        files: Of the command.
        folder: Where it runs.
        names: Of the optimizers, the baseline first.
    """
    for file in files:
        if not file.endswith(".py"):
            continue
        text = (folder / file).read_text(errors="replace")
        base, *others = [_places(text, name) for name in names]
        for name, places in zip(names[1:], others, strict=True):
            if 0 < len(places) < len(base):
                yield (
                    f"Beware: {file} builds {names[0]} in lines {', '.join(map(str, base))} but "
                    f"{name} in {', '.join(map(str, places))} alone: what stays with {names[0]} "
                    "whatever {optimizer} says is not compared."
                )


def _places(text: str, name: str) -> list[int]:
    """Lines that call something by a word of a name: torch.optim.SGD(...) of sgd."""
    words = "|".join(word for word in re.findall("[a-z]+", name.lower()) if len(word) > 2)
    call = re.compile(rf"^\s*(?!#|class\b|def\b).*\b(?:{words or '(?!)'})\(", re.IGNORECASE)
    return [number for number, line in enumerate(text.splitlines(), 1) if call.match(line)]
