"""Every figure: it draws quietly, fits its page, is the same each time, and is committed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments.analysis import sources
from experiments.analysis.drawing import figure_style, fresh_panels
from experiments.analysis.figures.catalogue import FIGURES
from experiments.analysis.sources import RESULTS

FOLDER = RESULTS / "figures"
NO_MEASUREMENTS = {
    "claims",
    "hyperparameters",
    "lm_architectures",
    "search_functions",
    "search_method",
    "training_setup",
}


class Drawn:
    """Every figure, drawn once; what it is as an SVG; and the tables of the paper that it read."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        read = sources._read

        def note(path: Path, needed: tuple[str, ...]):
            self.used.add(path.stem)
            return read(path, needed)

        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
            warnings.simplefilter("error")
            # matplotlib 3.9 calls pyparsing by its old names, which it says of itself, too
            warnings.filterwarnings(
                "ignore", ".*deprecated", DeprecationWarning, r"(matplotlib|pyparsing)\."
            )
            patch.setattr(sources, "_read", note)
            self.figures = {name: module.draw() for name, module in FIGURES.items()}
            self.svgs = {name: figure_style.svg(figure) for name, figure in self.figures.items()}
            for figure in self.figures.values():
                figure.draw_without_rendering()  # texts stand where the screen has them


@pytest.fixture(scope="module")
def gallery() -> Drawn:
    return Drawn()


@pytest.fixture(scope="module")
def drawn(gallery: Drawn) -> dict[str, Figure]:
    return gallery.figures


def words(svg: bytes) -> list[str]:
    """The texts of an SVG; matplotlib writes each beside its outlines."""
    return re.findall(r"<!-- (.*?) -->", svg.decode(), flags=re.DOTALL)


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_by_the_edge(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    everything = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    assert everything.x0 >= -0.01 and everything.x1 <= width + 0.01
    assert everything.y0 >= -0.01 and everything.y1 <= height + 0.01
    for text in (text for axis in figure.axes for text in axis.texts):  # the layout passes them by
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()
        assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, text.get_text()


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_texts_of_a_panel_overlap(drawn: dict[str, Figure], name: str) -> None:
    for axis in drawn[name].axes:
        texts = [t for t in axis.texts if t.get_text().strip()]
        boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
        for number, (ours, a) in enumerate(boxes):
            for theirs, b in boxes[number + 1 :]:
                wide = min(a.x1, b.x1) - max(a.x0, b.x0)
                high = min(a.y1, b.y1) - max(a.y0, b.y0)
                assert wide < 1.5 or high < 1.5, f"{ours!r} over {theirs!r}"


@pytest.mark.parametrize("name", FIGURES)
def test_the_caption_tells_the_source(drawn: dict[str, Figure], name: str) -> None:
    caption = " ".join(drawn[name].get_supxlabel().split())
    if name == "proxies":
        assert "proxies: no results of the paper's models" in caption
        assert "n = 5 seeds" in caption
    elif name == "lion_speed":
        assert caption.startswith("Our measurement, scripts/bench_lion.py on ")
    else:
        assert caption.startswith("Paper: arXiv:2302.06675")
        assert re.search(r"transcribed|digitised|read back", caption)
        assert re.search(
            r"not run|nothing has been run|ours: a proxy", caption, flags=re.IGNORECASE
        )


def test_the_same_tables_give_the_same_files() -> None:
    for name in ("basic", "language"):
        png_first, svg_first = FIGURES[name].draw(), FIGURES[name].draw()
        png = figure_style.png(png_first)
        svg = figure_style.svg(svg_first)
        assert figure_style.svg(png_first) == svg
        assert figure_style.png(svg_first) == png


def test_a_png_is_made_where_its_svg_has_changed(tmp_path: Path) -> None:
    def saved(title: str, **how: bool) -> bytes:
        figure = figure_style.canvas(title, "caption", (3, 2), [1], [1])[0]
        return figure_style.save(figure, tmp_path, "one", **how)[0].read_bytes()

    first = saved("a")
    (tmp_path / "one.png").write_bytes(b"old")
    assert saved("a") == b"old" and saved("a", anew=True) == first
    assert saved("b") not in (b"old", first)
    (tmp_path / "one.png").unlink()
    assert saved("a") == first == saved("a")


def test_a_png_that_was_killed_half_way_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save() -> bytes:
        figure = figure_style.canvas("a", "caption", (3, 2), [1], [1])[0]
        return figure_style.save(figure, tmp_path, "one")[0].read_bytes()

    whole, write = save(), Path.write_bytes

    def killed(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise KeyboardInterrupt

    (tmp_path / "one.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            save()
    assert save() == whole


def test_another_processors_last_digits_do_not_change_a_file() -> None:
    """They change matplotlib's ids, which are hashes of unrounded places."""
    text = '<g id="pe60644d8ba"/><g id="m0123456789"/><use clip="url(#{})" id="other"/>'
    one = figure_style._with_plain_ids(text.format("pe60644d8ba"))
    two = text.replace("pe60644d8ba", "p017e3ffb81").format("p017e3ffb81")
    assert figure_style._with_plain_ids(two) == one
    assert one == '<g id="p-0"/><g id="m-1"/><use clip="url(#p-0)" id="other"/>'


def test_letters_have_short_names_in_a_file_and_no_line_is_indented() -> None:
    figure = figure_style.canvas("Bold", "plain − caption", (3, 2), [1], [1])[0]
    text = figure_style.svg(figure).decode()
    names = re.findall(r'id="([^"]+)"', text)
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links <= set(names) and len(names) == len(set(names))
    assert "<!-- plain − caption -->" in text and "DejaVu" not in text
    assert not re.search(r"^\s", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", FIGURES)
def test_the_committed_figure_shows_the_committed_tables(gallery: Drawn, name: str) -> None:
    path = FOLDER / f"{name}.svg"
    assert words(path.read_bytes()) == words(gallery.svgs[name]), "make figures"
    assert path.stat().st_size < 300_000
    assert path.with_suffix(".png").stat().st_size < 200_000


def test_nothing_else_lies_beside_the_committed_figures() -> None:
    there = {path.name for path in FOLDER.iterdir()}
    assert there == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}


def test_every_table_of_measurements_is_in_a_figure(gallery: Drawn) -> None:
    there = {path.stem for path in (RESULTS / "paper").glob("*.csv")}
    assert there - NO_MEASUREMENTS - gallery.used == set()


@pytest.mark.parametrize("is_run", [True, False])
def test_glue_points_to_a_proxy_only_where_it_was_run(
    monkeypatch: pytest.MonkeyPatch, is_run: bool
) -> None:
    monkeypatch.setattr(fresh_panels, "read", lambda *_: object() if is_run else None)
    told = " ".join(words(figure_style.svg(FIGURES["glue"].draw())))
    assert ("in the figure of language models" in told, "not run yet" in told) == (
        is_run,
        not is_run,
    )
