"""The optimizers since 2023 on made-up studies: picks, baselines, cost, and what is missing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import study_folder
from matplotlib.figure import Figure

from experiments.analysis import since_2023
from experiments.analysis.drawing import figure_style
from experiments.analysis.figures import optimizers_since_2023
from experiments.analysis.markdown import NO_STUDY
from experiments.analysis.since_2023 import OPTIMIZERS
from experiments.analysis.text_since_2023 import compared, cost
from experiments.config import UserError

VIT, LM = since_2023.PAGES
TOP1 = {"metric": "top1", "unit": "%", "better": "higher", "digits": 2, "n": 20_000}
LOSS = {"metric": "loss", "unit": "nats per token", "better": "lower", "digits": 3}
FACTS = {"state": "finished", "seconds": 1.0, "batch_size": 64, "scale": "proxy", "weights": "raw",
         "tune_split": "val", "report_split": "test", "beta1": 0.9, "beta2": 0.99}  # fmt: skip
SEEDS = range(100, 110)
GAINS = {VIT: {"muon": 3.0, "lion": 1.0, "lamb": -4.0}, LM: {"muon": -0.05, "lamb": 0.2}}
"""Of the test value, beside AdamW's: points of accuracy, nats of loss."""
EDGE, DIVERGED = "adopt", "mars"
"""Who has the best lr of its grid at an end, and who diverged once with a fresh seed."""


def tuning(page: str) -> list[dict[str, Any]]:
    """3 x 3 settings each, the best in the middle."""
    kind = LOSS if page == LM else TOP1
    sign = -1 if kind is LOSS else 1
    return [
        {**FACTS, **kind, "experiment": page, "optimizer": name, "lr": 10.0 ** (i - 3), "seed": 0,
         "weight_decay": 10.0 ** (j - 1), "test": 3.0,
         "val": 3 - sign * (abs(i - (2 if name == EDGE else 1)) + abs(j - 1))}
        for name in OPTIMIZERS for i in range(3) for j in range(3)
    ]  # fmt: skip


def fresh(page: str) -> list[dict[str, Any]]:
    kind = LOSS if page == LM else TOP1
    random, rows = np.random.RandomState(0), []
    for name in OPTIMIZERS:
        away = random.permutation(np.linspace(-1, 1, len(SEEDS))) * (0.01 if page == LM else 0.3)
        for seed, more in zip(SEEDS, away, strict=True):
            value = 3.0 + more + GAINS[page].get(name, 0.0)
            rows.append({**FACTS, **kind, "experiment": page, "optimizer": name, "seed": seed,
                         "lr": 0.1 if name == EDGE else 0.01, "weight_decay": 1.0, "val": value,
                         "test": value})  # fmt: skip
    lost = next(row for row in rows if row["optimizer"] == DIVERGED)
    lost |= {"state": "diverged", "val": np.nan, "test": np.nan}
    return rows


def costs() -> list[dict[str, Any]]:
    """The k-th after AdamW takes 4 k steps of it more, and k bytes."""
    order = ["adamw", *(name for name in OPTIMIZERS if name != "adamw")]
    return [
        {**{"model": model, "optimizer": name, "threads": 1, "cpu": "a processor"},
         **{"ratio": 1.0 + 4 * k, "ratio_low": 0.9 + 4 * k, "ratio_high": 1.2 + 4 * k},
         "state_bytes_per_param": 4.0 + k}
        for model in (VIT, "vit_s16_imagenet") for k, name in enumerate(order)
    ]  # fmt: skip


def make(folder: Path, pages: tuple[str, ...] = (VIT, LM), is_measured: bool = True) -> Path:
    results = study_folder.make(folder)
    for page in pages:
        for name, rows in (("since_2023", tuning(page)), ("since_2023_fresh", fresh(page))):
            path = results / "studies" / page / name / "runs.csv"
            path.parent.mkdir(parents=True)
            pd.DataFrame(rows).to_csv(path, index=False)
    if is_measured:
        (results / "bench").mkdir()
        pd.DataFrame(costs()).to_csv(results / "bench" / "optimizers.csv", index=False)
    return results


