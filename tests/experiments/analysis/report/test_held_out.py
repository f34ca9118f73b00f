"""Our two stages and image-text proxy in the report: right values, or what makes them."""

from __future__ import annotations

from pathlib import Path

import big_vision_tables as made
import pytest

from experiments.analysis.report import held_out
from experiments.analysis.report.cells import picks, with_cells
from experiments.analysis.report.explorer import summary
from experiments.analysis.report.panels import Figure
from experiments.analysis.report.studies import Study, read_studies

SEEDS = range(5)
ROOT = Path(__file__).resolve().parents[4]


def figures() -> dict[str, Figure]:
    return {name: Figure(name, name, "") for name in ("jft_compute", "zero_shot", "retrieval")}


def fine_tuned(results: Path) -> None:
    """After Lion's pre-training 2 points better, and best at the larger rate."""
    rows = [
        made.run("finetune_proxy", "sgd", seed, top - abs(lr - best) + made.jitter(name, seed), lr,
                 init_optimizer=name, weight_decay=0.0)
        for name, top, best in (("adamw", 85.0, 2), ("lion", 87.0, 3))
        for seed in SEEDS for lr in (1, 2, 3, 4)
    ]  # fmt: skip
    made.write(results, "finetune_proxy", "tuning", rows, {("shifted", "top1"): -9.0})


def test_what_is_not_there_is_said_with_its_command(tmp_path: Path) -> None:
    found = figures()
    held_out.add(found.values(), tmp_path)
    for figure in found.values():
        ((_, command),) = figure.missing
        assert not figure.panels and command.startswith("python run.py -m experiment=")


def test_fine_tuning_tells_the_first_optimizers_apart(tmp_path: Path) -> None:
    objects = pytest.importorskip("plotly.graph_objects")
    fine_tuned(tmp_path)
    found = figures()
    held_out.add(found.values(), tmp_path)
    (panel,) = found["jft_compute"].panels
    (trace,) = panel.traces
    assert trace["x"] == pytest.approx([2.0, 2.0], abs=0.1) and len(trace["x"]) == 2
    assert "Lion is ahead" in trace["customdata"][0] and "n = 5" in trace["customdata"][0]
    assert "Shown, with Holm's correction over" in panel.note
    assert f"{trace['y'][0]} (Lion is ahead" in panel.note and "mean is higher" in panel.note
    assert found["jft_compute"].sources == ["studies/finetune_proxy/tuning/runs.csv"]
    assert panel.origin == "proxy" and "the others pick" in panel.note
    objects.Figure(panel.traces, panel.layout)
    assert found["zero_shot"].missing and found["retrieval"].missing


def test_the_explorer_keeps_the_first_optimizers_and_label_noise_apart(tmp_path: Path) -> None:
    fine_tuned(tmp_path)
    noisy = [
        made.run("mlp_proxy", "lion", 0, 80.0 + lr - 9 * noise, lr, label_noise=noise)
        for noise in (0.0, 0.4) for lr in (1, 2, 3)
    ]  # fmt: skip
    rows = [{**row, "run_id": f"{row['run_id']}-{row['label_noise']}"} for row in noisy]
    made.write(tmp_path, "mlp_proxy", "regimes", rows)
    studies = {study.experiment: study for study in read_studies(tmp_path)}
    assert titles(studies["finetune_proxy"]) == ["sgd · pre-trained with adamw",
                                                 "sgd · pre-trained with lion"]  # fmt: skip
    assert titles(studies["mlp_proxy"]) == ["lion · label noise 0", "lion · label noise 0.4"]
    runs, cells = with_cells(studies["finetune_proxy"])
    best = cells[cells.cell.isin(picks(studies["finetune_proxy"], runs))]
    assert best.set_index("init_optimizer").lr.to_dict() == {"adamw": 2, "lion": 3}
    assert (cells.n == len(SEEDS)).all()


def test_committed_recall_is_shown_at_the_settings_found_alone() -> None:
    """An interval that leaves out 0 is not enough: Holm's correction is over six questions."""
    found = figures()
    held_out.add(found.values(), ROOT / "results")
    (panel,) = found["retrieval"].panels
    shown = "text → image, over Adafactor (Lion is ahead, at these settings)"
    assert f"over 6 questions: {shown}. Not shown" in panel.note
    (panel,) = found["zero_shot"].panels
    assert "over 6 questions: nothing." in panel.note


def titles(study: Study) -> list[str]:
    runs, cells = with_cells(study)
    return [view["title"] for view in summary(study, runs, cells)["views"]]
