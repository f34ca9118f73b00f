"""Whether the program has changed while it was compared: then its runs are of two programs."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from experiments.compare.ledger import Ledger

MOST_BYTES = 1_000_000
"""Larger files that a command names are data."""


def files_of(command: str, folder: Path) -> dict[str, str]:
    """The scripts and settings that a command names, with a digest of each."""
    try:
        words = shlex.split(command)
    except ValueError:  # the shell will say it
        words = command.split()
    found = {}
    for word in (part for one in words for part in (one, one.partition("=")[2]) if part):
        try:
            path = folder / word
            if path.is_file() and path.stat().st_size <= MOST_BYTES:
                found[word] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        except (OSError, ValueError):  # no name of a file
            continue
    return found


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
