"""Two tuned optimizers on fresh seeds, by hand: which runs tell, their numbers, their steps."""

from __future__ import annotations

import math

import known_truth
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.analysis.confirmed import corrected, judged, wide_p
from experiments.analysis.text_confirmed import of_all
from experiments.analysis.tuned import caption, differences, title, tuned

SEEDS = range(100, 110)


def tuning(seeds: range = range(3), best: float = 1e-2, **more: float) -> pd.DataFrame:
    """Three rates each; what the tuning itself measures on the test set is far from the truth."""
    rows = [
        known_truth.run(name, seed, 90 - abs(math.log10(lr / best)) + 0.1 * seed,
                        30.0 * (name == "adamw") + 0.1 * seed, lr=lr, **more)
        for name in ("lion", "adamw") for lr in (1e-3, 1e-2, 1e-1) for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows)


def fresh(lion: float, spread: float = 1.0, **more: float) -> pd.DataFrame:
    """Lion's seeds lie apart by `spread` times the distances of AdamW's."""
    away = np.random.default_rng(0).normal(size=(2, len(SEEDS)))
    values = {"adamw": 90 + away[0], "lion": lion + spread * away[1]}
    rows = [
        known_truth.run(name, seed, 0.0, value, lr=1e-2, **more)
        for name, of_seeds in values.items()
        for seed, value in zip(SEEDS, of_seeds, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_numbers_are_those_of_the_fresh_seeds_by_hand() -> None:
    ran = fresh(93.0, spread=0.2)
    found = judged(tuning(), ran, "lion", "adamw")
    wide = ran.pivot(index="seed", columns="optimizer", values="test")
    test = stats.ttest_rel(wide.lion, wide.adamw)
    assert found["p_holm"] == pytest.approx(test.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert found["ours_error"] == pytest.approx(wide.lion.sem())
    assert found["theirs_error"] == pytest.approx(wide.adamw.sem())
    one_run = (wide.lion.var() + wide.adamw.var()) / 2
    error = math.sqrt((wide.lion - wide.adamw).var() / 10 + 0.9**2 * one_run)
    assert (found["wide_high"] - found["wide_low"]) / 2 == pytest.approx(2.262157 * error)
    assert (found["verdict"], found["holds"], found["seeds"]) == ("better", True, "fresh")
    falling = {"metric": "loss", "better": "lower", "unit": "nats"}
    lower = judged(tuning().assign(val=-tuning().val, **falling), ran.assign(**falling),
                   "lion", "adamw")  # fmt: skip
    assert (lower["verdict"], lower["holds"]) == ("worse", True)


def test_which_runs_tell() -> None:
    """Without fresh ones the tuning runs, of three seeds or more; with them never those."""
    assert judged(tuning(), None, "lion", "adamw")["difference"] == pytest.approx(-30.0)
    assert judged(tuning(), None, "lion", "adamw")["seeds"] == "left out"
    assert judged(tuning(range(2)), None, "lion", "adamw")["verdict"] == "not run"
    alone = fresh(93.0).query("optimizer == 'adamw'")
    assert judged(tuning(), alone, "lion", "adamw")["verdict"] == "not run"
    lost = tuning()
    lost.loc[lost.lr == 1e-1, "state"] = "diverged"
    assert judged(lost, None, "lion", "adamw")["n"] == 3, "a setting that diverged is not picked"
    edge = judged(tuning(best=1e-1), fresh(93.0).assign(lr=1e-1), "lion", "adamw")
    assert (edge["verdict"], edge["edges"], edge["holds"]) == ("not tuned", "adamw, lion", True)
    more = judged(tuning(), fresh(93.0), "lion", "adamw", more_edges=("lion",))
    assert (more["verdict"], more["edges"]) == ("not tuned", "lion")


def test_of_two_seeds_that_settings_share_none_is_left_out() -> None:
    """However many seeds the table has: the runs would report what they have picked."""
    whole = tuning(range(4))
    few = whole[(whole.optimizer == "adamw") | (whole.lr == 1e-3) | (whole.seed < 2)]
    found = judged(few, None, "lion", "adamw")
    assert (found["verdict"], found["seeds"], found["n"]) == ("not run", "", 0)
    assert math.isnan(found["difference"])
    three = whole[(whole.optimizer == "adamw") | (whole.lr == 1e-3) | (whole.seed < 3)]
    assert judged(three, None, "lion", "adamw")["seeds"] == "left out"


def test_equal_differences_are_as_sure_as_the_steps_of_their_column() -> None:
    """test: of 200 examples; other: of a number that n does not tell, in steps of 0.25."""
    ran = fresh(0.0).assign(n=200, unit="%", metric="top1", better="higher")
    place = ran.groupby("optimizer").cumcount()
    gain = 0.5 * (ran.optimizer == "lion")
    ran = ran.assign(test=80.0 + place + gain, other=70 + 0.25 * place + gain)
    for column, own_n, step in (("test", False, 0.5), ("other", False, 0.5), ("other", True, 0.25)):
        found = judged(tuning(), ran, "lion", "adamw", column, has_own_n=own_n)
        reach = 2.262157 * step / math.sqrt(2) / math.sqrt(10)
        assert found["high"] - found["difference"] == pytest.approx(reach), (column, own_n)


def test_a_correction_takes_the_verdict_and_leaves_what_was_not_judged() -> None:
    rows = [
        {"verdict": verdict, "p_holm": p, "holds": True}
        for verdict, p in (
            ("better", 0.03), ("worse", 0.001), ("inconclusive", 0.2), ("not tuned", 1e-9)
        )
    ]  # fmt: skip
    found = corrected(pd.DataFrame(rows))
    assert found.p_holm.tolist() == pytest.approx([0.06, 0.003, 0.2, 1e-9])
    assert found.verdict.tolist() == ["inconclusive", "worse", "inconclusive", "not tuned"]
    assert found.holds.tolist() == [False, True, False, False]


def test_the_wide_intervals_are_corrected_in_words() -> None:
    """By hand: of two p 0.02 and 0.04 both stay; with a third question neither does."""
    reach = stats.t.ppf(0.975, 9)
    rows = [
        {"name": name, "difference": float(stats.t.isf(p / 2, 9)), "verdict": verdict, "n": 10,
         "holds": verdict == "better"}
        for name, verdict, p in (
            ("a", "better", 0.02), ("b", "better", 0.04), ("edge", "not tuned", 1e-9),
            ("c", "inconclusive", 0.6),
        )
    ]  # fmt: skip
    found = pd.DataFrame(rows)
    found = found.assign(wide_low=found.difference - reach, wide_high=found.difference + reach)
    assert wide_p(found[:3]).tolist() == pytest.approx([0.04, 0.04, math.nan], nan_ok=True)
    assert wide_p(found).tolist() == pytest.approx([0.06, 0.08, math.nan, 0.6], nan_ok=True)
    assert of_all(found[:3], lambda row: row.name).endswith("(Holm) they would show the same.")
    assert of_all(found, lambda row: row.name).endswith("would show 0 of 2, without a, b.")
    assert of_all(found[:1], lambda row: row.name) == "" == of_all(found[2:], str)


def test_arms_of_a_study_and_their_differences_corrected_over_them() -> None:
    """p 0.037 is shown alone and not as one of two; an edge stays one."""
    gains = {64: (0.2, 0.15, 0.9, 0.9, 0.3, 0.12), 128: (0.12, 0.9, 0.2, 0.15, 0.9, 0.3)}
    rows = [
        known_truth.run(name, seed, 90.0, 90.0 + seed + (gain if name == "lion" else 0.0),
                        batch_size=size, weight_decay=math.nan)
        for size, of_seeds in gains.items() for seed, gain in enumerate(of_seeds)
        for name in ("lion", "adamw")
    ]  # fmt: skip
    more = [row | {"lr": 7.0, "val": 10.0, "batch_size": 128} for row in rows[-12:]]
    more[0] |= {"state": "diverged"}
    table = differences(pd.DataFrame(rows), "batch_size").set_index("batch_size")
    p = stats.ttest_1samp(gains[64], 0).pvalue
    assert table.p_holm.tolist() == pytest.approx([2 * p, 2 * p])
    assert set(table.verdict) == {"inconclusive"}
    alone = differences(pd.DataFrame(rows).query("batch_size == 64"), "batch_size")
    assert alone.p_holm.item() == pytest.approx(p) and alone.verdict.item() == "better"
    edged = differences(pd.DataFrame(rows + more), "batch_size").set_index("batch_size")
    assert edged.verdict[128] == "not tuned"
    arms = tuned(pd.DataFrame(rows + more), ["optimizer", "batch_size", "weight_decay"])
    arms = arms.set_index(["optimizer", "batch_size"])
    assert arms.num_settings.to_dict() == {
        (name, size): 1 + (size == 128) for name in ("lion", "adamw") for size in gains
    }
    assert arms.num_diverged["lion", 128] == 1 and arms.num_diverged.sum() == 1
    assert arms.tuned["lion", 128] == "learning rate" and arms.tuned["lion", 64] == ""
    assert arms.test_mean["lion", 64] - arms.test_mean["adamw", 64] == pytest.approx(
        np.mean(gains[64])
    )


def test_a_caption_says_seeds_settings_edges_and_what_was_lost() -> None:
    arms = pd.DataFrame({
        "optimizer": ["lion", "adamw", "lion", "sgd"], "n": [5, 3, 5, 0],
        "num_settings": [9, 9, 12, 12], "tuned": ["learning rate", "", "learning rate", ""],
        "on_edge": [True, False, True, False],
    })  # fmt: skip
    assert caption(arms) == (
        "Ours: a proxy, no result of the paper's model; its own axis. Validation picks one of 9 to "
        "12 settings (learning rate), the test set reports it: mean and standard error over n = 3 "
        "to 5 seeds. On the edge of its grid, so not tuned (hollow): Lion. No setting finished "
        "with every seed: SGD."
    )
    named = arms[:2].assign(arm=["Lion at 64", "AdamW at 64"], n=5, num_settings=9)
    assert "one of 9 settings (learning rate)" in caption(named)
    assert caption(named).endswith("over n = 5 seeds. On the edge of its grid, so not tuned "
                                   "(hollow): Lion at 64.")  # fmt: skip
    lost = named.assign(n=0, on_edge=False)
    assert "over n = 0 seeds. No setting finished with every seed: Lion at 64" in caption(lost)
    alone = named.assign(num_settings=1, on_edge=False)
    assert "One setting each, tested: mean" in caption(alone) and "edge" not in caption(alone)


def test_a_heading_says_model_and_data_where_the_table_does() -> None:
    runs = pd.DataFrame([known_truth.run("lion", 0, 90.0, experiment="fashion")])
    assert title(runs) == "Ours, proxy: fashion (39,322 parameters, digits)"
    assert "80,586 parameters, 10,000 images" in title(runs.drop(columns="data"))
    known = runs.drop(columns="num_params").assign(experiment="my_own")
    assert title(known) == "Ours, proxy: my_own (model and data not recorded)"
