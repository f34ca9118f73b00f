"""Makes the parts of a token store, as many processes together as there are.

Processes that start together share the parts out by locks; one that is killed leaves its part to
the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import UserError
from experiments.data.text_readers import Piece
from experiments.data.token_store import Plan, facts_of, is_there, part_path
from experiments.data.tokenizer import Tokenizer

BATCH_CHARACTERS = 1 << 20
"""That are handed to the tokenizer at a time."""
POLL_SECONDS = 0.2


def tokenise(plan: Plan) -> None:
    """Makes the parts that are not there yet, together with other processes that do the same.

    Raises:
        UserError: for a file that cannot be read, or a disk that is full.
    """
    try:
        for number in range(len(plan.parts)):
            if is_there(plan, number):
                _forget_if_changed(plan, number)
        if all(is_there(plan, number) for number in range(len(plan.parts))):
            return
        plan.folder.mkdir(parents=True, exist_ok=True)
        with _bar(plan) as show:
            while waiting := [n for n in range(len(plan.parts)) if not is_there(plan, n)]:
                taken = [number for number in waiting if _make(plan, number, show)]
                if not taken:
                    time.sleep(POLL_SECONDS)
                show(None)
    except OSError as error:
        raise UserError(
            f"tokens of {plan.name} cannot be written to {plan.folder} ({error}): free some space "
            "or set data.cache_dir; what is done is kept"
        ) from error


def _forget_if_changed(plan: Plan, number: int) -> None:
    """Takes away the note of a part whose files have another content than it was made of.

    The name of the cache tells sizes and some bytes alone. All bytes are read where the time of a
    file is another: a copy's is, too.
    """
    files, note = plan.parts[number], part_path(plan.folder, number, "json")
    times = _times(files)
    if facts_of(plan.folder, number).get("times", times) == times:  # older notes have none
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a cache that cannot be written may be right
            lock = stack.enter_context(part_path(plan.folder, number, "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_there(plan, number) or (facts := facts_of(plan.folder, number))["times"] == times:
            return
        if facts["content"] != _content(files):
            note.unlink()
            return
        with contextlib.suppress(OSError):
            _put(note, facts | {"times": times})


def _times(files: Iterable[Path]) -> list[int]:
    return [path.stat().st_mtime_ns for path in files]


def _content(files: Iterable[Path]) -> str:
    """Hash of all bytes of some files."""
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _put(note: Path, facts: dict[str, Any]) -> None:
    draft = note.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(facts))
    draft.replace(note)


def _make(plan: Plan, number: int, show: Callable[[int | None], None]) -> bool:
    """Makes a part, unless somebody else does so; whether it did."""
    with part_path(plan.folder, number, "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not is_there(plan, number):
            for draft in plan.folder.glob(f"part-{number:05d}.*.tmp"):  # of one that was killed
                draft.unlink(missing_ok=True)
            _write(plan, number, show)
    return True


def _write(plan: Plan, number: int, show: Callable[[int | None], None]) -> None:
    tokens, ends = part_path(plan.folder, number, "tokens"), part_path(plan.folder, number, "ends")
    drafts = [path.with_suffix(f"{path.suffix}.{os.getpid()}.tmp") for path in (tokens, ends)]
    files = plan.parts[number]
    made_of = {"times": _times(files), "content": _content(files)}  # before they are read
    try:
        with drafts[0].open("wb") as token_file, drafts[1].open("wb") as end_file:
            facts = _encode(plan, files, token_file, end_file, show)
            for file in (token_file, end_file):
                file.flush()
                os.fsync(file.fileno())
        drafts[0].replace(tokens)
        drafts[1].replace(ends)
        _put(part_path(plan.folder, number, "json"), facts | made_of)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def _encode(
    plan: Plan,
    files: Iterable[Path],
    token_file: Any,
    end_file: Any,
    show: Callable[[int | None], None],
) -> dict[str, int]:
    facts = {"tokens": 0, "documents": 0, "words": 0}
    end = np.array([plan.tokenizer.eos_id] if plan.adds_end else [], plan.dtype)
    is_begun = False
    for batch in _batches(plan, files, show):
        rows = iter(_ids(plan.tokenizer, batch, is_begun))  # each is let go when it is written
        for (text, is_end), ids in zip(batch, rows, strict=True):
            row = np.concatenate([ids, end]) if is_end else ids
            token_file.write(row.astype(plan.dtype).tobytes())
            facts["tokens"] += len(row)
            facts["words"] += len(text.split())
            if is_end:
                end_file.write(np.int64(facts["tokens"]).tobytes())
                facts["documents"] += 1
            is_begun = not is_end
    return facts


def _ids(tokenizer: Tokenizer, batch: list[Piece], is_begun: bool) -> list[np.ndarray]:
    """Ids of each piece; those of a document give what the whole would.

    Before a text by itself SentencePiece puts a space. So a piece that goes on is read behind the
    end of a line, whose ids are taken off again.

    Args:
        tokenizer: Of the texts.
        batch: At least one piece.
        is_begun: Whether the first one goes on with a document.
    """
    goes_on = [is_begun, *(not is_end for _, is_end in batch[:-1])]
    if not any(goes_on):
        return tokenizer.encode([text for text, _ in batch])
    before, *rows = tokenizer.encode(
        ["\n", *("\n" + text if on else text for (text, _), on in zip(batch, goes_on, strict=True))]
    )
    for place, (on, ids) in enumerate(zip(goes_on, rows, strict=True)):
        if on and np.array_equal(ids[: len(before)], before):
            rows[place] = ids[len(before) :]
        elif on:
            rows[place] = tokenizer.encode([batch[place][0]])[0]
    return rows


def _batches(
    plan: Plan, files: Iterable[Path], show: Callable[[int | None], None]
) -> Iterator[list[Piece]]:
    held: list[Piece] = []
    size = 0
    for path in files:
        for piece in plan.read(path):
            held.append(piece)
            size += len(piece[0])
            if size >= BATCH_CHARACTERS:
                yield held
                held, size = [], 0
        show(path.stat().st_size)
    if held:
        yield held


@contextlib.contextmanager
def _bar(plan: Plan) -> Iterator[Callable[[int | None], None]]:
    """A progress bar on a terminal; bytes of finished files move it, None for what others did."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    sizes = [sum(path.stat().st_size for path in part) for part in plan.parts]
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(f"tokenising {plan.name}", total=sum(sizes))

        def show(num_bytes: int | None) -> None:
            if num_bytes is not None:
                progress.advance(task, num_bytes)
                return
            done = sum(s for n, s in enumerate(sizes) if is_there(plan, n))
            progress.update(task, completed=done)

        yield show
