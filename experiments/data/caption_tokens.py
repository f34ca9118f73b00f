"""Captions as rows of token numbers, all of one length."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from experiments.config import ConfigError
from experiments.data.tokenizer import Tokenizer
from experiments.pages import script

_HALF = re.compile("[\ud800-\udfff]")


class CaptionTokens:
    """Cuts texts to a length, and fills them up to it.

    A row is: the start token, where the tokenizer has one; the text; the end token, where it has
    one; padding. A text that is too long loses its end.

    Args:
        tokenizer: Must have a padding token.
        num_tokens: Of a row.

    Raises:
        ConfigError: for a tokenizer without padding.
    """

    def __init__(self, tokenizer: Tokenizer, num_tokens: int) -> None:
        if tokenizer.pad_id is None:
            raise ConfigError(
                "the tokenizer has no padding token (<pad> or [PAD]): make one with "
                f"{script('train_tokenizer')}"
            )
        self.tokenizer, self.num_tokens = tokenizer, num_tokens
        self._before = [] if tokenizer.start_id is None else [tokenizer.start_id]
        self._after = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        if num_tokens <= len(self._before) + len(self._after):
            raise ConfigError(f"data.num_tokens={num_tokens} leaves no room for a word: raise it")

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(N, num_tokens) int64."""
        room = self._room
        rows = np.full((len(texts), self.num_tokens), self.tokenizer.pad_id, np.int64)
        for row, ids in zip(rows, self.tokenizer.encode(texts), strict=True):
            whole = [*self._before, *ids[:room], *self._after]
            row[: len(whole)] = whole
        return rows

    def num_cut(self, texts: Sequence[str]) -> int:
        """How many texts lose their end."""
        return sum(len(ids) > self._room for ids in self.tokenizer.encode(texts))

    @property
    def _room(self) -> int:
        return self.num_tokens - len(self._before) - len(self._after)


def whole_characters(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair: JSON can hold one, no tokenizer."""
    return _HALF.sub("\ufffd", text)
