"""Documents from the files that text comes in, piece by piece, so that memory stays flat."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.packages import get

_VERSION, _TEXT_VERSION, _LONG_VERSION = 1, 2, 3
"""To be raised whenever a reader gives other text: part of a cache's name. The second is that of
splits with a text file, whose marks of byte order were text once; the third of those with a text
file that is read in pieces, between which SentencePiece once put a space."""
PIECE = 1 << 20
"""Characters of a piece, about; a piece ends behind a line."""
ROWS = 64
"""Of a parquet file that are held at a time."""
Piece = tuple[str, bool]
"""Text, and whether a document ends with it."""


def version_of(files: Iterable[Path]) -> int:
    """Which text the readers give of some files: part of a cache's name."""
    texts = [path for path in files if path.name.lower().endswith((".txt", ".txt.gz"))]
    if any(path.name.lower().endswith(".gz") or path.stat().st_size >= PIECE for path in texts):
        return _LONG_VERSION
    return _TEXT_VERSION if texts else _VERSION


class UnreadableText(UserError):
    """A file that is cut, damaged or of another kind; the message says which and why."""


def read_pieces(path: Path, markers: str = "keep") -> Iterator[Piece]:
    """The documents of a file.

    Args:
        path: A parquet, JSON-lines or text file, the latter two compressed or not. A text file is
            one document.
        markers: Of Wiki-40B (`_START_ARTICLE_` and so on): keep | strip.

    Raises:
        UnreadableText: one line on what is wrong with the file.
    """
    name = path.name.lower().removesuffix(".gz")
    read: Callable[[Path], Iterator[Piece]]
    if name.endswith(".parquet"):
        read = _parquet
    elif name.endswith((".jsonl", ".json")):
        read = _json_lines
    else:
        read = _text
    strip = without_markers if markers == "strip" else None
    try:
        for text, is_end in read(path):
            yield (strip(text) if strip else text), is_end
    except UserError:
        raise
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableText(f"{path} is cut or damaged ({error}): get it again") from error
    except UnicodeDecodeError as error:
        raise UnreadableText(f"{path} is not UTF-8 text ({error.reason}): convert it") from error


def _open(path: Path) -> Any:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _text(path: Path) -> Iterator[Piece]:
    with _open(path) as file:
        held: str | None = None
        for piece in in_pieces(iter(lambda: file.read(PIECE), "")):
            if "\0" in piece:
                raise UnreadableText(
                    f"{path} holds characters 0, as UTF-16 or a damaged copy does: convert it to "
                    "UTF-8, or get it again"
                )
            if held is not None:
                yield held, False
            held = piece
        yield held or "", True


def in_pieces(chunks: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that end behind a line; a line longer than that is cut somewhere."""
    rest = ""
    for chunk in chunks:
        rest += chunk
        if len(rest) >= PIECE:
            cut = rest.rfind("\n") + 1 or len(rest)
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _json_lines(path: Path) -> Iterator[Piece]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line.removeprefix("\ufeff"))
            except (ValueError, RecursionError) as error:
                raise UnreadableText(
                    f"{path}, line {number}: no JSON ({error}): mend that line"
                ) from error
            remedy = 'write {"text": ...} for each document'
            yield _text_of(entry, f"{path}, line {number}", remedy), True


def _text_of(entry: Any, where: str, remedy: str) -> str:
    text = entry.get("text") if isinstance(entry, dict) else None
    if isinstance(text, bytes):  # the Wiki-40B of TensorFlow Datasets
        text = text.decode("utf-8")
    if not isinstance(text, str):
        has = ", ".join(entry) if isinstance(entry, dict) else type(entry).__name__
        if isinstance(entry, dict) and "text" in entry:
            has = "null" if text is None else type(text).__name__
        raise UnreadableText(f"{where}: there is no text under 'text' (there is: {has}): {remedy}")
    try:
        text.encode()  # no tokenizer takes half of a pair of surrogates, which JSON can hold
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise UnreadableText(f"{where}: {half} is half a character: mend that line") from error
    return text


def _parquet(path: Path) -> Iterator[Piece]:
    remedy = "write the file anew without such rows"
    for number, row in enumerate(parquet_rows(path, ["text"]), 1):
        yield _text_of(row, f"{path}, row {number}", remedy), True


def parquet_rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file, with some of its columns.

    Raises:
        UnreadableText: where it is damaged, or lacks a column.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{path}: {error}; {get('pyarrow')}") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            if missing := [column for column in columns if column not in there]:
                raise UnreadableText(
                    f"{path} has no column '{missing[0]}' (there is: {', '.join(there)})"
                )
            for batch in file.iter_batches(batch_size=ROWS, columns=columns):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UnreadableText(f"{path} is cut or damaged ({reason}): get it again") from error


def without_markers(text: str) -> str:
    """The text of a Wiki-40B article without its markers; paragraphs are lines."""
    text = re.sub(r"\s*_START_(?:ARTICLE|SECTION|PARAGRAPH)_\s*", "\n", text)
    return text.replace("_NEWLINE_", "\n").strip("\n")
