"""Readers of text, piece by piece: what they give is worked out by hand."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from experiments.data import text_readers
from experiments.data.text_readers import UnreadableText, read_pieces


def test_pieces_end_behind_lines_and_a_long_line_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never inside a line that fits: the same words would be other tokens."""
    monkeypatch.setattr(text_readers, "PIECE", 4)
    chunks = ["ab\ncd", "ef", "ghij\nk", "l\n\n"]
    assert list(text_readers.in_pieces(chunks)) == ["ab\n", "cdef", "ghij\n", "kl\n\n"]
    assert list(text_readers.in_pieces(["a", "b"])) == ["ab"] and not [*text_readers.in_pieces([])]


@pytest.mark.parametrize(
    ("rows", "said"),
    [(["fine", None], "row 2: there is no text under 'text' (there is: null)"),
     ([1, 2], "row 1: there is no text under 'text' (there is: int)"),
     ([["a"], ["b"]], "row 1: there is no text under 'text' (there is: list)")],
)  # fmt: skip
def test_a_row_without_text_is_refused_as_a_line_without_it_is(
    tmp_path: Path, rows: list[Any], said: str
) -> None:
    """Passed over, it would be less text without a word; as a number it ended in a TypeError."""
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path)
    with pytest.raises(UnreadableText) as error:
        list(read_pieces(path))
    assert str(path) in str(error.value) and said in str(error.value)
    lines = tmp_path / "train.jsonl"
    lines.write_text('{"text": null}\n')
    with pytest.raises(UnreadableText, match=r"there is: null\): write {\"text\": ...} for each"):
        list(read_pieces(lines))


def test_bytes_of_a_parquet_file_are_text_as_well(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["caf\u00e9".encode()]}), path)
    assert list(read_pieces(path)) == [("caf\u00e9", True)]


@pytest.mark.parametrize("content", ["a line\n".encode("utf-16-le"), b"a line\n" + bytes(64)])
@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
def test_characters_0_are_no_text(tmp_path: Path, name: str, content: bytes) -> None:
    """Of UTF-16 without its mark, or of a copy whose end was never written: UTF-8 has them, too."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UnreadableText, match="holds characters 0, as UTF-16 or a damaged copy"):
        list(read_pieces(path))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_ends_of_lines_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    content = b"one\r\ntwo\rthree\n\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list(read_pieces(tmp_path / name)) == [(content.decode(), True)]
