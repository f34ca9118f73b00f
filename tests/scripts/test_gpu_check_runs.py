"""Whole runs in the check of a card, rehearsed on the CPU."""

from __future__ import annotations

import types
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from card_lab import fail, rows_of, written

from experiments.config import ConfigError

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the rehearsal is of the CPU")


def test_a_whole_run_ends_starts_alike_and_goes_on(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = lab.whole_runs
    monkeypatch.setattr(runs, "PAGES", ("digits_classifier_proxy",))
    monkeypatch.setattr(runs, "RESUMED", runs.PAGES)
    runs.runs(rows_of(lab, tmp_path))
    found = {row["what"]: row for row in written(tmp_path)}
    assert list(found) == ["ends", "starts as on a CPU", "goes on exactly"]
    assert all(row["as_expected"] for row in found.values())
    assert "test top1 ema" in found["ends"]["measured"]


def test_a_run_that_starts_otherwise_or_does_not_go_on_is_seen(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, count = lab.whole_runs, [0]

    def drifting(*_: Any) -> list[float]:
        count[0] += 1
        return [2.3, 2.0 + 0.1 * count[0]]

    monkeypatch.setattr(runs, "_first_losses", drifting)
    config = types.SimpleNamespace(model={})
    monkeypatch.setattr(runs, "replace", lambda *_, **__: config)
    monkeypatch.setattr(runs, "_config", lambda *_, **__: config)
    monkeypatch.setattr(runs, "_losses", drifting)
    monkeypatch.setattr(runs, "_broken_off", lambda _: None)
    monkeypatch.setattr(runs.runner, "run", lambda _: None)
    assert not runs._starts_as_on_a_cpu("page", tmp_path)["as_expected"]
    assert not runs._goes_on("page", tmp_path)["as_expected"]


def test_data_that_a_machine_lacks_are_no_error_of_ours(lab: Any, tmp_path: Path) -> None:
    from experiments.config import UserError

    rows = rows_of(lab, tmp_path)
    for text in ("the data need mnist1d: pip install mnist1d", "the model and the data differ"):
        lab.whole_runs._add(rows, "page", "ends", lambda *_, t=text: fail(UserError(t)))
    for missing in (PackageNotFoundError("matplotlib"), ModuleNotFoundError("no", name="lion.x")):
        error = UserError("data: cannot build it")
        error.__cause__ = missing
        lab.whole_runs._add(rows, "page", "ends", lambda *_, e=error: fail(e))
    found = ["skipped" if "skipped" in row else "error" for row in written(tmp_path)]
    assert found == ["skipped", "error", "skipped", "error"]


def test_without_hydra_there_are_no_pages(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.whole_runs, "is_installed", lambda _: False)
    lab.whole_runs.runs(rows_of(lab, tmp_path))
    assert written(tmp_path) == [{"part": "runs", "what": "skipped: pages need hydra-core"}]


def test_what_a_generator_draws_while_training_is_left_out(lab: Any) -> None:
    """A card's draws are not the CPU's: a loss with dropout would be called wrong on any card."""
    section = {"dropout_rate": 0.1, "text": {"drop": 0.2, "depth": 2}, "drop_last": True}
    found = lab.whole_runs.without_dropout(section)
    assert found == {"dropout_rate": 0.0, "text": {"drop": 0.0, "depth": 2}, "drop_last": True}


def test_a_run_without_memory_is_left_out(lab: Any, tmp_path: Path) -> None:
    def broken(*_: Any) -> Any:
        try:
            fail(torch.OutOfMemoryError("CUDA out of memory"))
        except torch.OutOfMemoryError as error:
            raise ConfigError("the first step fails: out of memory") from error

    lab.whole_runs._add(rows_of(lab, tmp_path), "page", "ends", broken)
    (row,) = written(tmp_path)
    assert "skipped" in row and "error" not in row
