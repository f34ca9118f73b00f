"""What a comparison leaves behind, and how it goes on: `results/comparisons/NAME/`.

    about.json      what is compared: the program or page, the metric, the optimizers
    events.jsonl    one line per start, end and remark, appended while it goes on
    runs/           what programs have printed; a folder for each of their runs
    trials.csv      every run as a row
    verdict.txt     the sentences; verdict.json the same for programs

A run is known by its optimizer, settings and seed. Killed at any moment, the same command runs what
has no end yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from experiments.compare.asking import Answer, Ask
from experiments.config import UserError
from experiments.files import cannot_lock, replacing
from experiments.packages import installable
from experiments.store import now, read_json, write_json

NUM_FAILURES_AT_FIRST = 3
"""An optimizer whose first runs all fail, at least so many, is not compared but mended."""
Key = tuple[str, float, float, int, int]
_NUMBERS = ("tune", "report", "beside", "seconds")
COLUMNS = ("key", "optimizer", "phase", "lr", "weight_decay", "seed", "copy", "state", *_NUMBERS)
COLUMNS += ("tries", "message", "time")


class Ledger:
    """A comparison's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "events.jsonl"
        self.known: dict[Key, dict[str, Any]] = {}

    @contextlib.contextmanager
    def opened(self, about: dict[str, Any], may_change: bool = False) -> Iterator[Ledger]:
        """Holds the folder for one process, and reads what is known.

        Args:
            about: What is compared.
            may_change: Whether it may be another than before while no run has gone well: a slip in
                a command costs a run, not a name.

        Raises:
            UserError: if another process is at it, or another comparison has the name.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}): --dir says where to"
            ) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{self.path}: another process is at this comparison") from None
            except OSError as error:
                raise cannot_lock(self.path / ".lock", error) from None
            self._mend()
            self._read()
            self._check_same(about, may_change)
            yield self
        finally:
            os.close(handle)

    def _check_same(self, about: dict[str, Any], may_change: bool) -> None:
        before = read_json(self.path / "about.json")
        about = json.loads(json.dumps(about))
        if before and before != about and may_change and self.finished() is None:
            self.forget([_ask(event) for event in self.known.values()])
        elif before and before != about:
            names = [key for key in {*before, *about} if before.get(key) != about.get(key)]
            raise UserError(
                f"{self.path} holds a comparison with another {', '.join(sorted(names))}: give "
                "this one a name of its own with --name"
            )
        with writing_to(self.path / "about.json"):
            write_json(self.path / "about.json", about)

    def _mend(self) -> None:
        """Cuts a last line that a crash has left half written."""
        if not self.file.exists():
            return
        content = self.file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with self.file.open("r+b") as file:
                file.truncate(len(whole))

    def _read(self) -> None:
        for event in self.events():
            key = _key(event)
            if event["event"] == "ended":
                self.known[key] = event
            elif event["event"] == "forgotten":
                self.known.pop(key, None)

    def events(self) -> list[dict[str, Any]]:
        """All events, the first one first.

        Raises:
            UserError: for a damaged line.
        """
        if not self.file.exists():
            return []
        found = []
        for number, line in enumerate(self.file.read_text(errors="replace").splitlines(), 1):
            try:
                found.append(_event(line))
            except (ValueError, TypeError, RecursionError):
                raise UserError(
                    f"{self.file}, line {number} is damaged: mend it, or delete it and what it "
                    "told is run again"
                ) from None
        return found

    def note(self, event: str, ask: Ask | None = None, **facts: Any) -> dict[str, Any]:
        """Appends an event, on disk before it returns."""
        row = {"event": event, "time": now(), **(vars(ask) if ask else {}), **_plain(facts)}
        with writing_to(self.file), self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return row

    def end(self, ask: Ask, answer: Answer, state: str, message: str = "", **more: Any) -> None:
        """Notes what became of a run: finished, diverged or failed.

        `more`: tries, and the limit in seconds where it was ended for its time.
        """
        facts = {**vars(answer), "state": state, "message": message, "tries": 1, **more}
        self.known[ask.identity] = self.note("ended", ask, **facts)

    def forget(self, asks: Iterable[Ask]) -> None:
        """Lets runs be run again by the next call."""
        for ask in asks:
            self.known.pop(ask.identity, None)
            self.note("forgotten", ask)

    def forget_pilot(self, only_failed: bool = False) -> None:
        """Has the pilot run again, once the program is mended, while nothing rests on it yet."""
        known = list(self.known.values())
        if all(event["phase"] in ("pilot", "check") for event in known):
            self.forget(_ask(e) for e in known if e["state"] == "failed" or not only_failed)

    def refuse_hopeless(self, asks: Iterable[Ask]) -> None:
        """Raises: UserError where an optimizer of this batch does nothing but fail.

        Its runs are forgotten: once mended, the same command tries them again.
        """
        asks = list(asks)
        for name in dict.fromkeys(ask.optimizer for ask in asks):
            states = self.states(name)
            if len(states) >= NUM_FAILURES_AT_FIRST and set(states) == {"failed"}:
                mine = [ask for ask in asks if ask.optimizer == name and self.answer(ask)]
                message = self.known[mine[0].identity]["message"]
                self.forget(mine)
                raise UserError(
                    f"every run of {name} failed ({message}): {_remedy(message)}, and the same "
                    "command tries them again"
                )

    def failed_last(self) -> list[Ask]:
        """The runs that have failed since one came to an end, the newest first."""
        found = []
        for event in reversed(self.known.values()):
            if event["state"] != "failed":
                break
            found.append(_ask(event))
        return found

    def ended_early(self) -> list[tuple[Ask, float]]:
        """The runs that were ended for their time, and after how many seconds."""
        told = [(e, e.get("limit")) for e in self.known.values() if e["state"] == "failed"]
        return [(_ask(event), limit) for event, limit in told if isinstance(limit, int | float)]

    def finished(self) -> Ask | None:
        """A run that went well."""
        events = self.known.values()
        return next((_ask(event) for event in events if event["state"] == "finished"), None)

    def pilot(self) -> list[tuple[Ask, Answer]]:
        """The runs of the pilot that went well, in their order."""
        known = self.known.values()
        asks = [_ask(e) for e in known if e["phase"] == "pilot" and e["state"] == "finished"]
        return [(ask, answer) for ask in asks if (answer := self.answer(ask)) is not None]

    def slowest(self) -> float:
        """Seconds of the slowest run that ended and did not fail; NaN: there is none."""
        ended = [e["seconds"] for e in self.known.values() if e["state"] != "failed"]
        return max((seconds for seconds in ended if seconds is not None), default=math.nan)

    def answer(self, ask: Ask) -> Answer | None:
        """What is known of a run."""
        event = self.known.get(ask.identity)
        if event is None:
            return None
        return Answer(*(math.nan if event.get(k) is None else event[k] for k in _NUMBERS))

    def states(self, optimizer: str) -> list[str]:
        """How the runs of an optimizer have ended."""
        return [e["state"] for e in self.known.values() if e["optimizer"] == optimizer]

    def write_table(self) -> Path:
        """Every run as a row of trials.csv."""
        import csv

        path = self.path / "trials.csv"
        with replacing(path) as draft, draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, list[str](COLUMNS), extrasaction="ignore", restval="")
            writer.writeheader()
            for event in self.known.values():
                writer.writerow(event)
        return path


def read_table(path: Path | str) -> Any:
    """The runs of a comparison as a pandas table, a row each, from its events."""
    import pandas as pd

    ledger = Ledger(Path(path))
    ledger._read()
    return pd.DataFrame(list(ledger.known.values()), columns=list(COLUMNS))


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Raises: UserError where that cannot be, e.g. on a full disk; what is there is kept."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: {error.strerror}: mend that, and the same command goes on"
        ) from None


_KINDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "ended": {
        **{"key": str, "optimizer": str, "phase": str, "state": str, "message": str},
        **{"lr": (int, float), "weight_decay": (int, float), "seed": int, "copy": int},
        **{name: (int, float, type(None)) for name in _NUMBERS},
    },
    "forgotten": {"optimizer": str},
    "started": {"machine": str, "pid": int, "born": (str, int, float, type(None))},
    "agreed": {"budget": int},
    "sources": {"files": dict},
    "carried": {"files": list},
}
"""What is read again of events, and of which kind it is."""


def _event(line: str) -> dict[str, Any]:
    """Raises: ValueError or TypeError for what was not written here."""
    event = {**json.loads(line)}
    for name, kind in {"event": str, **_KINDS.get(event.get("event", ""), {})}.items():
        if not isinstance(event.get(name, ...), kind):
            raise ValueError(name)
    return event


def _key(event: dict[str, Any]) -> Key:
    names = ("optimizer", "lr", "weight_decay", "seed", "copy")
    return tuple(event.get(name) for name in names)  # pyright: ignore[reportReturnType]


def _ask(event: dict[str, Any]) -> Ask:
    return Ask(**{field.name: event[field.name] for field in fields(Ask)})


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinity have no place in JSON."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()
    }


def _remedy(message: str) -> str:
    """What to mend: most often the command calls another Python than its user thinks."""
    missing = re.search(r"No module named '(\w+)", message)
    if not missing:
        return "mend it"
    what = installable(missing[1])
    return f"pip install {what} into the Python that the command calls, or call another there"
