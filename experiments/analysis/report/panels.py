"""Panels of the interactive figures, as plain plotly traces and layouts; the page draws them.

Colours are those of the light page; the page's script changes them where it is dark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from experiments.analysis.drawing.names import name_of
from experiments.analysis.report.colour_scale import Scale

COLOURS = {
    "Lion": "#0072B2",
    "AdamW": "#D55E00",
    "Adafactor": "#009E73",
    "SGD (momentum)": "#009E73",
    "SGD": "#009E73",
}
"""Safe for colour-blind eyes. Series without a colour of their own are grey."""
OTHER_COLOUR = "#767676"
SYMBOLS = {"Lion": "circle", "AdamW": "triangle-up"}
OTHER_SYMBOL = "square"


@dataclass
class Panel:
    """One plot of a figure."""

    title: str  # text
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    origin: str = "paper"  # paper | digitised | proxy
    height: int = 260  # pixels
    note: str = ""  # text below the plot


@dataclass
class Figure:
    """Some panels that belong together, and where their numbers come from."""

    name: str
    title: str
    caption: str  # text: what it shows, with units and provenance
    sources: list[str] = field(default_factory=list)  # files below results/
    panels: list[Panel] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)  # what, and its command


def plain(text: object) -> str:
    """Text for plotly, which reads some markup in labels."""
    return html.escape(str(text), quote=False)


def display(optimizer: object) -> str:
    """An optimizer's name as the paper writes it."""
    return name_of(str(optimizer))


def line(
    name: str, table: pd.DataFrame, x: str, y: str, uncertainty: str | None = None
) -> dict[str, Any]:
    """A curve; points of low quality (see results/paper/README.md) are hollow."""
    table = table.sort_values(x)
    low = [q == "low" for q in (table["quality"] if "quality" in table else [""] * len(table))]
    spread = table[uncertainty] if uncertainty else pd.Series([None] * len(table))
    notes = [
        _plus_minus(u) + (", hard to read" if q else "") for u, q in zip(spread, low, strict=True)
    ]
    symbol = SYMBOLS.get(name, OTHER_SYMBOL)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(name),
        "x": table[x].tolist(),
        "y": table[y].tolist(),
        "customdata": notes,
        "line": {"color": colour(name), "width": 1.5},
        "marker": {
            "size": 4,
            "color": colour(name),
            "symbol": [f"{symbol}-open" if q else symbol for q in low],
        },
        "hovertemplate": "%{x}: <b>%{y}</b>%{customdata}<extra>%{fullData.name}</extra>",
    }


def points(
    name: str, x: Sequence[Any], y: Sequence[float], error: Sequence[float], notes: Sequence[str]
) -> dict[str, Any]:
    """Values with error bars along y, joined by a line; notes appear in the hover text."""
    bars = {"type": "data", "array": list(error), "thickness": 1.2, "width": 3}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(name),
        "x": list(x),
        "y": list(y),
        "error_y": bars,
        "customdata": [plain(n) for n in notes],
        "line": {"color": colour(name), "width": 1.5},
        "marker": {"size": 8, "color": colour(name), "symbol": SYMBOLS.get(name, OTHER_SYMBOL)},
        "hovertemplate": "%{x}: <b>%{y:.5~g}</b>%{customdata}<extra>%{fullData.name}</extra>",
    }


def dots(
    name: str, rows: Sequence[str], values: Sequence[float], notes: Sequence[str], **more: Any
) -> dict[str, Any]:
    """Values of one series along x, one row per category; `more` may hold error bars."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": list(values),
        "y": [plain(row) for row in rows],
        "customdata": [plain(n) for n in notes],
        "marker": {
            "size": 9,
            "color": colour(name),
            "symbol": _dot(name),
            "line": {"width": 2, "color": colour(name)},
        },
        "hovertemplate": "%{y}: <b>%{x:.5~g}</b>%{customdata}<extra>%{fullData.name}</extra>",
        **more,
    }


def heatmap(table: pd.DataFrame, value: str, scale: Scale, unit: str) -> list[dict[str, Any]]:
    """Values over lr (x) and weight decay (y), on a colour scale: the lighter, the better.

    Args:
        table: Columns lr, weight_decay, `value`, and `said`: what the hover text adds.

    Returns:
        The coloured cells, and the numbers on them, dark on light cells and light on dark ones.
    """
    grid = table.pivot(index="weight_decay", columns="lr", values=value).sort_index()
    said = table.pivot(index="weight_decay", columns="lr", values="said").sort_index()
    values = [[None if v != v else float(v) for v in row] for row in grid.to_numpy()]
    x, y = [f"{lr:g}" for lr in grid.columns], [f"{decay:g}" for decay in grid.index]
    middle = scale.low + (0.55 if scale.is_higher_better else 0.45) * (scale.high - scale.low)
    filled = [
        (x[j], y[i], v) for i, row in enumerate(values) for j, v in enumerate(row) if v is not None
    ]
    numbers = {
        "type": "scatter",
        "mode": "text",
        "x": [a for a, _, _ in filled],
        "y": [b for _, b, _ in filled],
        "text": [f"{v:.1f}" for _, _, v in filled],
        "textfont": {
            "size": 12 if len(x) < 4 else 9,
            "color": [
                "#000" if (v > middle) == scale.is_higher_better else "#fff" for _, _, v in filled
            ],
        },
        "hoverinfo": "skip",
    }
    cells = {
        "type": "heatmap",
        "z": values,
        "x": x,
        "y": y,
        "zmin": scale.low,
        "zmax": scale.high,
        "colorscale": "Cividis",
        "reversescale": not scale.is_higher_better,
        "xgap": 2,
        "ygap": 2,
        "customdata": said.fillna("").to_numpy().tolist(),
        "hovertemplate": f"lr %{{x}}, decay %{{y}}: <b>%{{z:.2f}}</b> {plain(unit)}"
        "%{customdata}<extra></extra>",
        "colorbar": {"thickness": 10, "len": 1.0, "outlinewidth": 0},
    }
    return [cells, numbers]


def colour(name: str) -> str:
    """Of a series, by its name up to a bracket: "Lion (0.9, 0.99)" is Lion's."""
    return COLOURS.get(name, COLOURS.get(name.split(" (")[0], OTHER_COLOUR))


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title, units in it."""
    return {"title": {"text": plain(title)}, **more}


def category_axis(**more: Any) -> dict[str, Any]:
    """An axis of categories, first on top, with room for their names."""
    return {"type": "category", "autorange": "reversed", "automargin": True, **more}


def _dot(name: str) -> str:
    """Lion's dots are full and the others hollow, so that both show where they overlap."""
    symbol = SYMBOLS.get(name, OTHER_SYMBOL)
    return symbol if name.split(" (")[0] == "Lion" else f"{symbol}-open"


def _plus_minus(uncertainty: object) -> str:
    missing = uncertainty is None or uncertainty != uncertainty
    return "" if missing else f" ± {uncertainty:g}"
