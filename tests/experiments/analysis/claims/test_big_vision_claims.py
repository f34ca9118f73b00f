"""Claims on JFT, LiT and BASIC: judged by the proxies' studies, open without them."""

from __future__ import annotations

from pathlib import Path

import big_vision_tables as made
import pandas as pd
import pytest
from big_vision_tables import AVERAGED, NEW, SHIFTED

from experiments.analysis.claims import big_vision
from experiments.analysis.claims.evidence import Evidence, NotRun
from experiments.store import UserError

RECALLS = {("test", f"{way}_recall{k}"): 0.0 for way in ("i2t", "t2i") for k in (1, 10)}
ZERO_SHOT = {("test", "zero_shot_top1"): 12.0}


def stages(root: Path, gain: float = 2.0, peak: int = 1) -> Evidence:
    results = root / "results"
    made.pretrained(results, peak)
    made.write(results, "finetune_proxy", "tuning", made.fine_tuned(gain), SHIFTED, AVERAGED)
    return Evidence(root)


def test_without_studies_every_check_waits(tmp_path: Path) -> None:
    for check in big_vision.CHECKS.values():
        with pytest.raises(NotRun):
            check(Evidence(tmp_path))
    assert not set(big_vision.CHECKS) & set(big_vision.OTHER_QUESTION)


@pytest.mark.parametrize("gain, verdict", [(2.0, "supported"), (-2.0, "contradicted")])
def test_what_stays_of_the_pretraining(tmp_path: Path, gain: float, verdict: str) -> None:
    evidence = stages(tmp_path, gain)
    for name in ("C013", "C014", "C015", "C016"):
        found = big_vision.CHECKS[name](evidence)
        assert found.verdict == verdict and found.n == 5 and found.scale == "proxy"
        assert found.estimate == pytest.approx(gain, abs=0.2)
        assert found.note.startswith(f"raw weights {gain:+.0f}"[:-1])
    assert "all shifted sets" in big_vision.CHECKS["C014"](evidence).note
    equal = big_vision.CHECKS["C086"](evidence)
    assert equal.verdict == "inconclusive" and equal.estimate == pytest.approx(0, abs=1e-6)


def test_a_gain_that_is_larger_where_the_set_is_shifted(tmp_path: Path) -> None:
    evidence = stages(tmp_path)
    path = tmp_path / "results" / "studies" / "finetune_proxy" / "tuning" / "other_weights.csv"
    table = pd.read_csv(path)
    of_lion = table.run_id.str.contains("-lion-") & (table.split == "shifted")
    table.loc[of_lion, "value"] += 3.0 + 0.1 * (table[of_lion].index.to_numpy() % 2)
    table.to_csv(path, index=False)
    found = big_vision.CHECKS["C086"](evidence)
    assert found.verdict == "supported" and found.estimate == pytest.approx(3, abs=0.5)


def test_an_edge_of_the_pretraining_leaves_all_open(tmp_path: Path) -> None:
    found = big_vision.CHECKS["C016"](stages(tmp_path, peak=2))
    assert found.verdict == "inconclusive"
    assert "adamw and lion on the edge of the pre-training's grid" in found.note


def test_fresh_seeds_decide_and_must_be_those_of_the_picks(tmp_path: Path) -> None:
    evidence = stages(tmp_path)
    rows = made.fine_tuned(gain=-2.0, seeds=NEW, lrs=(0.1,))
    folder = made.write(tmp_path / "results", "finetune_proxy", "fresh", rows, SHIFTED, AVERAGED)
    found = big_vision.CHECKS["C016"](evidence)
    assert found.verdict == "contradicted" and found.n == 10
    others = made.fine_tuned(seeds=NEW, lrs=(0.3,))
    pd.DataFrame(others).to_csv(folder / "runs.csv", index=False)
    with pytest.raises(UserError, match="another setting than the tuning picks"):
        big_vision.CHECKS["C016"](Evidence(tmp_path))


def test_zero_shot_against_each_baseline(tmp_path: Path) -> None:
    tops = {"adamw": 30.0, "lion": 32.0, "adafactor": 35.0}
    made.image_texts(tmp_path / "results", ZERO_SHOT, **tops)
    found = {name: big_vision.CHECKS[name](Evidence(tmp_path)) for name in ("C017", "C019")}
    assert found["C017"].verdict == "contradicted" and found["C019"].verdict == "supported"
    assert found["C017"].estimate == pytest.approx(-3, abs=0.2)
    with pytest.raises(NotRun):
        big_vision.CHECKS["C020"](Evidence(tmp_path))


@pytest.mark.parametrize("at_ten, verdict", [(0.5, "supported"), (1.5, "contradicted")])
def test_a_gain_that_is_larger_at_rank_1(tmp_path: Path, at_ten: float, verdict: str) -> None:
    made.image_texts(tmp_path / "results", RECALLS, adamw=30.0, lion=32.0)
    path = tmp_path / "results" / "studies" / "lit_proxy" / "fresh" / "curves.csv"
    table = pd.read_csv(path)
    chosen = table.run_id.str.contains("-lion-") & table.metric.str.endswith("recall10")
    more = 2 * (at_ten - 1) + 0.3 * (pd.Series(range(len(table))) % 3)
    table.loc[chosen, "value"] += more[chosen]
    table.to_csv(path, index=False)
    assert big_vision.CHECKS["C020"](Evidence(tmp_path)).verdict == verdict
