"""Two stages and image-text training on proxies: right values, and nothing of what was not run."""

from __future__ import annotations

import math
from pathlib import Path

import big_vision_tables as made
import pandas as pd
import pytest
from big_vision_tables import AVERAGED, NEW, SEEDS, SHIFTED

from experiments.analysis import big_vision, confirmed, text_big_vision


def test_nothing_is_said_of_studies_that_are_not_there(tmp_path: Path) -> None:
    for made_of in (big_vision.two_stage, big_vision.contrastive, big_vision.batch_series):
        assert made_of(tmp_path).empty
    assert big_vision.pretraining(tmp_path).empty
    assert big_vision.reported(tmp_path, "lit_proxy", big_vision.CONTRASTIVE) == {}


def test_a_gain_of_the_pretraining_is_found_by_each_measure(tmp_path: Path) -> None:
    made.pretrained(tmp_path)
    made.write(tmp_path, "finetune_proxy", "tuning", made.fine_tuned(), SHIFTED, AVERAGED)
    found = big_vision.two_stage(tmp_path).set_index("measure")
    assert list(found.index) == ["test", "shifted", "test, averaged", "shifted, averaged"]
    expected = 2 + sum(made.jitter("lion", s) - made.jitter("adamw", s) for s in SEEDS) / 5
    assert found.difference.to_numpy() == pytest.approx(expected)
    assert found.ours_mean["shifted"] == pytest.approx(found.ours_mean["test"] - 10)
    assert found.ours_mean["shifted, averaged"] == pytest.approx(found.ours_mean["test"] - 9)
    assert set(found.verdict) == {"better"} and set(found.n) == {5}
    assert set(found.seeds) == {"left out"} and set(found.edges) == {""}
    assert (found.wide_low < found.low).all() and (found.wide_high > found.high).all()
    first = big_vision.pretraining(tmp_path).iloc[0]
    assert first.difference == pytest.approx(expected) and first.verdict == "better"


def test_a_loss_is_one(tmp_path: Path) -> None:
    rows = made.fine_tuned(gain=-2.0)
    made.write(tmp_path, "finetune_proxy", "tuning", rows, SHIFTED, AVERAGED)
    assert set(big_vision.two_stage(tmp_path).verdict) == {"worse"}


def test_the_order_of_rows_says_nothing(tmp_path: Path) -> None:
    for name, turn in (("a", 1), ("b", -1)):
        rows = made.fine_tuned()[::turn]
        made.write(tmp_path / name, "finetune_proxy", "tuning", rows, SHIFTED, AVERAGED)
    one, two = (big_vision.two_stage(tmp_path / name) for name in "ab")
    pd.testing.assert_frame_equal(one, two)


def test_fresh_runs_decide_where_there_are_some(tmp_path: Path) -> None:
    rows = made.fine_tuned(gain=2.0)
    made.write(tmp_path, "finetune_proxy", "tuning", rows, SHIFTED, AVERAGED)
    fresh = made.fine_tuned(gain=0.0, seeds=NEW, lrs=(0.1,))
    made.write(tmp_path, "finetune_proxy", "fresh", fresh, SHIFTED, AVERAGED)
    found = big_vision.two_stage(tmp_path)
    assert set(found.verdict) == {"inconclusive"} and set(found.n) == {10}
    assert set(found.seeds) == {"fresh"} and found.difference.abs().max() < 0.2


@pytest.mark.parametrize("stage", ["pretrain_proxy", "finetune_proxy"])
def test_a_pick_on_an_edge_of_either_stage_is_not_tuned(tmp_path: Path, stage: str) -> None:
    made.pretrained(tmp_path, peak=0 if stage == "pretrain_proxy" else 1)
    rows = made.fine_tuned()
    if stage == "finetune_proxy":
        rows = [r for r in rows if r["lr"] > 0.05 or r["init_optimizer"] == "adamw"]
    made.write(tmp_path, "finetune_proxy", "tuning", rows, SHIFTED, AVERAGED)
    found = big_vision.two_stage(tmp_path)
    assert set(found.verdict) == {"not tuned"}
    assert set(found.edges) == {"adamw, lion" if stage == "pretrain_proxy" else "lion"}
    assert found.difference.notna().all()


def test_averaged_weights_that_nobody_collected_have_no_numbers(tmp_path: Path) -> None:
    made.write(tmp_path, "finetune_proxy", "tuning", made.fine_tuned(), SHIFTED)
    found = big_vision.two_stage(tmp_path).set_index("measure")
    assert found.verdict["shifted"] == "better" and found.verdict["test, averaged"] == "not run"
    assert math.isnan(found.difference["test, averaged"])


def test_three_optimizers_by_retrieval_and_zero_shot(tmp_path: Path) -> None:
    made.image_texts(tmp_path, adamw=30.0, lion=32.0, adafactor=35.0)
    found = big_vision.contrastive(tmp_path)
    assert list(found.measure) == [m.column for m in big_vision.CONTRASTIVE for _ in range(2)]
    assert list(found.theirs) == ["adamw", "adafactor"] * 3
    assert list(found.verdict) == ["better", "worse"] * 3
    assert set(found.n) == {10} and set(found.seeds) == {"fresh"}
    zero_shot = found[found.measure == "zero-shot"].iloc[0]
    assert zero_shot.ours_mean == pytest.approx(found.ours_mean.iloc[0] + 12)
    values = big_vision.reported(tmp_path, "lit_proxy", big_vision.CONTRASTIVE)
    assert sorted(values) == ["adafactor", "adamw", "lion"]
    assert values["lion"]["zero-shot"].mean() == pytest.approx(zero_shot.ours_mean)


