"""Text that packages ship: its parts, its numbers, what counting gets of it."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.config import ConfigError
from experiments.data.bundled_names import (
    KINDS,
    PIECES,
    VOCAB_SIZE,
    character_kinds,
    character_names,
    span_corruption,
)
from experiments.data.bundled_text import BLOCK, kjv, kjv_text
from experiments.data.entropies import ngram_entropies
from experiments.data.text_pairs import ArrayPairs, TextPairs
from experiments.models.rotary_transformer import RotaryTransformer

ROOT = Path(__file__).resolve().parents[3]


def test_the_bible_has_the_parts_that_its_page_says() -> None:
    source, text = kjv("kjv"), kjv_text()
    sizes = {split: len(stream) for split, stream in source.streams.items()}
    assert sum(sizes.values()) == len(text) == 4_181_678
    assert source.tokenizer.vocab_size == 67
    assert sizes["train"] == pytest.approx(0.9 * len(text), abs=1)
    assert text.startswith("In the beginning God created") and "1." not in text
    decoded = source.tokenizer.decode(source.streams["val"].read(0, BLOCK).tolist())
    cut = sizes["train"]
    assert decoded == text[cut : cut + BLOCK]
    decoded = source.tokenizer.decode(source.streams["test"].read(0, BLOCK).tolist())
    assert decoded == text[cut + BLOCK : cut + 2 * BLOCK]


def test_the_proxies_have_the_sizes_of_their_pages() -> None:
    for width, count in ((32, 27_683), (64, 104_451)):
        model = RotaryTransformer(67, width)
        assert sum(p.numel() for p in model.parameters()) == count


def test_entropies_of_text_that_is_known() -> None:
    steady = np.tile(np.arange(5), 4000)
    unigram, bigram, trigram = ngram_entropies(steady, steady[:1000], 5)
    assert unigram == pytest.approx(math.log(5), abs=1e-3)
    assert bigram < 0.01 and trigram < 0.01
    random = np.random.RandomState(0).randint(0, 7, 100_000)
    found = ngram_entropies(random[:90_000], random[90_000:], 7)
    assert found == pytest.approx([math.log(7)] * 3, abs=0.01)  # nothing to be learnt


def test_entropies_by_hand() -> None:
    """Of 0 0 1 and then of 0 1 1, whose first token is not scored; a context adds 2 / 8."""
    one = (1 + 0.25 / 2) / (3 + 0.25)  # p(1)
    behind_0, behind_1 = (1 + 0.25 * one) / (2 + 0.25), one  # 0 was followed twice, 1 never
    expected = [-math.log(one), -(math.log(behind_0) + math.log(behind_1)) / 2]
    for kind in (np.uint8, np.int64):
        found = ngram_entropies(np.array([0, 0, 1], kind), np.array([0, 1, 1], kind), 2, 2)
        assert found == pytest.approx(expected)


def test_the_published_entropies_are_those_of_the_text() -> None:
    source = kjv("kjv")
    train, val = (source.streams[s].read(0, len(source.streams[s])) for s in ("train", "val"))
    found = ngram_entropies(train, val, 67, longest=2)
    with (ROOT / "results/studies/lm_proxy/kjv_entropies.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "val"]
    assert [float(r["nats"]) for r in rows[:2]] == pytest.approx(found, abs=1e-4)


# --- names of characters --------------------------------------------------------------------------


def texts_of(source: TextPairs, numbers: range) -> list[tuple[str, str]]:
    decode = source.tokenizer.decode
    pairs = (source.train.pair(n) for n in numbers)
    return [(decode(one.tolist()), decode(two.tolist())) for one, two in pairs]


def test_kinds_are_balanced_and_nobody_is_in_two_parts() -> None:
    source = character_kinds("kinds", num_labels=64)
    shown = texts_of(source, range(64))
    answers = [answer for _, answer in shown]
    assert {kind: answers.count(kind) for kind in KINDS.values()} == dict.fromkeys(
        KINDS.values(), 8
    )
    assert all(len(source.train.pair(n)[1]) == 2 for n in range(64))  # a word and the end
    parts = [{name for name, _ in shown}]
    for exam in source.exams:
        pairs = [exam.pairs.pair(n) for n in range(len(exam.pairs))]
        parts.append({source.tokenizer.decode(one.tolist()) for one, _ in pairs})
    assert [len(exam.pairs) for exam in source.exams] == [1032, 1032]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    other = texts_of(character_kinds("kinds", num_labels=64, label_seed=1), range(64))
    assert {name for name, _ in other} != parts[0]


@pytest.mark.parametrize("number", [0, 63, 4000])
def test_a_number_of_labels_that_cannot_be_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match=f"data.num_labels={number}: must be a multiple of 8"):
        character_kinds("kinds", num_labels=number)


def test_what_is_learnt_beforehand_holds_no_name_that_is_asked_for() -> None:
    source = character_names("names")
    quarter = len(source.train) // 4
    majors = texts_of(source, range(quarter, 2 * quarter))
    assert len({answer for _, answer in majors}) == 7
    pool = {name.removeprefix("<major>") for name, _ in majors}
    kinds = character_kinds("kinds")
    for exam in kinds.exams:
        pairs = [exam.pairs.pair(n) for n in range(len(exam.pairs))]
        held = {kinds.tokenizer.decode(one.tolist()).removeprefix("<kind>") for one, _ in pairs}
        assert not held & pool
    assert source.tokenizer.sha256 == kinds.tokenizer.sha256


def test_spans_can_be_put_back() -> None:
    for number in range(50):
        random = np.random.RandomState(number)
        ids = random.randint(2, PIECES, random.randint(2, 40))
        shown, answer = span_corruption(ids, random, VOCAB_SIZE - 1)
        spans: dict[int, list[int]] = {}
        for token in answer.tolist():
            if token >= PIECES:
                spans[token] = []
                last = token
            else:
                spans[last].append(token)
        mended = [t for token in shown.tolist() for t in spans.get(token, [token])]
        assert mended == ids.tolist()
        assert sum(map(len, spans.values())) == max(1, round(0.15 * len(ids)))
        assert all(spans.values())


def test_spans_are_drawn_and_marked_as_t5_does() -> None:
    ids, places, lengths = np.arange(2, 42), set(), set()  # 40: 6 hidden, in 2 spans
    for seed in range(60):
        shown, answer = span_corruption(ids, np.random.RandomState(seed), VOCAB_SIZE - 1)
        for row in (shown, answer):
            marks = [token for token in row.tolist() if token >= PIECES]
            assert marks == [VOCAB_SIZE - 1, VOCAB_SIZE - 2]
        assert shown[0] == 2 and answer[0] == VOCAB_SIZE - 1, "it begins with what is shown"
        places.add(shown.tolist().index(VOCAB_SIZE - 1))
        lengths.add(answer.tolist().index(VOCAB_SIZE - 2) - 1)
    assert len(places) > 15 and max(places) > 25 and lengths == {1, 2, 3, 4, 5}


def test_the_mixture_has_spans_of_each_name_and_majors_twice() -> None:
    source = character_names("names")
    (prefix,) = source.tokenizer.encode(["<span>"])
    end, mark = source.tokenizer.eos_id, VOCAB_SIZE - 1
    for number in range(400):
        shown, answer = (row.tolist() for row in source.train.pair(number))
        assert shown[: len(prefix)] == prefix.tolist() and shown[-1] == answer[-1] == end
        assert answer[0] == mark and answer.count(end) == 1
        is_short = len(shown) + len(answer) < 30
        assert not is_short or shown.index(mark) == len(shown) - 2, "one span is the end of a name"
    quarter = len(source.train) // 4
    second, last = (texts_of(source, range(n * quarter, n * quarter + 20)) for n in (1, 3))
    assert second == last


def test_a_text_that_is_too_long_is_cut_and_keeps_its_end() -> None:
    inputs = [np.array([1, 2, 3, 4, 5, 9]), np.array([6, 9])]
    rows = ArrayPairs(inputs, [np.array([7, 9]), np.array([1, 2, 3, 9])])
    tokenizer: Any = SimpleNamespace(pad_id=0, eos_id=9)
    source = TextPairs("made up", rows, [], tokenizer, max_input=4, max_answer=3)
    ids, is_real, answers = source.batch(rows, [1, 0])
    assert ids.tolist() == [[6, 9, 0, 0], [1, 2, 3, 9]]
    assert is_real.tolist() == [[True, True, False, False], [True] * 4]
    assert answers.tolist() == [[1, 2, 9], [7, 9, -100]]
