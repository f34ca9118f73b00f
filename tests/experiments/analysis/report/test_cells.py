"""Cells of a sweep: means over the finished seeds, and which cell validation picks."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import synthetic

from experiments.analysis.report.cells import picks, with_cells
from experiments.analysis.report.explorer import MAX_POINTS, curves_by_run, summary, thinned
from experiments.analysis.report.studies import Study, no_curves, tidy
from experiments.headline import Headline


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
    study = study_of(table)
    runs, cells = with_cells(study)
    last = cells.iloc[-1]
    assert (last.n, last.num_runs, last.num_diverged) == (1, 2, 1)
    assert list(picks(study, runs)) == [int(cells.iloc[0].cell)]


def test_a_running_cell_is_not_taken_for_finished() -> None:
    table = synthetic.runs(("lion",), lrs=(0.1, 0.2), decays=(1.0,), seeds=2)
    table = table.assign(state="running", val=99.0)
    study = study_of(table)
    runs, cells = with_cells(study)
    assert cells.val_mean.isna().all()
    assert picks(study, runs) == {}


def test_lower_is_better_for_losses() -> None:
    table = synthetic.runs(("lion",), lrs=(0.1, 0.2, 0.3), decays=(1.0,), seeds=1)
    table = table.assign(state="finished", val=[3.0, 1.0, 2.0])
    study = study_of(table)
    assert picks(study, with_cells(study)[0]) == {0: True}  # the edge
    falling = study_of(table.assign(**Headline("loss", "lower", "nats").columns()))
    assert picks(falling, with_cells(falling)[0]) == {1: False}
    assert falling.unit == "nats"


def test_one_ring_per_choice() -> None:
    """Betas are tuned along, but where a study is about them."""
    good, bad = ([*synthetic.runs(("lion",), seeds=1).assign(beta2=b, val=v, state="finished")
                  .to_dict("records")] for b, v in ((0.99, 90.0), (0.9, 80.0)))  # fmt: skip
    table = pd.DataFrame(good + bad)
    study = study_of(table)
    shown = summary(study, *with_cells(study))
    assert [view["best"] is None for view in shown["views"]] == [True, False]
    assert [view["elsewhere"] for view in shown["views"]] == [True, False]
    about_betas = replace(study, name="betas")
    assert len(picks(about_betas, with_cells(about_betas)[0])) == 2


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
