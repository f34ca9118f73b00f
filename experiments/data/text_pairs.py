"""Pairs of texts, an input and the answer to it, as tokens: the examples of text to text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from experiments.config import UserError
from experiments.data.token_store import StoredTokens
from experiments.data.tokenizer import Tokenizer


class Pairs(Protocol):
    """Pairs of token rows, each ended by the end token."""

    def __len__(self) -> int: ...

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Input and answer, each (n,)."""
        ...


class ArrayPairs:
    """Pairs in memory.

    Args:
        inputs: Rows of tokens.
        answers: As many.

    Raises:
        UserError: where they are not: an answer would belong to another input.
    """

    def __init__(self, inputs: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> None:
        if len(inputs) != len(answers):
            raise UserError(
                f"{len(inputs)} inputs, but {len(answers)} answers: give each input its own"
            )
        self._inputs, self._answers = inputs, answers

    def __len__(self) -> int:
        return len(self._inputs)

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return self._inputs[number], self._answers[number]


class StoredPairs:
    """Pairs of stored tokens, whose documents are inputs and answers in turns.

    Args:
        tokens: As `token_store` made them.
    """

    def __init__(self, tokens: StoredTokens) -> None:
        self._tokens = tokens
        self._ends = np.concatenate([[1], tokens.document_ends()])

    def __len__(self) -> int:
        return (len(self._ends) - 1) // 2

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        first, middle, last = self._ends[2 * number : 2 * number + 3].tolist()
        return self._tokens.read(first, middle), self._tokens.read(middle, last)


class JoinedPairs:
    """Several sets of pairs as one: a mixture in proportion to their sizes.

    Args:
        parts: At least one.
    """

    def __init__(self, parts: Sequence[Pairs]) -> None:
        self._parts = parts
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        part = int(np.searchsorted(self._starts, number, "right")) - 1
        return self._parts[part].pair(number - int(self._starts[part]))


@dataclass(frozen=True)
class Exam:
    """Pairs that are evaluated together."""

    split: str  # of the ledger
    pairs: Pairs
    grading: str = "accuracy"  # "accuracy", or the task of GLUE whose metrics count
    task: str = ""  # put before the names of its metrics; empty: nothing
    is_written: bool = True  # whether the model writes answers; else only their loss counts
    max_answer: int | None = None  # tokens that it may write; None: as long as any answer may be


class TextPairs:
    """Pairs to train on, and exams.

    Args:
        name: For the ledger's `data` column.
        train: Pairs to train on.
        exams: What is evaluated.
        tokenizer: That made the tokens.
        max_input: Tokens of an input; what is longer is cut, its end token stays.
        max_answer: The same of an answer; also the longest that is written.
        average: Whether the mean of all scores of a split is one more.
        num_workers: Threads that read ahead while training.
        fingerprint: Of the files behind the tokens.

    Raises:
        UserError: where the first input or answer of a set has no end: a model would never learn
            where to stop, and every answer that it writes be wrong.
    """

    def __init__(
        self,
        name: str,
        train: Pairs,
        exams: Sequence[Exam],
        tokenizer: Tokenizer,
        *,
        max_input: int,
        max_answer: int,
        average: bool = False,
        num_workers: int = 0,
        fingerprint: str = "",
    ) -> None:
        self.name, self.train, self.exams, self.tokenizer = name, train, list(exams), tokenizer
        self.max_input, self.max_answer, self.average = max_input, max_answer, average
        self.num_workers, self.fingerprint = num_workers, fingerprint
        for pairs in (train, *(exam.pairs for exam in exams)):
            self._check_ends(pairs)

    def _check_ends(self, pairs: Pairs) -> None:
        for what, row in zip(
            ("input", "answer"), pairs.pair(0) if len(pairs) else (), strict=False
        ):
            if self.tokenizer.eos_id is not None and row[-1:].tolist() != [self.tokenizer.eos_id]:
                raise UserError(
                    f"data {self.name}: the first {what} does not end with the end token: append "
                    "tokenizer.eos_id to the tokens of every input and answer"
                )

    def batch(self, pairs: Pairs, numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Some pairs, filled up to the longest.

        Returns:
            Inputs (n, S) int64, which of them are real (n, S) bool, answers (n, L) int64 with -100
            behind their end.
        """
        found = [pairs.pair(int(number)) for number in numbers]
        inputs = [_cut(one, self.max_input) for one, _ in found]
        answers = [_cut(two, self.max_answer) for _, two in found]
        pad = self.tokenizer.pad_id or 0
        ids = _filled(inputs, pad)
        lengths = torch.tensor([len(row) for row in inputs])
        is_real = torch.arange(ids.shape[1]) < lengths[:, None]
        return ids, is_real, _filled(answers, -100)


def _cut(row: np.ndarray, longest: int) -> np.ndarray:
    return row if len(row) <= longest else np.concatenate([row[: longest - 1], row[-1:]])


def _filled(rows: Sequence[np.ndarray], value: int) -> Tensor:
    table = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.from_numpy(table)
