"""What counting gets: the cross entropy of n-grams on text that they have not seen.

A language model has learnt something about longer dependencies only where it is below these.
Source: MacKay and Peto, A hierarchical Dirichlet language model, 1995 (the smoothing).
"""

from __future__ import annotations

import numpy as np


def ngram_entropies(
    train: np.ndarray, held_out: np.ndarray, num_symbols: int, longest: int = 3
) -> list[float]:
    """Nats per token of the unigram, the bigram, ... on held-out tokens.

    p_n(x | context) = (count(context, x) + c p_(n-1)(x | shorter context)) / (count(context) + c),
    with p_0 uniform and c = `num_symbols` / 8; the first `longest` - 1 tokens are not scored.

    Args:
        train: Tokens (N,) to count.
        held_out: Tokens (M,) to score.
        num_symbols: Tokens are below it.
        longest: The n of the last n-gram.
    """
    train, held_out = train.astype(np.int64), held_out.astype(np.int64)
    scored = slice(longest - 1, len(held_out))
    probability = np.full(len(held_out), 1.0 / num_symbols)
    strength = num_symbols / 8
    found = []
    for n in range(1, longest + 1):
        counts = _counts(train, n, num_symbols)
        codes = _codes(held_out, n, num_symbols)
        contexts = counts.reshape(-1, num_symbols).sum(1)
        shorter = probability[n - 1 :]
        seen, whole = counts[codes], contexts[codes // num_symbols]
        probability[n - 1 :] = (seen + strength * shorter) / (whole + strength)
        found.append(float(-np.log(probability[scored]).mean()))
    return found


def _codes(tokens: np.ndarray, n: int, num_symbols: int) -> np.ndarray:
    """A number for each n-gram, by its last token first."""
    codes = np.zeros(len(tokens) - n + 1, np.int64)
    for place in range(n):
        codes = codes * num_symbols + tokens[place : len(tokens) - n + 1 + place]
    return codes


def _counts(tokens: np.ndarray, n: int, num_symbols: int) -> np.ndarray:
    return np.bincount(_codes(tokens, n, num_symbols), minlength=num_symbols**n)
