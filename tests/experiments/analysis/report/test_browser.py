"""The report in a real browser: values on hover, cells lead to curves, nothing complains."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic

PAGES = ("index.html", "figures.html", "sweeps.html", "search.html", "about.html")
SHOWN = "document.querySelectorAll('#claims tbody tr:not([hidden])').length"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def draw_all(page: Any) -> None:
    """Scrolls through the page, so that every plot is drawn."""
    for place in page.locator(".plot[data-panel]").all():
        place.scroll_into_view_if_needed()
    page.wait_for_function("!document.querySelector('.plot[data-panel]:not([data-drawn])')")


def test_claims_filter_by_verdict_topic_and_words(browse: Any) -> None:
    page = browse("index.html")
    assert page.evaluate(SHOWN) == 86
    page.get_by_role("button", name="supported 2", exact=True).click()
    assert page.evaluate(SHOWN) == 2
    page.get_by_role("button", name="contradicted 1", exact=True).click()
    assert page.evaluate(SHOWN) == 3  # buttons of a group widen
    page.get_by_role("button", name="Batch size").click()
    assert page.evaluate(SHOWN) == 0  # groups narrow
    assert page.get_by_text("No claim matches").is_visible()
    page.get_by_role("button", name="Show all").click()
    assert page.evaluate(SHOWN) == 86
    page.get_by_label("Search").fill("FLICKR30k rank")
    assert page.evaluate(SHOWN) == 1
    assert page.locator("#count").inner_text() == "1 of 86 claims"


def test_filters_work_from_the_keyboard(browse: Any) -> None:
    page = browse("index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.get_by_label("Search").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert page.evaluate(SHOWN) < 86


def test_hover_shows_the_value_of_a_point(browse: Any) -> None:
    page = browse("figures.html")
    plot = page.locator("[data-panel=batch_size-0].plot")
    plot.scroll_into_view_if_needed()
    dot = plot.locator(".scatterlayer .trace").nth(0).locator(".point").nth(3)
    dot.hover(force=True)
    hover = plot.locator(".hoverlayer")
    hover.get_by_text("4096").wait_for()
    assert "80.12" in hover.text_content()  # AdamW at 4,096, as in the paper's table
    assert "AdamW" in hover.text_content()


def test_heatmap_hover_and_values_table(browse: Any) -> None:
    page = browse("figures.html")
    plot = page.locator("[data-panel=lr_wd_heatmap-1].plot")
    plot.scroll_into_view_if_needed()
    plot.locator(".heatmaplayer image").hover(force=True)
    hover = plot.locator(".hoverlayer")
    hover.get_by_text("77.50").wait_for()
    assert "lr 0.001, decay 1" in hover.text_content()
    details = page.locator("details[data-panel=lr_wd_heatmap-1]")
    details.locator("summary").click()
    details.locator("tr").nth(8).wait_for()
    assert details.locator("tr").count() == 9
    assert "77.5 ± 0.05" in details.inner_text()


def test_drawn_figure_opens_large_and_closes_with_escape(browse: Any) -> None:
    page = browse("figures.html")
    page.locator("a.picture").first.click()
    dialog = page.locator("dialog#zoom")
    assert dialog.is_visible()
    image = dialog.locator("img")
    before = image.bounding_box()["width"]
    image.click()
    assert image.bounding_box()["width"] > 1.5 * before
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_cell_leads_to_curves_seeds_and_command(browse: Any) -> None:
    page = browse("sweeps.html#study-heatmap")
    cell = page.get_by_role("button", name="lion, lr 0.0005, decay 0.3")
    cell.hover()
    tip = page.locator("#tip")
    assert "val " in tip.inner_text() and "n = 3 of 3" in tip.inner_text()
    cell.click()
    chosen = page.locator("#cell")
    chosen.get_by_role("heading", name="lion, lr 0.0005, decay 0.3").wait_for()
    page.wait_for_selector("#cell .plot[data-drawn]")
    assert chosen.locator(".plot .scatterlayer .trace").count() == 3  # one curve per seed
    chosen.get_by_role("button", name="train loss").click()
    chosen.get_by_text("train loss", exact=True).nth(1).wait_for()
    assert "optimizer.lr=0.0005 optimizer.weight_decay=0.3" in chosen.inner_text()
    assert cell.get_attribute("aria-pressed") == "true"
    assert page.url.endswith(f"#study-heatmap/{cell.get_attribute('data-cell')}")


def test_cells_can_be_chosen_from_the_keyboard(browse: Any) -> None:
    page = browse("sweeps.html#study-heatmap")
    page.get_by_role("button", name="lion, lr 0.0005, decay 0.3").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "decay 0.1: val" in page.locator("#tip").inner_text()  # focus shows values, too
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")  # the grid ends here
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="lion, lr 0.002, decay 0.3").wait_for()
    assert "lion, lr 0.002, decay 0.3: val" in page.locator("#status").inner_text()


def test_address_of_a_cell_opens_it(browse: Any) -> None:
    page = browse("sweeps.html#study-heatmap/7")
    page.locator("[data-cell='7'][aria-pressed=true]").wait_for()


def test_diverged_seed_is_marked_and_rules_the_best_cell_out(browse: Any) -> None:
    page = browse("sweeps.html#study-heatmap")
    marked = page.get_by_role("button", name="adamw, lr 0.008, decay 0.03")
    assert marked.inner_text().endswith("*")
    assert "1 diverged" in marked.get_attribute("aria-label")
    assert page.locator("button.best").count() == 2


def test_runs_table_sorts_filters_and_leads_to_the_cell(browse: Any) -> None:
    page = browse("sweeps.html#study-heatmap")
    table = page.locator("#runs")
    table.get_by_role("button", name="val", exact=True).click()
    column = "[...document.querySelectorAll('#runs tbody tr')].map(r => r.cells[11].innerText)"
    values = [float(v) for v in page.evaluate(column) if v]
    assert values == sorted(values) and len(values) == 52
    table.get_by_label("Filter").fill("lion diverged")
    assert table.locator("tbody tr").count() == 1
    table.locator("tbody button").click()
    page.locator("#cell").get_by_text("diverged", exact=True).wait_for()


def test_runs_folder_is_explored_too(browse: Any) -> None:
    page = browse("sweeps.html#runs-vit_proxy")
    page.locator("#cell").get_by_text("python run.py experiment=vit_proxy seed=1").wait_for()
    page.get_by_text("config.yaml of the first seed").click()
    assert "job: train" in page.locator("#cell pre").inner_text()


@pytest.mark.parametrize("file", PAGES)
def test_phone_has_no_horizontal_scroll(browse: Any, file: str) -> None:
    page = browse(file, width=360)
    if file == "figures.html":
        draw_all(page)
        assert page.locator(".plot[data-drawn]").count() > 40
    if file == "sweeps.html":
        page.wait_for_selector("#cell .plot[data-drawn]")
    assert page.evaluate(OVERFLOW) <= 0


def test_dark_page_has_dark_plots(browse: Any) -> None:
    page = browse("figures.html", scheme="dark")
    page.wait_for_selector("[data-panel=batch_size-0][data-drawn]")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    line = page.locator("[data-panel=batch_size-0] .scatterlayer .js-line").first
    assert background == "rgb(20, 24, 29)"
    assert "rgb(240, 144, 58)" in line.get_attribute("style")


def test_text_from_tables_stays_text(browse: Any) -> None:
    page = browse("index.html")
    assert page.get_by_text(synthetic.NASTY.split("<img")[0]).first.is_visible()
    page = browse("sweeps.html#study-nasty")
    page.locator("#cell").get_by_text("window.hacked").first.wait_for()
    page.wait_for_selector("#cell .plot[data-drawn]")
    assert page.evaluate("window.hacked === undefined")
    assert page.locator("img[src=x]").count() == 0
