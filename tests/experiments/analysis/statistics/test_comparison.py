"""Validation picks, test reports; the statistics against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy import stats

from experiments import runner
from experiments.analysis.statistics.comparison import (
    choose,
    compare,
    compare_equals,
    final_results,
    has_loss,
    leave_one_out,
    paired_difference,
)
from experiments.headline import Headline
from experiments.store import SCHEMA
from experiments.table import read_runs


def result(
    optimizer: str, lr: float, seed: int, val: float, test: float, **more: Any
) -> dict[str, Any]:
    facts = {"optimizer": optimizer, "lr": lr, "weight_decay": 0.1, "seed": seed, "val": val}
    facts |= {"test": test, "state": "finished", "seconds": 2.0, "run_id": f"{optimizer}{lr}{seed}"}
    return facts | more


def grid(optimizer: str, cells: dict[float, list[tuple[float, float]]]) -> pd.DataFrame:
    """lr -> (val, test) of each seed."""
    rows = [
        result(optimizer, lr, seed, val, test)
        for lr, pairs in cells.items()
        for seed, (val, test) in enumerate(pairs)
    ]
    return pd.DataFrame(rows)


LION = grid(
    "lion",
    {
        1e-4: [(70.0, 99.0), (72.0, 99.0), (71.0, 99.0)],
        3e-4: [(80.0, 78.0), (82.0, 77.0), (81.0, 82.0)],
        1e-3: [(79.0, 95.0), (81.0, 96.0), (80.0, 97.0)],
    },
)


def test_validation_picks_and_test_only_reports() -> None:
    chosen = choose(LION, "lion")
    assert (chosen.lr, chosen.weight_decay) == (3e-4, 0.1)
    assert chosen.val_mean == pytest.approx(81.0)
    assert chosen.test_mean == pytest.approx(79.0)
    assert chosen.test_error == pytest.approx(math.sqrt(7.0 / 3))  # deviations -1, -2, 3
    assert (chosen.n, chosen.num_settings, chosen.num_diverged) == (3, 3, 0)
    assert chosen.seconds == 2.0


def test_the_mean_over_seeds_picks_and_not_the_luckiest_seed() -> None:
    table = grid("lion", {1.0: [(99.0, 0.0), (10.0, 0.0)], 2.0: [(60.0, 1.0), (60.0, 1.0)]})
    assert choose(table, "lion").lr == 2.0


def test_other_optimizers_do_not_matter() -> None:
    both = pd.concat([LION, grid("adamw", {3e-4: [(99.0, 1.0)] * 3, 5.0: [(98.0, 1.0)] * 3})])
    assert repr(choose(both, "lion")) == repr(choose(LION, "lion"))  # NaN is not equal to NaN
    assert choose(both, "adamw").val_mean == 99.0


@pytest.mark.parametrize(("best", "on_edge"), [(1e-4, True), (3e-4, False), (1e-3, True)])
def test_the_edge_of_the_grid_is_flagged(best: float, on_edge: bool) -> None:
    table = grid("lion", {lr: [(90.0 if lr == best else 50.0, 1.0)] for lr in (1e-4, 3e-4, 1e-3)})
    chosen = choose(table, "lion")
    assert (chosen.lr, chosen.on_edge) == (best, on_edge)


def test_a_single_setting_has_no_edge() -> None:
    assert not choose(grid("lion", {1.0: [(1.0, 1.0)]}), "lion").on_edge


@pytest.mark.parametrize("best", [0.01, 1.0])
def test_the_edge_in_weight_decay_is_flagged(best: float) -> None:
    rows = [
        result("lion", lr, 0, 90.0 if (lr, decay) == (2.0, best) else 50.0, 1.0, weight_decay=decay)
        for lr in (1.0, 2.0, 3.0)
        for decay in (0.01, 0.1, 1.0)
    ]
    chosen = choose(pd.DataFrame(rows), "lion")
    assert (chosen.lr, chosen.weight_decay) == (2.0, best)
    assert chosen.on_edge


def test_a_diverged_seed_rules_its_setting_out_and_is_counted() -> None:
    table = LION.copy()
    table.loc[(table.lr == 3e-4) & (table.seed == 1), ["val", "test"]] = math.nan
    table.loc[(table.lr == 3e-4) & (table.seed == 1), "state"] = "diverged"
    chosen = choose(table, "lion")
    assert chosen.lr == 1e-3
    assert (chosen.num_diverged, chosen.num_settings, chosen.n) == (1, 3, 3)
    left_out = leave_one_out(table, "lion")
    assert list(left_out.lr) == [1e-3] * 3, "nor does it win for the seed on which it diverged"
    assert left_out.test.notna().all(), "which would then fall out of the comparison unsaid"


def test_betas_are_part_of_a_setting_where_the_table_has_them() -> None:
    good, bad = LION.assign(beta1=0.9, beta2=0.99), LION.assign(beta1=0.9, beta2=0.9)
    bad = bad.assign(val=bad.val - 1, test=0.0)
    none = grid("sgd", {1.0: [(1.0, 7.0)] * 3}).assign(beta1=math.nan, beta2=math.nan)
    table = pd.concat([bad, good, none])
    chosen = choose(table, "lion")
    assert (chosen.lr, chosen.beta1, chosen.beta2) == (3e-4, 0.9, 0.99)
    assert (chosen.n, chosen.num_settings, chosen.test_mean) == (3, 6, pytest.approx(79.0))
    assert paired_difference(table, chosen, choose(table, "sgd")).mean == pytest.approx(72.0)
    with pytest.raises(ValueError, match="several runs of one setting"):
        choose(table.drop(columns=["beta1", "beta2"]), "lion")


def test_a_setting_without_every_seed_is_ruled_out() -> None:
    assert choose(LION[~((LION.lr == 3e-4) & (LION.seed == 2))], "lion").lr == 1e-3


def test_where_every_setting_has_diverged_somewhere_that_is_said() -> None:
    table = LION.assign(val=LION.val.where(LION.seed != 0))
    with pytest.raises(ValueError, match="lion: no setting has finished with every seed"):
        choose(table, "lion")


def test_one_seed_has_no_error_bar() -> None:
    chosen = choose(LION[LION.seed == 0], "lion")
    assert chosen.n == 1 and math.isnan(chosen.test_error)


def test_an_optimizer_without_weight_decay_can_be_chosen() -> None:
    """A configuration need not have the key; then the ledger's column is empty."""
    table = LION.assign(weight_decay=math.nan)
    assert choose(table, "lion").lr == 3e-4


