"""Freed memory is kept for the next step, unless the user tunes the allocator."""

from __future__ import annotations

import ctypes
import platform
import resource

import pytest
import torch

from experiments.sweep import allocator


def test_an_environment_that_tunes_the_allocator_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the allocator was touched")

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not allocator.keep_freed_memory()


def test_where_there_is_no_such_setting_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not allocator.keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    assert allocator.keep_freed_memory()

    def step() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(1_000_000).add(1).mul(2)  # three pieces of 4 MB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    step()
    assert step() < 1000  # 977 pages a piece: 20,000 to 60,000 where they are given back
