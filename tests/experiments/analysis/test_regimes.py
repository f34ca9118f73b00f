"""The regime map: who is ahead is what the fresh seeds say, and what is not tuned is said so."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import known_truth
import numpy as np
import pandas as pd
import pytest
import study_folder
from scipy import stats

from experiments.analysis import regimes, text_families
from experiments.analysis.claims import batch
from experiments.analysis.claims.evidence import Evidence
from experiments.analysis.drawing import figure_style
from experiments.analysis.figures import batch_size, regime_map
from experiments.analysis.statistics.difference import difference_of
from experiments.analysis.statistics.tuning_luck import of_optimizers, p_of_optimizers
from experiments.store import UserError

SEEDS = range(100, 110)
FACTS = {"state": "finished", "seconds": 1.0, "n": 20_000, "metric": "top1", "unit": "%",
         "better": "higher", "scale": "proxy"}  # fmt: skip
TRUE, NOISY = "true labels", "40 % of labels redrawn"
GAINS = {(TRUE, 1): -4.0, (TRUE, 64): 6.0, (NOISY, 1): 0.0, (NOISY, 64): 0.45}
"""Lion minus AdamW of each cell, in points; seeds of one setting have an sd of about 0.3."""


def tuning(noise: float, size: int, best: int = 1) -> list[dict[str, Any]]:
    """3 x 3 settings for both, the best one at a place of the learning rates."""
    grid = [(i, j) for i in range(3) for j in range(3)]
    return [
        {**FACTS, "optimizer": name, "lr": 10.0 ** (i - 3), "weight_decay": 10.0 ** (j - 1),
         "seed": 0, "val": 80.0 - abs(i - best) - abs(j - 1), "test": 80.0, "test_loss": 1.0,
         "batch_size": size, "label_noise": noise}
        for name in ("adamw", "lion") for i, j in grid
    ]  # fmt: skip


def fresh(noise: float, size: int, gain: float, best: int = 1) -> list[dict[str, Any]]:
    random_state = np.random.RandomState(size)
    rows = []
    for name in ("adamw", "lion"):
        spread = random_state.permutation(np.linspace(-0.45, 0.45, len(SEEDS)))
        for seed, away in zip(SEEDS, spread, strict=True):
            test = 80 + away + (gain if name == "lion" else 0.0)
            rows.append({**FACTS, "optimizer": name, "lr": 10.0 ** (best - 3),
                         "weight_decay": 1.0, "seed": seed, "val": test, "test": test,
                         "test_loss": 3 - test / 50, "batch_size": size,
                         "label_noise": noise})  # fmt: skip
    return rows


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = study_folder.make(tmp_path)
    tuned, ran = [], []
    for (regime, size), gain in GAINS.items():
        noise = 0.4 if regime == NOISY else 0.0
        tuned += tuning(noise, size)
        ran += fresh(noise, size, gain)
    tuned += tuning(0.0, 16, best=2)  # on the edge
    ran += fresh(0.0, 16, gain=9.0, best=2)
    tuned += tuning(0.0, 4)  # no fresh seeds yet
    write(folder, "mlp_proxy", regimes=tuned, regimes_fresh=ran)
    few = [{k: v for k, v in row.items() if k != "label_noise"} for row in tuning(0.0, 64)]
    lost = [row | ({"state": "diverged", "test": None} if row["seed"] == 103 else {})
            for row in fresh(0.0, 64, 1.0)]  # fmt: skip
    write(folder, "mlp_proxy", tiny=few, tiny_fresh=lost)
    return folder


def write(folder: Path, experiment: str, **studies: list[dict[str, Any]]) -> None:
    for name, rows in studies.items():
        path = folder / "studies" / experiment / name / "runs.csv"
        path.parent.mkdir(parents=True)
        pd.DataFrame(rows).to_csv(path, index=False)


def test_the_map_says_who_is_ahead_where(results: Path) -> None:
    cells = regimes.table(results).set_index(["regime", "batch_size"])
    for place, gain in GAINS.items():
        assert cells.difference[place] == pytest.approx(gain, abs=1e-6)
        assert cells.low[place] < gain < cells.high[place]
        assert cells.wide_low[place] < cells.low[place] < cells.high[place] < cells.wide_high[place]
    assert cells.verdict.to_dict() == {
        (TRUE, 1): "worse",
        (TRUE, 4): "not run",
        (TRUE, 16): "not tuned",
        (TRUE, 64): "better",
        (NOISY, 1): "inconclusive",
        (NOISY, 64): "better",
        ("200 examples", 64): "diverged",
    }
    assert cells.holds[cells.holds].index.tolist() == [(TRUE, 1), (TRUE, 64)]
    assert cells.edges[TRUE, 16] == "adamw, lion" and cells.edges[TRUE, 1] == ""
    assert cells.loss_difference[TRUE, 64] == pytest.approx(-6 / 50)
    assert np.isnan(cells.loss_difference["200 examples", 64]), "of a diverged cell nothing is said"
    assert (cells.lion_lr[TRUE, 1], cells.num_settings[TRUE, 1], cells.n[TRUE, 1]) == (0.01, 9, 10)
    assert (cells.num_tuning_seeds == 1).all()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("lr", 0.1, "mlp_proxy, lion: the fresh runs have another setting"),
     ("seed", 0, "seed 0 of the fresh runs had a part in picking")],
)  # fmt: skip
def test_fresh_runs_are_of_the_picks_and_of_other_seeds(
    tmp_path: Path, column: str, value: float, said: str
) -> None:
    folder, rows = study_folder.make(tmp_path), fresh(0.0, 64, 1.0)
    rows[-1] |= {column: value}
    rows = [{**row, "experiment": "mlp_proxy"} for row in rows]
    write(folder, "mlp_proxy", regimes=tuning(0.0, 64), regimes_fresh=rows)
    with pytest.raises(UserError, match=said):
        regimes.table(folder)


def test_p_is_corrected_over_the_whole_map(results: Path) -> None:
    """The fourth cell of four that are judged keeps its p, the first has four times its own."""
    cells = regimes.table(results)
    judged = cells[cells.verdict.isin(["better", "worse", "inconclusive"])]
    assert len(judged) == 4
    alone = results.parent / "alone"
    alone.mkdir()
    one = study_folder.make(alone)
    write(one, "cnn_proxy", regimes=tuning(0.4, 64), regimes_fresh=fresh(0.4, 64, 0.45))
    (cell,) = regimes.table(one).itertuples()
    corrected = judged[(judged.regime == NOISY) & (judged.batch_size == 64)].p_holm.item()
    assert corrected == pytest.approx(2 * cell.p_holm)  # two of four have a smaller p


def test_the_luck_of_tuning_widens_an_interval_as_the_formula_says() -> None:
    ours, theirs = np.array([3.0, 5.0, 4.0, 4.0]), np.array([1.0, 2.0, 3.0, 2.0])
    found = difference_of(ours - theirs, (ours, theirs))
    one_run = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2)
    low, high = of_optimizers(found, ours, theirs, luck=0.5)
    error = np.sqrt((ours - theirs).var(ddof=1) / 4 + (0.5 * one_run) ** 2)
    assert (high - low) / 2 == pytest.approx(3.182446 * error)  # t of 3 degrees of freedom
    bounds = of_optimizers(found, ours, theirs, luck=0.0)
    assert bounds == pytest.approx((found.low, found.high))
    p = stats.ttest_rel(ours, theirs).pvalue
    assert p_of_optimizers(-found.mean, *bounds, 4) == pytest.approx(p)
    one = difference_of([1.0])
    assert of_optimizers(one, ours[:1], theirs[:1]) == (-np.inf, np.inf)


def test_the_picture_and_the_text_say_the_same(results: Path) -> None:
    figure = regime_map.draw(results)
    figure_style.svg(figure)
    said = [text.get_text() for text in figure.axes[0].texts]
    for words in ("−4.0", "+6.0", "+0.5", "edge: AdamW, Lion", "diverged", "no fresh seeds yet"):
        assert any(words in text for text in said), words
    assert sum("not shown" in text for text in said) == 1
    assert said.count("not run") == 5  # of 4 x 3 places, 7 have a cell
    caption = figure.get_supxlabel()
    for words in ("with batch < 64 Lion is likely no better", "n = 10 fresh"):
        assert words in " ".join(caption.split())
    text = text_families.BLOCKS["regimes"](results)
    assert "| MLP | true labels | 1 | −4.00 [" in text and "Lion is behind" in text
    assert "not tuned (AdamW, Lion on an edge)" in text and "diverged" in text


def test_the_stronger_comparison_has_its_own_correction_and_says_the_picks(results: Path) -> None:
    """On the same folder as the map, of whose cells it counts none."""
    rows = (tuning(0.0, 64) + tuning(0.2, 64), fresh(0.0, 64, 0.0) + fresh(0.2, 64, 6.0))
    before = regimes.table(results)
    write(results, "vit_signals_proxy", stronger=rows[0], stronger_fresh=rows[1])
    pd.testing.assert_frame_equal(before, regimes.table(results))
    text = text_families.BLOCKS["stronger"](results)
    assert "| true labels | 0.01 | 1 | 80.00 | 0.01 | 1 | 80.00 | 10 |" in text
    assert "| 20 % of labels redrawn | 64 | +6.00 [" in text and text.count("Lion is ahead") == 1
    each = "lr | weight decay | test %"
    assert text.startswith(f"|  | AdamW: {each} | Lion: {each} | n |\n")
    assert (
        "| family | regime | batch | Lion − AdamW, points [95 %, at the settings found] | with "
        "the luck of tuning | p (Holm, all rows) | verdict | in test loss, nats |\n"
    ) in text


def test_batch_sizes_on_many_signals_say_how_the_gain_grows(results: Path) -> None:
    """3 and 4 points more with a doubling; a size on an edge takes the verdict away."""
    gains = {64: 0.0, 128: 3.0, 256: 7.0}
    ran = [row for size, gain in gains.items() for row in fresh(0.0, size, gain)]
    tuned = [row for size in gains for row in tuning(0.0, size)]
    write(results, "vit_signals_proxy", batch_size=tuned, batch_size_fresh=ran)
    grown = regimes.growth(results, "vit_signals_proxy", "batch_size")
    assert grown is not None and grown.found.mean == pytest.approx(3.5)
    assert grown.found.verdict == "better" and grown.found.n == len(SEEDS)
    # The slope weighs the sizes by -1/2, 0 and 1/2; 0.9 sd of one run for each of the two picks.
    one_run = np.linspace(-0.45, 0.45, len(SEEDS)).var(ddof=1)
    error = np.hypot(grown.found.sd / np.sqrt(len(SEEDS)), 0.9 * np.sqrt(one_run / 2))
    assert (grown.wide_high - grown.wide_low) / 2 == pytest.approx(2.262157 * error)
    text = text_families.BLOCKS["batch_size_signals"](results)
    assert "| 128 | 0.01 | 1 | 80.00 | 0.01 | 1 | 83.00 | 10 |" in text
    reach = 2.262157 * error
    of_both = f"of the optimizers [{3.5 - reach:.2f}, {3.5 + reach:.2f}]: it grows."
    assert "grows by +3.50 [" in text and f"{of_both} Without batch 64: +4.00 [" in text
    without = regimes.growth(results, "vit_signals_proxy", "batch_size", above=64)
    assert without is not None and without.found.mean == pytest.approx(4.0)
    figure = batch_size.draw(results)
    figure_style.svg(figure)
    words = " ".join(figure.get_supxlabel().split())
    assert "one of 9 settings picked on one seed, n = 10 fresh seeds" in words
    values = batch_size.table(results)
    mine = values[values.origin == batch_size.SIGNALS].set_index(["optimizer", "batch_size"])
    assert mine.value["Lion", 256] == pytest.approx(87.0) and not mine.on_edge.any()
    tuned[-18:] = tuning(0.0, 256, best=2)
    ran[-2 * len(SEEDS) :] = fresh(0.0, 256, 7.0, best=2)[:-1]  # and a seed is lost
    for name, rows in (("batch_size", tuned), ("batch_size_fresh", ran)):
        path = results / f"studies/vit_signals_proxy/{name}/runs.csv"
        pd.DataFrame(rows).to_csv(path, index=False)
    text = text_families.BLOCKS["batch_size_signals"](results)
    assert text.endswith("no verdict, a size is not tuned.")
    grown = regimes.growth(results, "vit_signals_proxy", "batch_size")
    assert grown is not None and grown.found.n == len(SEEDS) - 1
    assert "hollow): AdamW at 256, Lion at 256." in " ".join(
        batch_size.draw(results).get_supxlabel().split()
    )


def test_growth_is_told_only_where_every_size_was_compared(results: Path) -> None:
    """A slope is one of two sizes or more; without a comparison at one of them there is none."""
    gains = {1: 0.0, 2: 3.0, 4: 7.0}
    ran = [row for size, gain in gains.items() for row in fresh(0.0, size, gain)]
    tuned = [row for size in gains for row in tuning(0.0, size)]
    folder = results / "studies" / "vit_signals_proxy"
    asked = results, "vit_signals_proxy", "batch_size"

    def text(fresh: list[dict[str, Any]], tuning: list[dict[str, Any]]) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        write(results, "vit_signals_proxy", batch_size_fresh=fresh, batch_size=tuning)
        return text_families.BLOCKS["batch_size_signals"](results)

    write(results, "vit_signals_proxy", batch_size_fresh=ran)
    assert regimes.growth(*asked) is None, "fresh runs of which no tuning is there"
    assert "not run yet" in text_families.BLOCKS["batch_size_signals"](results)
    two = [[row for row in rows if row["batch_size"] > 1] for rows in (ran, tuned)]
    said = text(*two)
    assert "grows by +4.00 [" in said and "Without batch" not in said and "nan" not in said
    assert regimes.growth(*asked, above=2) is None
    assert "grows by +4.00 [" in text(ran, two[1]), "batch 1 was not tuned"
    for lost in ([row for row in ran if row["batch_size"] != 2],
                 [row | {"state": "diverged", "test": None, "test_loss": None}
                  if row["batch_size"] == 2 and row["seed"] == 103 else row
                  for row in ran]):  # fmt: skip
        said = text(lost, tuned)
        assert "grows by" not in said and "nan" not in said
        assert "| 2 | 0.01 | 1 | – | 0.01 | 1 | – | 0 |" in said
    assert "grows by +3.50 [" in text(ran, tuned), "batch 1 counts"
    said = text([row for row in ran if row["seed"] == 100], tuned)
    assert "nan" not in said
    assert re.search(r"\| 2 \| \+\d\.\d\d \| – \| 1 \| not shown \| −0\.\d{3} \|", said)


def test_the_claim_says_how_the_gain_grows_on_many_signals(results: Path) -> None:
    ran = [row for size in (64, 128) for row in fresh(0.0, size, size / 64)]
    tuned = [row for size in (64, 128) for row in tuning(0.0, size)]
    small = [row for size in (16, 32) for row in known_truth.arms(
        {"lion": 91.0, "adamw": 90.0}, batch_size=size)]  # fmt: skip
    write(results, "vit_proxy", batch_size=small)
    write(results, "vit_signals_proxy", batch_size=tuned, batch_size_fresh=ran)
    note = batch.gain_grows(Evidence(results.parent)).note
    assert re.search(r"fresh seeds: \+1\.00 \[.*\] \(n = 10; shown\), of the optimizers \[", note)
    path = results / "studies/vit_signals_proxy"
    tuned[9:18] = tuning(0.0, 64, best=2)[9:]  # Lion's on an edge
    for row in ran[10:20]:
        row["lr"] = 0.1
    pd.DataFrame(tuned).to_csv(path / "batch_size" / "runs.csv")
    pd.DataFrame(ran).to_csv(path / "batch_size_fresh" / "runs.csv")
    note = batch.gain_grows(Evidence(results.parent)).note
    assert "(n = 10; not tuned at batch 64), of the optimizers [" in note


def test_colours_are_the_winners_and_paler_where_only_the_settings_are_shown() -> None:
    strong, pale = (regime_map.colour_of("better", holds) for holds in (True, False))
    assert isinstance(strong, tuple) and isinstance(pale, tuple)
    assert strong[2] > strong[0] and sum(pale) > sum(strong)  # blue, and more white in it
    worse = regime_map.colour_of("worse", True)
    assert isinstance(worse, tuple) and worse[0] > worse[2]
    assert regime_map.colour_of("inconclusive", True) == regime_map.GREY
    assert regime_map.colour_of("not tuned", True) == "white"


def test_nothing_is_claimed_where_nothing_was_run(tmp_path: Path) -> None:
    nothing = study_folder.make(tmp_path)
    assert regimes.table(nothing).empty
    figure = regime_map.draw(nothing)
    assert "not run yet" in figure.get_supxlabel()
    assert set(regime_map.table(nothing).origin) == {"paper"}
    assert regimes.growth(nothing, "vit_signals_proxy", "batch_size") is None
    for block in ("regimes", "stronger", "batch_size_signals"):
        assert "not run yet" in text_families.BLOCKS[block](nothing)
