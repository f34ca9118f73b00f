"""What a statement is worth: every way to leave it out, pairs against the whole, a row for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.analysis import searches
from experiments.search import ablation, contributions, library, liveness, types
from experiments.search.hashing import structural_hash
from experiments.search.language import Program


def versions(name: str) -> list[tuple[str, str, Program]]:
    program = liveness.prune(library.load(name))
    return [(program.statements[p].text(), i, c) for p, i, c in contributions.versions(program)]


def test_the_ways_to_leave_out_a_statement_of_lion() -> None:
    assert [(statement, instead) for statement, instead, _ in versions("lion")] == [
        ("update = interp(g, m, 0.9)", "update = g"),
        ("update = interp(g, m, 0.9)", "update = m"),
        ("update = sign(update)", ""),
        ("m = interp(g, m, 0.99)", ""),
        ("m = interp(g, m, 0.99)", "m = g"),
        ("wd = w * 0.1", "wd = w"),
        ("update = update + wd", ""),
    ]


@pytest.mark.parametrize("name", ["lion", "adamw", "raw", "rmsprop", "adafactor_like"])
def test_each_version_is_a_valid_program_of_its_own_that_can_learn(name: str) -> None:
    whole = structural_hash(liveness.prune(library.load(name)))
    found = versions(name)
    assert found
    for _, _, changed in found:
        types.check(changed)
        assert {"g", "lr"} <= liveness.analyse(changed).read
        assert structural_hash(changed) != whole
    told = [(statement, structural_hash(changed)) for statement, _, changed in found]
    assert len(set(told)) == len(told), "one change told twice"


def test_simplification_takes_no_factor_apart() -> None:
    lion = library.load("lion")
    plain = [(place, instead) for place, instead, _ in ablation.versions(lion)]
    with_factors = [(place, instead) for place, instead, _ in ablation.versions(lion, factors=True)]
    assert set(plain) < set(with_factors) and (0, "update = g") not in plain


def test_rows_are_pairs_on_data_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def proxy_measure(*arguments: Any) -> Any:
        asked.append(arguments[1:])

        def measure(programs: Sequence[Program]) -> list[list[float]]:
            return [[-0.1 * n, -0.1 * n - 0.2] for n in range(len(programs) - 1)] + [[-math.inf, 0]]

        return measure

    monkeypatch.setattr(contributions, "proxy_measure", proxy_measure)
    rows = contributions.measure(library.load("lion"), ["lm", "mlp"], 2, 50)
    assert asked == [(family, 2, 50, contributions.FIRST_ROUND) for family in ("lm", "mlp")]
    assert [row["family"] for row in rows] == ["lm"] * 7 + ["mlp"] * 7
    assert (rows[1]["mean"], rows[1]["standard_error"]) == pytest.approx((-0.2, 0.1))
    assert (rows[6]["mean"], rows[6]["standard_error"], rows[6]["n"]) == (None, None, 2)
    assert [row["place"] for row in rows[:7]] == [0, 0, 1, 2, 2, 3, 4]


@pytest.mark.filterwarnings("error")
def test_a_table_holds_each_program_once_and_is_read_back(tmp_path: Path) -> None:
    row = {"family": "lm", "num_steps": 100, "place": 0, "statement": "v = g", "instead": "",
           "mean": -0.25, "standard_error": 0.1, "n": 8}  # fmt: skip
    failed = {**row, "instead": "v = m", "mean": None, "standard_error": None}
    contributions.add_to(tmp_path, "one", [row, failed])
    contributions.add_to(tmp_path, "other", [row])
    path = contributions.add_to(tmp_path, "one", [{**row, "mean": 0.5}])
    table = searches._table(path, searches.NEEDED["ablation"])
    assert table.program.tolist() == ["other", "one"] and table["mean"].tolist() == [-0.25, 0.5]
    contributions.add_to(tmp_path, "two", [failed])
    table = pd.read_csv(path)
    assert table["mean"].isna().tolist() == [False, False, True]
    assert table.instead.isna().tolist() == [True, True, False]
    assert {"commit", "cpu", "versions", "command"} <= set(table)
