"""Tables and best cells: chosen on validation, with the edge of the grid flagged."""

from __future__ import annotations

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import swept
from pretended import Values, planned, pretend
from rich.console import Console

from experiments.config import UserError
from experiments.outcomes import betas
from experiments.store import Ledger, write_json
from experiments.sweep import report, results
from experiments.sweep.manifest import Sweep


def made(root: Path, values: Values, seeds: int = 2) -> Sweep:
    sweep = swept.sweep(root, planned(root, values, seeds))
    for cell in sweep.cells:
        optimizer = cell.config["optimizer"]
        val, test = values[cell.optimizer, optimizer["lr"], optimizer["weight_decay"]]
        pretend(sweep, cell, val + cell.seed, test + cell.seed)
    return sweep


GRID: Values = {
    ("lion", 1e-3, 0.1): (50, 90), ("lion", 2e-3, 0.1): (60, 10), ("lion", 4e-3, 0.1): (55, 99),
    ("lion", 1e-3, 0.2): (10, 10), ("lion", 2e-3, 0.2): (10, 10), ("lion", 4e-3, 0.2): (10, 10),
}  # fmt: skip


def test_validation_chooses_and_the_edge_is_flagged(tmp_path: Path) -> None:
    (best,) = results.best_cells(made(tmp_path, GRID))
    assert best.settings == {"lr": 2e-3, "weight_decay": 0.1}
    assert (best.val, best.test, best.num_seeds) == (60.5, 10.5, 2)
    assert best.test_error == pytest.approx(0.5)
    assert best.edges == ("weight_decay",), "lr is inside its grid, weight decay is not"
    assert (best.num_trials, best.num_diverged) == (6, 0)


def test_a_setting_with_a_seed_that_diverged_or_is_missing_is_ruled_out(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, planned(tmp_path, GRID))
    for cell in sweep.cells:
        lr, decay = (cell.config["optimizer"][k] for k in ("lr", "weight_decay"))
        bad = (lr, decay, cell.seed) == (2e-3, 0.1, 1)
        missing = (lr, decay, cell.seed) == (4e-3, 0.1, 0)
        if not missing:
            pretend(sweep, cell, *GRID["lion", lr, decay], "diverged" if bad else "finished")
    (best,) = results.best_cells(sweep)
    assert best.settings["lr"] == 1e-3 and best.num_diverged == 1
    assert best.edges == ("lr", "weight_decay")


def test_conditions_are_compared_along_and_not_tuned(tmp_path: Path) -> None:
    cells = [
        cell
        for size in (16, 32)
        for cell in planned(tmp_path, {("lion", 1e-3, 0.1): (0, 0), ("lion", 2e-3, 0.1): (0, 0)},
                            1, train__batch_size=size)
    ]  # fmt: skip
    sweep = swept.sweep(tmp_path, cells, conditions=["batch_size"])
    for value, cell in zip((5, 7, 9, 3), sweep.cells, strict=True):
        pretend(sweep, cell, value, value)
    chosen = results.best_cells(sweep)
    assert [one.settings for one in chosen] == [
        {"batch_size": 16, "lr": 2e-3}, {"batch_size": 32, "lr": 1e-3}
    ]  # fmt: skip
    assert all(one.edges == ("lr",) for one in chosen)


def test_a_condition_that_no_column_tells_gets_its_own(tmp_path: Path) -> None:
    cells = planned(tmp_path, {("lion", 1e-3, 0.1): (0, 0), ("lion", 2e-3, 0.1): (0, 0)}, 1)
    for cell, noise in zip(cells, (0.0, 0.4), strict=True):
        cell.settings["data.label_noise"] = noise
        cell.settings["optimizer.betas"] = [0.9, 0.99]
    sweep = swept.sweep(tmp_path, cells, conditions=["label_noise", "betas"])
    for cell in sweep.cells:
        pretend(sweep, cell, 1, 1)
    table = pd.read_csv(results.collect(sweep, tmp_path / "study"))
    assert list(table.columns) == [*results.COLUMNS, "label_noise"]
    assert table.sort_values("lr").label_noise.tolist() == [0.0, 0.4]


def test_the_tidy_table_has_the_columns_of_a_study(tmp_path: Path) -> None:
    sweep = made(tmp_path, GRID)
    pretend_more = swept.sweep(tmp_path, planned(tmp_path, {("lion", 9.0, 0.1): (0, 0)}, 2))
    for cell in pretend_more.cells[-2:]:
        pretend(pretend_more, cell, 1, 1, state="diverged")
    sweep.refresh()
    path = results.collect(pretend_more, tmp_path / "study", curves=True)
    table = pd.read_csv(path)
    assert list(table.columns) == list(results.COLUMNS)
    assert len(table) == 14 and table.run_id.is_unique
    first = table[(table.lr == 1e-3) & (table.weight_decay == 0.1) & (table.seed == 1)].iloc[0]
    assert (first.val, first.test, first.steps, first.seconds) == (51, 91, 10, 10)
    assert (first.beta1, first.beta2, first.epochs, first.sweep) == (0.9, 0.99, 4, "trial")
    diverged = table[table.state == "diverged"]
    assert len(diverged) == 2 and diverged.val.isna().all()
    curves = pd.read_csv(tmp_path / "study" / "curves.csv")
    assert list(curves.columns) == ["run_id", "step", "split", "metric", "value"]
    assert len(curves) == 14 * 4


