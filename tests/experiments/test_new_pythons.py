"""What the newest Python refuses of the packages that are used here."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from experiments.compose import take_lazy_help


@pytest.fixture
def help_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python 3.14 does, on any Python."""

    def check_help(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        try:
            assert action.help is None or "%" not in action.help or action.help % vars(action)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError("badly formed help string") from error

    def add_argument(parser: Any, *names: str, **settings: Any) -> argparse.Action:
        action = usual(parser, *names, **settings)
        parser._check_help(action)
        return action

    usual = argparse.ArgumentParser.add_argument
    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check_help, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", add_argument)


def test_hydras_flags_are_taken_where_every_help_is_checked(help_is_checked: None) -> None:
    """`run.py` ended with "badly formed help string", whatever it was told."""
    from hydra._internal.utils import get_args_parser

    take_lazy_help.__wrapped__()
    assert get_args_parser().parse_args(["seed=1", "--cfg", "job"]).overrides == ["seed=1"]
    with pytest.raises(ValueError, match="badly formed"):
        argparse.ArgumentParser().add_argument("--lr", help="100 %z")


def test_run_takes_them_so() -> None:
    """Once in a process, before Hydra makes its flags."""
    import inspect

    import run

    source = inspect.getsource(run.main)
    assert source.index("take_lazy_help()") < source.index("decorated()")
