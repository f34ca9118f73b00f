"""Composes each configuration once for all tests of this folder (0.2 s each)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

import run
from experiments.config import RunConfig


@pytest.fixture(scope="session")
def composed() -> Callable[..., RunConfig]:
    """`composed("experiment=vit_proxy", ...)`; the result is shared, so do not change it."""
    return cache(lambda *overrides: run.compose(overrides))