def test_numbers_that_were_not_measured_alike_are_not_collected(tmp_path: Path) -> None:
    """Two extractors make two distances, whatever their name."""
    sweep = made(tmp_path, {("lion", 1e-3, 0.1): (50, 90), ("lion", 2e-3, 0.1): (60, 10)}, 1)
    for cell, extractor in zip(sweep.cells, "ab", strict=True):
        told = {"extractor": extractor, "resize": "none"}
        row = {"epoch": 1.0, "weights": "raw", "unit": "", "n": 9, "session": 0, "metric": "fd9"}
        row |= {"step": 10, "split": "val", "seconds": 10.0, "better": "lower", "value": 1.0}
        Ledger(sweep.folder(cell).metrics).append([{**row, "instrument": json.dumps(told)}])
    assert len(results.runs_table(sweep)) == 2
    said = "fd9 was not measured alike: the runs differ in extractor; evaluate them again"
    with pytest.raises(UserError, match=said):
        results.runs_table(sweep, "fd9")
    with pytest.raises(UserError, match=said):
        results.collect(sweep, tmp_path / "study", curves=True)


def test_nothing_to_collect_is_said(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, planned(tmp_path, GRID))
    with pytest.raises(UserError, match="no run is over yet"):
        results.collect(sweep, tmp_path / "study")
    assert results.best_cells(sweep) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"betas": [0.9, 0.99]}', (0.9, 0.99)), ('{"beta": 0.8}', (0.8, None)),
        ('{"momentum": 0.7, "lr": 1}', (0.7, None)), ("{}", (None, None)),
    ],
)  # fmt: skip
def test_betas_of_every_kind_of_optimizer(text: str, expected: tuple[Any, Any]) -> None:
    found = betas(text)
    assert [None if math.isnan(b) else b for b in found] == list(expected)


def said(sweep: Sweep) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    report.show(sweep, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_status_says_what_failed_with_the_last_lines(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, planned(tmp_path, GRID), max_tries=1)
    good, bad, busy = sweep.cells[0], sweep.cells[2], sweep.cells[4]
    pretend(sweep, good, 50, 50)
    for seed_mate in sweep.cells[1:2]:
        pretend(sweep, seed_mate, 51, 51)
    lease = sweep.leases.claim(bad.run_id, [])
    assert lease is not None
    lease.release("failed", "ValueError: [shape] of something")
    sweep.folder(bad).path.mkdir(parents=True)
    sweep.folder(bad).log.write_text("".join(f"line {n}\n" for n in range(9)))
    sweep.leases.claim(busy.run_id, [])
    text = said(sweep)
    assert "trial: 2 of 12 cells done (8 waiting, 2 finished" in text
    assert "trials per optimizer: lion 6; seeds 0-1" in text
    assert f"running: {busy.title}, process {os.getpid()}" in text
    assert f"failed: {bad.title}" in text and "ValueError: [shape] of something" in text
    assert "line 8" in text and "line 6" in text and "line 5" not in text
    assert "a proxy: says nothing of full size" in text


def test_status_flags_the_edge_and_an_unfair_budget(tmp_path: Path) -> None:
    made(tmp_path, GRID)
    extra = planned(tmp_path, {("adamw", 1e-3, 0.1): (1, 1)})
    text = said(swept.sweep(tmp_path, extra, equal_budget=False))
    assert "UNEQUAL" in text and "NOT TUNED" in text and "0.1 *" in text


def test_the_time_left_comes_from_the_cells_that_are_done(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, planned(tmp_path, GRID))
    times = {"started": "2026-01-01T00:00:00+00:00", "outcome": "finished"}
    sweep.leases.folder.mkdir()
    for cell, end in zip(sweep.cells[:2], ("10:00", "20:00"), strict=True):
        path = sweep.leases.folder / f"{cell.run_id}.1.lease"
        write_json(path, {**times, "ended": f"2026-01-01T00:{end}+00:00"})
    states = dict.fromkeys((cell.run_id for cell in sweep.cells), "waiting")
    assert results.pace(sweep, states) is None, "nobody works"
    done, running = sweep.cells[:2], sweep.cells[2:4]
    states |= {c.run_id: "finished" for c in done} | {c.run_id: "running" for c in running}
    rate, left = results.pace(sweep, states) or (0, 0)
    assert rate == pytest.approx(2 * 3600 / 900)
    assert left == pytest.approx((10 - 1) * 900 / 2)


def test_a_split_that_has_picked_and_reports_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own images without a test split: validation is all that there is."""
    sweep = made(tmp_path, GRID)
    assert "has picked and reports" not in said(sweep)
    (best,) = results.best_cells(sweep)
    for trials, is_said in ((6, True), (1, False)):  # of one setting nothing was picked
        same = replace(best, headline=replace(best.headline, report="val"), num_trials=trials)
        monkeypatch.setattr(report, "best_cells", lambda *_, same=same: [same])
        assert ("val has picked and reports" in said(sweep)) == is_said


def test_the_study_of_another_sweep_is_not_written_over(tmp_path: Path) -> None:
    sweep = made(tmp_path, GRID)
    path = results.collect(sweep, tmp_path / "study")
    assert results.collect(sweep, tmp_path / "study") == path, "its own is made anew"
    table = pd.read_csv(path).assign(sweep="another")
    table.to_csv(path, index=False)
    before = path.read_bytes()
    with pytest.raises(UserError, match="holds runs of the sweep another: choose another name"):
        results.collect(sweep, tmp_path / "study")
    assert path.read_bytes() == before
    path.write_text("")  # nothing is lost
    assert len(pd.read_csv(results.collect(sweep, tmp_path / "study")))


def test_a_pipe_gets_every_column_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    report.show(made(tmp_path, GRID))
    text = capsys.readouterr().out
    assert "optimizer" in text and "weight decay" in text and "…" not in text
