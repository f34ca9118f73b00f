"""One's own sweep as a folder: figures (PNG, SVG), and a page in Markdown beside them."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from experiments.analysis import text_confirmed
from experiments.analysis.confirmed import FRESH, LEFT_OUT
from experiments.analysis.drawing import figure_style as style
from experiments.analysis.markdown import mean, table
from experiments.analysis.swept import grids, lines, verdicts
from experiments.analysis.swept.notes import notes
from experiments.analysis.swept.picks import LABELS, Picked, all_picked, by_condition, value_text
from experiments.arms import Swept
from experiments.headline import Headline
from experiments.store import replacing

PAGE = "sweep.md"
MOST_LETTERS = 80
"""Of a condition in the name of a file."""
OF_SEEDS = {
    FRESH: "fresh seeds, at the settings found",
    LEFT_OUT: "tuning seeds, each as the others pick",
}
Curves = Callable[[Sequence[str]], pd.DataFrame]


def write(swept: Swept, folder: Path, curves: Curves, reference: str | None = None) -> list[Path]:
    """Draws a sweep.

    Args:
        swept: Of which a run is over.
        folder: Which is made.
        curves: Gives run_id, step, split, metric and value of the runs that it is asked for.
        reference: The optimizer that the others are compared with; see `verdicts.reference_of`.

    Returns:
        What was written, the page first.
    """
    ours = verdicts.reference_of(swept, reference)
    found = all_picked(swept)
    compared = verdicts.compared(swept, found, ours)
    figures, written = {}, []
    headings, places = _headings(found), places_of([one.arm.condition for one in found])
    for condition, arms in by_condition(found).items():
        about = f"{swept.name}, {headings[condition]}" if condition else swept.name
        paths = _draw(arms, curves, about, folder, places[condition])
        figures[condition] = [path.name for path in paths if path.suffix == ".png"]
        written += paths
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / PAGE) as draft:
        draft.write_text(text(swept, found, compared, figures), encoding="utf-8")
    return [folder / PAGE, *written]


def _draw(arms: list[Picked], curves: Curves, about: str, folder: Path, place: str) -> list[Path]:
    """The figures of one condition."""
    is_proxy, written = _is_proxy(arms), []
    if any(one.arm.keys for one in arms):
        draw = lines.draw_key if lines.is_one_line(arms) else grids.draw
        figure = draw(arms, f"{about}: what each setting gives", is_proxy)
        written += style.save(figure, folder, f"settings{place}")
    runs = [run for one in arms if len(one.shown) for run in one.shown.run_id]
    if runs:
        drawn = lines.draw_steps(arms, curves(runs), f"{about}: the picks", is_proxy)
        if drawn is not None:
            written += style.save(drawn, folder, f"curves{place}")
    return written


def places_of(conditions: Iterable[str]) -> dict[str, str]:
    """What the files of each condition are called: no two alike, as `x 1` and `x -1` would be."""
    places: dict[str, str] = {}
    for condition in dict.fromkeys(conditions):
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", condition).strip("-")[:MOST_LETTERS]
        place, taken = f"-{plain}" if plain else "", {one.lower() for one in places.values()}
        names = itertools.chain([place], (f"{place}-{number}" for number in itertools.count(2)))
        places[condition] = next(name for name in names if name.lower() not in taken)
    return places


def _headings(found: Sequence[Picked]) -> dict[str, str]:
    """Each condition; with the name of its data where these are compared and it does not say it.

    A condition names a page, and the data that it has may be given another name.
    """
    parts = by_condition(list(found))
    data = {key: dict.fromkeys(pd.concat([a.arm.tuning for a in arms]).data)
            for key, arms in parts.items()}  # fmt: skip
    differ = len({tuple(names) for names in data.values()}) > 1
    headings = {}
    for condition, names in data.items():
        is_told = differ or re.search(r"(^|, )data ", condition)
        unsaid = [str(name) for name in names if str(name) not in condition]
        told = f" (data: {', '.join(unsaid)})" if condition and is_told and unsaid else ""
        headings[condition] = condition + told
    return headings


def _is_proxy(arms: Sequence[Picked]) -> bool:
    return bool((arms[0].arm.tuning.scale == "proxy").any())


def text(
    swept: Swept, found: list[Picked], compared: pd.DataFrame, figures: dict[str, list[str]]
) -> str:
    """The page."""
    parts, headings = [f"# {swept.name}", _about(found)], _headings(found)
    for condition, arms in by_condition(found).items():
        if condition:
            parts.append(f"## {headings[condition]}")
        parts += [_picks(arms), *(f"![{name}]({name})" for name in figures.get(condition, []))]
    if len(compared):
        parts += ["## Compared", *_compared(compared, found)]
    if said := list(notes(swept, found, compared)):
        parts += ["## What to know", "\n".join(f"- {line}" for line in said)]
    parts.append(f"Drawn again by `{swept.again}`.")
    return "\n\n".join(parts) + "\n"


def _about(found: list[Picked]) -> str:
    """Which model on which data, and by which number settings are picked and reported."""
    first = found[0].arm.tuning.iloc[0]
    facts = dict.fromkeys(
        f"`{row.experiment}` ({int(row.num_params):,} parameters, {row.data})"
        for row in pd.concat([one.arm.tuning for one in found])
        .drop_duplicates(["experiment", "num_params", "data"])
        .itertuples()
    )
    proxy = "A proxy, which says nothing of full size: " if first.scale == "proxy" else ""
    phrases = dict.fromkeys(
        f"Settings are picked on {one.headline.tune}; reported is {one.headline.phrase}"
        for one in found
    )
    return f"{proxy}{'; '.join(facts)}. {'. '.join(phrases)}."


def _picks(arms: list[Picked]) -> str:
    """The table of what was picked and how good it is."""
    keys = list(dict.fromkeys(key for one in arms for key in one.arm.keys))
    headline = arms[0].headline
    unit = f" ({headline.unit})" if headline.unit else ""
    heads = ["optimizer", *(LABELS.get(key, key) for key in keys), "settings"]
    heads += [f"{headline.tune} {headline.metric}{unit}, tuning seeds", "n"]
    heads += [f"{headline.reported}, mean ± s.e.", "n", "of"]
    return table([head.replace("_", " ") for head in heads], [_row(one, keys) for one in arms])


def _row(one: Picked, keys: Sequence[str]) -> list[str]:
    settings = f"{one.arm.num_settings}"
    if one.found is None:
        return [one.name, *["–"] * len(keys), settings, *["–"] * 5]
    digits, edges = one.headline.digits, one.found.edges
    cells = [
        f"{value_text(one.setting.get(key))}{' (edge)' if key in edges else ''}" for key in keys
    ]
    values = one.shown.test[one.shown.state == "finished"].dropna()
    error = float(values.sem()) if len(values) > 1 else math.nan
    average = float(values.mean()) if len(values) else math.nan
    lost = int((one.shown.state == "diverged").sum())
    n = f"{len(values)}{f' ({lost} diverged)' if lost else ''}"
    return [
        *(one.name, *cells, settings, f"{one.found.mean:.{digits}f}", f"{len(one.found.seeds)}"),
        *(mean(average, error, digits), n, "fresh seeds" if one.is_fresh else "tuning seeds"),
    ]


def _compared(compared: pd.DataFrame, found: list[Picked]) -> Iterator[str]:
    """The table of differences, and what they are of."""
    headlines = {one.arm.condition: one.headline for one in found}
    has_conditions = any(compared.condition)
    measured = "; ".join(dict.fromkeys(_measured(one) for one in headlines.values()))
    luck, p, verdict = text_confirmed.HEADS[1:]
    heads = [*(["condition"] if has_conditions else []), "difference", "[95 %]", luck]
    rows = []
    for row in compared.itertuples():
        digits = headlines[row.condition].digits
        names = f"{style.name_of(row.ours)} − {style.name_of(row.theirs)}"
        cells = [text_confirmed.gain(row, digits), text_confirmed.wide(row, digits)]
        condition = [row.condition] if has_conditions else []
        told = [OF_SEEDS.get(row.seeds, "–"), text_confirmed.p(row), verdicts.said(row)]
        rows.append([*condition, names, *cells, *told])
    yield table([*heads, "of", p, verdict], rows)
    yield f"Differences of {measured}, in pairs by seed. “Not shown” is not “equal”."
    name = lambda row: " ".join(filter(None, [row.condition, style.name_of(row.theirs)]))  # noqa: E731
    if said := text_confirmed.of_all(compared, name):
        yield said


def _measured(headline: Headline) -> str:
    unit = f" ({headline.points})" if headline.points else ""
    return f"{headline.report} {headline.metric}{unit}, {headline.better} is better"
