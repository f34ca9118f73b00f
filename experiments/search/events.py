"""The log of a search: one JSON line for every candidate, in the order in which it was told.

    number after kind parent edit tries era    who it is: see `strategy.Candidate`; `after`: how
                                               many had been told when it was asked for
    structure key                              its hashes
    how        evaluated | cached | dead
    of         cached: the number of the program that was evaluated
    cause      dead: why
    round fitness losses killed steps          evaluated: see `evaluation.Outcome`
    flags                                      warnings, see `screening`

In free mode, lines with `asked` come between: a candidate in flight. A line that a crash has cut
is dropped. Kinds, rounds and numbers that are 0 or none are left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.search.edits import Edit
from experiments.search.language import Program
from experiments.search.strategy import CHILD, Candidate

Event = dict[str, Any]


class EventLog:
    """Appends to `events.jsonl`. Every line is with the system before the next step is taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        _drop_cut_line(self._handle)

    def append(self, event: Event) -> None:
        """Writes one line.

        Raises:
            OSError: e.g. on a full disk; the line is taken back, and the search can be resumed.
        """
        data = (json.dumps(event, allow_nan=False, separators=(",", ":")) + "\n").encode()
        before = os.fstat(self._handle).st_size
        if os.write(self._handle, data) != len(data):
            os.ftruncate(self._handle, before)
            raise OSError(f"{self.path}: the disk is full; make room and call again")

    def close(self) -> None:
        """Sends what was written to the disk."""
        os.fsync(self._handle)
        os.close(self._handle)


def read(path: Path) -> Iterator[Event]:
    """The events of a search, one after another.

    Raises:
        UserError: if a line but the last is damaged.
    """
    if not path.exists():
        return
    with path.open() as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                event = json.loads(line)
                if not isinstance(event, dict):
                    raise ValueError
                yield event
            except ValueError:
                said = "is damaged: take a copy of the log, or cut it off before that line"
                raise UserError(f"{path}, line {number} {said}") from None


def count(path: Path) -> tuple[int, int]:
    """How many candidates were told, and how many of them were trained."""
    told = [event["how"] for event in read(path) if "asked" not in event]
    return len(told), told.count("evaluated")


def describe(candidate: Candidate, after: int) -> Event:
    """Who a candidate is, for its line."""
    event: Event = {"number": candidate.number, "after": after, "kind": candidate.kind}
    if candidate.parent is not None:
        event["parent"] = candidate.parent
    if candidate.edit is not None:
        event["edit"] = candidate.edit.to_json()
    if candidate.kind == CHILD:
        event["tries"] = candidate.num_tries
    if candidate.era:
        event["era"] = candidate.era
    return event


def candidate_of(event: Event, programs: dict[int, Program], initial: Program) -> Candidate:
    """Reads back what `describe` gave.

    Args:
        event: Of a candidate.
        programs: Of the candidates before, by number; this one's is added.
        initial: The program that the search starts from.
    """
    parent, number = event.get("parent"), event["number"]
    program = initial if parent is None else programs[parent]
    edit = Edit.from_json(event["edit"]) if "edit" in event else None
    if edit is not None:
        program = edit.apply(program)
    programs[number] = program
    tries, era = event.get("tries", 1), event.get("era", 0)
    return Candidate(number, event["kind"], program, parent, edit, tries, era)


def _drop_cut_line(handle: int) -> None:
    """Takes back what stands behind the last newline."""
    end = os.fstat(handle).st_size
    tail = os.pread(handle, min(end, 1 << 20), max(0, end - (1 << 20)))
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(handle, end - len(tail) + tail.rfind(b"\n") + 1)
