"""Panels of our two stages and of image-text training, beside the paper's of JFT and LiT."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.analysis import big_vision
from experiments.analysis.confirmed import FRESH
from experiments.analysis.report import panels
from experiments.analysis.report.panels import Figure, Panel, axis, category_axis
from experiments.pages import script
from experiments.rounded import rounded

NOTE = (
    "Mean and 95 % interval of the difference in pairs over {n} seeds{which}. Right of zero: "
    "Lion's mean is higher. Shown, with Holm's correction over {questions} questions: {shown}. Not "
    "shown is not equal."
)
TWO_STAGE = f"{script('run')} -m experiment=pretrain_proxy sweep=pretrain_then_finetune"
CONTRASTIVE = f"{script('run')} -m experiment=lit_proxy sweep=contrastive_lr_wd"


@dataclass(frozen=True)
class Beside:
    """What stands beside a figure of the paper."""

    experiment: str
    title: str
    command: str
    measures: tuple[str, ...]


FIGURES = {
    "jft_compute": Beside(
        big_vision.FINE_TUNING,
        "Fine-tuned alike, pre-trained with Lion − AdamW",
        f"{TWO_STAGE} optimizer=adamw,lion seed=0,1,2,3,4",
        tuple(measure.column for measure in big_vision.TWO_STAGE),
    ),
    "zero_shot": Beside(
        big_vision.IMAGE_TEXT,
        "Zero-shot accuracy, Lion − the baseline",
        f"{CONTRASTIVE} optimizer=adamw,lion,adafactor seed=0,1,2",
        ("zero-shot",),
    ),
    "retrieval": Beside(
        big_vision.IMAGE_TEXT,
        "Recall at rank 1, Lion − the baseline",
        f"{CONTRASTIVE} optimizer=adamw,lion,adafactor seed=0,1,2",
        ("test", "text to image, 1"),
    ),
}
"""Figures of the paper, by name."""
WORDS = {"better": "Lion is ahead", "worse": "Lion is behind", "inconclusive": "not shown"}
RETRIEVAL = {"test": "image → text", "text to image, 1": "text → image"}


def add(figures: Iterable[Figure], results: Path) -> None:
    """Puts our panel beside each of `FIGURES`, or the command that would make its study.

    Args:
        figures: The paper's.
        results: Folder of all results.
    """
    tables = {
        big_vision.FINE_TUNING: big_vision.two_stage(results),
        big_vision.IMAGE_TEXT: big_vision.contrastive(results),
    }
    for figure in figures:
        if (beside := FIGURES.get(figure.name)) is None:
            continue
        table = tables[beside.experiment]
        mine = table[table.measure.isin(beside.measures) & (table.n > 0)]
        if mine.empty:
            figure.missing.append((f"The proxy study on {beside.experiment}", beside.command))
            continue
        judged = table.verdict.isin(list(WORDS)).sum()
        figure.panels.append(_panel(mine, beside, int(judged)))
        study = big_vision.FRESH if (mine.seeds == FRESH).all() else big_vision.TUNING
        figure.sources.append(f"studies/{beside.experiment}/{study}/runs.csv")


def _panel(found: pd.DataFrame, beside: Beside, questions: int) -> Panel:
    rows, notes, above, below, shown = [], [], [], [], []
    for item in found.itertuples():
        rows.append(_name(item, beside))
        verdict = WORDS.get(str(item.verdict), str(item.verdict))
        if item.verdict in ("better", "worse"):
            verdict += "" if item.holds else ", at these settings"
            shown.append(f"{rows[-1]} ({verdict})")
        interval = "no interval"
        if item.low == item.low:
            ends = (rounded(end, 2, signed=True) for end in (item.low, item.high))
            interval = f"95 % interval {' to '.join(ends)}"
        notes.append(
            f" points, {interval}, n = {item.n}: {verdict}; Lion "
            f"{item.ours_mean:.2f} %, {panels.display(item.theirs)} {item.theirs_mean:.2f} %"
        )
        above.append(item.high - item.difference if item.high == item.high else 0.0)
        below.append(item.difference - item.low if item.low == item.low else 0.0)
    bars = {"type": "data", "array": above, "arrayminus": below, "symmetric": False,
            "thickness": 1.5}  # fmt: skip
    trace = panels.dots("Lion", rows, list(found.difference), notes, error_x=bars)
    layout = {
        "xaxis": axis("difference, points", zeroline=True),
        "yaxis": category_axis(),
    }
    counts = sorted({int(n) for n in found.n})
    n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    which = ", fresh ones" if (found.seeds == FRESH).all() else ", the others pick"
    said = ", ".join(shown) or "nothing"
    note = NOTE.format(n=n, which=which, questions=questions, shown=said)
    if edges := sorted({name for text in found.edges for name in str(text).split(", ") if name}):
        untuned = ", ".join(panels.display(name) for name in edges)
        note += f" On an edge of what was tried, so not tuned: {untuned}."
    title = f"{beside.title}, {beside.experiment}"
    return Panel(title, [trace], layout, "proxy", 130 + 24 * len(rows), note)


def _name(item: object, beside: Beside) -> str:
    measure, theirs = str(getattr(item, "measure", "")), getattr(item, "theirs", "")
    if beside.experiment == big_vision.FINE_TUNING:
        return measure
    against = f"over {panels.display(theirs)}"
    return f"{RETRIEVAL[measure]}, {against}" if measure in RETRIEVAL else against
