"""Windows of tokens: each token is scored once, whatever the ends, the processes, the threads."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from experiments.config import ConfigError
from experiments.data.token_windows import ArrayStream, TokenWindows, ahead

LENGTH = 6


def windows(number: int, **more: Any) -> TokenWindows:
    """The tokens 0, 1, 2, ... of two splits."""
    streams = {split: ArrayStream(np.arange(number)) for split in ("train", "val")}
    return TokenWindows("n", streams, LENGTH, cast(Any, None), **more)


@pytest.mark.parametrize("number", range(7, 20))
def test_every_token_but_the_first_is_one_windows_target(number: int) -> None:
    source = windows(number)
    whole = source.num_windows("val", 1)
    assert whole == (number - 1) // LENGTH and source.num_windows("val", 0) == number // LENGTH
    rows = source.read("val", np.arange(whole), 1)
    assert rows.shape == (whole, LENGTH + 1)
    rest = source.rest("val", 1)
    targets = rows[:, 1:].flatten().tolist() + ([] if rest is None else rest[0, 1:].tolist())
    assert targets == list(range(1, number))
    assert (rest is None) == ((number - 1) % LENGTH == 0)
    assert source.read("val", np.array([0]), 0).tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(("most", "measured"), [(None, 5), (2, 2), (99, 5)])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_measured_windows_are_each_one_process_s(
    most: int | None, measured: int, world: int
) -> None:
    source = windows(33, max_eval_windows=most)
    seen = []
    for rank in range(world):
        for numbers, tokens in source.eval_batches("val", 1, 2, rank, world):
            assert tokens[:, 0].tolist() == (LENGTH * numbers).tolist() and len(tokens) <= 2
            seen += numbers.tolist()
    assert sorted(seen) == list(range(measured))
    assert source.is_measured_whole("val", 1) == (measured == 5)


def test_a_split_of_less_than_a_window_and_its_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="n, train: 6 tokens are less than one window of 6"):
        windows(6)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_is_made_ahead_comes_in_order(threads: int) -> None:
    assert list(ahead(lambda step: step**2, range(3, 20), threads)) == [
        step**2 for step in range(3, 20)
    ]
