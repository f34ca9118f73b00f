"""The discovered program, page by page in its own unit: ahead is ahead, and edges are said."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import study_folder

from experiments.analysis import discovered
from experiments.analysis.drawing import figure_style
from experiments.analysis.figures import search_discovered
from experiments.analysis.markdown import NO_STUDY
from experiments.analysis.report import search_page
from experiments.analysis.text_discovered import of_discovered, verdict

TOP1 = {"metric": "top1", "unit": "%", "better": "higher", "digits": 2, "n": 20_000}
LOSS = {"metric": "loss", "unit": "nats per token", "better": "lower", "digits": 3}
FACTS = {"state": "finished", "seconds": 1.0, "batch_size": 64, "scale": "proxy", "weights": "raw",
         "tune_split": "val", "report_split": "test"}  # fmt: skip
SEEDS = range(101, 111)
GAINS = {"vit_proxy": {"program": -3.0, "lion": 0.0}, "lm_proxy": {"program": -0.3, "lion": 0.02}}
"""Minus AdamW in each page's own unit: points of accuracy, nats of loss."""


def tuning(page: str, best: int) -> list[dict[str, Any]]:
    """3 x 3 settings each; the program's best rate at a place of its three."""
    kind = LOSS if page == "lm_proxy" else TOP1
    sign = -1 if kind is LOSS else 1
    return [
        {**FACTS, **kind, "experiment": page, "optimizer": name, "lr": 10.0 ** (i - 3), "seed": 0,
         "weight_decay": 10.0 ** (j - 1), "test": 3.0,
         "val": 3 - sign * (abs(i - (best if name == "program" else 1)) + abs(j - 1))}
        for name in ("adamw", "lion", "program") for i in range(3) for j in range(3)
    ]  # fmt: skip


def fresh(page: str, best: int = 1) -> list[dict[str, Any]]:
    kind = LOSS if page == "lm_proxy" else TOP1
    spread = 0.01 if kind is LOSS else 0.3
    random, rows = np.random.RandomState(0), []
    for name in ("adamw", "lion", "program"):
        away = random.permutation(np.linspace(-spread, spread, len(SEEDS)))
        for seed, more in zip(SEEDS, away, strict=True):
            value = 3.0 + more + GAINS[page].get(name, 0.0)
            lr = 10.0 ** ((best if name == "program" else 1) - 3)
            rows.append({**FACTS, **kind, "experiment": page, "optimizer": name, "lr": lr,
                         "weight_decay": 1.0, "seed": seed, "val": value,
                         "test": value})  # fmt: skip
    return rows


def make(folder: Path, best: int = 1) -> Path:
    results = study_folder.make(folder)
    for page in GAINS:
        studies = {"discovered": tuning(page, best), "discovered_fresh": fresh(page, best)}
        for name, rows in studies.items():
            path = results / "studies" / page / name / "runs.csv"
            path.parent.mkdir(parents=True)
            pd.DataFrame(rows).to_csv(path, index=False)
    return results


def test_a_lower_loss_is_ahead_and_a_lower_accuracy_behind(tmp_path: Path) -> None:
    cells = discovered.table(make(tmp_path)).set_index(["experiment", "arm"])
    for page, gains in GAINS.items():
        for arm, gain in gains.items():
            assert cells.difference[page, arm] == pytest.approx(gain, abs=1e-6)
            assert cells.wide_low[page, arm] < cells.low[page, arm] < cells.high[page, arm]
    verdicts = cells.verdict.to_dict()
    assert verdicts["vit_proxy", "program"] == "worse"
    assert verdicts["lm_proxy", "program"] == "better"
    assert verdicts["vit_proxy", "lion"] == "inconclusive"
    assert verdicts["lm_proxy", "lion"] == "worse"
    assert cells.sign["lm_proxy", "lion"] == -1 and cells.sign["vit_proxy", "lion"] == 1
    assert (cells.num_settings == 9).all() and (cells.n == 10).all()


