"""Text and data stay what they are inside a page."""

from __future__ import annotations

import json
import re

import numpy as np

from experiments.analysis.report.page import as_json, command, data_script, esc, number, table

NASTY = "</script><script>alert(1)</script>\u2028&\"'"


def test_json_cannot_end_its_script_element_and_reads_back() -> None:
    text = as_json({"name": NASTY})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"name": NASTY}


def test_numbers_that_json_does_not_know_become_null() -> None:
    values = {"a": float("nan"), "b": [float("inf"), np.float64("nan")], "c": np.int64(3)}
    assert json.loads(as_json(values)) == {"a": None, "b": [None, None], "c": 3}


def test_text_is_escaped_everywhere() -> None:
    for markup in (esc(NASTY), command(NASTY), table([NASTY], [[NASTY]], NASTY)):
        assert "<script" not in markup and "alert" in markup
    assert '"' not in esc(NASTY)


def test_a_data_script_is_one_call() -> None:
    assert data_script("a/b", [1]) == 'report.receive("a/b",[1]);\n'


def test_numbers_for_people() -> None:
    assert [number(v) for v in (0.5, 96.2134, 5, None, float("nan"))] == [
        *("0.5", "96.21", "5", "", "")
    ]
