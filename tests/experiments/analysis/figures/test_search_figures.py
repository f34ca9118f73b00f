"""Figures of searches: drawn from a study's tables; what is not there yet is said, not drawn."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pytest
import search_study
from matplotlib.figure import Figure

from experiments.analysis import searches
from experiments.analysis.drawing import figure_style, search_panels
from experiments.analysis.figures import (
    program_search,
    search_ablation,
    search_betas,
    search_funnel,
    search_lineage,
    search_rediscovery,
)
from experiments.analysis.figures.catalogue import SEARCHES
from experiments.search import __main__ as script
from experiments.store import UserError

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results with the paper's tables and no study of searches."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "paper").symlink_to(ROOT / "results" / "paper")
    return tmp_path / "results"


def words(figure: Figure) -> str:
    """Everything written in a figure, in one line."""
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    ticks = [label.get_text() for axis in figure.axes for label in axis.get_yticklabels()]
    return " ".join(" ".join([figure.get_supxlabel(), *titles, *texts, *ticks]).split())


@pytest.mark.parametrize("name", SEARCHES)
def test_each_draws_the_committed_study_and_fits_its_page(results: Path, name: str) -> None:
    search_study.write(results, search_study.tables(seeds=range(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = SEARCHES[name].draw(results)
        drawn = figure_style.svg(figure)
    assert len(drawn) < 300_000
    said = words(figure)
    assert said.startswith("Paper: arXiv:2302.06675") and "Ours: a proxy" in said
    assert "not run" not in said.lower()
    everything, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert everything.x0 >= -0.01 and everything.x1 <= width + 0.01
    assert everything.y0 >= -0.01 and everything.y1 <= height + 0.01
    assert (SEARCHES[name].table(results).origin == "proxy").any()


@pytest.mark.parametrize("name", SEARCHES)
def test_each_says_that_it_was_not_run_and_how(results: Path, name: str) -> None:
    assert f"Not run yet: no program search of ours has been collected {searches.START}" in words(
        SEARCHES[name].draw(results)
    )
    study = search_study.tables(seeds=[0])
    search_study.write(results, {n: study[n] for n in ("searches", "curves")})
    said = words(SEARCHES[name].draw(results))
    if name == "program_search":
        assert "no final numbers yet" in said and "not measured yet" in said
    else:
        assert "Not run yet: no " in said and searches.COMMAND in said
    assert set(SEARCHES[name].table(results).origin) <= {"paper", "proxy"}


def test_searches_of_another_proxy_are_not_beside_these(results: Path) -> None:
    study = search_study.tables()
    said = words(program_search.draw_study(study))
    assert "Seeds: evolution 5, constants tuned 5, random programs 5." in said
    assert "language, 100 steps" in said and "without sign" not in said
    rows = searches.comparable(study["searches"])
    assert list(dict.fromkeys(rows.arm)) == ["laptop", "constants", "random"]
    table = study["searches"]
    both = pd.concat([table, table[table.arm == "laptop"].assign(arm="longer")])
    assert set(searches.comparable(both).label) == {
        *("evolution (laptop)", "evolution (longer)", "constants tuned", "random programs")
    }
    assert set(searches.evolved(both).arm) == {"laptop"}


def test_open_marks_are_of_the_same_rounds_where_these_were_judged() -> None:
    study = search_study.tables()
    before = program_search.draw_study(study)
    assert "Open marks" not in words(before)
    study["picks"] = search_study.picks(study, {"laptop": 0.1, "constants": 0.15})
    after = program_search.draw_study(study)
    assert "Open marks: the mean of 4 rounds of search data, the same for all" in words(after)
    marks = [
        [line.get_xdata()[0] for line in figure.axes[1].lines if line.get_mfc() == "white"]
        for figure in (before, after)
    ]
    assert marks[0] == [0.3] * 15
    assert marks[1] == pytest.approx([0.1] * 5 + [0.15] * 5 + [0.0] * 5)


def test_shares_of_the_paper_are_held_against_searches_of_its_kind() -> None:
    table = search_study.tables()["searches"]
    mine = table[table.arm == "laptop"]
    papers = mine.assign(arm="paper", guided=False, programs=300_000)
    assert set(searches.evolved(pd.concat([papers, table])).arm) == {"laptop"}  # the shorter one
    assert set(searches.like_the_papers(pd.concat([table, papers])).arm) == {"paper"}
    for unlike in (papers[:3], papers.assign(guided=True), papers.assign(programs=100_000)):
        assert set(searches.like_the_papers(pd.concat([table, unlike])).arm) == {"laptop"}


def test_the_papers_shares_stand_beside_ours() -> None:
    said = words(program_search.draw_study(search_study.tables()))
    assert "(paper 89.1 %)" in said and "(paper 69.8 %)" in said
    assert "89.1 ± 0.6 % of the programs were met before" in said


def test_search_data_pick_and_fresh_data_report() -> None:
    """The finalist that is best on fresh data is not the one that is reported."""
    finals = search_study.tables()["finals"]
    picked, best = searches.picked(finals), searches.best_of_finalists(finals)
    assert len(picked) == len(best) == finals.search.nunique()
    assert set(picked.number) == {14} and set(best.number) == {7}


def test_a_summary_is_over_searches() -> None:
    study = search_study.tables(noise=0.0)
    rows = searches.summary(study).set_index("strategy")
    assert list(rows.index) == ["evolution", "constants tuned", "random programs"]
    assert rows["fresh gain"].tolist() == pytest.approx([0.2, 0.12, -0.08])
    assert (rows.searches == 5).all() and (rows.failed == 0).all()
    assert searches.summary(None).empty


def test_a_band_is_over_seeds_at_common_places() -> None:
    rows = [
        {"seed": seed, "told": told + seed, "best": told / 1000 + seed / 10}
        for seed in (0, 1)
        for told in (100, 200, 300)
    ]
    start = [{"seed": 0, "told": 1, "best": -float("inf")}]  # nothing that trains was met yet
    line = search_panels.band(pd.DataFrame(rows + start), "told", "best")
    assert list(line.x) == [101, 200, 201, 300]
    assert list(line["mean"].round(3)) == [0.15, 0.2, 0.25, 0.3]
    assert line.error.iloc[0] == pytest.approx(0.05)
    assert search_panels.band(pd.DataFrame(start), "told", "best").empty
    thin = search_panels.thinned(pd.DataFrame({"x": range(1000)}))
    assert len(thin) <= 60 and (thin.x.iloc[0], thin.x.iloc[-1]) == (0, 999)


def test_the_lineage_leaves_out_changes_without_effect() -> None:
    study = search_study.tables(seeds=range(2))
    said = words(search_lineage.draw_study(study, "laptop-s0-abc"))
    assert "m = tanh(g)" in said and "- 2: v = v" not in said
    assert "1 changes that left the fitness" in said
    with pytest.raises(UserError, match="no lineage of nobody"):
        search_lineage.draw_study(study, "nobody")
    assert search_lineage.rounded("~ 4: v = 0.9255361905663186 * 2.0") == "~ 4: v = 0.9255 * 2.0"


def test_of_a_long_lineage_the_records_are_shown() -> None:
    steps = [{"number": n, "change": "+", "fitness": n / 100 - (n % 2)} for n in range(60)]
    shown, neutral, num_left_out = search_lineage.chosen(pd.DataFrame(steps))
    assert neutral == 0 and len(shown) + num_left_out == 60
    assert shown.number.iloc[0] == 0 and shown.number.iloc[-1] == 59
    assert (shown.number.iloc[1:-1] % 2 == 0).all()


def test_never_is_drawn_with_what_was_spent() -> None:
    study = search_study.tables()
    rows = search_rediscovery.milestones(study)
    assert set(rows.arm) == {"laptop", "without_sign"}, "tuned constants cannot become Lion"
    met = search_rediscovery.counts(rows).set_index(["arm", "milestone"])
    assert tuple(met.loc[("without_sign", "as_good")]) == (3, 5)
    assert tuple(met.loc[("laptop", "as_good")]) == (0, 5)
    said = words(search_rediscovery.draw_study(study))
    spent = study["searches"].set_index("search").trained["without_sign-s1-abc"]
    assert said.count("never") >= 3 * 7 and f"seed 1 ({spent:,})" in said
    assert "laptop, seed 0 (" in said and "without sign, seed 1" not in said  # once for each arm
    assert "without sign 3, 3, 3 of 5" in said and "laptop 0, 0, 0 of 5" in said


def test_an_initial_program_of_the_family_is_no_discovery() -> None:
    study = search_study.tables(seeds=[0])
    study["rediscovery"] = study["rediscovery"].assign(
        sign_momentum_number=0, sign_momentum_trained=1
    )
    rows = search_rediscovery.milestones(study)
    assert set(rows[rows.milestone == "sign_momentum"].trained) == {0}
    assert "at the start" in words(search_rediscovery.draw_study(study))


def test_the_map_of_betas_has_a_panel_for_each_proxy() -> None:
    study = search_study.tables()
    figure = search_betas.draw_study(study)
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left")]
    assert [title.splitlines()[0] for title in titles] == [
        "Ours, proxy: language, 100 steps",
        "Ours, proxy: perceptron, 400 steps",
    ]
    assert "(0.9, 0.99) and (0.95, 0.98)" in words(figure)
    seen = pd.DataFrame({"beta1_value": [0.91, 0.92, 0.5], "beta2_value": [0.99, 0.985, 0.5],
                         "fitness": [0.1, 0.3, None]})  # fmt: skip
    cells = search_betas.in_cells(seen)
    assert sorted(cells["count"]) == [1, 2]
    assert cells.set_index("count").gain[2] == pytest.approx(0.2)
    del study["sightings"]
    with pytest.raises(UserError, match="met sign momentum"):
        search_betas.draw_study(study)


def test_the_funnel_has_a_panel_for_each_gate() -> None:
    study = search_study.tables()
    figure = search_funnel.draw_study(study)
    assert [axis.get_title("left") for axis in figure.axes] == ["T1", "T2"]
    assert "1 of 5 finalists came through all gates" in words(figure)


def test_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scripts/search.py collect writes it"):
        searches.read(tmp_path)
    folder = search_study.write(tmp_path, search_study.tables(seeds=[0]))
    (folder / "meta.csv").write_text("search,arm\n")
    with pytest.raises(UserError, match=r"meta\.csv lacks the columns seed, told"):
        searches.read(folder)
    (folder / "meta.csv").write_text("")
    with pytest.raises(UserError, match=r"meta\.csv is no table"):
        searches.read(folder)


def test_the_script_draws_what_there_are_tables_for(tmp_path: Path, capsys) -> None:
    study = search_study.tables(seeds=range(2))
    kept = ("searches", "curves", "finals", "lineage")
    folder = search_study.write(tmp_path, {name: study[name] for name in kept})
    assert script.main(["figures", str(folder)]) == 0
    drawn = sorted(path.name for path in (folder / "figures").glob("*.png"))
    assert drawn == ["program_search.png", "search_lineage.png"]
    assert "search_funnel: no funnel yet" in capsys.readouterr().out
    assert script.main(["figures", str(folder / "none")]) == 2


def test_an_ablation_has_a_row_for_each_way_to_leave_out_a_statement() -> None:
    figure = search_ablation.draw_study(search_study.tables(seeds=[0]))
    said = words(figure)
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == [
        "v = interp(g, v, 0.9012)",
        "v = interp(g, v, 0.9112)  →  g",
        "v = interp(g, v, 0.9212)  →  g",
    ]
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        f"found: {search_ablation.PROGRAMS['found']}",
        "other",
    ]
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert len(crosses) == 3, "one failed on each of three families"
    assert "over 8 rounds of fresh data" in said and "(100 steps)" in said
