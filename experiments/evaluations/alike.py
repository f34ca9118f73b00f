"""Texts that a model cannot tell apart: they are the same, or are once cut to its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.evaluations.prompts import Prompts

Tokens = Callable[[Sequence[str]], np.ndarray]
"""Texts to rows of one length, (N, T)."""
_AT_A_TIME = 4096


def kinds_of(rows: np.ndarray) -> np.ndarray:
    """(N,) for rows (N, T): numbers, the same for the same rows, in the order of their coming."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows], np.int64)


def alike(rows: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Which rows (N, T) are also a row of another owner, owners (N,); (N,) bool."""
    kinds = kinds_of(rows)
    least, most = np.full(len(rows), owners.max(initial=0)), np.full(len(rows), -1)
    np.minimum.at(least, kinds, owners)
    np.maximum.at(most, kinds, owners)
    return (least != most)[kinds]


def captions_in_words(
    split: str, captions: Sequence[str], image_of: np.ndarray, tokens: Tokens
) -> str:
    """What to say of captions that stand at several images; "" where each is of one."""
    firsts = range(0, len(captions), _AT_A_TIME)
    rows = np.concatenate([tokens(captions[k : k + _AT_A_TIME]) for k in firsts])
    found = alike(rows, np.asarray(image_of))
    if not found.any():
        return ""
    return (
        f"{split}: {found.sum()} of {len(rows)} captions are to the model those of another image, "
        f"too, the first is {captions[int(found.argmax())][:60]!r} (the same text, or the same "
        f"data.num_tokens={rows.shape[1]} tokens): such images are not told apart, which recall "
        "counts as a miss"
    )


def classes_in_words(prompts: Prompts, tokens: Tokens) -> str:
    """What to say of classes whose sentences are the same to the model; "" where none are."""
    numbers = range(len(prompts.classes))
    rows = np.stack([tokens(prompts.of_class(k)).reshape(-1) for k in numbers])
    found = np.flatnonzero(alike(rows, np.arange(len(rows))))
    if not len(found):
        return ""
    first, second = (prompts.classes[int(k)] for k in found[:2])
    return (
        f"zero shot: the sentences of {len(found)} of {len(rows)} classes are to the model those "
        f"of another, {first!r} and {second!r} among them (their names are unknown to the "
        "tokenizer, or stand behind data.num_tokens): of these an image is told to be of the "
        "first, whichever it is"
    )