def test_each_is_compared_with_adamw_and_with_lion_in_the_pages_unit(tmp_path: Path) -> None:
    found = since_2023.comparisons(make(tmp_path)).set_index(["experiment", "theirs", "ours"])
    assert len(found) == 2 * 2 * (len(OPTIMIZERS) - 1)
    gain = found.difference
    assert gain[VIT, "adamw", "muon"] == pytest.approx(3.0)
    assert gain[VIT, "lion", "muon"] == pytest.approx(2.0)
    assert gain[LM, "adamw", "muon"] == pytest.approx(-0.05)
    verdicts = found.verdict
    assert verdicts[LM, "adamw", "muon"] == verdicts[VIT, "lion", "muon"] == "better"
    assert verdicts[LM, "adamw", "lamb"] == verdicts[VIT, "lion", "adamw"] == "worse"
    assert verdicts[VIT, "adamw", "clion"] == "inconclusive"
    assert set(verdicts[:, :, EDGE]) == {"not tuned"}
    assert set(verdicts[:, :, DIVERGED]) == {"diverged"}
    assert (found.wide_low <= found.low)[found.low.notna()].all()


def test_holms_correction_is_over_both_pages_for_each_baseline(tmp_path: Path) -> None:
    """The smallest p counts as often as there are comparisons that were judged."""
    from experiments.analysis.confirmed import judged

    results = make(tmp_path)
    found = since_2023.comparisons(results)
    for theirs in since_2023.THEIRS:
        mine = found[(found.theirs == theirs) & (found.experiment == LM) & (found.ours == "lamb")]
        alone = judged(pd.DataFrame(tuning(LM)), pd.DataFrame(fresh(LM)), "lamb", theirs)
        num_judged = 2 * (len(OPTIMIZERS) - 1 - 2)  # not the one on an edge, nor the diverged one
        assert mine.p_holm.item() == pytest.approx(num_judged * alone["p_holm"])


def test_the_best_stands_first_and_what_diverged_last(tmp_path: Path) -> None:
    picks = since_2023.picks(make(tmp_path))
    for page in (VIT, LM):
        mine = picks[picks.experiment == page]
        assert mine.optimizer.iloc[0] == "muon" and mine.optimizer.iloc[-2] == "lamb"
        assert mine.optimizer.iloc[-1] == DIVERGED and mine.test.isna().sum() == 1
        assert set(mine.optimizer[mine.on_edge]) == {EDGE}
        assert (mine.num_settings == 9).all() and (mine.n == len(SEEDS)).all()


def row(text: str, name: str, number: int = 0) -> str:
    return [line for line in text.splitlines() if line.startswith(f"| {name} |")][number]


def test_the_text_has_picks_both_baselines_and_edges(tmp_path: Path) -> None:
    text = compared(make(tmp_path))
    each = "[95 %, at the settings found] | with the luck of tuning | p (Holm) | verdict |"
    assert (
        "| `lm_proxy` | lr; weight decay | validation | test loss, mean ± s.e. | minus AdamW, "
        f"nats per token {each} minus Lion, nats per token {each} n |\n"
    ) in text
    assert f"minus Lion, points {each}" in text
    muon = row(text, "Muon", 1)
    assert "| 0.01; 1 | 3.000 | 2.950 ± 0.002 | −0.050 [−0.05" in muon
    assert muon.count("| ahead |") == 2 and muon.endswith("| 10 |")
    assert row(text, "AdamW").count("|  |  |  |  |") == 1, "none against itself"
    assert "0.1; 1 (edge)" in row(text, "ADOPT") and "not tuned (ADOPT on an edge)" in text
    assert "diverged" in row(text, "MARS") and "16 with AdamW and 16 with Lion" in text


