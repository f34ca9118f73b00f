"""The page on program searches: what was found, escaped; what is not there, with its command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import search_study

from experiments.analysis.figures import search_betas
from experiments.analysis.report import search_page


def test_it_says_what_was_searched_and_found() -> None:
    text = search_page.body(search_study.tables(seeds=range(2)), ["drawn/search_lineage.svg"])
    plain = re.sub(r"<[^>]+>", "|", text)
    assert "|laptop||0||evolution||language, 100 steps|" in plain
    assert "|without sign||1||evolution||perceptron, 400 steps|" in plain
    assert "The best program of evolution" in plain and "update = lr * g" in plain
    assert "m = tanh(g)" in plain and "dead or failed" in plain
    assert "Trainings until each milestone" in plain and "|never|" in plain
    assert "1 of 2 finalists came through the last gate" in plain
    assert text.count("<img") == 1 and 'src="drawn/search_lineage.svg"' in text


def test_text_of_the_tables_is_no_markup() -> None:
    text = search_page.body(search_study.tables(seeds=[0]), [])
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_signs_of_the_gradient_alone_are_counted_apart_from_sign_momentum() -> None:
    study = search_study.tables(seeds=[0])
    seen = study["sightings"]
    seen.loc[seen[seen.arm == "without_sign"].index[:5], ["beta1_value", "beta2_value"]] = 0.0
    text = " ".join(search_page.body(study, []).split())
    assert "without sign 12 (5)" in text and "laptop 2 (0)" in text
    figure = search_betas.draw_study(study)
    assert "of all 5 lie at (0, 0)" in " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("funnel", "scripts/search.py funnel NAME"),
        ("rediscovery", "scripts/search.py rediscovery NAME"),
        ("sightings", "No search of the study met sign momentum."),
        ("finals", "Final numbers of a search by evolution: not run yet"),
    ],
)
def test_what_was_not_measured_is_named(missing: str, said: str) -> None:
    study = search_study.tables(seeds=[0])
    del study[missing]
    assert said in search_page.body(study, [])


def test_without_a_study_it_is_the_commands_that_make_one() -> None:
    text = search_page.body(None, [])
    assert "not run yet" in text and "search=laptop" in text and "--study program_search" in text


def test_a_long_table_says_what_it_leaves_out() -> None:
    text = search_page._long(("a",), [(n,) for n in range(search_page.MAX_ROWS + 5)], "t")
    assert "5 more in program_search/" in text


def test_the_built_page_is_small(report: Path) -> None:
    page = report / "search.html"
    assert page.stat().st_size < 100_000 and "Searches" in page.read_text()
