"""When a falling curve first reaches another's end, on lines between its points."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.analysis.statistics.crossing import first_below, last, times_sooner


def curve(*values: float) -> pd.DataFrame:
    """Values at the steps 0, 10, 20, ...; read out of order."""
    points = pd.DataFrame({"step": [10.0 * k for k in range(len(values))], "value": values})
    return points.iloc[::-1]


def test_the_crossing_by_hand() -> None:
    points = curve(4.0, 2.0, 1.0)
    reached = {target: first_below(points, target) for target in (4.5, 4.0, 2.5, 2.0, 1.0, 0.5)}
    assert reached == {4.5: 0.0, 4.0: 0.0, 2.5: 7.5, 2.0: 10.0, 1.0: 20.0, 0.5: None}


def test_how_many_times_sooner_by_hand() -> None:
    quick, slow, noisy = curve(4.0, 2.0, 1.0), curve(4.0, 3.0, 2.0), curve(4.0, 1.0, 2.0)
    assert last(noisy) == 2.0
    assert times_sooner(quick, slow) == pytest.approx(20 / 10)
    assert times_sooner(slow, quick) is None, "it never is"
    assert times_sooner(slow, slow) is None, "at its end only"
    assert times_sooner(noisy, noisy) == pytest.approx(20 / (10 * 2 / 3))
