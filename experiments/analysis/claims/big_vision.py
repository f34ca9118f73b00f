"""Claims on JFT, LiT and BASIC, from the proxies of two stages and of image-text training.

Fine-tuning is judged by its averaged weights, as in the paper's tables; the raw ones are noted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from experiments.analysis import big_vision, confirmed
from experiments.analysis.big_vision import (
    ADAFACTOR,
    BASELINES,
    FINE_TUNING,
    FRESH,
    IMAGE_TEXT,
    OURS,
    PRETRAINING,
    THEIRS,
    TUNING,
    Measure,
)
from experiments.analysis.claims.evidence import Evidence, Finding, NotRun
from experiments.analysis.claims.families import of_picks
from experiments.analysis.claims.scale import widest
from experiments.analysis.claims.tuned_pairs import Tuned, tuned_difference
from experiments.analysis.statistics.comparison import held_out_pairs
from experiments.pages import script
from experiments.rounded import with_signs

STAGES = {measure.column: measure for measure in big_vision.TWO_STAGE}
SEARCHED = {measure.column: measure for measure in big_vision.RECALLS}
ZERO_SHOT = next(m for m in big_vision.CONTRASTIVE if m.column == "zero-shot")
NO_SHIFT = "one set of signals with more noise and slope stands for all shifted sets"


def after_pretraining(evidence: Evidence, column: str) -> Tuned:
    """A measure of `big_vision.TWO_STAGE` by the optimizer of the pre-training.

    On fresh seeds where both stages were trained with some, else one seed left out of each pick.

    Raises:
        NotRun: without the tuning of both stages, or the values of this measure.
        UserError: where nothing can be picked, or the fresh runs are not those of the picks.
    """
    before = evidence.study(TUNING, PRETRAINING)
    tuning = _measured(evidence, TUNING, FINE_TUNING, STAGES[column])
    try:
        fresh = _measured(evidence, FRESH, FINE_TUNING, STAGES[column])
    except NotRun:
        fresh = None
    edges = big_vision.edges_of(before)
    found = _gain(tuning, fresh, THEIRS, STAGES[column])
    if not edges:
        return found
    said = f"{found.note}; not tuned: {' and '.join(edges)} on the edge of the pre-training's grid"
    return replace(found, note=said, untuned=tuple(dict.fromkeys([*found.untuned, *edges])))


def _measured(evidence: Evidence, name: str, experiment: str, measure: Measure) -> pd.DataFrame:
    """A study's runs with a measure's column; see `big_vision.with_measures`."""
    table = evidence.study(name, experiment)
    no_points = pd.DataFrame(columns=["run_id", "step", "split", "metric", "value", "weights"])
    curves = others = no_points
    if measure.weights is not None:
        others = evidence.other_weights(name, experiment)
    elif measure.column != "test":
        curves = evidence.curves(name, experiment)
    return big_vision.with_measures(table, curves, others, (measure,))


def _gain(tuning: pd.DataFrame, fresh: pd.DataFrame | None, theirs: str, measure: Measure) -> Tuned:
    """Lion minus another optimizer by one measure."""
    table = tuning if fresh is None else fresh
    if fresh is None:
        found = tuned_difference(tuning, OURS, theirs)
    else:
        found = of_picks(tuning, fresh, OURS, theirs)
    pairs = held_out_pairs(table, OURS, theirs, measure.column)
    if pairs.empty:
        raise NotRun(f"{script('sweep')} collect --curves (for {measure.column})")
    step = confirmed.resolution(table, measure.column, measure.has_own_n)
    return replace(found, pairs=pairs, resolution=step)


def fine_tuned(evidence: Evidence) -> Finding:
    """At another length, averaged weights."""
    found, raw = (after_pretraining(evidence, name) for name in ("test, averaged", "test"))
    return _with_raw(found, raw).larger(
        "test accuracy after fine-tuning, averaged weights, pre-trained with Lion - with AdamW"
    )


def fine_tuned_shifted(evidence: Evidence) -> Finding:
    """The same on the shifted set, which stands for each of the paper's."""
    names = ("shifted, averaged", "shifted")
    found, raw = (after_pretraining(evidence, name) for name in names)
    return _with_raw(found, raw, NO_SHIFT).larger(
        "accuracy on the shifted set, averaged weights, pre-trained with Lion - with AdamW"
    )


def larger_where_shifted(evidence: Evidence) -> Finding:
    """The gain on the shifted set minus that on the test set, by seed."""
    gains = [after_pretraining(evidence, f"{name}, averaged") for name in ("shifted", "test")]
    raw = [after_pretraining(evidence, name) for name in ("shifted", "test")]
    return _with_raw(gains[0].less(gains[1]), raw[0].less(raw[1]), NO_SHIFT).larger(
        "gain on the shifted set - on the test set, averaged weights"
    )


def _with_raw(found: Tuned, raw: Tuned, more: str = "") -> Tuned:
    told = raw.difference
    said = f"raw weights {with_signs(told.mean, told.low, told.high, 2)}"
    return replace(found, note="; ".join(filter(None, [said, more, found.note])))


def image_text(evidence: Evidence, theirs: str, measure: Measure) -> Tuned:
    """Lion minus a baseline by one measure, on fresh seeds."""
    assert theirs in BASELINES
    tables = [_measured(evidence, name, IMAGE_TEXT, measure) for name in (TUNING, FRESH)]
    return _gain(*tables, theirs, measure)


def zero_shot(theirs: str) -> Callable[[Evidence], Finding]:
    """Whether Lion is ahead of a baseline in zero-shot classification."""

    def check(evidence: Evidence) -> Finding:
        found = image_text(evidence, theirs, ZERO_SHOT)
        note = f"ten scripts, a locked image tower; {found.note}"
        return replace(found, note=note).larger(f"zero-shot test accuracy, Lion - {theirs}")

    return check


def larger_at_rank_1(evidence: Evidence) -> Finding:
    """In both directions Lion is ahead at rank 1, and by more than at rank 10."""
    found = []
    for way, said in (("i2t", "image to text"), ("t2i", "text to image")):
        at = {rank: image_text(evidence, THEIRS, SEARCHED[f"{way} {rank}"]) for rank in (1, 10)}
        found += [
            at[1].larger(f"recall at 1, {said}, Lion - adamw"),
            at[1].less(at[10]).larger(f"gain in recall at 1 - at 10, {said}"),
        ]
    return widest(found)


CHECKS: dict[str, Callable[[Evidence], Finding]] = {
    "C013": fine_tuned_shifted,
    "C014": fine_tuned_shifted,
    "C015": fine_tuned_shifted,
    "C016": fine_tuned,
    "C017": zero_shot(ADAFACTOR),
    "C019": zero_shot(THEIRS),
    "C020": larger_at_rank_1,
    "C086": larger_where_shifted,
}
"""Claim id -> what these proxies say of it."""
OTHER_QUESTION = {
    "C006": "no proxy asks it: the two stages pre-train for one length, not for several budgets",
    "C018": "no proxy asks it: image-text training is not followed by fine-tuning here",
    "C083": "no proxy asks it: there is one zero-shot set here, which is asked for C019",
}
"""Claims on these families that no study here answers, and why."""
