"""Files that are replaced as a whole, and lines that are shown: nothing here stops a run half-way.

Standard library only.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from experiments.config import UserError
from experiments.programs import DRAFT

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a disk without room."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty where there is none or it is damaged."""
    try:
        content = json.loads(_text_of(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text_of(path: Path) -> str:
    """What a text file holds; on NFS it is gone from under its reader when it is replaced."""
    try:
        return path.read_text()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return path.read_text()


def write_json(path: Path, content: dict[str, Any], durable: bool = False) -> None:
    """Replaces a JSON file in one stroke."""
    write_text(path, json.dumps(content, indent=2) + "\n", durable)


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Replaces a text file in one stroke: a crash leaves the old one or the new one.

    `durable`: so does a power loss; costs some milliseconds.
    """
    with replacing(path) as draft, draft.open("w") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the name of a draft beside a file, which takes its place in one stroke, if all is well.

    No other thread, process or machine has a draft of that name. (In containers all processes may
    have the same number.)
    """
    draft = _draft_of(path)
    try:
        yield draft
        draft.replace(path)
    except BaseException:  # Ctrl-C, too, leaves no draft behind
        with contextlib.suppress(OSError):  # there may be none, nor its folder
            draft.unlink()
        raise


def _draft_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


def share(path: Path) -> None:
    """Gives a file the rights that new files have here: safetensors makes its own private."""
    with contextlib.suppress(OSError):  # not every file system has them
        probe = _draft_of(path)
        probe.touch()
        try:
            path.chmod(stat.S_IMODE(probe.stat().st_mode))
        finally:
            probe.unlink()


def drop_drafts(folder: Path) -> None:
    """Removes the drafts of who was killed in `replacing`; for the one who may write there now."""
    for draft in folder.glob("*.tmp"):
        if DRAFT.search(draft.name):
            with contextlib.suppress(OSError):
                draft.unlink()


def make_folder(path: Path, remedy: str = "choose another with results_dir=PATH") -> None:
    """Makes a folder, with those above it, where it is missing.

    Args:
        remedy: How the command that is called takes another folder.

    Raises:
        UserError: where that cannot be; names the folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot make the folder {path} ({reason}): {remedy}") from error


def cannot_lock(path: Path, error: OSError) -> UserError:
    """What to say where a file system has no locks: two processes could write one folder."""
    return UserError(
        f"cannot lock {path} ({error.strerror or error}): results must lie on a file system with "
        "file locks (Lustre: mounted with flock): choose another with results_dir=PATH"
    )


def sync_folder(folder: Path) -> None:
    """Makes what was renamed or made in a folder survive a power loss, where the disk can."""
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def stamp(path: Path) -> tuple[int, ...]:
    """What changes whenever a file is written or replaced; () where there is none.

    Told apart by it, files need no clock. Take it before the file is read.
    """
    try:
        facts = path.stat()
    except OSError:
        return ()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def set_aside(path: Path) -> str:
    """Keeps a damaged file under another name; returns that name, or "" where there is none.

    Raises:
        OSError: if it cannot be renamed.
    """
    if not os.path.lexists(path):
        return ""
    kept, number = path.with_name(f"{path.name}.damaged"), 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(kept)
    return kept.name


def say(text: str, stream: TextIO | None) -> None:
    """Shows a text. A terminal that is gone, a closed pipe or a full disk is no reason to stop.

    Args:
        text: With its line end.
        stream: sys.stderr or sys.stdout; None where the process has none.
    """
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        say(text.encode("ascii", "replace").decode(), stream)
    except ValueError:  # closed
        return
    except OSError as error:
        if error.errno not in FULL:  # it will not come back
            _silence(stream)


def show_table(console: Any, table: Any) -> None:
    """Prints a table of rich with all its words and digits, on a narrow terminal, too.

    There rich would cut them off, and 11.52 would read as 11.
    """
    from rich.measure import Measurement

    width = console.width
    wanted = Measurement.get(console, console.options.update(max_width=10_000), table)
    room = 2 * len(table.columns)  # for what is beside the words, which rich shares out
    console.width = max(width, min(wanted.minimum + room, wanted.maximum))
    try:
        console.print(table)
    finally:
        console.width = width


def end_output() -> None:
    """Before a process ends: what cannot be shown must not change its exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _silence(stream)  # pyright: ignore[reportArgumentType]


def _silence(stream: TextIO) -> None:
    """Sends a broken stream, with what waits in it, to nowhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
