"""By what factor best settings differ, on grids whose tops are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from experiments.analysis.statistics.best_settings import WIDER, fitted_ratios
from experiments.headline import Headline
from experiments.store import UserError

LRS = np.arange(-4.0, -2.0, 0.3)
DECAYS = np.arange(-2.0, 1.1, 0.5)
TOPS = {"adamw": (-2.6, -0.9), "lion": (-3.3, 0.1)}
NAMES = ("adamw", "lion")
TRUTH = {"lr": 10**0.7, "weight_decay": 0.1, "effective_decay": 10**-0.3}


def study(noise: float = 0.0, seeds: int = 1, lrs=LRS, decays=DECAYS, tops=TOPS) -> pd.DataFrame:
    """Bowls that fall by 15 points a decade^2 in lr, and by 3 in weight decay."""
    rows, generator = [], np.random.default_rng(5)
    for name, (at_lr, at_decay) in tops.items():
        for u in lrs:
            for v in decays:
                fall = 15 * (u - at_lr) ** 2 + 3 * (v - at_decay) ** 2
                values = 90 - fall + noise * generator.normal(size=seeds)
                setting = {"optimizer": name, "lr": 10**u, "weight_decay": 10**v}
                rows += [setting | {"seed": s, "val": x} for s, x in enumerate(values)]
    return pd.DataFrame(rows).assign(state="finished")


def test_tops_between_the_cells_are_found() -> None:
    for column, ratio in fitted_ratios(study()).items():
        assert not ratio.reason
        assert ratio.estimate == pytest.approx(TRUTH[column], rel=0.2), column  # 32nds of a grid
        assert ratio.low < ratio.estimate < ratio.high


def test_the_other_way_round_and_losses() -> None:
    table = study(noise=1.0, seeds=3)
    found = fitted_ratios(table)["lr"]
    turned = fitted_ratios(table, "lion", "adamw")["lr"]
    assert turned.estimate == pytest.approx(1 / found.estimate)
    assert turned.low == pytest.approx(1 / found.high, rel=0.15)  # other draws
    nats = Headline("loss", "lower", "nats").columns()
    losses = table.assign(val=-0.01 * table.val, **nats)
    again = fitted_ratios(losses)["lr"]
    assert (again.estimate, again.low) == pytest.approx((found.estimate, found.low))


def test_more_seeds_say_more_and_noise_less() -> None:
    def width(**how: float) -> float:
        found = fitted_ratios(study(**how))["lr"]  # type: ignore[arg-type]
        return math.log10(found.high / found.low)

    assert width(noise=1.0, seeds=9) < width(noise=1.0) < width(noise=3.0)


def width_of(table: pd.DataFrame, over: str = "adamw", under: str = "lion") -> float:
    """Decades."""
    found = fitted_ratios(table, over, under)["lr"]
    return math.log10(found.high / found.low)


def test_the_luck_of_both_is_in_the_interval_and_theirs_are_not_the_same() -> None:
    """Of two optimizers of the same runs the ratio is 1, give or take both, and a bias beside."""
    table = study(noise=3.0, tops={"adamw": TOPS["adamw"]})
    twins = pd.concat([table, table.assign(optimizer="lion")])
    assert width_of(twins) > 2 * WIDER["lr"] + 0.25
    quiet = study(noise=0.3, tops={"adamw": TOPS["adamw"]}).assign(optimizer="lion")
    widths = [width_of(pd.concat([table, quiet]), *names) for names in (NAMES, NAMES[::-1])]
    assert widths[0] == pytest.approx(widths[1], rel=0.15)
    assert width_of(pd.concat([quiet, quiet.assign(optimizer="adamw")])) > 2 * WIDER["lr"]


def test_where_no_top_is_known_the_reason_is_said() -> None:
    beyond = {**TOPS, "lion": (-4.6, 0.1)}
    assert fitted_ratios(study(tops=beyond))["lr"].reason == "edge"
    found = fitted_ratios(study(lrs=LRS[2:5]))
    assert found["lr"].reason == "few values" and math.isnan(found["lr"].estimate)
    assert found["effective_decay"].reason == "few values"
    alone = fitted_ratios(study(decays=[0.0]))
    assert alone["weight_decay"].reason == "one value" and not alone["lr"].reason
    table = study(noise=1.0)
    level = table.assign(val=table.groupby(["optimizer", "lr"]).val.transform("mean"))
    level["val"] += np.random.default_rng(0).normal(size=len(level))
    assert fitted_ratios(level)["weight_decay"].reason == "flat"


def test_cells_without_weight_decay_and_diverged_runs_take_no_part() -> None:
    table = study(noise=1.0, seeds=2)
    none = table[table.weight_decay == table.weight_decay.min()].assign(weight_decay=0.0, val=200.0)
    lost = table[table.lr == table.lr.max()].assign(lr=1.0, val=math.nan, state="diverged")
    lost.loc[lost.seed == 1, "val"] = 200.0  # the last number before it diverged
    found = fitted_ratios(pd.concat([table, none, lost]))
    expected = fitted_ratios(table)
    for column, ratio in expected.items():
        got = found[column]
        assert (got.estimate, got.low) == pytest.approx((ratio.estimate, ratio.low)), column
    without = table[table.weight_decay == table.weight_decay.min()].assign(weight_decay=math.nan)
    assert fitted_ratios(without)["weight_decay"].reason == "one value"


def test_what_cannot_be_answered_is_said() -> None:
    table = study()
    with pytest.raises(UserError, match="no runs of sgd in this table; it has adamw, lion"):
        fitted_ratios(table, "sgd")
    with pytest.raises(UserError, match="several runs of one cell"):
        fitted_ratios(pd.concat([table, table.assign(batch_size=128)]))