def test_each_arm_is_corrected_over_the_pages_by_itself(tmp_path: Path) -> None:
    """Of two pages, the larger p keeps its own and the smaller doubles."""
    from experiments.analysis import fresh_pairs

    results = make(tmp_path)
    cells = discovered.table(results).set_index(["experiment", "arm"])
    for arm in discovered.ARMS:
        alone = [
            fresh_pairs.judge(pd.DataFrame(tuning(p, 1)), pd.DataFrame(fresh(p)), arm, "adamw")
            for p in GAINS
        ]
        small, large = sorted(cell["p_holm"] for cell in alone)
        found = sorted(cells.p_holm[page, arm] for page in GAINS)
        assert found == pytest.approx([2 * small, max(2 * small, large)])


def test_an_edge_is_said_of_the_optimizer_that_lies_on_it(tmp_path: Path) -> None:
    results = make(tmp_path, best=2)
    cells = discovered.table(results).set_index(["experiment", "arm"])
    assert (cells.verdict[:, "program"] == "not tuned").all()
    assert cells.verdict["lm_proxy", "lion"] == "worse", "Lion is tuned, and so is AdamW"
    text = of_discovered(results)
    assert text.count("not tuned (discovered program on an edge)") == 2
    assert text.startswith(
        "|  |  | lr; weight decay | AdamW's | test | AdamW, test | minus AdamW [95 %, at the "
        "settings found] | with the luck of tuning | p (Holm, all pages) | verdict | n |\n"
    )
    assert "| `lm_proxy` | discovered program | 0.1; 1 | 0.01; 1 | 2.700 | 3.000 | −0.300 [" in text
    assert "Not run yet: `vit_mnist1d_proxy`, `resnet_proxy`" in text


def test_the_text_has_both_intervals_in_the_pages_unit(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    lines = of_discovered(make(tmp_path)).splitlines()
    (row,) = [line for line in lines if line.startswith("| `lm_proxy` | discovered program")]
    assert "−0.300 [−0.3" in row and "nats per token" in row and "| ahead | 10 |" in row
    assert of_discovered(study_folder.make(empty)) == NO_STUDY


@pytest.mark.parametrize(
    ("found", "holds", "edges", "said"),
    [
        ("better", True, "", "ahead"), ("better", False, "", "ahead, at these settings"),
        ("worse", True, "", "behind"), ("worse", False, "", "behind, at these settings"),
        ("inconclusive", False, "", "not shown"), ("diverged", False, "", "diverged"),
        ("not tuned", False, "adamw, program", "not tuned (AdamW, discovered program on an edge)"),
    ],
)  # fmt: skip
def test_verdicts_in_words(found: str, holds: bool, edges: str, said: str) -> None:
    assert verdict(SimpleNamespace(verdict=found, holds=holds, edges=edges)) == said


def test_one_fresh_seed_has_a_difference_and_no_interval(tmp_path: Path) -> None:
    results = make(tmp_path)
    path = results / "studies" / "lm_proxy" / "discovered_fresh" / "runs.csv"
    runs = pd.read_csv(path)
    runs[runs.seed == 101].assign(test=3 - 0.3 * (runs.optimizer == "program")).to_csv(path)
    lines = of_discovered(results).splitlines()
    (row,) = [line for line in lines if line.startswith("| `lm_proxy` | discovered program")]
    assert "| 2.700 | 3.000 | −0.300 nats per token | – | 1 | not shown | 1 |" in row


def test_the_figure_fits_its_page_and_right_is_ahead(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = search_discovered.draw(make(tmp_path))
        figure_style.svg(figure)
    said = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert "−3.00, behind" in said and any(t.startswith("+0.300, ahead") for t in said)
    everything, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert everything.x0 >= -0.01 and everything.x1 <= width + 0.01
    assert everything.y0 >= -0.01 and everything.y1 <= height + 0.01
    caption = " ".join(figure.get_supxlabel().split())
    assert "one of 9 settings" in caption and "n = 10 fresh seeds" in caption


def test_without_a_study_the_command_is_told(tmp_path: Path) -> None:
    figure = search_discovered.draw(study_folder.make(tmp_path))
    assert search_discovered.COMMAND in [t.get_text() for a in figure.axes for t in a.texts]


def test_the_report_has_a_row_for_each_page_and_arm(tmp_path: Path) -> None:
    cells = discovered.table(make(tmp_path))
    text = search_page._compared(cells)
    assert text.count("<tr") == 1 + len(cells) and "nats per token" in text
    assert "not run yet" in search_page._compared(None)
