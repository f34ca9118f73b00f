"""Blocks of RESULTS.md on pre-training then fine-tuning, and on image-text training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import big_vision
from experiments.analysis.big_vision import ADAFACTOR, FINE_TUNING, IMAGE_TEXT, OURS, THEIRS, TUNING
from experiments.analysis.confirmed import FRESH
from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, mean, table
from experiments.analysis.sources import study
from experiments.analysis.statistics.comparison import choose
from experiments.analysis.statistics.difference import INCONCLUSIVE
from experiments.analysis.text_confirmed import HEADS, cells, of_all

CALLED = {
    "test": "test",
    "shifted": "shifted test",
    "test, averaged": "test, averaged weights",
    "shifted, averaged": "shifted test, averaged weights",
}
ASKED = {
    "test": "image to text, recall at 1",
    "text to image, 1": "text to image, recall at 1",
    "zero-shot": "zero-shot, ten scripts",
}
GAIN = f"Lion − AdamW, points {HEADS[0]}"


def two_stage(results: Path) -> str:
    """What both stages picked; then whether the pre-training's optimizer shows after both."""
    found = big_vision.two_stage(results)
    if found.empty:
        return NO_STUDY
    first = big_vision.pretraining(results).itertuples()
    rows = [("after the pre-training, its own classes", *_pair(item)) for item in first]
    rows += [(CALLED[str(item.measure)], *_pair(item)) for item in found.itertuples()]
    heads = ("", "AdamW, %", "Lion, %", GAIN, *HEADS[1:], "n")
    said = _how(found, ", those after fine-tuning; the one before it stands by itself")
    return "\n\n".join([_picks_of_stages(results), table(heads, rows), said])


def _pair(item: Any) -> tuple[str, ...]:
    return *_means(item, "theirs", "ours"), *cells(item), str(item.n)


def _means(item: Any, *arms: str) -> tuple[str, ...]:
    values = [(getattr(item, f"{arm}_mean"), getattr(item, f"{arm}_error")) for arm in arms]
    return tuple(mean(value, error) for value, error in values)


def _how(found: pd.DataFrame, beside: str = "") -> str:
    """On which seeds the differences are, and how often was asked."""
    judged = int(found.verdict.isin(["better", "worse", INCONCLUSIVE]).sum())
    seeds = [str(text) for text in found.seeds.unique() if text]
    if not seeds:
        return "Nothing has been compared yet."
    where = "the picks on fresh seeds" if seeds == [FRESH] else (
        "the tuning runs, each seed with the setting that the others picked"
    )  # fmt: skip
    correction = f" Holm's correction is over {judged} comparisons{beside}." if judged > 1 else ""
    return f"Compared are {where}.{correction}"


def _picks_of_stages(results: Path) -> str:
    first = study(TUNING, results, big_vision.PRETRAINING)
    second = big_vision.runs(results, TUNING, FINE_TUNING, ())
    rows = []
    for name in (THEIRS, OURS):
        before = ("–", "–", "–") if first is None else _pick(first, name)
        after = ("–", "–", "–") if second is None else _pick(second, name)
        rows.append((name_of(name), *before, after[0], after[2]))
    heads = ("pre-training", "lr", "weight decay", "validation %", "fine-tuning: lr",
             "validation %")  # fmt: skip
    return table(heads, rows)


def _pick(tuning: pd.DataFrame, name: str) -> tuple[str, str, str]:
    """Learning rate, weight decay and mean validation value of what was picked."""
    try:
        found = choose(tuning, name)
    except ValueError:
        return "none finished", "–", "–"
    edge = " (edge)" if found.on_edge else ""
    return f"{found.lr:g}{edge}", f"{found.weight_decay:g}", f"{found.val_mean:.2f}"


def contrastive(results: Path) -> str:
    """Three optimizers of the text tower; Lion against the other two by each measure."""
    found = big_vision.contrastive(results)
    tuning = study(TUNING, results, IMAGE_TEXT)
    if found.empty or tuning is None:
        return NO_STUDY
    names = (THEIRS, ADAFACTOR, OURS)
    picks = [(name_of(name), *_pick(tuning, name)) for name in names]
    head = table(("", "lr", "weight decay", "validation, image to text, recall at 1, %"), picks)
    rows = [
        (ASKED[str(item.measure)], name_of(str(item.theirs)), *_pair(item))
        for item in found.itertuples()
    ]
    heads = ("", "against", "it, %", "Lion, %", f"Lion − it, points {HEADS[0]}", *HEADS[1:], "n")
    return "\n\n".join([head, table(heads, rows), _how(found)])


def contrastive_batch(results: Path) -> str:
    """Lion against AdamW at each batch size, with a fixed number of pairs."""
    found = big_vision.batch_series(results)
    if found.empty:
        return NO_STUDY
    rows = [
        (f"{item.batch_size:,}", f"{item.steps:,}", *_pair(item)) for item in found.itertuples()
    ]
    heads = ("batch", "steps", "AdamW, %", "Lion, %", GAIN, *HEADS[1:], "n")
    more = of_all(found, lambda item: f"{item.batch_size:,} pairs")
    return "\n\n".join(filter(None, [table(heads, rows), _how(found), more]))


BLOCKS: dict[str, Callable[[Path], str]] = {
    "two_stage": two_stage,
    "contrastive": contrastive,
    "contrastive_batch": contrastive_batch,
}
"""Name of a block -> what makes it."""
