"""How every figure looks: colours, fonts, titles, the caption with its provenance, the files.

A figure is built on `matplotlib.figure.Figure`, without pyplot and its global state, and is
written without dates or random ids: the same table gives the same files.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure

from experiments.analysis.drawing.names import name_of as name_of
from experiments.rounded import rounded
from experiments.store import replacing

COLOURS = {"Lion": "#0072B2", "AdamW": "#D55E00", "SGD": "#009E73", "Adafactor": "#A8578E"}
"""Safe for colour-blind eyes (Okabe and Ito; the last one darkened to be readable as text)."""
OTHER_COLOUR = "#555555"
INK = "#222222"
FAINT = "#6b6b6b"
DASHES = {"Lion": "-"}
OTHER_DASH = (0, (4.5, 1.4))

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.grid": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "svg.hashsalt": "lion",
    "svg.fonttype": "path",
    "figure.dpi": 100,
}
DPI = 140
CAPTION_SIZE = 8.5
CHARACTERS_PER_INCH = 15.5  # of the caption's font


def colour_of(optimizer: str) -> str:
    """Colour of an optimizer, by page or by name."""
    return COLOURS.get(name_of(optimizer), OTHER_COLOUR)


def dash_of(optimizer: str) -> Any:
    """Line style: so that a figure can be read without colours, too."""
    return DASHES.get(name_of(optimizer), OTHER_DASH)


def canvas(
    title: str,
    caption: str,
    size: tuple[float, float],
    columns: Sequence[float] = (1.0,),
    rows: Sequence[float] = (1.0,),
    **more: Any,
) -> tuple[Figure, Any]:
    """A figure with its title, the caption below, and a grid of axes.

    Args:
        title: What is shown, in a few words.
        caption: Where the numbers come from, how sure they are, n.
        size: Width and height in inches.
        columns: Their relative widths.
        rows: Their relative heights.
        more: For `Figure.subplots`.

    Returns:
        The figure and its axes, an array of shape (rows, columns).
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        ratios = {"width_ratios": columns, "height_ratios": rows}
        axes = figure.subplots(
            len(rows), len(columns), squeeze=False, gridspec_kw=ratios, **more
        )  # fmt: skip
        figure.suptitle(title, x=0.006, ha="left", fontsize=12, fontweight="bold")
        wrapped = textwrap.fill(caption, int(size[0] * CHARACTERS_PER_INCH))
        figure.supxlabel(
            wrapped, x=0.006, ha="left", fontsize=CAPTION_SIZE, color=FAINT, linespacing=1.25
        )
    return figure, axes


def caption_inches(caption: str, width_inches: float) -> float:
    """Height that a caption takes below a figure of this width."""
    lines = textwrap.wrap(caption, int(width_inches * CHARACTERS_PER_INCH))
    return len(lines) * CAPTION_SIZE * 1.25 / 72


def signed(value: float, decimals: int) -> str:
    """A difference with its sign, as in print: +0.50, −0.22."""
    return rounded(value, decimals, signed=True).replace("-", "−")


def halo(background: str = "white") -> list[Any]:
    """Path effects that keep a text readable where a line runs behind it."""
    return [patheffects.withStroke(linewidth=2.6, foreground=background)]


def one_panel(figure: Figure, row: Any) -> Any:
    """Replaces a row of axes by one that is as wide as all of them."""
    return panels(figure, row, [1])[0]


def panels(figure: Figure, row: Any, widths: Sequence[float], space: float = 0.0) -> list[Any]:
    """Replaces a row of axes by others that are together as wide.

    Args:
        figure: Of the axes.
        row: Of the axes that go.
        widths: Of the new ones, relative to each other.
        space: Between them, as a share of their width.
    """
    whole = row[0].get_gridspec()[row[0].get_subplotspec().rowspan.start, :]
    for axis in row:
        axis.remove()
    with matplotlib.rc_context(STYLE):
        if len(widths) == 1:
            return [figure.add_subplot(whole)]
        places = whole.subgridspec(1, len(widths), wspace=space, width_ratios=widths)
        return [figure.add_subplot(places[0, place]) for place in range(len(widths))]