# --- the paired difference ------------------------------------------------------------------------


def pair(ours: list[float], theirs: list[float]) -> tuple[pd.DataFrame, Any, Any]:
    tables = [
        grid(name, {1.0: [(9.0, test) for test in tests]})
        for name, tests in (("lion", ours), ("adamw", theirs))
    ]
    table = pd.concat(tables)
    return table, choose(table, "lion"), choose(table, "adamw")


def test_the_interval_is_students_over_the_paired_differences() -> None:
    ours, theirs = [80.0, 85.0, 83.0, 90.0], [79.5, 83.0, 82.0, 88.5]
    found = paired_difference(*pair(ours, theirs))
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    # By hand: differences 0.5, 2, 1, 1.5; s = sqrt(1.25 / 3); t(0.975, 3) = 3.182446.
    reach = 3.182446 * math.sqrt(1.25 / 3) / 2
    assert (found.mean, found.n) == (1.25, 4)
    assert found.high - found.mean == pytest.approx(reach, rel=1e-6)


def test_pairing_takes_out_what_a_seed_does_to_both() -> None:
    hard = np.array([0.0, 30.0, 60.0, 10.0, 20.0, 40.0])
    better = [1.0, 1.1, 0.9, 1.2, 0.8, 1.0]
    found = paired_difference(*pair(list(hard + better), list(hard)))
    assert found.verdict == "better" and found.correlation == pytest.approx(1.0, abs=1e-3)
    turned = [0.0, 61.0, 30.0, 21.0, 11.0, 41.0]
    assert paired_difference(*pair(turned, list(hard))).verdict == "inconclusive"


def test_seeds_are_paired_by_number_and_not_by_place() -> None:
    table, ours, theirs = pair([1.0, 2.0, 3.0], [0.5, 1.0, 4.0])
    turned = pd.concat([table[table.optimizer == "adamw"], table[table.optimizer == "lion"][::-1]])
    assert paired_difference(turned, ours, theirs) == paired_difference(table, ours, theirs)


def test_exchanging_the_two_turns_the_sign() -> None:
    table, ours, theirs = pair([80.0, 85.0, 83.0, 82.0], [70.0, 76.0, 72.0, 71.0])
    there, back = (paired_difference(table, *p) for p in ((ours, theirs), (theirs, ours)))
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert (there.verdict, back.verdict) == ("better", "worse")


def test_only_seeds_that_both_have_count() -> None:
    table, ours, theirs = pair([1.0, 2.0, 9.0], [0.0, 1.5, 100.0])
    less = table[~((table.optimizer == "adamw") & (table.seed == 2))]
    found = paired_difference(less, ours, theirs)
    assert (found.mean, found.n) == (0.75, 2)


def test_one_pair_shows_nothing() -> None:
    found = paired_difference(*pair([90.0], [10.0]))
    assert (found.mean, found.low, found.high, found.n) == (80.0, -math.inf, math.inf, 1)
    assert found.verdict == "inconclusive"


