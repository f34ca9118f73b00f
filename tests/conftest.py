"""What holds for every test: nothing is written into the home of whoever runs them."""

from __future__ import annotations

import os
import tempfile

import pytest

_folder = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """The user's own settings (`experiments.trust`) are kept in a folder of this session."""
    config.stash[_folder] = tempfile.TemporaryDirectory(prefix="lion-tests-")
    os.environ["XDG_CONFIG_HOME"] = config.stash[_folder].name
    os.environ.pop("LION_TRUST", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_folder].cleanup()
