"""Figures of searches: drawn from a study's tables; what is not there yet is left out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from experiments.analysis.drawing import figure_style
from experiments.analysis.figures import program_search
from experiments.store import UserError


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    """Two arms, two seeds, three points each."""
    heads = [(f"{arm}-s{seed}", arm, seed) for arm in ("evolution", "random") for seed in (0, 1)]
    curves, finals, meta, funnel = [], [], [], []
    for search, arm, seed in heads:
        head = {"search": search, "arm": arm, "seed": seed}
        for told in (100, 200, 300):
            shares = dict.fromkeys(program_search.SHARES, 10.0 + told / 10)
            curves.append({**head, "told": told + seed, "best": told / 1000 + seed / 10, **shares})
            for family, mean in (("lm", 0.1), ("mlp", -0.1)):
                values = {"mean": mean, "standard_error": 0.01, "n": 5, "number": 7}
                meta.append({**head, "told": told, "best": 0.2, "family": family, **values})
        values = {"number": 7, "kind": "finalist", "on_search_data": 0.3, "standard_error": 0.01}
        finals += [{**head, **values, "mean": 0.1}, {**head, **values, "mean": None}]
        for gate, family in (("T1", "lm"), ("T1", "mlp"), ("T2", "lm")):
            values = {"number": 7, "gate": gate, "family": family, "promoted": gate == "T1"}
            funnel.append({**head, **values, "mean": 0.1, "standard_error": 0.01, "n": 5})
    steps = [
        ("initial program", 0.0),
        ("+ 1: m = tanh(g)", 0.1),
        ("- 2: v = v", 0.1),
        ("~ 3", None),
    ]
    lineage = [
        {"search": heads[0][0], "step": i, "number": 10 * i, "change": change, "fitness": fitness}
        for i, (change, fitness) in enumerate(steps)
    ]
    rows = {"curves": curves, "finals": finals, "meta": meta, "funnel": funnel, "lineage": lineage}
    return {name: pd.DataFrame(of) for name, of in rows.items()}


def texts(figure) -> str:
    """Everything written in a figure."""
    return figure_style.svg(figure).decode() + " ".join(
        text.get_text() for axis in figure.axes for text in axis.texts
    )


def test_the_overview_draws_with_and_without_what_was_measured_later(tables) -> None:
    figure = program_search.overview(tables)
    assert "fresh: language" in texts(figure) and "Seeds: evolution 2, random 2" in texts(figure)
    del tables["meta"], tables["finals"]
    assert "not measured yet" in texts(program_search.overview(tables))


def test_a_band_is_over_seeds_at_common_places(tables) -> None:
    curves = tables["curves"]
    line = program_search.band(curves[curves.arm == "evolution"], "told", "best")
    assert list(line.x) == [101, 200, 201, 300]
    assert list(line["mean"].round(3)) == [0.15, 0.2, 0.25, 0.3]
    assert line.error.iloc[0] == pytest.approx(0.05)


def test_the_lineage_leaves_out_changes_without_effect(tables) -> None:
    said = texts(program_search.lineage(tables))
    assert "m = tanh(g)" in said and "v = v" not in said
    with pytest.raises(UserError, match="no lineage of nobody"):
        program_search.lineage(tables, "nobody")


def test_the_map_of_betas_needs_a_sighting(tables) -> None:
    rows = {"search": "a", "beta1_value": [0.9, 0.5, 9.0], "beta2_value": [0.99, 0.5, 0.1]}
    seen = pd.DataFrame({**rows, "is_exact": [True, False, True], "fitness": [0.1, None, 0.2]})
    assert "3 programs" in texts(figure := program_search.betas({"sightings": seen}))
    assert "1 lie outside" in figure.get_supxlabel().replace("\n", " ")
    with pytest.raises(UserError, match="met sign momentum"):
        program_search.betas(tables)


def test_the_funnel_has_a_panel_for_each_gate(tables) -> None:
    figure = program_search.funnel(tables)
    assert [axis.get_title("left") for axis in figure.axes] == ["T1", "T2"]
    with pytest.raises(UserError, match="no funnel yet"):
        program_search.funnel({})


def test_a_folder_without_searches_says_what_writes_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scripts/search.py collect writes them"):
        program_search.tables(tmp_path)


def test_the_script_draws_what_there_are_tables_for(tables, tmp_path: Path, capsys) -> None:
    del tables["meta"], tables["funnel"]
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    path = Path(__file__).parents[3] / "scripts" / "search.py"
    spec = importlib.util.spec_from_file_location("search_script", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["figures", str(tmp_path)]) == 0
    drawn = sorted(path.name for path in (tmp_path / "figures").glob("*.png"))
    assert drawn == ["program_search_lineage.png", "program_search_overview.png"]
    assert "funnel: no funnel yet" in capsys.readouterr().out
    assert script.main(["figures", str(tmp_path / "none")]) == 2
