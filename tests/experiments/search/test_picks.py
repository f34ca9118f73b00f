"""What searches have picked is judged in the same rounds of search data for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import search_study

from experiments.analysis import searches
from experiments.config import UserError
from experiments.search import __main__ as script
from experiments.search import library, picks
from experiments.search.evaluation import Job, Tier, judge

ADAMW = library.load("adamw_early").text()
SIZES: dict[str, Any] = {"family": "mlp", "num_steps": 10}


def test_every_pick_is_judged_in_every_round_of_search_data(tmp_path: Path) -> None:
    study = search_study.tables(seeds=[0])
    text = library.load("lion").text()
    study["finals"] = study["finals"].assign(text=text)
    study["searches"] = study["searches"].assign(**SIZES)
    folder = search_study.write(tmp_path, study)
    assert script.main(["picks", str(folder), "--rounds", "2"]) == 0
    found = searches.read(folder)["picks"]
    assert list(found) == ["search", "arm", "seed", "number", "round", "fitness"]
    assert len(found) == 2 * len(study["searches"]) and set(found.number) == {14}
    tier = Tier(**SIZES, reference=ADAMW)
    own = [judge([Job(library.load("lion"), tier, n)])[0].fitness for n in range(2)]
    for _, of_one in found.groupby("search"):
        assert of_one.fitness.tolist() == pytest.approx(own, abs=1e-6)
    assert searches.on_same_rounds({"picks": found}).tolist() == pytest.approx(
        [sum(own) / 2] * len(study["searches"]), abs=1e-6
    )


def test_a_failed_round_is_no_number() -> None:
    fails = "def train(w, g, m, v, lr):\n  update = w / lr\n  update = exp(update)\n"
    texts = {"a": ADAMW, "b": fails + "  return update, m, v\n"}
    rows = picks.measure(texts, Tier(**SIZES, reference=ADAMW), 1)
    assert [row["fitness"] for row in rows] == [0, None]
    means = searches.on_same_rounds({"picks": pd.DataFrame(rows)})
    assert means.a == 0 and pd.isna(means.b)


def test_without_final_numbers_nothing_is_judged(tmp_path: Path) -> None:
    study = search_study.tables(seeds=[0])
    folder = search_study.write(tmp_path, {n: study[n] for n in ("searches", "curves")})
    with pytest.raises(UserError, match="no final numbers there"):
        script.parse(["picks", str(folder)]).action(script.parse(["picks", str(folder)]))
    assert script.main(["picks", str(folder), "--rounds", "1"]) == 2
