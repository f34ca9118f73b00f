"""Windows of a long row of tokens, each with a number: the examples of language modelling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor, from_numpy

from experiments.config import ConfigError
from experiments.data.tokenizer import Tokenizer

T = TypeVar("T")


class TokenStream(Protocol):
    """The tokens of a split, one document after another."""

    num_words: int | None  # whitespace-separated words of the text, if counted

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop), (stop - start,)."""
        ...


class ArrayStream:
    """Tokens in memory.

    Args:
        tokens: (n,) of any integer type.
        num_words: Of the text behind them.
    """

    def __init__(self, tokens: np.ndarray, num_words: int | None = None) -> None:
        self._tokens = tokens
        self.num_words = num_words

    def __len__(self) -> int:
        return len(self._tokens)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._tokens[start:stop]


class TokenWindows:
    """Splits of tokens, cut into windows that follow each other.

    A window may read `extra` tokens into the next one: with extra=1 every token of a split but the
    first is the target of exactly one window.

    Args:
        name: For the ledger's `data` column.
        streams: By split; "train" is trained on.
        length: Tokens of a window, without the extra ones.
        tokenizer: That made the tokens.
        max_eval_windows: Windows of each evaluation split that are measured; None: all.
        num_workers: Threads that read ahead; 0: none. Nothing depends on it but the time.
        fingerprint: Of the files behind the tokens.
    """

    def __init__(
        self,
        name: str,
        streams: Mapping[str, TokenStream],
        length: int,
        tokenizer: Tokenizer,
        *,
        max_eval_windows: int | None = None,
        num_workers: int = 0,
        fingerprint: str = "",
    ) -> None:
        self.name, self.length, self.tokenizer = name, length, tokenizer
        self.streams, self.num_workers, self.fingerprint = dict(streams), num_workers, fingerprint
        self._max_eval_windows = max_eval_windows
        self.eval_splits = [split for split in self.streams if split != "train"]
        for split, stream in self.streams.items():
            if len(stream) < length + 1:
                raise ConfigError(
                    f"{name}, {split}: {len(stream)} tokens are less than one window of {length}"
                )

    def num_windows(self, split: str, extra: int) -> int:
        """Whole windows of a split."""
        return (len(self.streams[split]) - extra) // self.length

    def read(self, split: str, numbers: np.ndarray, extra: int) -> Tensor:
        """Some windows, (n, length + extra) int64."""
        stream, length = self.streams[split], self.length
        rows = [stream.read(i * length, (i + 1) * length + extra) for i in numbers.tolist()]
        return from_numpy(np.stack(rows).astype(np.int64))

    def num_eval(self, split: str, extra: int) -> int:
        """Whole windows of a split that are measured."""
        there = self.num_windows(split, extra)
        return there if self._max_eval_windows is None else min(there, self._max_eval_windows)

    def is_measured_whole(self, split: str, extra: int) -> bool:
        """Whether an evaluation leaves no window out."""
        return self.num_eval(split, extra) == self.num_windows(split, extra)

    def eval_batches(
        self, split: str, extra: int, batch_size: int, rank: int, world_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Each measured window once over all processes: numbers, and tokens (n, length + extra)."""
        numbers = np.arange(rank, self.num_eval(split, extra), world_size)
        for start in range(0, len(numbers), batch_size):
            chosen = numbers[start : start + batch_size]
            yield chosen, self.read(split, chosen, extra)

    def rest(self, split: str, extra: int) -> Tensor | None:
        """The tokens behind the last whole window, (1, n); None where there are too few."""
        start = self.num_windows(split, extra) * self.length
        tokens = self.streams[split].read(start, len(self.streams[split]))
        if len(tokens) <= extra:
            return None
        return from_numpy(tokens.astype(np.int64))[None]


def ahead(make: Callable[[int], T], steps: range, num_threads: int) -> Iterator[T]:
    """`make(step)` for each step, in order; some threads work on the next ones."""
    if num_threads == 0:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        numbers = iter(steps)
        waiting: list[Future[T]] = [
            pool.submit(make, step) for step in islice(numbers, 2 * num_threads)
        ]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(make, step) for step in islice(numbers, 1)]
        finally:
            for future in waiting:
                future.cancel()
