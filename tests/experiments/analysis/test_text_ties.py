"""Verdicts that hang on which of equally good settings is taken."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.analysis import text_ties
from experiments.analysis.statistics.comparison import compare, compare_equals
from experiments.analysis.statistics.difference import difference_of
from experiments.headline import Direction

SEEDS = range(7)
AWAY = np.array([0.3, -0.2, 0.1, -0.3, 0.2, -0.1, 0.0])


def study(second_val: float = 90.0) -> pd.DataFrame:
    """AdamW at four learning rates: the second is a point behind Lion on the test set, the third
    level with it; by default equally good on validation."""
    rows = []
    cells = {"lion": {1e-4: (80, 90), 1e-3: (90, 92), 1e-2: (80, 90)},
             "adamw": {1e-4: (80, 90), 1e-3: (90, 91), 2e-3: (second_val, 92),
                       1e-2: (80, 90)}}  # fmt: skip
    for optimizer, by_lr in cells.items():
        for lr, (val, test) in by_lr.items():
            for seed in SEEDS:
                away = AWAY[seed - (optimizer == "lion")]
                rows.append({"optimizer": optimizer, "lr": lr, "weight_decay": 0.1, "seed": seed,
                             "state": "finished", "val": val, "test": test + away, "seconds": 1.0,
                             "n": 20_000, "metric": "top1", "unit": "%",
                             "better": "higher"})  # fmt: skip
    return pd.DataFrame(rows)


def test_the_first_choice_is_the_one_that_is_taken() -> None:
    runs = study()
    choices = compare_equals(runs, "lion", "adamw")
    assert len(choices) == 2 ** len(SEEDS)
    assert choices[0] == compare(runs, "lion", "adamw") and choices[0].verdict == "better"
    assert choices[-1].mean == pytest.approx(0, abs=1e-9), "the other equal for every seed"


def test_a_verdict_that_another_equal_turns_is_said() -> None:
    said = text_ties.sentence(text_ties.of_parts({"batch 8": study()}), unit=" points")
    assert said.startswith("Of settings that are equally good on validation the first in order")
    assert "with another of them: batch 8 " in said and "points, not shown (the interval" in said


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_of_several_that_turn_a_verdict_the_furthest_away_is_said(better: Direction) -> None:
    """Not the one with the largest p: from ahead to behind is further than to not shown."""
    sign = 1 if better == "higher" else -1
    ahead, vague, less, behind = (
        difference_of((sign * (mean + AWAY)).tolist(), better=better)
        for mean in (1.0, 0.05, -0.02, -1.0)
    )
    expected = {"better": ahead, "inconclusive": less, "worse": behind}
    for taken, others, verdict in (
        (ahead, (vague, behind), "worse"),
        (ahead, (vague, less), "inconclusive"),
        (behind, (less, ahead), "better"),
        (vague, (less, ahead), "better"),
    ):
        found = text_ties.turned({"": [taken, *others]})
        assert found == {"": (expected[verdict], verdict)}


def test_another_choice_is_corrected_over_all_comparisons_as_the_taken_one() -> None:
    clear, near, vague = (difference_of((mean + AWAY).tolist()) for mean in (1.0, 0.23, 0.05))
    assert near.verdict == "better" and 0.025 < near.p_t < 0.05  # alone; as one of two it is not
    assert text_ties.turned({"a": [clear, near]}) == {}
    for names in ("ab", "ba"):
        choices = {"a": [clear, near], "b": [vague]}
        found = text_ties.turned({name: choices[name] for name in names})
        assert found == {"a": (near, "inconclusive")}


def test_nothing_is_said_where_nothing_hangs_on_a_tie() -> None:
    for val in (89.0, 90.5):  # no tie: the second is taken, or the third
        parts = text_ties.of_parts({"": study(val)})
        assert len(parts[""]) == 1 and text_ties.sentence(parts) == ""
    both = study()
    both.loc[(both.optimizer == "adamw") & (both.lr == 2e-3), "test"] -= 1.0
    assert text_ties.sentence(text_ties.of_parts({"": both})) == "", "equals that agree"
