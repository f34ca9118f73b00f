"""Names of characters and what kind of character each is: text to text that Python itself ships.

The names are those of Unicode 3.2, which every Python has, so they never change. Held out are, of
each kind, up to `NUM_HELD_OUT` names each for validation and test; a few of the rest are labelled
training pairs, and all of the rest may be learnt from beforehand, without their kind.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from experiments.config import ConfigError
from experiments.data.text_pairs import ArrayPairs, Exam, TextPairs
from experiments.data.tokenizer import SentencePieceTokenizer
from experiments.data.tokenizer_training import train_sentencepiece

KINDS = {
    "Ll": "small",
    "Lu": "capital",
    "Lo": "letter",
    "So": "symbol",
    "Mn": "mark",
    "Nd": "digit",
    "Sm": "math",
    "Po": "point",
}
"""General category of a character: the answer."""
MAJOR = {"L": "alphabetic", "M": "marking", "N": "numeric", "P": "pointing", "S": "symbolic"}
MAJOR |= {"Z": "separating", "C": "controlling"}
NUM_HELD_OUT, SHARE_HELD_OUT = 150, 0.3
"""Names of a kind for validation, and as many for test: the smaller of the two."""
PIECES, VOCAB_SIZE = 900, 1000
"""Of the tokenizer, and of the model: what is between are the marks of spans, from above."""
SPAN_SHARE, MEAN_SPAN = 0.15, 3
MAX_INPUT, MAX_ANSWER, MAX_WORD = 64, 32, 4
"""Tokens of an input, of spans, and of a kind: a word has one, but a wrong answer may have more."""
PREFIXES = ("<kind>", "<major>", "<direction>", "<span>")
LEFT_OUT = ("CJK UNIFIED", "CJK COMPAT", "HANGUL SYLLABLE")
"""Names that are made by counting."""
NUM_CODES = 0x20000
"""Later ones are ideographs and tags."""


def character_kinds(name: str, num_labels: int = 200, label_seed: int = 0) -> TextPairs:
    """Pairs `<kind> GREEK SMALL LETTER PI` -> `small`, as many of each of eight kinds.

    Args:
        name: For the ledger.
        num_labels: Training pairs, a multiple of 8.
        label_seed: Which ones.

    Raises:
        ConfigError: for a number that the rarest kind does not have.
    """
    pool, val, test = _split()
    drawn = np.random.RandomState(label_seed).permutation(len(pool))
    each, rest = divmod(num_labels, len(KINDS))
    chosen = []
    for kind in KINDS:
        members = [pool[i] for i in drawn if pool[i][1] == kind]
        if rest or not 1 <= each <= len(members):
            most = min(sum(c == k for _, c, _ in pool) for k in KINDS) * len(KINDS)
            raise ConfigError(f"data.num_labels={num_labels}: must be a multiple of 8 up to {most}")
        chosen += members[:each]
    exams = [Exam(split, _kinds(rows)) for split, rows in (("val", val), ("test", test))]
    return _pairs(name, _kinds(chosen), exams, MAX_WORD)


def character_names(name: str) -> TextPairs:
    """A mixture to learn from beforehand: broken names are mended, and what else is known is told.

    A name's parts are missing (of nearly all its end, see `span_corruption`), or its major class
    (twice as often) or writing direction is asked for. The kinds that `character_kinds` asks for
    are finer, but say more of the same: this is no pre-training without supervision.
    """
    pool, val, _ = _split()
    parts = [_spans(pool), _majors(pool), _directions(pool), _majors(pool)]
    rows = [row for part in parts for row in part]
    exams = [
        Exam("val", _array(_spans(val)), task="span", is_written=False),
        Exam("val", _array(_majors(val)), task="major", max_answer=MAX_WORD),
    ]
    return _pairs(name, _array(rows), exams, MAX_ANSWER)


Row = tuple[str, str, str]
"""Name, general category, writing direction of a character."""


@lru_cache(maxsize=1)
def _split() -> tuple[list[Row], list[Row], list[Row]]:
    """The pool, validation and test."""
    rows = list(_characters())
    order = np.random.RandomState(0).permutation(len(rows))
    parts: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    for kind in sorted({category for _, category, _ in rows}):
        members = [rows[i] for i in order if rows[i][1] == kind]
        held = min(NUM_HELD_OUT, int(SHARE_HELD_OUT * len(members))) if kind in KINDS else 0
        parts[1].extend(members[:held])
        parts[2].extend(members[held : 2 * held])
        parts[0].extend(members[2 * held :])
    return parts


def _characters() -> Iterator[Row]:
    table = unicodedata.ucd_3_2_0
    for code in range(NUM_CODES):
        character = chr(code)
        name = table.name(character, "")
        if name and not name.startswith(LEFT_OUT):
            yield name, table.category(character), table.bidirectional(character)


@lru_cache(maxsize=1)
def _tokenizer() -> SentencePieceTokenizer:
    """Made from the pool; a second's work, with the same result on every run."""
    pool, _, _ = _split()
    words = [*KINDS.values(), *MAJOR.values(), *sorted({direction for _, _, direction in pool})]
    symbols = [*PREFIXES, *(f"\u2581{word}" for word in words)]
    content = train_sentencepiece(
        (name for name, _, _ in pool), PIECES, exact=False, symbols=symbols
    )
    return SentencePieceTokenizer(content)


