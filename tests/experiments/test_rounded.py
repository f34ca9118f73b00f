"""A bound that excludes zero never reads as zero, wherever intervals are written."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from experiments.rounded import ends, rounded, with_signs

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1.234, 2, "1.23"),
        (0.0004, 2, "0.0004"),
        (-0.0049, 2, "-0.005"),
        (-0.005001, 2, "-0.01"),
        (3e-9, 3, "3e-09"),
        (0.0, 2, "0.00"),
        (-0.0, 2, "0.00"),
        (0.4, 0, "0.4"),
        (math.inf, 2, "inf"),
    ],
)
def test_a_number_keeps_its_side_of_zero(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits) == text


def test_intervals() -> None:
    assert ends(-0.034, 0.0004, 3) == "[-0.034, 0.0004]"
    assert ends(0.002, 1.234, 2) == "[0.002, 1.23]"
    assert with_signs(-0.0002, -0.002, 0.0019, 3) == "-0.0002 [-0.002, +0.002]"
    assert with_signs(0.0, -0.5, 0.5, 2) == "+0.00 [-0.50, +0.50]"


ROUNDS = re.compile(r"\{[^{}]*\b(?:\w+_)?(?:low|high)\w*\b[^{}]*:[+]?\.[^{}]*(?:\{[^{}]*\})?f\}")
"""A bound in an f-string with a fixed number of digits."""


def test_no_interval_is_written_with_fixed_digits() -> None:
    assert ROUNDS.search('f"[{item.wide_low:.{digits}f}"') and ROUNDS.search("{d.high:+.2f}")
    rooms = ("experiments/analysis", "experiments/compare", "scripts")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    assert not [str(path) for path in files if ROUNDS.search(path.read_text())]