def test_what_diverged_while_tuning_is_counted(tmp_path: Path) -> None:
    results = make(tmp_path)
    assert "while tuning" not in compared(results)
    path = results / "studies" / LM / "since_2023" / "runs.csv"
    runs = pd.read_csv(path)
    lost = (runs.optimizer == "lamb") & (runs.lr == 0.1)
    runs.loc[lost, ["state", "val", "test"]] = ["diverged", np.nan, np.nan]
    runs.to_csv(path, index=False)
    assert compared(results).endswith("Settings that diverged while tuning: LAMB 3 (`lm_proxy`).")
    pd.concat([runs, runs.assign(seed=1)]).to_csv(path, index=False)
    assert compared(results).endswith("Runs that diverged while tuning: LAMB 6 (`lm_proxy`).")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    nothing, half = tmp_path / "nothing", tmp_path / "half"
    nothing.mkdir(), half.mkdir()
    assert compared(study_folder.make(nothing)) == NO_STUDY
    assert cost(nothing / "results") == NO_STUDY
    assert "Not run yet: `lm_proxy`." in compared(make(half, (VIT,), is_measured=False))
    figure = optimizers_since_2023.draw(nothing / "results")
    assert optimizers_since_2023.COMMAND in words(figure)
    assert "not run yet" in words(optimizers_since_2023.draw(half / "results"))


def test_the_cost_table_has_ratios_and_bytes(tmp_path: Path) -> None:
    text = cost(make(tmp_path))
    assert "| Muon | 41 [40.9, 41.2] | 41 [40.9, 41.2] | 14.00 |" in text
    assert "state, bytes a parameter (`" in text.splitlines()[0].split(" | ")[-1]
    assert "a processor; torch's threads: 1" in text
    path = tmp_path / "results" / "bench" / "optimizers.csv"
    rows = costs()
    rows[-1] |= {"cpu": "another", "threads": 2}
    pd.DataFrame(rows).to_csv(path, index=False)
    both = "On a processor; torch's threads: 1, and on another; torch's threads: 2."
    assert cost(tmp_path / "results").endswith(both)
    path.write_text("model,optimizer\n")
    with pytest.raises(UserError, match=r"bench_optimizers\.py again"):
        cost(tmp_path / "results")


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


@pytest.mark.parametrize("is_measured", [True, False])
def test_the_figure_fits_its_page_and_right_is_ahead(tmp_path: Path, is_measured: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = optimizers_since_2023.draw(make(tmp_path, is_measured=is_measured))
        figure_style.svg(figure)
        figure.draw_without_rendering()
    said = words(figure)
    assert "+3.00 ahead" in said and "+0.050 ahead" in said and "−0.200 behind" in said
    everything, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert everything.x0 >= -0.01 and everything.x1 <= width + 0.01
    assert everything.y0 >= -0.01 and everything.y1 <= height + 0.01
    caption = " ".join(figure.get_supxlabel().split())
    assert "one of 9 settings" in caption and "n = 10 fresh seeds" in caption
    assert ("a processor; torch's threads: 1;" in caption) == is_measured
    for axis in figure.axes:
        boxes = [(text.get_text(), text.get_window_extent()) for text in axis.texts]
        for number, (ours, a) in enumerate(boxes):
            for theirs, b in boxes[number + 1 :]:
                wide = min(a.x1, b.x1) - max(a.x0, b.x0)
                assert wide < 1.5 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1.5, (ours, theirs)


def test_the_fused_step_of_lion_is_seen_beside_the_fused_step_of_adamw() -> None:
    """Of the committed costs; the first row is torch's default, tensor by tensor on a CPU."""
    names = [label.get_text() for label in optimizers_since_2023.draw().axes[4].get_yticklabels()]
    assert names[:2] == ["AdamW, tensor by tensor", "AdamW, fused"]
    assert "Lion, fused" in names and "Lion" not in names
