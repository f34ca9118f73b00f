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

import errno
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
REMEDY = "take a copy of the log, or cut it off before that line: what is missing is made again"
_HOW = {"evaluated": ("key", "round", "fitness", "losses", "killed", "steps"),
        "cached": ("key", "of"), "dead": ("cause",)}  # fmt: skip
_SAID = ("number", "after", "kind", "structure")


class EventLog:
    """Appends to `events.jsonl`. Every line is with the system before the next step is taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
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
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

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
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                event = json.loads(line)
                if not isinstance(event, dict):
                    raise ValueError
            except (ValueError, RecursionError):
                raise UserError(f"{path}, line {number} is damaged: {REMEDY}") from None
            yield event


def read_log(path: Path) -> Iterator[Event]:
    """As `read`, of a search's log: every line has what a candidate's line must have.

    Raises:
        UserError: as `read`, and if a line lacks something.
    """
    for number, event in enumerate(read(path), 1):
        if lacking := _lacking(event):
            said = f"is of another version, or damaged ({', '.join(lacking)})"
            raise UserError(f"{path}, line {number} {said}: {REMEDY}")
        yield event


def _lacking(event: Event) -> list[str]:
    """Names of what a line has not, or has of another kind."""
    if "asked" in event:
        who, wanted = event["asked"], ("number", "after", "kind")
        return [name for name in wanted if not isinstance(who, dict) or name not in who]
    wanted = _HOW.get(str(event.get("how")))
    if wanted is None:
        return ["how"]
    lacking = [name for name in (*_SAID, *wanted) if name not in event]
    if not isinstance(event.get("number", 0), int):
        lacking.append("number")
    if not isinstance(event.get("fitness", 0.0), int | float | None):
        lacking.append("fitness")
    return lacking


def count(path: Path) -> tuple[int, int]:
    """How many candidates were told, and how many of them were trained."""
    told = [event["how"] for event in read_log(path) if "asked" not in event]
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

    Raises:
        UserError: its parent is missing, or its edit cannot be read.
    """
    parent, number = event.get("parent"), event["number"]
    if parent is not None and parent not in programs:
        raise UserError(f"candidate {number} of the log: its parent {parent} is missing: {REMEDY}")
    program = initial if parent is None else programs[parent]
    try:
        edit = Edit.from_json(event["edit"]) if "edit" in event else None
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"candidate {number} of the log: its edit cannot be read ({error}): it is damaged, or "
            "uses a function that is missing here"
        ) from error
    if edit is not None:
        if not 0 <= edit.place <= len(program):
            raise UserError(f"candidate {number} of the log: its edit is of no statement: {REMEDY}")
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