def _ids(texts: Sequence[str]) -> list[np.ndarray]:
    tokenizer = _tokenizer()
    assert tokenizer.eos_id is not None
    return [np.append(ids, tokenizer.eos_id) for ids in tokenizer.encode(texts)]


def _kinds(rows: Sequence[Row]) -> ArrayPairs:
    return _array(
        list(
            zip(
                _ids([f"<kind>{name}" for name, _, _ in rows]),
                _ids([KINDS[category] for _, category, _ in rows]),
                strict=True,
            )
        )
    )


def _majors(rows: Sequence[Row]) -> list[tuple[np.ndarray, np.ndarray]]:
    inputs = _ids([f"<major>{name}" for name, _, _ in rows])
    return list(zip(inputs, _ids([MAJOR[category[0]] for _, category, _ in rows]), strict=True))


def _directions(rows: Sequence[Row]) -> list[tuple[np.ndarray, np.ndarray]]:
    inputs = _ids([f"<direction>{name}" for name, _, _ in rows])
    return list(zip(inputs, _ids([direction for _, _, direction in rows]), strict=True))


def _spans(rows: Sequence[Row]) -> list[tuple[np.ndarray, np.ndarray]]:
    names = [ids[:-1] for ids in _ids([name for name, _, _ in rows])]
    (prefix,) = _tokenizer().encode(["<span>"])
    end = np.array([_tokenizer().eos_id])
    found = []
    for number, ids in enumerate(names):
        shown, answer = span_corruption(ids, np.random.RandomState(number), VOCAB_SIZE - 1)
        found.append((np.concatenate([prefix, shown, end]), np.append(answer, end)))
    return found


def span_corruption(
    ids: np.ndarray, random_state: np.random.RandomState, first_mark: int
) -> tuple[np.ndarray, np.ndarray]:
    """Takes spans out of a row of tokens, as T5 does.

    The row begins with what is shown and ends with a span, as in T5's own code (without its random
    roll): of up to 30 tokens there is one span, which is the end of the row, whatever is drawn.

    Args:
        ids: (n,) tokens.
        random_state: Draws the spans.
        first_mark: Token that stands for the first span; the next ones count down from it.

    Returns:
        The row with marks in place of the spans; and the spans, each behind its mark.
    """
    num_hidden = max(1, round(SPAN_SHARE * len(ids)))
    num_spans = max(1, round(num_hidden / MEAN_SPAN))
    lengths = _parts(num_hidden, num_spans, random_state)
    gaps = _parts(max(len(ids) - num_hidden, num_spans), num_spans, random_state)
    shown, answer, place = [], [], 0
    for number, (gap, length) in enumerate(zip(gaps, lengths, strict=True)):
        mark = np.array([first_mark - number])
        shown += [ids[place : place + gap], mark]
        answer += [mark, ids[place + gap : place + gap + length]]
        place += gap + length
    return np.concatenate([*shown, ids[place:]]), np.concatenate(answer)


def _parts(whole: int, number: int, random_state: np.random.RandomState) -> list[int]:
    """A whole cut into so many parts of at least 1, all ways equally likely."""
    cuts = np.sort(random_state.permutation(whole - 1)[: number - 1]) + 1
    return np.diff([0, *cuts.tolist(), whole]).tolist()


def _array(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> ArrayPairs:
    return ArrayPairs([row[0] for row in rows], [row[1] for row in rows])


def _pairs(name: str, train: ArrayPairs, exams: Sequence[Exam], max_answer: int) -> TextPairs:
    return TextPairs(name, train, exams, _tokenizer(), max_input=MAX_INPUT, max_answer=max_answer)
