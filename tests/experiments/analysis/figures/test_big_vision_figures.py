"""Our two stages and image-text proxy beside the paper's: right values, or said not to be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import big_vision_tables as made
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.figures import basic, jft, lit, retrieval

FIGURES = {"jft": jft, "lit": lit, "retrieval": retrieval}
PAPER = Path(__file__).resolve().parents[4] / "results" / "paper"
TUNING, FRESH = range(5), range(100, 108)
RECALLS = {("test", f"{way}_recall{rank}"): off + up for way, off in (("i2t", 0.0), ("t2i", -1.0))
           for rank, up in ((1, 0.0), (5, 20.0), (10, 30.0))}  # fmt: skip
TOPS = {"adamw": 26.0, "lion": 24.0, "adafactor": 25.0}
OF_RECALL: dict[str, Any] = {"metric": "i2t_recall1", "n": 800}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "paper").symlink_to(PAPER)
    return folder


def fine_tuned(tops: dict[str, float], seeds: range, lrs: tuple[float, ...]) -> list[dict]:
    """The middle one of three rates is best; each run has what its seed has of its own."""
    middle = len(lrs) // 2
    return [
        made.run("finetune_proxy", "sgd", seed,
                 top + made.jitter(name, seed) - 2 * abs(k - middle), lr,
                 init_optimizer=name, weight_decay=0.0)
        for name, top in tops.items() for seed in seeds for k, lr in enumerate(lrs)
    ]  # fmt: skip


def two_stages(results: Path, lion: float = 85.6, peak: int = 1, fresh: range = FRESH) -> None:
    """Lion's pre-training is worth `lion` - 85; 11 points less on the shifted set."""
    tops = {"adamw": 85.0, "lion": lion}
    first = made.grid("pretrain_proxy", {"adamw": 60.0, "lion": 61.0}, TUNING, peak=peak)
    made.write(results, "pretrain_proxy", "tuning", first)
    ends = {("shifted", "top1"): -11.0}
    averaged = {("shifted", "top1"): -10.5, ("test", "top1"): 0.25}
    for study, seeds, lrs in (("tuning", TUNING, (0.03, 0.1, 0.3)), ("fresh", fresh, (0.1,))):
        if len(seeds):
            rows = fine_tuned(tops, seeds, lrs)
            made.write(results, "finetune_proxy", study, rows, ends, averaged)


def image_text(results: Path, fresh: range = FRESH, **changed: Any) -> None:
    ends = {**RECALLS, ("test", "zero_shot_top1"): 6.0}
    grid = made.grid("lit_proxy", TOPS, range(3), **OF_RECALL)
    made.write(results, "lit_proxy", "tuning", grid, ends)
    rows = [
        made.run("lit_proxy", name, seed, top + made.jitter(name, seed), 0.2, weight_decay=0.2,
                 **OF_RECALL)
        for name, top in TOPS.items() for seed in fresh
    ]  # fmt: skip
    for row in rows:
        if (row["optimizer"], row["seed"]) == changed.get("diverged"):
            row |= {"state": "diverged", "val": float("nan"), "test": float("nan")}
    made.write(results, "lit_proxy", "fresh", rows, ends)


def batches(results: Path) -> None:
    tried, again = [], []
    for size, more in ((64, 0.0), (256, 3.0)):
        for name in ("adamw", "lion"):
            top = TOPS[name] + (more if name == "lion" else 1.0)
            facts = {**OF_RECALL, "batch_size": size}
            tried += made.grid("lit_proxy", {name: top}, range(2), **facts)
            again += [made.run("lit_proxy", name, seed, top + made.jitter(name, seed), 0.2,
                               weight_decay=0.2, **facts) for seed in FRESH]  # fmt: skip
    made.write(results, "lit_proxy", "batch_size", tried)
    made.write(results, "lit_proxy", "batch_size_fresh", again)


def proxy_panels(figure: Figure) -> list[Any]:
    wanted = to_rgba(dot_panels.PROXY_BACKGROUND)
    return [axis for axis in figure.axes if axis.get_facecolor() == wanted]


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def check(figure: Figure, panels: int) -> None:
    """Marked as a proxy's, small enough, inside the page, and no text over another."""
    assert len(figure_style.svg(figure)) < 300_000
    figure.draw_without_rendering()
    found = proxy_panels(figure)
    assert len(found) == panels
    assert all("proxy" in axis.get_title(loc="left") for axis in found)
    assert "Ours: a proxy" in caption(figure) and "not run yet" not in caption(figure)
    page = figure.get_tightbbox()
    assert page.x0 >= -0.01 and page.x1 <= figure.get_size_inches()[0] + 0.01
    for axis in found:
        boxes = [text.get_window_extent() for text in axis.texts if text.get_text().strip()]
        for number, a in enumerate(boxes):
            for b in boxes[number + 1 :]:
                wide, high = (min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0))
                assert wide < 1.5 or high < 1.5


def ours(table: pd.DataFrame, *keys: str) -> pd.DataFrame:
    return table[table.origin == "proxy"].set_index(list(keys))


@pytest.mark.parametrize("name", FIGURES)
def test_without_a_study_the_papers_stand_alone(results: Path, name: str) -> None:
    figure = FIGURES[name].draw(results)
    assert not proxy_panels(figure) and caption(figure).endswith("Ours: not run yet.")
    assert set(FIGURES[name].table(results).origin) == {"paper"}
    assert "not run yet" in caption(basic.draw(results))


