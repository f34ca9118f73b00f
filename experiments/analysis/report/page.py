"""The frame that every page shares, and how text and data get into pages without being markup."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PAGES = {
    "index.html": "Claims",
    "figures.html": "Figures",
    "sweeps.html": "Sweeps",
    "search.html": "Search",
    "about.html": "About",
}
"""File and name of every page, in the order of the navigation."""

SKELETON = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Lion, checked</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="assets/report.css">
{scripts}
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header><a class="name" href="index.html">Lion, checked</a><nav aria-label="Pages">{nav}</nav>
</header>
<main id="main">
{body}
</main>
<footer>{footer}</footer>
</body>
</html>
"""


def esc(value: object) -> str:
    """Text for HTML, in content and in quoted attributes; nothing (None, NaN) is empty."""
    return "" if is_missing(value) else html.escape(str(value))


def is_missing(value: object) -> bool:
    """Whether a table's value is absent."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == ""


def number(value: object, digits: int = 4) -> str:
    """A number with some significant digits, in plain notation where that is short."""
    if is_missing(value):
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def render(file: str, title: str, body: str, *, footer: str, scripts: Sequence[str] = ()) -> str:
    """A whole page.

    Args:
        file: Its key in `PAGES`.
        title: As in the browser's tab; text.
        body: Markup, with every text in it escaped already.
        footer: Text.
        scripts: Files below `assets/`, run in this order once the page is parsed.
    """
    links = []
    for target, name in PAGES.items():
        here = ' aria-current="page"' if target == file else ""
        links.append(f'<a href="{target}"{here}>{name}</a>')
    tags = "\n".join(f'<script defer src="assets/{esc(s)}"></script>' for s in scripts)
    return SKELETON.format(
        title=esc(title), scripts=tags, nav="".join(links), body=body, footer=esc(footer)
    )


def as_json(value: Any) -> str:
    """JSON that may stand inside a script element; what JSON has no number for becomes null."""
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def inline_data(name: str, value: Any) -> str:
    """A script element that holds data for the page's own scripts."""
    return f'<script type="application/json" id="{esc(name)}">{as_json(value)}</script>'


def data_script(name: str, value: Any) -> str:
    """Content of a script file that hands data to the page: file:// pages cannot fetch JSON."""
    return f"report.receive({as_json(name)},{as_json(value)});\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table of texts; it scrolls by itself where the screen is narrow."""
    head = "".join(f'<th scope="col">{esc(h)}</th>' for h in headings)
    lines = ("".join(f"<td>{esc(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    title = f"<caption>{esc(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption or "table")}">'
        f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def command(text: str) -> str:
    """A command line with a button that copies it."""
    return f'<div class="command"><code>{esc(text)}</code></div>'


def not_run_yet(what: str, how: str) -> str:
    """Says that a piece is missing, and which command makes it."""
    return (
        f'<div class="missing"><p>{esc(what)}: not run yet.</p>{command(how) if how else ""}</div>'
    )
