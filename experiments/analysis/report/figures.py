"""The figures page: interactive panels, and drawn figures that open large."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.report.page import esc, inline_data, not_run_yet
from experiments.analysis.report.panels import COLOURS, OTHER_COLOUR, Figure, Panel
from experiments.analysis.samples import RULE, Sample

ORIGINS = {
    "paper": "paper",
    "digitised": "paper, digitised",
    "proxy": "proxy run here",
}
LEGEND = {"Lion": "lion", "AdamW": "adamw"}
DRAWN = ("*.svg", "*.png")


def copy_drawn(results: Path, out: Path) -> list[str]:
    """Copies what `make figures` drew, and the pictures of the published comparisons.

    Returns:
        Their paths in the report. Of a figure drawn as both, the SVG.
    """
    found: dict[str, Path] = {}
    for pattern in DRAWN:
        for path in sorted((results / "figures").glob(pattern)):
            found.setdefault(path.stem, path)
    for path in sorted((results / "proxies").glob("*.png")):
        found.setdefault(f"proxy_{path.stem}", path)
    if found:
        (out / "drawn").mkdir(exist_ok=True)
    copies = []
    for stem, path in found.items():
        shutil.copyfile(path, out / "drawn" / f"{stem}{path.suffix}")
        copies.append(f"drawn/{stem}{path.suffix}")
    return copies


def copy_tables(figures: Sequence[Figure], results: Path, out: Path) -> None:
    """Copies the tables that the captions link to, so that the folder is complete by itself."""
    for source in {s for figure in figures for s in figure.sources}:
        target = out / "tables" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(results / source, target)


def copy_samples(samples: Sequence[Sample], out: Path) -> list[str]:
    """Copies pictures of samples.

    Returns:
        Their paths in the report.
    """
    copies = []
    for number, sample in enumerate(samples):
        (out / "samples").mkdir(exist_ok=True)
        copies.append(f"samples/{number}{sample.path.suffix}")
        shutil.copyfile(sample.path, out / copies[-1])
    return copies


def samples_section(samples: Sequence[Sample], paths: Sequence[str]) -> str:
    """Pictures of samples, each with what it shows; empty where there are none."""
    shown = "".join(
        f'<figure><a class="picture" href="{esc(path)}"><img loading="lazy" src="{esc(path)}" '
        f'alt="Samples of {esc(sample.title)}"></a><figcaption><b>{esc(sample.title)}</b> '
        f'<span class="caption">{esc(sample.caption)}</span></figcaption></figure>'
        for sample, path in zip(samples, paths, strict=True)
    )
    if not shown:
        return ""
    return (
        '<section class="figure" id="samples"><h2>Samples</h2>'
        f'<p class="caption">{esc(RULE)}</p><div class="pictures samples">{shown}</div></section>'
    )


def body(
    figures: Sequence[Figure], drawn: Sequence[str], has_figures: bool, samples: str = ""
) -> str:
    """The page's content; `samples` is the markup of `samples_section`."""
    contents = "".join(f'<li><a href="#{esc(f.name)}">{esc(f.title)}</a></li>' for f in figures)
    pictures = _pictures(drawn, has_figures)
    if samples:
        contents += '<li><a href="#samples">Samples</a></li>'
    data = {f"{f.name}-{i}": _data(p) for f in figures for i, p in enumerate(f.panels)}
    return f"""<h1>Figures</h1>
<p class="lead">Hover or tap for values, drag to zoom, double-click to zoom out. Every plot's values
are also a table below it. What a proxy shows is about the proxy alone. An interval <b>at the
settings found</b> has only the noise of seeds in it; the wider one, <b>of the optimizers</b>, has
the luck of tuning, too.</p>
<ul class="contents">{contents}<li><a href="#drawn">Drawn figures</a></li></ul>
<noscript><p class="missing">The plots need JavaScript; captions link tables.</p></noscript>
{"".join(_section(figure) for figure in figures)}
{samples}
<section class="figure" id="drawn"><h2>Drawn figures</h2>{pictures}</section>
<dialog id="zoom"><form method="dialog"><button>Close</button>
<a id="zoom-link" href="#drawn">Open the file</a></form>
<div class="canvas"><img alt=""></div></dialog>
{inline_data("panels", data)}
"""


def _section(figure: Figure) -> str:
    plots = "".join(_plot(figure, i, panel) for i, panel in enumerate(figure.panels))
    missing = "".join(not_run_yet(what, how) for what, how in figure.missing)
    links = ", ".join(f'<a href="tables/{esc(s)}">{esc(s)}</a>' for s in figure.sources)
    return (
        f'<section class="figure" id="{esc(figure.name)}"><h2>{esc(figure.title)}</h2>'
        f"{_legend(figure)}<div class='panels'>{plots}</div>"
        f'<p class="caption">{esc(figure.caption)} {"Tables: " if links else ""}{links}</p>'
        f"{missing}</section>"
    )


def _plot(figure: Figure, index: int, panel: Panel) -> str:
    name = f"{figure.name}-{index}"
    note = f'<p class="note">{esc(panel.note)}</p>' if panel.note else ""
    return (
        f'<figure class="panel"><figcaption>{esc(panel.title)} '
        f'<span class="origin {esc(panel.origin)}">{esc(ORIGINS[panel.origin])}</span></figcaption>'
        f'<div class="plot" data-panel="{esc(name)}" style="height:{panel.height}px"></div>{note}'
        f'<details class="values" data-panel="{esc(name)}"><summary>Values</summary></details>'
        "</figure>"
    )


def _legend(figure: Figure) -> str:
    """Names and colours of the series; a plot whose rows are named needs none."""
    names: list[str] = []
    for panel in figure.panels:
        if len(panel.traces) <= 5:
            names += [t["name"] for t in panel.traces if "name" in t and t["name"] not in names]
    if not names or len(figure.panels) == 0 or figure.name in ("optimizers", "proxies"):
        return ""
    items = "".join(
        f'<li style="--series:{COLOURS.get(name, OTHER_COLOUR)}" '
        f'class="{LEGEND.get(name, "else")}">{name}</li>'
        for name in names  # escaped for plotly already
    )
    return f'<ul class="legend">{items}</ul>'


def _data(panel: Panel) -> dict[str, Any]:
    return {"traces": panel.traces, "layout": panel.layout, "title": panel.title}


def _pictures(drawn: Sequence[str], has_figures: bool) -> str:
    missing = "" if has_figures else not_run_yet("The drawn figures", "make figures")
    images = "".join(
        f'<figure><a class="picture" href="{esc(path)}"><img loading="lazy" src="{esc(path)}" '
        f'alt="{esc(_title(path))}"></a><figcaption>{esc(_title(path))}</figcaption></figure>'
        for path in drawn
    )
    return f"{missing}<div class='pictures'>{images}</div>"


def _title(path: str) -> str:
    return Path(path).stem.replace("_", " ")
