"""Our studies in the figures: the study's own numbers, and no way to take them for the paper's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import known_truth
import pandas as pd
import pytest
import study_folder
from matplotlib.figure import Figure

from experiments.analysis import tuned
from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.figures import batch_size, betas, landscape, lr_wd_heatmaps, optimizers
from experiments.config import UserError


def grids(**more: Any) -> list[dict]:
    both = [("adamw", 1e-2, 0.1), ("lion", 1e-3, 1.0)]
    rows = [known_truth.grid(*arm, seeds=range(3), **more) for arm in both]
    return [row for arm in rows for row in arm]


def at_batch_sizes(sizes: Sequence[int]) -> list[dict]:
    """Each halving of the batch gains a point; Lion's test result is one point above its val."""
    rows = []
    for size in sizes:
        for row in grids(noise=0.0, top=95 - math.log2(size)):
            test = row["val"] + (row["optimizer"] == "lion")
            name = f"{row['run_id']}-b{size}"
            rows.append({**row, "batch_size": size, "test": test, "run_id": name})
    return rows


def ours(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.origin == "proxy"]


def proxy_panels(figure: Figure) -> list[Any]:
    """Axes with the background of our panels (not the colour bars)."""
    from matplotlib.colors import to_rgba

    wanted = to_rgba(dot_panels.PROXY_BACKGROUND)
    return [axis for axis in figure.axes if axis.get_facecolor() == wanted]


def words(figure: Figure) -> str:
    return " ".join([figure.get_supxlabel(), *(a.get_title(loc="left") for a in figure.axes)])


def check_labels(
    figure: Figure, panels: int, model: str = "vit_proxy (39,322 parameters, digits)"
) -> None:
    """Our panels say proxy, model and data, and no axis of theirs is called the paper's."""
    figure_style.svg(figure)
    found = proxy_panels(figure)
    assert len(found) == panels
    for axis in found:
        assert "proxy" in axis.get_title(loc="left")
        assert "ImageNet" not in axis.get_xlabel() + axis.get_ylabel()
    assert model in words(figure)
    assert "not run yet" not in words(figure)


def test_batch_size(tmp_path: Path) -> None:
    results = study_folder.make(tmp_path, batch_size=at_batch_sizes((64, 256)))
    table = ours(batch_size.table(results)).set_index(["optimizer", "batch_size"])
    assert table.value["AdamW", 64] == pytest.approx(89.0)
    assert table.value["Lion", 256] == pytest.approx(88.0)
    assert table.lr["Lion", 64] == 1e-3 and table.lr["AdamW", 64] == 1e-2
    assert (table.n == 3).all() and not table.on_edge.astype(bool).any()
    check_labels(batch_size.draw(results), panels=1)


def test_heatmaps(tmp_path: Path) -> None:
    rows = grids()
    for row in rows:
        if (row["optimizer"], row["lr"], row["seed"]) == ("adamw", 1e-1, 1):
            row |= {"state": "diverged", "val": float("nan"), "test": float("nan")}
    results = study_folder.make(tmp_path, heatmap=rows)
    table = ours(lr_wd_heatmaps.table(results))
    runs = pd.DataFrame(rows)
    cell = runs[(runs.optimizer == "lion") & (runs.lr == 3e-3) & (runs.weight_decay == 10.0)]
    found = table[(table.optimizer == "Lion") & (table.lr == 3e-3) & (table.weight_decay == 10.0)]
    assert found.value.item() == pytest.approx(cell.val.mean()), "validation, since it picks"
    assert found.test.item() == pytest.approx(cell.test.mean())
    assert found.uncertainty.item() == pytest.approx(cell.val.std() / math.sqrt(3))
    picked = table[table.picked].set_index("optimizer")
    assert picked.lr.to_dict() == {"AdamW": 1e-2, "Lion": 1e-3}
    lost = table[(table.optimizer == "AdamW") & (table.lr == 1e-1)]
    assert (lost.num_diverged == 1).all() and (lost.n == 2).all()
    figure = lr_wd_heatmaps.draw(results)
    check_labels(figure, panels=2)
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert {"points below the best (validation)", "points below the best"} <= set(labels)
    assert "on the test set: AdamW" in " ".join(figure.get_supxlabel().split())


def test_all_grids_share_a_clipped_scale_below_the_best_of_their_row(tmp_path: Path) -> None:
    figure = lr_wd_heatmaps.draw(study_folder.make(tmp_path, heatmap=grids()))
    limits = [axis.collections[0].get_clim() for axis in figure.axes[:4]]
    assert set(limits) == {(0.0, lr_wd_heatmaps.CLIP)}
    shown = [axis.collections[0].get_array() for axis in figure.axes[:4]]
    for row in (shown[:2], shown[2:]):
        assert min(grid.min() for grid in row) == pytest.approx(0.0)


