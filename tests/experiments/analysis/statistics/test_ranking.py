"""Many optimizers against one."""

from __future__ import annotations

import known_truth
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.analysis.statistics.comparison import choose
from experiments.analysis.statistics.ranking import rank

MEANS = {"lion": 95.0, "adamw": 94.0, "radam": 94.95, "sgd": 96.0}


def test_the_table_ranks_by_test_and_judges_by_holm() -> None:
    study = pd.DataFrame(known_truth.arms(MEANS, seeds=range(6)))
    table = rank(study, "lion").set_index("optimizer")
    assert list(table.index) == ["sgd", "lion", "radam", "adamw"] or table.index[0] == "sgd"
    assert table.verdict.to_dict() == {
        "sgd": "worse", "lion": "reference", "radam": "inconclusive", "adamw": "better",
    }  # fmt: skip
    by_seed = study.pivot(index="seed", columns="optimizer", values="test")
    for other in ("sgd", "radam", "adamw"):
        expected = stats.ttest_rel(by_seed.lion, by_seed[other])
        assert table.p_t[other] == pytest.approx(expected.pvalue)
        assert table.p_t[other] <= table.p_holm[other] <= 3 * table.p_t[other] + 1e-12
        assert table.p_exact[other] == pytest.approx(2 / 2**6) or other == "radam"
        interval = expected.confidence_interval()
        assert (table.low[other], table.high[other]) == pytest.approx(tuple(interval))
        assert table.num_pairs[other] == 6
    rising = table.p_t.drop("lion").sort_values()
    holm = np.maximum.accumulate(rising.to_numpy() * [3, 2, 1])
    assert table.p_holm[rising.index].tolist() == pytest.approx(np.minimum(holm, 1).tolist())


def test_asking_many_times_costs() -> None:
    """A difference that is shown alone, with p 0.023, is not shown as one of four."""
    pairs = {
        "lion": [95.4, 95.6, 95.2, 95.1, 95.9, 95.2],
        "adamw": [95.0, 95.3, 95.0, 95.0, 95.2, 95.1],
    }
    alone = pd.DataFrame(
        [
            known_truth.run(name, s, v)
            for name, values in pairs.items()
            for s, v in enumerate(values)
        ]
    )
    assert rank(alone, "lion").set_index("optimizer").verdict["adamw"] == "better"
    equal = {f"other{k}": 95.0 for k in range(3)}
    crowd = pd.concat([alone, pd.DataFrame(known_truth.arms(equal, noise=3.0, seeds=range(6)))])
    found = rank(crowd, "lion").set_index("optimizer")
    assert found.p_t["adamw"] < 0.05 < found.p_holm["adamw"] < 0.1
    assert found.verdict["adamw"] == "inconclusive"


def test_every_optimizer_is_tuned_on_validation_first() -> None:
    good = known_truth.arms({"lion": 95.0, "adamw": 94.0})
    bad = [row | {"lr": 7.0, "val": 10.0, "test": 99.0, "run_id": row["run_id"] + "x"}
           for row in good]  # fmt: skip
    study = pd.DataFrame(good + bad)
    table = rank(study, "lion").set_index("optimizer")
    assert table.lr.to_dict() == {"lion": 1e-3, "adamw": 1e-3}
    assert table.num_settings.to_dict() == {"lion": 2, "adamw": 2}


def test_an_edge_stays_one_and_the_loss_is_corrected_like_the_headline() -> None:
    rows = known_truth.arms({"lion": 95.0, "adamw": 94.0, "radam": 94.95, "sgd": 95.0})
    worse = [row | {"lr": 7.0, "val": 10.0, "run_id": row["run_id"] + "x"} for row in rows[-6:]]
    study = pd.DataFrame(rows + worse)  # of two rates either is an edge
    study["test_loss"] = 5 - study.test / 25
    table = rank(study, "lion").set_index("optimizer")
    for prefix in ("", "loss_"):
        verdicts = {"adamw": "better", "radam": "inconclusive", "sgd": "not tuned"}
        assert table[f"{prefix}verdict"].dropna().to_dict() == verdicts | (
            {} if prefix else {"lion": "reference"}
        )
    assert table.loss_p_holm.tolist() == pytest.approx(table.p_holm.tolist(), nan_ok=True)
    assert table.loss_difference.tolist() == pytest.approx(
        (-table.difference / 25).tolist(), nan_ok=True
    )


def test_a_missing_reference_is_said() -> None:
    with pytest.raises(ValueError, match="no runs of lion; there are adamw"):
        rank(pd.DataFrame(known_truth.arms({"adamw": 1.0})), "lion")


def test_mixed_tables_are_refused() -> None:
    rows = known_truth.arms({"lion": 95.0})
    with pytest.raises(ValueError, match="one batch size and model"):
        choose(pd.DataFrame(rows + [row | {"batch_size": 128} for row in rows]), "lion")