def test_a_diverged_fresh_run_is_no_comparison_and_a_lost_seed_one_less(tmp_path: Path) -> None:
    made.image_texts(tmp_path, adamw=30.0, lion=32.0, adafactor=35.0)
    path = tmp_path / "studies" / "lit_proxy" / "fresh" / "runs.csv"
    table = pd.read_csv(path)
    lost = (table.optimizer == "adamw") & (table.seed == 103)
    table[~lost].to_csv(path, index=False)
    found = big_vision.contrastive(tmp_path).set_index(["measure", "theirs"])
    assert found.n["test", "adamw"] == 9 and found.n["test", "adafactor"] == 10
    table.loc[lost, "state"] = "diverged"
    table.loc[lost, ["val", "test"]] = float("nan")
    table.to_csv(path, index=False)
    found = big_vision.contrastive(tmp_path).set_index(["measure", "theirs"])
    assert found.verdict["zero-shot", "adamw"] == "diverged"
    assert found.verdict["zero-shot", "adafactor"] == "worse"


def test_one_fresh_seed_bounds_nothing(tmp_path: Path) -> None:
    made.image_texts(tmp_path, adamw=30.0, lion=32.0, adafactor=35.0)
    path = tmp_path / "studies" / "lit_proxy" / "fresh" / "runs.csv"
    table = pd.read_csv(path)
    table[table.seed == 100].to_csv(path, index=False)
    found = big_vision.contrastive(tmp_path)
    assert set(found.n) == {1} and set(found.verdict) == {"inconclusive"}
    bounds = ["low", "high", "wide_low", "wide_high"]
    assert found[bounds].isna().all(axis=None) and found.difference.notna().all()


def test_the_correction_is_over_the_sizes_that_were_judged(tmp_path: Path) -> None:
    rows, fresh = [], []
    for size in (32, 64):
        tops = {"adamw": 30.0, "lion": 30.0 if size == 32 else 34.0}
        more = {"metric": "i2t_recall1", "n": 800, "batch_size": size, "steps": 6400 // size}
        rows += made.grid("lit_proxy", tops, range(1), **more)
        fresh += [
            made.image_text(name, seed, top + made.jitter(name, seed), **more)
            for name, top in tops.items() for seed in NEW if size == 64
        ]  # fmt: skip
    made.write(tmp_path, "lit_proxy", "batch_size", rows)
    assert set(big_vision.batch_series(tmp_path).verdict) == {"not run"}, "one tuning seed"
    made.write(tmp_path, "lit_proxy", "batch_size_fresh", fresh)
    found = big_vision.batch_series(tmp_path).set_index("batch_size")
    assert found.verdict.to_dict() == {32: "not run", 64: "better"}
    assert found.steps.to_dict() == {32: 200, 64: 100}


def test_holm_takes_a_verdict_back() -> None:
    rows = [
        {**dict.fromkeys(confirmed.COLUMNS), "p_holm": p, "verdict": "better", "holds": True}
        for p in (0.04, 0.03, 0.2)
    ]
    found = confirmed.corrected(pd.DataFrame(rows))
    assert list(found.verdict) == ["inconclusive"] * 3 and not found.holds.any()
    assert list(found.p_holm) == pytest.approx([0.09, 0.09, 0.2])


def test_the_text_has_the_numbers_and_what_stands_in_their_way(tmp_path: Path) -> None:
    for block in text_big_vision.BLOCKS.values():
        assert block(tmp_path) == "*(not run yet)*"
    made.pretrained(tmp_path, peak=0)
    made.write(tmp_path, "finetune_proxy", "tuning", made.fine_tuned(), SHIFTED)
    text = text_big_vision.two_stage(tmp_path)
    assert "| AdamW | 0.1 (edge) | 0.1 | 59." in text
    assert text.startswith(
        "| pre-training | lr | weight decay | validation % | fine-tuning: lr | v"
    )
    heads = (
        "Lion − AdamW, points [95 %, at the settings found] | with the luck of tuning | p (Holm) | "
        "verdict | n"
    )
    assert f"\n|  | AdamW, % | Lion, % | {heads} |\n" in text
    assert "| shifted test | 70." in text and "| +2.00 [" in text
    assert text.count("not tuned (AdamW, Lion on an edge)") == 3  # the pre-training, raw twice
    assert "| test, averaged weights | – | – | – | – | – | not tuned" not in text
    made.image_texts(tmp_path, adamw=30.0, lion=32.0, adafactor=35.0)
    text = text_big_vision.contrastive(tmp_path)
    assert "| Adafactor | 0.2 | 0.2 | 34.1" in text
    assert text.startswith("|  | lr | weight decay | validation, image to text, recall at 1, % |\n")
    assert (
        "\n|  | against | it, % | Lion, % | Lion − it, points [95 %, at the settings found] | "
        in text
    )
    assert "| zero-shot, ten scripts | Adafactor | 47." in text and "| −3.0" in text
    assert "Lion is behind" in text and "fresh seeds" in text and "over 6 comparisons" in text