def test_other_settings_of_the_same_optimizer_stay_out() -> None:
    adamw = grid("adamw", {1.0: [(9.0, 50.0)] * 3})
    table = pd.concat([LION, adamw])
    found = paired_difference(table, choose(table, "lion"), choose(table, "adamw"))
    assert found.mean == pytest.approx(29.0)


# --- equals ---------------------------------------------------------------------------------------


def test_every_choice_among_equals_gives_its_difference() -> None:
    """Two settings of lion are equal on validation for every seed; on test one is 10 higher."""
    lion = grid(
        "lion",
        {lr: [(9.0, 50.0 + more + s) for s in range(4)] for lr, more in ((1.0, 0), (2.0, 10))},
    )
    adamw = grid("adamw", {1.0: [(9.0, 48.0 + s) for s in range(4)]})
    table = pd.concat([lion, adamw])
    found = [round(one.mean, 6) for one in compare_equals(table, "lion", "adamw")]
    assert found[0] == compare(table, "lion", "adamw").mean == 2.0
    assert sorted(found) == [2.0] + [4.5] * 4 + [7.0] * 6 + [9.5] * 4 + [12.0]
    less = table[(table.optimizer == "lion") | (table.seed < 3)]  # the last seed has no pair
    assert sorted(round(one.mean, 6) for one in compare_equals(less, "lion", "adamw")) == [
        pytest.approx(2 + 10 * k / 3, abs=1e-6) for k in (0, 1, 1, 1, 2, 2, 2, 3)
    ]
    back = [round(one.mean, 6) for one in compare_equals(table, "adamw", "lion")]
    assert sorted(back) == sorted(-mean for mean in found)
    clear = LION.replace({"lr": {1e-4: 5e-4}})
    alone = pd.concat([clear, grid("adamw", {1.0: [(9.0, 48.0)] * 3})])
    (only,) = compare_equals(alone, "lion", "adamw")
    assert repr(only) == repr(compare(alone, "lion", "adamw"))


def test_the_loss_is_looked_at_beside_another_number_only() -> None:
    table = LION.assign(test_loss=[math.nan] * 8 + [0.5])
    assert has_loss(table) and not has_loss(LION) and not has_loss(table.assign(test_loss=math.nan))
    assert not has_loss(table.assign(**Headline("loss", "lower", "nats").columns()))


# --- from the ledger ------------------------------------------------------------------------------


def test_the_last_step_of_the_raw_weights_counts(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, train__epochs=3.0)
    outcome = runner.run(config)
    (row,) = final_results(read_runs(tmp_path)).to_dict("records")
    last = {r["split"]: r["value"] for r in outcome.results
            if (r["metric"], r["weights"]) == ("top1", "raw")}  # fmt: skip
    assert {split: row[split] for split in ("val", "test")} == last
    assert (row["run_id"], row["state"], row["lr"]) == (outcome.run_id, "finished", 3e-3)
    rows = read_runs(tmp_path)
    assert row["seconds"] == rows.seconds.max() > 0


def ledger(*rows: dict[str, Any]) -> pd.DataFrame:
    plain = {"optimizer": "lion", "weight_decay": 0.1, "metric": "top1", "weights": "raw"}
    plain |= {"seconds": 1.0, "state": "finished", "seed": 0, "lr": 1.0}
    return pd.DataFrame([plain | row for row in rows]).reindex(columns=list(SCHEMA))


def test_averaged_weights_other_metrics_and_unfinished_runs_stay_out() -> None:
    val: dict[str, Any] = {"run_id": "a", "split": "val", "step": 5}
    table = ledger(
        {**val, "value": 40.0, "step": 4, "seconds": 0.5},
        {**val, "value": 50.0},
        {**val, "value": 99.0, "weights": "ema"},
        {**val, "value": 0.3, "metric": "loss", "seconds": 3.0},
        {**val, "value": 60.0, "split": "test"},
        {**val, "value": 1.0, "run_id": "b", "state": "interrupted"},
        {**val, "value": 2.0, "run_id": "c", "state": "diverged", "step": 3},
    )
    found = final_results(table).set_index("run_id")
    assert sorted(found.index) == ["a", "c"]
    assert (found.val["a"], found.test["a"], found.seconds["a"]) == (50.0, 60.0, 3.0)
    assert math.isnan(found.val["c"]) and found.state["c"] == "diverged"


def test_where_every_run_has_diverged_that_is_said() -> None:
    rows = [{"run_id": f"r{seed}", "split": "train", "metric": "loss", "step": 3, "seed": seed,
             "value": math.nan, "state": "diverged"} for seed in range(3)]  # fmt: skip
    with pytest.raises(ValueError, match="no setting has finished"):
        choose(final_results(ledger(*rows)), "lion")
