"""The audit of the cache's hits sees what it is to see."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments.search import probes
from experiments.search.language import parse

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import bench_search_audits as audits
import bench_search_hits as audit

TEXT = "def train(w, g, m, v, lr):\n  {}\n  return update, m, v\n"
STREAMS = (probes.make_wide(11, 64, 12), probes.make_wide(12, 64, 12, largest=1e2))


@pytest.mark.parametrize("one, other, is_apart, by_finite", [
    ("update = square(g)", "update = g * g", False, False),
    ("update = (w + g) - w", "update = g", False, False),  # rounding, where large ones cancel
    ("update = arcsin(g)", "update = arctanh(sin(arcsin(g))) * 0 + arcsin(g)", False, False),
    ("update = g", "update = minimum(g, 0.9)", True, True),
    ("update = g", "x = exp10(exp(w))\n  update = g * cosine_sim(x, x)", True, False),
])  # fmt: skip
def test_hits_are_told_apart(one: str, other: str, is_apart: bool, by_finite: bool) -> None:
    pair = parse(TEXT.format(one)), parse(TEXT.format(other))
    assert audit.told_apart(pair, STREAMS) == is_apart
    assert audit.told_apart(pair, STREAMS, finite=True) == by_finite


def test_only_other_structures_are_hits() -> None:
    bodies = ("update = square(g)", "update = g", "x = g\n  update = x", "update = g * g")
    programs = [parse(TEXT.format(body)) for body in bodies]
    assert list(audit.merged(programs, 5)) == [(programs[0], programs[3])]


def test_chance_alone_opens_a_gate_of_the_funnel_now_and_then() -> None:
    """By three t of 4 degrees: (1 - p)^3 - (1 - 2 p)^3 with p = P(t > 2) = 0.058 is 0.146."""
    by_chance, ahead = audits.passed(2000, ahead=0.0), audits.passed(300, ahead=10.0)
    assert sum(one for one, _ in by_chance) / 2000 == pytest.approx(0.146, abs=0.03)
    assert sum(one for one, _ in ahead) / 300 == pytest.approx(0.89, abs=0.07)