def test_betas(tmp_path: Path) -> None:
    rows = known_truth.arms({"lion": 95.0}, noise=0.0, beta1=0.9, beta2=0.99)
    rows += known_truth.arms({"lion": 91.0}, noise=0.0, beta1=0.9, beta2=0.9)
    rows += known_truth.arms({"adamw": 93.0}, noise=0.0, beta1=0.9, beta2=0.999)
    results = study_folder.make(tmp_path, betas=rows)
    table = ours(betas.table(results)).set_index("arm")
    assert set(table.index) == {"Lion (0.9, 0.99)", "sign momentum 0.9", "AdamW (0.9, 0.999)"}
    assert table.value["Lion (0.9, 0.99)"] - table.value["sign momentum 0.9"] == pytest.approx(4.0)
    assert (table.n == 6).all()
    check_labels(betas.draw(results), panels=1)


def test_optimizers(tmp_path: Path) -> None:
    rows = known_truth.arms({"lion": 95.0, "adamw": 93.0, "sgd": 90.0, "radam": 92.5}, noise=0.0)
    rows += [known_truth.run("addsign", seed, math.nan, state="diverged") for seed in range(5)]
    results = study_folder.make(tmp_path, optimizers=rows)
    table = ours(optimizers.table(results)).set_index("optimizer")
    assert table.value["Lion"] - table.value["SGD"] == pytest.approx(5.0)
    assert math.isnan(table.value["AddSign"])
    figure = optimizers.draw(results)
    check_labels(figure, panels=1)
    assert "No setting finished with every seed: AddSign" in " ".join(words(figure).split())


def test_landscape(tmp_path: Path) -> None:
    rows = []
    for optimizer, rise in (("lion", 1.0), ("adamw", 2.0)):
        for seed in range(2):
            facts = {"experiment": "vit_proxy", "optimizer": optimizer, "seed": seed}
            rows.append({**facts, "noise": "none", "scale": 0.0, "loss": 0.5})
            rows.append({**facts, "noise": "sigma", "scale": 0.01, "loss": 0.5 + rise + seed})
            rows.append({**facts, "noise": "relative", "scale": 0.01, "loss": 99.0})
    results = study_folder.make(tmp_path)
    (results / "studies/vit_proxy/landscape").mkdir(parents=True)
    pd.DataFrame(rows).to_csv(results / "studies/vit_proxy/landscape/noise.csv", index=False)
    table = ours(landscape.table(results))
    relative = table[table.kind == "relative"].set_index(["optimizer", "noise"])
    assert relative.value["Lion", "0.01"] == 99.0 and relative.value["Lion", "no noise"] == 0.5
    table = table[table.kind == "sigma"].set_index(["optimizer", "noise"])
    assert table.value["Lion", "0.01"] == pytest.approx(2.0)  # mean of seeds 0 and 1
    assert table.value["AdamW", "0.01"] == pytest.approx(3.0)
    assert table.value["AdamW", "no noise"] == 0.5
    assert table.n["Lion", "0.01"] == 2
    figure = landscape.draw(results)
    check_labels(figure, panels=2, model="vit_proxy (a ViT of 39,322 parameters, 8 × 8 digits)")


def test_a_best_setting_on_the_edge_is_told(tmp_path: Path) -> None:
    rows = [r for r in at_batch_sizes((64,)) if r["optimizer"] == "adamw" or r["lr"] >= 1e-3]
    table = batch_size.table(study_folder.make(tmp_path, batch_size=rows))
    edge = ours(table).set_index("optimizer").on_edge
    assert edge["Lion"] and not edge["AdamW"]
    assert "not tuned (hollow): Lion." in tuned.caption(ours(table))


def test_differences_are_paired_and_tuned_at_each_value() -> None:
    study = pd.DataFrame(at_batch_sizes((64, 256)))
    table = tuned.differences(study, "batch_size").set_index("batch_size")
    assert table.difference.round(6).to_dict() == {64: 1.0, 256: 1.0}
    assert table.n.to_dict() == {64: 3, 256: 3}
    assert tuned.differences(None, "batch_size").empty


def test_a_damaged_study_is_one_clear_line(tmp_path: Path) -> None:
    results = study_folder.make(tmp_path, betas=[{"optimizer": "lion", "lr": 1.0}])
    with pytest.raises(UserError, match="lacks the columns"):
        betas.draw(results)


def test_labels_are_spread_without_leaving_their_order() -> None:
    placed = figure_style.spread([0.1, 0.11, 0.12, 0.9], 0.1)
    assert placed == pytest.approx([0.01, 0.11, 0.21, 0.9])
    assert figure_style.spread([0.2, 0.8], 0.1) == [0.2, 0.8]
    assert figure_style.spread([], 0.1) == []
