"""Cells of a sweep: means over the finished seeds, and which cell validation picks."""

from __future__ import annotations

import pandas as pd
import pytest
import synthetic

from experiments.analysis.report.cells import best_cell, is_on_edge, with_cells
from experiments.analysis.report.explorer import MAX_POINTS, curves_by_run, summary, thinned
from experiments.analysis.report.studies import Study, no_curves, tidy


def study_of(table: pd.DataFrame, curves: pd.DataFrame | None = None) -> Study:
    from pathlib import Path

    drawn = no_curves() if curves is None else curves
    return Study("made-up", "study", "made-up", tidy(table, Path("made-up/runs.csv")), drawn)


def test_means_and_standard_errors_over_seeds() -> None:
    table = synthetic.runs(("lion",), lrs=(0.1,), decays=(1.0,), seeds=3)
    table = table.assign(state="finished", val=[90.0, 92.0, 94.0], test=[1.0, 1.0, 1.0])
    _, cells = with_cells(study_of(table))
    assert cells.val_mean.tolist() == [92.0]
    assert cells.val_error.iloc[0] == pytest.approx(2.0 / 3**0.5)
    assert cells[["n", "num_runs"]].iloc[0].tolist() == [3, 3]


def test_a_diverged_seed_counts_as_a_run_without_value() -> None:
    table = synthetic.runs(("lion",), lrs=(0.1, 0.2), decays=(1.0,), seeds=2)
    _, cells = with_cells(study_of(table))
    last = cells.iloc[-1]
    assert (last.n, last.num_runs, last.num_diverged) == (1, 2, 1)
    assert best_cell(cells) == int(cells.iloc[0].cell)


def test_a_running_cell_is_not_taken_for_finished() -> None:
    table = synthetic.runs(("lion",), lrs=(0.1, 0.2), decays=(1.0,), seeds=2)
    table = table.assign(state="running", val=99.0)
    _, cells = with_cells(study_of(table))
    assert cells.val_mean.isna().all()
    assert best_cell(cells) is None


def test_lower_is_better_for_losses() -> None:
    table = synthetic.runs(("lion",), lrs=(0.1, 0.2, 0.3), decays=(1.0,), seeds=1)
    table = table.assign(state="finished", val=[3.0, 1.0, 2.0])
    _, cells = with_cells(study_of(table))
    assert best_cell(cells, higher_is_better=False) == 1
    assert best_cell(cells) == 0


def test_edge_of_a_grid() -> None:
    _, cells = with_cells(study_of(synthetic.runs(("lion",), seeds=1)))
    inner = best_cell(cells)
    assert inner is not None and not is_on_edge(cells, inner)
    assert is_on_edge(cells, 0)


def test_runs_without_weight_decay_have_cells_too() -> None:
    table = synthetic.runs(("lion",), decays=(1.0,), seeds=2).assign(weight_decay=None)
    runs, cells = with_cells(study_of(table))
    assert len(cells) == 3 and runs.cell.tolist() == [0, 0, 1, 1, 2, 2]


def test_no_run_is_lost_on_the_way_to_the_page() -> None:
    table = synthetic.runs(batch_sizes=(64, 128))
    study = study_of(table)
    shown = summary(study, *with_cells(study))
    assert sorted(shown["runs"]["values"]["run_id"]) == sorted(table.run_id)
    assert sum(cell["runs"] for view in shown["views"] for cell in view["cells"]) == len(table)
    assert [view["title"] for view in shown["views"]] == [
        *("adamw · batch 64", "adamw · batch 128", "lion · batch 64", "lion · batch 128")
    ]


def test_curves_of_each_run_in_the_order_of_steps() -> None:
    table = synthetic.runs(("lion",), lrs=(0.1,), decays=(1.0,), seeds=2)
    shuffled = synthetic.curves(table).sample(frac=1.0, random_state=0)
    found = curves_by_run(shuffled)
    assert set(found) == set(table.run_id)
    for curves in found.values():
        assert [curve["name"] for curve in curves] == ["train loss", "val top1"]
        for curve in curves:
            assert curve["x"] == sorted(curve["x"]) and len(curve["x"]) == 10
        assert curves[0]["y"] == sorted(curves[0]["y"], reverse=True)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    kept = thinned(10_001)
    assert len(kept) == MAX_POINTS and kept[0] == 0 and kept[-1] == 10_000
    assert thinned(5) == [0, 1, 2, 3, 4]
