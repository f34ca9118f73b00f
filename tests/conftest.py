"""What holds for every test: nothing is written into the home of whoever runs them, and torch
computes in one thread (one test process a core is enough: more would wait for each other)."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.doctest import DoctestModule

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, Any, Any]:
    """No doctests in tests: looking for them would import what they share a second time."""
    return [found for found in (yield) if not isinstance(found, DoctestModule)]


@pytest.fixture
def signals_as_in_a_terminal() -> Iterator[None]:
    """Under nohup, or in a script's background, SIGHUP or SIGINT would be ignored."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


_folder = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """The user's own settings (`experiments.trust`) are kept in a folder of this session.

    The models and tasks of tests/support are trusted, as those of a user's own pages would be.
    """
    support = [path.stem for path in (Path(__file__).parent / "support").rglob("*.py")]
    config.stash[_folder] = tempfile.TemporaryDirectory(prefix="lion-tests-")
    os.environ["XDG_CONFIG_HOME"] = config.stash[_folder].name
    os.environ["LION_TRUST"] = ",".join(support)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_folder].cleanup()
