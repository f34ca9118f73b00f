"""Readers of text, piece by piece: what they give is worked out by hand."""

from __future__ import annotations

import pytest

from experiments.data import text_readers


def test_pieces_end_behind_lines_and_a_long_line_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never inside a line that fits: the same words would be other tokens."""
    monkeypatch.setattr(text_readers, "PIECE", 4)
    chunks = ["ab\ncd", "ef", "ghij\nk", "l\n\n"]
    assert list(text_readers.in_pieces(chunks)) == ["ab\n", "cdef", "ghij\n", "kl\n\n"]
    assert list(text_readers.in_pieces(["a", "b"])) == ["ab"] and not [*text_readers.in_pieces([])]
