"""Flatness on many signals: the rise over the loss without noise is what is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import study_folder

from experiments.analysis import text_tables
from experiments.analysis.figures import landscape

BLOCK = text_tables.BLOCKS["flatness_signals"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Lion 1 nat above AdamW without noise, and rising 0.5 less with it; no faster at 0.5."""
    folder = study_folder.make(tmp_path) / "studies/vit_signals_proxy/landscape"
    folder.mkdir(parents=True)
    rows, tops = [], []
    for optimizer, clean, rise in (("adamw", 1.0, 2.0), ("lion", 2.0, 1.5)):
        spread = np.random.RandomState(len(optimizer)).permutation(np.linspace(-0.1, 0.1, 10))
        for seed, away in enumerate(spread):
            facts = {"experiment": "vit_signals_proxy", "optimizer": optimizer, "seed": seed}
            noisy = {("none", 0.0): clean, ("sigma", 0.02): clean + rise + away,
                     ("relative", 0.5): clean + 2 + away}  # fmt: skip
            rows += [{**facts, "noise": kind, "scale": scale, "loss": loss}
                     for (kind, scale), loss in noisy.items()]  # fmt: skip
            tops.append({**facts, "hessian_top": 30 + 10 * clean + away})
    pd.DataFrame(rows).to_csv(folder / "noise.csv", index=False)
    pd.DataFrame(tops).to_csv(folder / "hessian.csv", index=False)
    return folder.parents[2]


def test_a_rise_is_judged_apart_from_the_loss_without_noise(results: Path) -> None:
    lines = [line for line in BLOCK(results).splitlines() if line.startswith("| ")]
    clean, same, relative = (line.split(" | ") for line in lines[2:])
    assert clean[:4] == ["| none", "", "1.000", "2.000"] and clean[-1] == " |"
    assert same[:4] == ["| the same for all weights", "0.02", "3.000", "3.500"]
    assert same[4].startswith("+0.500 [") and same[5].startswith("−0.500 [")
    assert same[-1] == "Lion rises less |"
    assert abs(float(relative[5].split()[0].replace("−", "-"))) < 1e-9  # rounding is left
    assert relative[-1] == "not shown |"
    assert "Lion's is larger in 10 of 10 seeds, by +10.0 [" in BLOCK(results)


def test_each_proxy_has_a_row_of_the_figure_the_default_one_first(results: Path) -> None:
    other = results / "studies/vit_proxy/landscape"
    other.mkdir(parents=True)
    mine = pd.read_csv(results / "studies/vit_signals_proxy/landscape/noise.csv")
    mine = mine[mine.seed < 6].assign(experiment="vit_proxy")
    mine.to_csv(other / "noise.csv", index=False)
    figure = landscape.draw(results)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert "vit_proxy" in titles[2] and "vit_signals_proxy" in titles[4]
    words = " ".join(figure.get_supxlabel().split())
    assert "n = 6 (vit_proxy) and 10 (vit_signals_proxy) seeds" in words


def test_a_seed_of_one_optimizer_alone_is_not_counted(results: Path) -> None:
    for name in ("noise", "hessian"):
        path = results / f"studies/vit_signals_proxy/landscape/{name}.csv"
        rows = pd.read_csv(path)
        rows[(rows.optimizer == "lion") | (rows.seed > 0)].to_csv(path, index=False)
    said = BLOCK(results)
    assert "n = 9 seeds" in said and "Lion's is larger in 9 of 9 seeds" in said


def test_nothing_is_said_where_nothing_was_measured(tmp_path: Path) -> None:
    assert "not run yet" in BLOCK(study_folder.make(tmp_path))


def test_what_other_picks_might_turn_is_shown_at_the_settings_found_only(results: Path) -> None:
    path = results / "studies/vit_signals_proxy/landscape/hessian.csv"
    tops = pd.read_csv(path)
    tops.assign(hessian_top=tops.hessian_top + 40 * tops.seed).to_csv(path, index=False)
    said = BLOCK(results).splitlines()[-1]
    assert "in 10 of 10 seeds, by +10.0 [" in said and "of the optimizers [−" in said
    assert "Hessian: 50 to 410 for Lion's runs, 40 to 400 for AdamW's;" in said
    assert said.endswith(": shown at the settings found only.")