def end_labels(
    axis: Any, labels: Sequence[tuple[float, str, str]], gap: float = 0.075, size: float = 9.5
) -> None:
    """Writes the name of each line at its end, moved apart where they would overlap.

    Args:
        axis: With its final limits.
        labels: Height in data units, text, colour of each.
        gap: Smallest distance of two labels, as a share of the axis' height.
        size: Of the font, in points.
    """
    low, high = axis.get_ylim()
    ordered = sorted(labels)
    wanted = [(y - low) / (high - low) for y, _, _ in ordered]
    placed = spread(wanted, gap)
    for (_, text, colour), height in zip(ordered, placed, strict=True):
        axis.text(1.015, height, text, color=colour, transform=axis.transAxes,
                  va="center", fontsize=size, fontweight="bold")  # fmt: skip


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Moves sorted positions apart to at least `gap`, each cluster around its own middle."""
    clusters: list[tuple[float, int]] = []  # middle and number of labels
    for position in wanted:
        clusters.append((position, 1))
        while len(clusters) > 1:
            (below, m), (above, n) = clusters[-2:]
            if above - below >= gap * (m + n) / 2 - 1e-12:
                break
            clusters[-2:] = [((below * m + above * n) / (m + n), m + n)]
    return [mid + gap * (i - (n - 1) / 2) for mid, n in clusters for i in range(n)]


def span(counts: Any) -> str:
    """Counts of a column for a caption: "5", "5 to 10", or "no" where there is none."""
    counts = counts.dropna()
    if counts.empty:
        return "no"
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def panel_title(axis: Any, text: str) -> None:
    """Heading of one panel, flush left."""
    axis.set_title(text, loc="left", fontsize=10.5, pad=7)


def _settle(figure: Figure) -> None:
    """Fixes the layout: it would move a little with every drawing, and PNG differ from SVG.

    Without any engine matplotlib draws once to save; with one, be it that of "none", twice.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        with matplotlib.rc_context(
            {"figure.autolayout": False, "figure.constrained_layout.use": False}
        ):
            figure.set_layout_engine(None)


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG; with a palette of 256 colours it takes a third of the room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    before, canvas = figure.dpi, FigureCanvasAgg(figure)
    with matplotlib.rc_context(STYLE):
        _settle(figure)
        figure.dpi = dpi
        figure.set_facecolor("white")
        canvas.draw()
        figure.dpi = before
    picture = Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB")
    palette = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small = io.BytesIO()
    palette.save(small, format="PNG", optimize=True)
    return small.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as SVG, with title and caption as text for readers that hear it; no date."""
    drawn = io.BytesIO()
    said = {"Title": figure.get_suptitle(), "Description": figure.get_supxlabel()}
    with matplotlib.rc_context(STYLE):
        _settle(figure)
        figure.savefig(drawn, format="svg", facecolor="white", metadata={"Date": None, **said})
    lines = (line.strip() for line in drawn.getvalue().decode().splitlines())
    return (_with_plain_ids(_with_short_places("\n".join(lines))) + "\n").encode()


def _with_short_places(text: str) -> str:
    """Places of letters and marks to a hundredth of a point, not a millionth: shorter."""
    place = re.compile(r'(translate\(|\b[xy]=")([^)"]*)')
    return place.sub(lambda m: m[1] + re.sub(r"-?\d+\.\d{3,}", _to_hundredths, m[2]), text)


def _to_hundredths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


_LONG_ID = r"[a-zA-Z]+[0-9a-f]{10}|DejaVu\w*(?:-[A-Z]\w+)?-[0-9a-f]+"
"""What matplotlib calls a shape (a hash) and a letter (its font, and its number there)."""


def _with_plain_ids(text: str) -> str:
    """Numbers instead of matplotlib's hashes of places, and instead of a letter's font: shorter.

    The hashes are of unrounded numbers, whose last digits are another processor's own; the places
    themselves are written with 6 decimals and do not differ.
    """
    names = dict.fromkeys(re.findall(f'id="({_LONG_ID})"', text))
    plain = {name: f"{name[0]}-{number}" for number, name in enumerate(names)}
    return re.sub(rf"\b(?:{_LONG_ID})\b", lambda m: plain.get(m[0], m[0]), text)


def save(figure: Figure, folder: Path, name: str, *, anew: bool = False) -> list[Path]:
    """Writes NAME.png and NAME.svg into the folder, which is made.

    Args:
        figure: To be drawn.
        folder: Of both files.
        name: Of both files.
        anew: Whether to make the PNG, most of the work, also where the SVG is what it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.png", folder / f"{name}.svg"]
    drawn = svg(figure)
    if anew or not all(p.exists() for p in written) or written[1].read_bytes() != drawn:
        for path, content in zip(written, (png(figure), drawn), strict=True):
            with replacing(path) as draft:
                draft.write_bytes(content)
    return written
