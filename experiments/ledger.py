"""A run's measurements, `metrics.jsonl`: appended, made durable, trimmed, read back.

A measurement is named by its step, split, metric and weights. Of one that was made twice
(`job=evaluate`), the last counts. Standard library only.
"""

from __future__ import annotations

import errno
import json
import math
import os
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.files import sync_folder, write_text

_KEY = ("step", "split", "metric", "weights")
NO_EVALUATIONS = ("train", "run", "landscape", "telemetry")
"""Splits of the ledger that are no evaluation."""


class Ledger:
    """Appends measurements to a run's `metrics.jsonl`.

    A row that cannot be written (full disk) waits in memory and is tried again with the next
    one; a half-written line is taken back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []
        self._is_whole = False  # whether a line cut by a power loss has been looked for
        self._is_durable = False
        self._known: set[tuple[Any, ...]] = set()  # measurements of the step that was resumed from
        self.num_rows = 0

    def start_after(self, step: int) -> None:
        """Drops what a killed session measured after the step that is resumed from.

        Damaged lines go to `metrics.jsonl.damaged`.

        Raises:
            OSError: e.g. on a full disk; then the file is as it was.
            UserError: where it cannot be read.
        """
        rows, damaged = _parse(self.path)
        kept = [row for row in rows if row["step"] <= step]
        if damaged:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            with aside.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in damaged.values())
        self.num_rows = len(kept)
        self._known = {key_of(row) for row in kept if row["step"] == step}
        if not self.path.exists():
            self.path.touch()  # a power loss may take it: nothing is in it
            return
        write_text(self.path, "".join(_line(row) for row in kept), durable=True)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows; each has the keys step, split, metric, value, unit, weights, n, ..."""
        for row in rows:
            self._waiting.append(_line(row))
            self.num_rows += key_of(row) not in self._known
        try:
            self._flush()
        except OSError as error:
            warnings.warn(f"cannot write {self.path} now, will try again: {error}", stacklevel=2)

    def close(self) -> None:
        """Writes what waits, so that it survives a power loss.

        Raises:
            OSError: if it still cannot be written; then the run must not be called finished.
        """
        self._flush()
        if self._is_durable or not self.path.exists():
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(self.path.parent)
        self._is_durable = True

    def _flush(self) -> None:
        if not self._waiting:
            return
        data = "".join(self._waiting).encode()
        self._is_durable = False
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if not self._is_whole:
                _drop_cut_line(handle)
                self._is_whole = True
            before = os.fstat(handle).st_size
            try:
                written = os.write(handle, data)
                if written != len(data):
                    raise OSError(errno.ENOSPC, "disk full: only a part was written")
            except BaseException:  # Ctrl-C, too, leaves no half line behind
                self._is_whole = False
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)
        self._waiting.clear()


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What names a measurement."""
    return tuple(row[name] for name in _KEY)


def _drop_cut_line(handle: int) -> None:
    """Takes back what stands behind the last newline of a file."""
    end = os.fstat(handle).st_size
    if end and os.pread(handle, 1, end - 1) != b"\n":
        os.ftruncate(handle, os.pread(handle, end, 0).rfind(b"\n") + 1)


def _line(row: dict[str, Any]) -> str:
    """One JSON line; a value that JSON does not know becomes the string nan, inf or -inf.

    What else is not finite is not known: the standard error of such a value.
    """
    lost = {key for key, v in row.items() if isinstance(v, float) and not math.isfinite(v)}
    if lost:
        row = {**row, **dict.fromkeys(lost), "value": row["value"]}
    if "value" in lost:
        row["value"] = str(row["value"])
    return json.dumps(row, allow_nan=False) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`; a cut last line (power loss) is passed over.

    Damaged lines are left out with a warning.

    Raises:
        UserError: if the file cannot be read at all.
    """
    rows, damaged = _parse(path)
    if damaged:
        lines = ", ".join(map(str, [*damaged][:5])) + (", ..." if len(damaged) > 5 else "")
        warnings.warn(f"{path}: damaged and left out: line {lines}", stacklevel=2)
    return rows


def digest(path: Path, num_bytes: int | None = None) -> dict[str, int]:
    """Size and CRC-32 of the file, or of its beginning; empty where it cannot be read.

    Rows that are added later (`job=evaluate`) leave the beginning as it is.
    """
    try:
        data = path.read_bytes()[:num_bytes]
    except OSError:
        return {}
    return {"num_bytes": len(data), "crc32": zlib.crc32(data)}


def is_changed(path: Path, before: Any) -> bool:
    """Whether what stood in the file at the time of a `digest` has changed since."""
    if not isinstance(before, dict) or not isinstance(before.get("num_bytes"), int):
        return False
    return digest(path, before["num_bytes"]) != before


def num_lost(path: Path, counted: Any, step: int) -> int:
    """How many of the measurements up to a step that were counted once are no longer there.

    Args:
        path: Of the `metrics.jsonl`.
        counted: Measurements up to that step, as a checkpoint or a status says; None, or what is
            no number: unknown, so none is lost.
        step: Counted up to here.

    Raises:
        UserError: if the file cannot be read at all.
    """
    if not isinstance(counted, int):
        return 0
    there = sum(row["step"] <= step for row in _parse(path)[0])
    return max(0, counted - there)


def _parse(path: Path) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The measurements, and by its number each line that is none."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return [], {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    *whole, cut = text.split("\n")
    if not cut.startswith("{"):  # no row that a power loss has cut
        whole.append(cut)
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    damaged = {}
    for number, line in enumerate(whole, 1):
        if not line:  # a damaged line that somebody has emptied
            continue
        try:
            row = json.loads(line)
            if not isinstance(row["step"], int) or row["step"] < 0:
                raise TypeError("step")
            rows[key_of(row)] = {**row, "value": float(row["value"])}
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            damaged[number] = line
    return list(rows.values()), damaged


def evaluations_at(step: int, rows: list[dict[str, Any]]) -> int:
    """How many measurements of evaluations there are of a step."""
    return sum(row["step"] == step and row["split"] not in NO_EVALUATIONS for row in rows)


def lacks_end(status: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether a run that says that it is finished lacks its last evaluation.

    Args:
        status: As `store.Folder.read_status` gives it.
        rows: Of its ledger.
    """
    step = status.get("step")
    if status.get("state") != "finished" or step is None:
        return False
    counted = status.get("num_evaluations")
    if isinstance(counted, int):
        return evaluations_at(step, rows) < counted
    # As recorded before the status counted them.
    is_evaluated = any(row["split"] not in NO_EVALUATIONS for row in rows)
    return is_evaluated and not evaluations_at(step, rows)
