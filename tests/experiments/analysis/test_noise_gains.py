"""Lion's best learning rate by its betas: ratios, slopes, walks, and how they are told."""

# pyright: reportAttributeAccessIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from smooth_tops import grid, write

from experiments.analysis import best_ratios, noise_gains, text_best_ratios, text_noise_gains
from experiments.analysis.figures import noise_gains as figure
from experiments.analysis.noise_gains import gain

PAIRS = (0.0, 0.99), (0.9, 0.9), (0.99, 0.99)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two families; AdamW's best learning rate over Lion's is G to the 1 or 0.5, by the length."""
    root = tmp_path_factory.mktemp("results")
    for family, adamw in {"mlp": 1e-2, "cnn": 3e-3}.items():
        folder = root / f"studies/{family}_proxy"
        old, new = [], []
        for steps, power in ((620, 0.5), (10_000, 1.0)):
            facts = {"experiment": f"{family}_proxy", "steps": steps}
            old += grid("adamw", adamw, **facts)
            for optimizer in ("adamw", "lion"):
                old += grid(optimizer, 1e-3, **{**facts, "batch_size": 16})
            old += grid("lion", adamw / gain(0.9, 0.99) ** power, **facts)
            for betas in PAIRS:
                pair = {"beta1": betas[0], "beta2": betas[1]}
                new += grid("lion", adamw / gain(*betas) ** power, **facts, **pair)
        for optimizer in ("adamw", "lion"):
            old += grid(optimizer, 1e-3, **{**facts, "steps": 2500})
        write(folder / "batch_and_steps", old)
        write(folder / "betas_and_steps", new)
    return root


def test_each_pair_is_beside_the_adamw_of_its_length_and_batch(results: Path) -> None:
    found = noise_gains.table(results)
    assert len(found) == 2 * 2 * 4 and set(found.steps) == {620, 10_000}
    power = found.steps.map({620: 0.5, 10_000: 1.0})
    assert list(found.lr_estimate) == pytest.approx(list(found.gain**power), rel=0.15)
    assert (found.lr_reason == "").all()


def test_the_slope_is_that_of_the_logs(results: Path) -> None:
    found = noise_gains.table(results)
    for steps, slope in {620: 0.5, 10_000: 1.0}.items():
        mean, of_each = noise_gains.slopes(found, steps)
        assert mean.estimate == pytest.approx(slope, abs=0.1) and len(of_each) == 2
    by_hand = pd.DataFrame(
        {"name": list("aaabbb"), "steps": 5, "gain": [1, 2, 4] * 2, "lr_estimate": [1, 2, 4] * 2}
    )
    by_hand.loc[3:, "lr_estimate"] = 3.0
    mean, of_each = noise_gains.slopes(by_hand, 5)
    assert of_each == pytest.approx([1.0, 0.0]) and mean.estimate == pytest.approx(0.5)
    by_hand.loc[5, "lr_estimate"] = float("nan")  # an edge: two pairs have no slope
    assert len(noise_gains.slopes(by_hand, 5)[1]) == 1


def test_what_the_slope_leans_on() -> None:
    """By hand: slopes 1 and 2 in long runs, in short ones without the first pair 0.5 and 1."""
    gains, rows = [1.0, 2.0, 4.0, 8.0], []
    for name, data, power in (("a", "x", 1.0), ("b", "x", 2.0), ("c", "y", 1.0)):
        for steps, times in ((10, 0.5), (20, 1.0)):
            for one in gains:
                known = one ** (times * power) if (steps, one) != (10, 1.0) else math.nan
                rows.append((name, data, steps, one, known))
    found = pd.DataFrame(rows, columns=["name", "data", "steps", "gain", "lr_estimate"])
    grown = noise_gains.growth(found, 10, 20)
    assert grown.estimate == pytest.approx(2 / 3) and grown.n == 3
    found.loc[(found.steps == 20) & (found.gain == 1.0), "lr_estimate"] = 1e-3
    assert noise_gains.growth(found, 10, 20).estimate == pytest.approx(2 / 3), "same pairs"
    found.loc[found.gain == 1.0, "lr_estimate"] = math.nan
    of_data = noise_gains.by_data(found, 20)
    assert of_data.n == 2 and of_data.estimate == pytest.approx((1.5 + 1.0) / 2)


def test_best_cells_are_beside_the_tops_and_their_ends_are_counted(results: Path) -> None:
    found = noise_gains.table(results)
    inside = found.dropna(subset="lr_picked")
    assert list(inside.lr_picked) == pytest.approx(list(inside.lr_estimate), rel=1.6)
    assert set(found.decay_end) == {""} and set(found.data) == {"digits"}
    rows = grid("lion", 1e-3, experiment="mlp_proxy", steps=5)
    frame = pd.DataFrame([*rows, *grid("adamw", 1e-3, experiment="mlp_proxy", steps=5)])
    lion, adamw = frame[frame.optimizer == "lion"], frame[frame.optimizer == "adamw"]
    cell = noise_gains._best_cells(adamw, lion[lion.weight_decay <= 1])
    assert cell == {"lr_picked": pytest.approx(1.0), "decay_end": "largest"}
    cell = noise_gains._best_cells(adamw, lion[(lion.weight_decay >= 1) & (lion.lr < 1e-3)])
    assert math.isnan(cell["lr_picked"]) and cell["decay_end"] == "smallest"


def test_what_is_said_counts_the_order(results: Path) -> None:
    said = text_noise_gains.ratios(results)
    assert "in the order of the four G in 2 of the 2 families" in said
    assert "over 1 data sets" in said and "mean over 2 families" in said
    assert re.search(r"holds G in 8 of 8 at 10,000 steps, \d of 8 at 620 steps", said)
    assert "Of the 12 best cells of the other betas 0 have" in said
    assert "| (0, any), G = 0.80 | (0.9, 0.9), G = 3.5 | (0.9, 0.99), G = 6.7 |" in said
    assert said.count("| MLP | 620 |") == said.count("| MLP | 10,000 |") == 1


def walked(third: int, window: int, adamw: float, lion: float, **facts: Any) -> dict[str, Any]:
    row = {"experiment": "mlp_proxy", "run_id": "a", "steps": 10_000, "third": third}
    row |= {"window": window, "windows": 3, "lion_beta1": 0.9, "lion_beta2": 0.99}
    return {**row, "adamw_walked": adamw, "lion_walked": lion, "gain": lion / adamw, **facts}


def test_walks_are_root_mean_squares_over_a_run_and_geometric_over_runs(tmp_path: Path) -> None:
    rows = [
        walked(1, 1000, 1.0, 2.0),
        walked(3, 1000, 3.0, 14.0, windows=1),
        walked(1, 1000, 1.0, 8.0, run_id="b"),
        walked(3, 1000, 1.0, 8.0, run_id="b"),
    ]
    folder = tmp_path / "studies/mlp_proxy/noise_gains"
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "windows.csv", index=False)
    (one,) = noise_gains.walks(tmp_path).itertuples()
    # Run a: squares of 3 windows and of 1, so sqrt((3 x 4 + 196) / (3 x 1 + 9)).
    assert one.walked == pytest.approx(((208 / 12) ** 0.5 * 8) ** 0.5)
    assert one.first == pytest.approx((2 * 8) ** 0.5)
    assert one.last == pytest.approx((14 / 3 * 8) ** 0.5)


def test_the_walks_are_told_beside_noise(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    for family, times in {"mlp": 1.0, "cnn": 4.0}.items():
        rows, parts = [], []
        for steps, window in ((620, 100), (10_000, 1000)):
            for third in (1, 2, 3):
                facts = {"experiment": f"{family}_proxy", "steps": steps, "run_id": steps}
                rows.append(walked(third, window, 1.0, times * third, **facts))
                pair = {"third": third, "lion_beta1": 0.9, "lion_beta2": 0.99}
                parts.append({**facts, **pair, "density": third * times / 10, "smaller": 8.0})
        folder = tmp_path / f"studies/{family}_proxy/noise_gains"
        folder.mkdir()
        pd.DataFrame(rows).to_csv(folder / "windows.csv", index=False)
        pd.DataFrame(parts).to_csv(folder / "parts.csv", index=False)
    said = text_noise_gains.walks(tmp_path)
    assert "| CNN | 4.0; 12 | 4.0; 12 | 0.40; 1.2 | 0.40; 1.2 |" in said
    assert "| geometric mean | 2.0; 6.0 | 2.0; 6.0 | 0.20; 0.60 | 0.20; 0.60 |" in said
    assert "| normal noise | 4.4 | 6.5 | 0.80 | 0.80 |" in said
    assert "is 8.0 to 8.0 times smaller" in said and "noise: 8.4" in said
    # 1 step in windows of 100 is less than noise; a mean as large as the rest is 1.6 of it
    assert "1.6 if the mean were as large" in said and "0 of 3 thirds are beyond that" in said


def test_ratios_are_ranked_beside_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = pd.DataFrame({"experiment": list("abc"), "walked": [1, 5, 9], "last": [5, 1, 9]})
    pair = {"beta1": 0.9, "beta2": 0.99}
    both = [walks.assign(steps=s, window=w, **pair) for s, w in ((620, 100), (10_000, 1000))]
    best = pd.concat([walks.assign(steps=620, lr_estimate=[2, 3, 4]),
                      walks.assign(steps=10_000, lr_estimate=[4, 3, 2])])  # fmt: skip
    monkeypatch.setattr(noise_gains, "walks", lambda _: pd.concat(both))
    monkeypatch.setattr(best_ratios, "table", lambda _: None)
    monkeypatch.setattr(best_ratios, "all_lengths", lambda _: best)
    said = text_noise_gains._ranks(Path())
    assert "is 1.00 at 620 steps (0.50 of the last thirds), -1.00 at 10,000 steps (-0.50" in said


def test_ties_and_edges_are_no_order() -> None:
    told = pd.DataFrame({"name": list("aabbcc"), "gain": [1, 2] * 3, "r": [1, 2, 2, 2, 3, 1]})
    assert text_noise_gains._ordered(told, "r", 2) == (1, 3)
    told.loc[0, "r"] = math.nan
    assert text_noise_gains._ordered(told, "r", 2) == (0, 2)


def test_what_is_not_run_is_said(tmp_path: Path) -> None:
    assert noise_gains.table(tmp_path).empty and noise_gains.walks(tmp_path).empty
    for block in (*text_noise_gains.BLOCKS.values(), text_best_ratios.long_runs):
        assert "not run yet" in block(tmp_path)
    assert "not run" in figure.draw(tmp_path).get_supxlabel()


def test_the_figure_has_a_panel_for_each_length_and_the_walks(results: Path) -> None:
    drawn = figure.draw(results)
    titles = [axis.get_title(loc="left") for axis in drawn.axes]
    assert [title.rpartition(": ")[2] for title in titles] == [
        *("620 steps", "10,000 steps", "10,000 steps", "Lion (0.9, 0.99)")
    ]
    assert "at 10,000 steps" in drawn.get_supxlabel()
    assert set(figure.table(results).kind) == {"betas", "length"}


def test_runs_go_on_from_the_longest_before(tmp_path: Path) -> None:
    for family in ("mlp", "cnn"):
        folder, facts = tmp_path / f"studies/{family}_proxy", {"experiment": f"{family}_proxy"}
        for study, ratios in {
            "batch_and_steps": {2500: 9.0, 10_000: 4.0},
            "long_runs": {40_000: 6.0, 160_000: 8.0},
        }.items():
            rows = []
            for steps, ratio in ratios.items():
                rows += grid("adamw", 1e-2, steps=steps, **facts)
                rows += grid("lion", 1e-2 / ratio, steps=steps, **facts)
            write(folder / study, rows)
    said = text_best_ratios.long_runs(tmp_path)
    assert "| family | 10,000 steps | 40,000 steps | 160,000 steps |" in said
    found = re.search(r"by a factor of (\S+) \[.*\], geometric mean .*: not less than 1.10", said)
    assert found and float(found[1]) == pytest.approx(2**0.25, abs=0.03)  # 4 to 8
    assert "by less than 1.20 in 2 of 2 families (by its whole interval in " in said
    assert re.search(r"lies above G, 6.7, in \d of 2\.", said)
    assert set(best_ratios.all_lengths(best_ratios.table(tmp_path)).steps) == {2500, 10_000}


def test_the_interval_of_a_doubling_joins_those_of_both_ratios() -> None:
    def at(steps: int, middle: float, down: float, up: float) -> Any:
        numbers = {"lr_estimate": middle, "lr_low": middle / down, "lr_high": middle * up}
        return pd.Series({"steps": steps, **numbers})

    middle, low, high = text_best_ratios._doubling(at(10, 4, 2, 8), at(40, 16, 4, 16))
    assert middle == pytest.approx(2.0)
    assert low == pytest.approx(2 / 2 ** (13**0.5 / 2))  # down by 4, the first up by 8
    assert high == pytest.approx(2 * 2 ** (17**0.5 / 2))  # up by 16, the first down by 2
