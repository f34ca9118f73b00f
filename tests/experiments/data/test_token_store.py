"""What a cache of tokens is known by, and how it is cut and read: by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.data import token_store
from experiments.data.text_readers import Piece
from experiments.data.token_store import StoredTokens, fingerprint, is_there, part_path, plan_of
from experiments.data.tokenising import tokenise


def files(folder: Path, *contents: bytes) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.txt" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_a_fingerprint_sees_the_ends_of_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_store, "EDGE_BYTES", 2)
    monkeypatch.setattr(token_store, "NUM_EDGES", 3)
    seen = {fingerprint(files(tmp_path, b"abcdefg", b"abcdefg", b"abcdefg"), tmp_path)}
    for number in range(3):
        for changed in (b"Abcdefg", b"aBcdefg", b"abcdeFg", b"abcdefG", b"abcdefgh"):
            contents = [b"abcdefg"] * 3
            contents[number] = changed
            seen.add(fingerprint(files(tmp_path, *contents), tmp_path))
    assert len(seen) == 16
    paths = files(tmp_path, b"abcdefg", b"abcdefg", b"abcdefg")
    assert fingerprint(paths, tmp_path) in seen
    elsewhere = files(tmp_path / "elsewhere", b"abcdefg", b"abcdefg", b"abcdefg")
    assert fingerprint(elsewhere, tmp_path / "elsewhere") in seen
    assert fingerprint(elsewhere, tmp_path) not in seen  # other names below the root
    assert fingerprint(paths[::-1], tmp_path) not in seen
    assert fingerprint(paths[:2], tmp_path) not in seen


def test_of_many_files_some_are_read_and_all_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six files and at most three the first, third and fifth."""
    monkeypatch.setattr(token_store, "NUM_EDGES", 3)
    usual = [b"a"] * 6
    before = fingerprint(files(tmp_path, *usual), tmp_path)
    noticed = []
    for number in range(6):
        contents = [*usual[:number], b"b", *usual[number + 1 :]]
        noticed.append(fingerprint(files(tmp_path, *contents), tmp_path) != before)
    assert noticed == [True, False] * 3
    assert fingerprint(files(tmp_path, *usual[:5], b"aa"), tmp_path) != before


def test_files_make_parts_of_a_size_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_store, "PART_BYTES", 10)
    sizes = [4, 6, 1, 25, 3, 7, 10, 0]
    parts = token_store._grouped(files(tmp_path, *(b"x" * size for size in sizes)))
    assert [[os.path.getsize(p) for p in part] for part in parts] == [
        [4, 6], [1], [25], [3, 7], [10, 0]
    ]  # fmt: skip


class Numbers:
    """A text of numbers is their row; the end token is 9."""

    sha256, eos_id = "numbers", 9

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array([int(word) for word in text.split()], np.int64) for text in texts]


def pieces(path: Path) -> Iterator[Piece]:
    """A line is a document; what stands before a bar is a piece of one."""
    for line in path.read_text().splitlines():
        *begin, end = line.split("|")
        yield from ((text, False) for text in begin)
        yield end, True


def plan(folder: Path, vocab_size: int = 100) -> Any:
    contents = [b"1 2|3\n4\n", b"", b"5|\n\n", b"6 7 8\n"]
    return plan_of(
        "n", files(folder / "text", *contents), folder, pieces, Numbers(vocab_size), folder / "c"  # type: ignore[arg-type]
    )  # fmt: skip


ROW = [9, 1, 2, 3, 9, 4, 9, 5, 9, 9, 6, 7, 8, 9]
ENDS = [5, 7, 9, 10, 14]


@pytest.mark.parametrize("part_bytes", [1, 12, 1000])
def test_documents_stand_in_a_row_however_they_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    monkeypatch.setattr(token_store, "PART_BYTES", part_bytes)
    made = plan(tmp_path)
    tokenise(made)
    stored = StoredTokens(made)
    assert len(stored) == len(ROW) and stored.document_ends().tolist() == ENDS
    assert (stored.num_words, stored.num_documents) == (8, 5)
    for start in range(len(ROW) + 1):
        for stop in range(start, len(ROW) + 1):
            found = stored.read(start, stop)
            assert found.tolist() == ROW[start:stop] and found.dtype == np.uint16


@pytest.mark.parametrize(("vocab_size", "kind"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_the_largest_token_fits(tmp_path: Path, vocab_size: int, kind: Any) -> None:
    made = plan(tmp_path, vocab_size)
    (tmp_path / "text" / "0.txt").write_text(f"0 {vocab_size - 1}\n")
    tokenise(made)
    stored = StoredTokens(made)
    assert stored.read(0, 4).tolist() == [9, 0, vocab_size - 1, 9]
    assert stored.read(0, 4).dtype == stored.read(1, 4).dtype == kind


@pytest.mark.parametrize("suffix", ["tokens", "ends", "json"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_part_of_another_length_is_not_there(tmp_path: Path, suffix: str, change: int) -> None:
    made = plan(tmp_path)
    tokenise(made)
    assert is_there(made, 0)
    path = part_path(made.folder, 0, suffix)
    content = path.read_bytes()
    path.write_bytes(content[:-1] if change < 0 else content + b"0")
    assert not is_there(made, 0)
    path.unlink()
    assert not is_there(made, 0)
    tokenise(made)
    assert StoredTokens(made).read(0, 14).tolist() == ROW


@pytest.mark.parametrize("note", ["{}", "null", "[1]", '{"tokens": "14", "documents": null}'])
def test_a_part_whose_note_says_nothing_is_made_again(tmp_path: Path, note: str) -> None:
    made = plan(tmp_path)
    tokenise(made)
    part_path(made.folder, 0, "json").write_text(note)
    assert not is_there(made, 0)
    tokenise(made)
    assert StoredTokens(made).read(0, 14).tolist() == ROW


def test_a_tokenizer_or_a_reader_of_another_kind_is_another_cache(tmp_path: Path) -> None:
    folders = set()
    for sha256, settings in (("a", ""), ("b", ""), ("a", "strip")):
        tokenizer: Any = SimpleNamespace(sha256=sha256)
        text = files(tmp_path / "text", b"1")
        folders.add(plan_of("n", text, tmp_path, pieces, tokenizer, tmp_path, settings).folder)
    assert len(folders) == 3
