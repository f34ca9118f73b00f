"""The blocks of RESULTS.md on the program search say what a made-up study holds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import search_study

from experiments.analysis import text_search
from experiments.analysis.markdown import NO_STUDY


@pytest.mark.parametrize("block", text_search.BLOCKS)
def test_without_a_study_nothing_is_said(tmp_path: Path, block: str) -> None:
    assert text_search.BLOCKS[block](tmp_path) == NO_STUDY


def test_strategies_stand_beside_each_other_and_a_failed_search_is_counted(tmp_path: Path) -> None:
    study = search_study.tables({"laptop": 0.2, "constants": -0.1}, noise=0.0)
    finals = study["finals"]
    lost = (finals.arm == "random") & (finals.seed == 0)
    finals.loc[lost, "mean"] = float("nan")
    search_study.write(tmp_path, study)
    lines = text_search.strategies(tmp_path).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        "| evolution",
        "| constants tuned",
        "| random programs",
    ], "not the damaged Lion: another proxy"
    own = "| evolution | 5 | 19,959 | 4,012 | 100 |"  # drawn, trained, incumbents judged again
    assert lines[0].startswith(own) and lines[0].endswith("+0.200 ± 0.000 |")
    assert lines[1].endswith("−0.100 ± 0.000 |")
    assert lines[2].endswith("(1 failed) |")


def test_gains_on_search_data_are_told_of_the_same_rounds(tmp_path: Path) -> None:
    study = search_study.tables()
    study["picks"] = search_study.picks(study, {"laptop": 0.1, "constants": 0.15})
    search_study.write(tmp_path, study)
    head, _, laptop, constants, _, _, said = text_search.strategies(tmp_path).splitlines()
    assert head.endswith(
        "| gain, search data, as each counts | gain, the same rounds | gain, fresh |"
    )
    assert "+0.300 ± 0.000 | +0.100 ± 0.000 |" in laptop
    assert "+0.300 ± 0.000 | +0.150 ± 0.000 |" in constants, "ahead, though both count the same"
    assert said.startswith("The same rounds: 4 of search data.")
    assert "has a standard deviation of 0.05 nats" in said and "is −0.03 to +0.23" in said


def test_milestones_say_in_how_many_searches_and_after_how_many_trainings(tmp_path: Path) -> None:
    study = search_study.tables()
    rows = study["rediscovery"].astype({"as_good_trained": float})
    mine = rows.arm == "without_sign"
    rows.loc[mine, "sign_momentum_number"] = 0
    rows.loc[mine, "two_averages_trained"] = [7.0, 900.0, *[float("nan")] * 3]
    rows.loc[mine, "as_good_trained"] = float("nan")
    search_study.write(tmp_path, {**study, "rediscovery": rows})
    text = text_search.rediscovery(tmp_path)
    assert "| two averages, as in Lion | as good as Lion |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| without sign")]
    assert line.endswith("| 5 of 5, at the start | 2 of 5, after 7 to 900 | 0 of 5 |")
    assert "| perceptron, 400 steps | 3,1" in line


def test_known_programs_stand_by_proxy(tmp_path: Path) -> None:
    folder = search_study.write(tmp_path, {})
    rows = [("lion", "lm", 100, -0.1, 0.01, 4), ("lion", "mlp", 400, 0.2, 0.02, 4)]
    columns = ["program", "family", "num_steps", "mean", "standard_error", "n"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "known.csv", index=False)
    head, _, line = text_search.known(tmp_path).splitlines()
    assert head.endswith("| language, 100 steps | perceptron, 400 steps |")
    assert line == "| `lion` | −0.100 ± 0.010 | +0.200 ± 0.020 |"
