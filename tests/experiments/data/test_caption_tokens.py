"""Captions as rows of tokens, by hand."""

from __future__ import annotations

import pytest

from experiments.config import ConfigError
from experiments.data.caption_tokens import CaptionTokens
from experiments.data.tokenizer import WordTokenizer


def tokenizer(start: int | None, end: int | None) -> WordTokenizer:
    """a to e are 3 to 7; the padding is 0."""
    words = WordTokenizer("abcde")
    words.start_id, words.eos_id = start, end
    return words


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, [[3, 4, 5, 6], [7, 0, 0, 0], [0, 0, 0, 0]]),
        (None, 1, [[3, 4, 5, 1], [7, 1, 0, 0], [1, 0, 0, 0]]),
        (9, None, [[9, 3, 4, 5], [9, 7, 0, 0], [9, 0, 0, 0]]),
        (9, 1, [[9, 3, 4, 1], [9, 7, 1, 0], [9, 1, 0, 0]]),
    ],
)
def test_a_caption_is_cut_and_keeps_its_start_and_end(
    start: int | None, end: int | None, expected: list[list[int]]
) -> None:
    rows = CaptionTokens(tokenizer(start, end), 4)(["a b c d e", "e", ""])
    assert rows.tolist() == expected
    beside = (start is not None) + (end is not None)
    assert 3 in CaptionTokens(tokenizer(start, end), beside + 1)(["a b"])
    with pytest.raises(ConfigError, match=f"data.num_tokens={beside} leaves no room for a word"):
        CaptionTokens(tokenizer(start, end), beside)


def test_captions_that_lose_their_end_are_counted() -> None:
    texts = ["a b c", "a b c d", "a b c d e"]
    assert CaptionTokens(tokenizer(None, None), 4).num_cut(texts) == 1
    assert CaptionTokens(tokenizer(None, 1), 4).num_cut(texts) == 2
    assert CaptionTokens(tokenizer(9, 1), 4).num_cut(texts) == 3


def test_without_padding_there_are_no_rows() -> None:
    words = tokenizer(None, 1)
    words.pad_id = None
    with pytest.raises(ConfigError, match="the tokenizer has no padding token"):
        CaptionTokens(words, 4)
