"""Interactive figures: plotly accepts them, and their numbers are the tables'."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import synthetic

from experiments.analysis.report import paper_figures, study_figures
from experiments.analysis.report.colour_scale import scale_of
from experiments.analysis.report.panels import Figure
from experiments.analysis.report.studies import read_studies

ROOT = Path(__file__).resolve().parents[4]
PAPER = ROOT / "results/paper"


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return {figure.name: figure for figure in paper_figures.all_figures(PAPER)}


def test_plotly_accepts_every_panel(tmp_path: Path) -> None:
    objects = pytest.importorskip("plotly.graph_objects")
    synthetic.write_results(tmp_path)
    figures = paper_figures.all_figures(PAPER)
    study_figures.add_studies(figures, read_studies(tmp_path))
    panels = [panel for figure in figures for panel in figure.panels]
    assert len(panels) > 35
    for panel in panels:
        objects.Figure(panel.traces, panel.layout)


def test_every_caption_says_where_the_numbers_come_from(figures: dict[str, Figure]) -> None:
    for figure in figures.values():
        assert "Provenance: " in figure.caption
        assert all((ROOT / "results" / source).exists() for source in figure.sources)


@pytest.mark.parametrize(
    ("name", "table", "value"),
    [
        ("diffusion", "diffusion_fid_curves", "fid"),
        ("retrieval", "retrieval_curves", "value"),
        ("language", "lm_curves", "log_perplexity"),
        ("imagen", "imagen_curves", "value"),
    ],
)
def test_curves_show_every_digitised_point(
    figures: dict[str, Figure], name: str, table: str, value: str
) -> None:
    read = pd.read_csv(PAPER / f"{table}.csv")
    shown = [y for panel in figures[name].panels for t in panel.traces for y in t["y"]]
    assert sorted(shown) == sorted(read[value])
    assert {panel.origin for panel in figures[name].panels} == {"digitised"}


def test_batch_size_takes_the_most_certain_reading(figures: dict[str, Figure]) -> None:
    (panel,) = figures["batch_size"].panels[:1]
    lion = next(t for t in panel.traces if t["name"] == "Lion")
    assert dict(zip(lion["x"], lion["y"], strict=True))[4096] == 80.77
    assert dict(zip(lion["x"], lion["error_y"]["array"], strict=True))[4096] == 0.005


def test_heatmaps_share_one_scale(figures: dict[str, Figure]) -> None:
    scales = {
        (p.traces[0]["zmin"], p.traces[0]["zmax"]) for p in figures["lr_wd_heatmap"].panels[:2]
    }
    (ends,) = scales
    assert ends == pytest.approx((72.57, 77.57))


@pytest.mark.parametrize(
    ("values", "unit", "is_higher_better", "ends", "is_cut"),
    [
        ([54.2, 95.0, 97.0, 96.0], "%", True, (92.0, 97.0), True),  # 95 and 97 look unlike
        ([95.0, 97.0], "%", True, (95.0, 97.0), False),
        ([1.0, 1.1, 1.2, 1.3, 40.0], "nats", False, (1.0, 1.2), True),
        ([1.0, 1.0, 1.0, 3.0], "nats", False, (1.0, 3.0), False),
        ([2.0], "nats", False, (2.0, 2.0), False),
    ],
)
def test_one_bad_corner_does_not_take_the_whole_colour_scale(
    values: list[float],
    unit: str,
    is_higher_better: bool,
    ends: tuple[float, float],
    is_cut: bool,
) -> None:
    scale = scale_of(values, unit, is_higher_better)
    assert (scale.low, scale.high) == ends and scale.is_cut == is_cut


def test_gain_is_the_difference_of_the_table(figures: dict[str, Figure]) -> None:
    (trace,) = figures["imagenet"].panels[-1].traces
    assert dict(zip(trace["y"], trace["x"], strict=True))["ViT-B/16"] == pytest.approx(1.96)


def test_proxy_panels_are_labelled_and_tuned_on_validation(tmp_path: Path) -> None:
    table = synthetic.runs(("lion",), lrs=(0.1, 0.2), decays=(1.0,), seeds=3)
    table = table.assign(state="finished", val=[5.0] * 3 + [6.0] * 3, test=[9.0] * 3 + [1.0, 2, 3])
    synthetic.write_study(tmp_path, "batch_size", table)
    figure = Figure("batch_size", "", "")
    study_figures.add_studies([figure], read_studies(tmp_path))
    (panel,) = figure.panels
    assert panel.origin == "proxy" and "n = 3 seeds" in panel.note
    assert panel.traces[0]["y"] == [2.0]  # the better test value is not picked
    assert panel.traces[0]["error_y"]["array"] == [pytest.approx(1 / 3**0.5)]
    assert "on the edge" in panel.traces[0]["customdata"][0]
    assert "so not tuned: Lion at 64." in panel.note


def test_betas_are_tuned_at_every_batch_size(tmp_path: Path) -> None:
    short = synthetic.runs(("lion",), lrs=(0.1,), decays=(1.0,)).assign(state="finished")
    long = short.assign(beta2=0.999, val=99.0, test=98.0, run_id=short.run_id + "-long")
    synthetic.write_study(tmp_path, "batch_size", pd.concat([short.assign(val=90.0), long]))
    figure = Figure("batch_size", "", "")
    study_figures.add_studies([figure], read_studies(tmp_path))
    assert figure.panels[0].traces[0]["y"] == [98.0]


def test_pairs_of_betas_are_ranked_apart(tmp_path: Path) -> None:
    one = synthetic.runs(("lion",), lrs=(0.1,), decays=(1.0,)).assign(state="finished", test=90.0)
    other = one.assign(beta2=0.9, test=80.0, run_id=one.run_id + "-single")
    synthetic.write_study(tmp_path, "betas", pd.concat([other, one]).assign(val=90.0))
    figure = Figure("optimizers", "", "")
    study_figures.add_studies([figure], read_studies(tmp_path))
    names = [trace["name"] for trace in figure.panels[0].traces]
    assert names == ["Lion (0.9, 0.99)", "Lion (0.9, 0.9)"]
    assert "not tuned" not in figure.panels[0].note


def test_a_pick_on_an_edge_is_marked_in_the_picture() -> None:
    figure = Figure("optimizers", "", "")
    study_figures.add_studies([figure], read_studies(ROOT / "results"))
    optimizers, betas = figure.panels
    rows = {row for trace in optimizers.traces for row in trace["y"]}
    assert {row for row in rows if row.endswith("*")} == {"sign momentum 0.9 *", "PowerSign *"}
    assert "not tuned: sign momentum 0.9 *, PowerSign *." in optimizers.note
    assert "Lion (0.9, 0.999) *, Lion (0.99, 0.99) *." in betas.note


def test_published_proxies_show_the_difference_of_the_readme() -> None:
    figure = study_figures.proxies(read_studies(ROOT / "results"))
    (trace,) = figure.panels[0].traces
    place = trace["y"].index("vit_proxy")
    readme = (ROOT / "README.md").read_text().replace("−", "-")
    told = re.search(r"Lion minus AdamW, each seed [^:]*: (\S+) \[(\S+), (\S+)\] points", readme)
    assert told
    seen, low, high = map(float, told.groups())
    assert trace["x"][place] == pytest.approx(seen, abs=0.005)
    assert f"{low:+.2f} to {high:+.2f}, n = 5" in trace["customdata"][place]
    assert "grids: fashion. Not shown" in figure.panels[0].note, "an exact test takes one away"


def test_flatness_of_our_runs_stands_beside_the_papers() -> None:
    rows = [
        {"experiment": "vit_proxy", "optimizer": name, "seed": seed, "noise": kind,
         "scale": scale, "loss": clean + scale + 0.1 * seed}
        for name, clean in (("lion", 0.2), ("adamw", 0.4))
        for seed in (0, 1)
        for kind, scale in (("none", 0.0), ("sigma", 0.05), ("relative", 0.5))
    ]  # fmt: skip
    figure = Figure("landscape", "Flatness", "A caption.")
    study_figures.add_studies([figure], [], pd.DataFrame(rows))
    assert not figure.missing and figure.sources == ["studies/vit_proxy/landscape/noise.csv"]
    same, relative = figure.panels
    assert [same.origin, relative.origin] == ["proxy", "proxy"]
    lion = {trace["name"]: trace for trace in relative.traces}["Lion"]
    assert lion["x"] == ["0", "0.5"] and lion["y"] == pytest.approx([0.25, 0.75])
    assert "n = 2" in lion["customdata"][0] and "n = 2 seeds" in same.note
    study_figures.add_studies([figure], [])
    assert figure.missing[-1][0] == "Runs here"
    language = Figure("language", "Language", "A caption.")
    study_figures.add_studies([language], [])
    assert "runs of our proxies are among the drawn figures" in language.missing[-1][0]
