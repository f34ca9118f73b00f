"""Pairs of texts as batches: what is cut, what is real, and whose number is whose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.config import UserError
from experiments.data.text_pairs import ArrayPairs, Exam, JoinedPairs, TextPairs

END = 1


def rows(*lengths: int) -> list[np.ndarray]:
    """Tokens from 10 on; the last is the end."""
    return [np.array([*range(10, 9 + length), END]) for length in lengths]


def test_a_text_that_is_cut_keeps_its_end_and_padding_is_not_real() -> None:
    tokenizer: Any = SimpleNamespace(pad_id=0, eos_id=END)
    pairs = ArrayPairs(rows(2, 6, 4), rows(1, 3, 5))
    source = TextPairs("pairs", pairs, [], tokenizer, max_input=4, max_answer=3)
    inputs, is_real, answers = source.batch(pairs, [0, 1, 2])
    assert inputs.tolist() == [[10, END, 0, 0], [10, 11, 12, END], [10, 11, 12, END]]
    assert is_real.tolist() == [[True, True, False, False], [True] * 4, [True] * 4]
    assert answers.tolist() == [[END, -100, -100], [10, 11, END], [10, 11, END]]


@pytest.mark.parametrize("sizes", [(2, 3, 1), (1, 0, 2)])
def test_a_mixture_has_each_pair_of_each_part_once_and_in_order(sizes: tuple[int, ...]) -> None:
    parts = [
        ArrayPairs(inputs := [np.array([part, n]) for n in range(size)], inputs)
        for part, size in enumerate(sizes)
    ]
    joined = JoinedPairs(parts)
    found = [tuple(joined.pair(number)[0].tolist()) for number in range(len(joined))]
    assert found == [(part, n) for part, size in enumerate(sizes) for n in range(size)]


@pytest.mark.parametrize("what", ["input", "answer"])
@pytest.mark.parametrize("place", ["train", "exam"])
def test_pairs_without_an_end_are_refused(what: str, place: str) -> None:
    tokenizer: Any = SimpleNamespace(pad_id=0, eos_id=END)
    whole, bare = rows(3), [np.array([10, 11])]
    odd = ArrayPairs(bare, whole) if what == "input" else ArrayPairs(whole, bare)
    pairs = {"train": ArrayPairs(whole, whole), "exam": ArrayPairs(whole, whole), place: odd}
    exams = [Exam("val", ArrayPairs([], [])), Exam("val", pairs["exam"])]
    with pytest.raises(UserError, match=f"mine: the first {what} does not end .* append token"):
        TextPairs("mine", pairs["train"], exams, tokenizer, max_input=4, max_answer=3)