@pytest.mark.parametrize("fresh", [FRESH, range(0)])
def test_jft_shows_what_pretraining_is_worth(results: Path, fresh: range) -> None:
    two_stages(results, fresh=fresh)
    table = jft.table(results)
    rows = ours(table, "row")
    assert list(rows.index) == ["test, raw", "test, averaged", "shifted test, raw",
                                "shifted test, averaged"]  # fmt: skip
    assert rows.gain.to_numpy() == pytest.approx(0.6, abs=0.05) and (rows.verdict == "better").all()
    assert rows.lion["shifted test, raw"] == pytest.approx(rows.lion["test, raw"] - 11)
    assert rows.lion["test, averaged"] == pytest.approx(rows.lion["test, raw"] + 0.25)
    figure = jft.draw(results)
    check(figure, 3)
    assert (
        f"n = {len(fresh) or 5} {'fresh' if len(fresh) else 'seeds, each as the others pick'}"
        in caption(figure)
    )


def test_an_edge_of_the_first_stage_is_hollow_and_shows_nothing(results: Path) -> None:
    two_stages(results, peak=2)
    assert set(ours(jft.table(results), "row").verdict) == {"not tuned"}
    figure = jft.draw(results)
    assert "on an edge, so not tuned (AdamW, Lion)" in caption(figure)
    assert "nothing is shown" in caption(figure) and "coloured" not in caption(figure)
    difference = proxy_panels(figure)[2]
    colours = {text.get_color() for text in difference.texts if text.get_text().startswith("+")}
    assert colours == {figure_style.OTHER_COLOUR}


def test_one_seed_has_no_interval(results: Path) -> None:
    two_stages(results, fresh=range(100, 101))
    assert set(ours(jft.table(results), "row").verdict) == {"inconclusive"}
    figure = jft.draw(results)
    check(figure, 3)
    told = [text.get_text() for text in proxy_panels(figure)[2].texts]
    assert sum(text.endswith("(no interval)") for text in told) == 4


def test_lit_shows_three_optimizers(results: Path) -> None:
    image_text(results)
    rows = ours(lit.table(results), "panel", "baseline_name")
    assert rows.gain["zero-shot, 10 scripts", "Adafactor"] == pytest.approx(-1.0, abs=0.05)
    assert rows.gain["image → text", "AdamW"] == pytest.approx(-2.0, abs=0.05)
    assert rows.lion["zero-shot, 10 scripts", "AdamW"] == pytest.approx(30.0, abs=0.2)
    assert set(rows.verdict) == {"worse"}
    figure = lit.draw(results)
    check(figure, 4)
    names = [label.get_text() for label in proxy_panels(figure)[0].get_yticklabels()]
    assert names == ["AdamW", "Adafactor", "Lion"]
    assert "stands in the figure of LiT" in caption(basic.draw(results))


def test_a_run_that_diverged_is_said_and_its_optimizer_has_no_dot(results: Path) -> None:
    image_text(results, diverged=("adafactor", FRESH[2]))
    rows = ours(lit.table(results), "panel", "baseline_name")
    assert rows.verdict["image → text", "Adafactor"] == "diverged"
    assert rows.verdict["image → text", "AdamW"] == "worse"
    figure = lit.draw(results)
    check(figure, 4)
    assert "diverged: 3 of 6" in caption(figure)
    texts = [t.get_text() for t in proxy_panels(figure)[0].texts]
    assert len(texts) == 3, "the word proxy, and two numbers"
    assert "not run yet" in caption(basic.draw(results)), "nothing beside Adafactor"


def test_retrieval_shows_ranks_and_batches(results: Path) -> None:
    image_text(results)
    check(retrieval.draw(results), 4)
    batches(results)
    table = retrieval.table(results)
    rows = ours(table[table.batch_size.isna()], "direction", "metric", "optimizer").value
    assert rows["txt2img", "R@10", "Lion"] - rows["img2txt", "R@1", "Lion"] == pytest.approx(29.0)
    assert rows["img2txt", "R@1", "AdamW"] == pytest.approx(26.0, abs=0.2)
    by_size = ours(table[table.batch_size.notna()], "batch_size", "optimizer").value
    assert by_size[64, "Lion"] - by_size[64, "AdamW"] == pytest.approx(-3.0, abs=0.05)
    assert by_size[256, "Lion"] - by_size[256, "AdamW"] == pytest.approx(0.0, abs=0.05)
    check(retrieval.draw(results), 6)


def test_the_order_of_the_rows_does_not_matter(results: Path) -> None:
    two_stages(results)
    image_text(results)
    before = [module.table(results) for module in FIGURES.values()]
    for path in results.glob("studies/*/*/*.csv"):
        pd.read_csv(path).iloc[::-1].to_csv(path, index=False)
    for table, module in zip(before, FIGURES.values(), strict=True):
        pd.testing.assert_frame_equal(module.table(results), table)


def test_a_thin_interval_is_drawn_and_the_number_stands_beyond_it() -> None:
    figure = Figure()
    axis = figure.subplots()
    row = dot_panels.Difference("a", 1.0, 0.5, 1.5, "Lion", wide=(-1.0, 3.0))
    dot_panels.differences(axis, [row], ["a"])
    thin = [line for line in axis.lines if line.get_linewidth() == 0.7]
    assert [list(line.get_xdata()) for line in thin] == [[-1.0, 3.0]]
    assert axis.texts[0].xy[0] == 3.0 and axis.get_xlim()[0] < -1.0
