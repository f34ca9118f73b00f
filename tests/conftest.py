"""What holds for every test: nothing is written into the home of whoever runs them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

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
