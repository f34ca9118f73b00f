"""By what factor best settings differ, from studies: which parts, which betas, and how it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import known_truth
import numpy as np
import pandas as pd
import pytest

from experiments.analysis import best_ratios, text_best_ratios
from experiments.analysis.sources import study
from experiments.analysis.statistics.best_settings import fitted_ratios


def cells(kind: str, slopes: dict[str, dict[str, float]], noise: float = 0.0) -> pd.DataFrame:
    """A ratio of 8 where all is 1, times a factor for each doubling, by family."""
    generator, rows = np.random.default_rng(0), []
    for family, factors in slopes.items():
        for noisy in (0.0, 0.4):  # another height, the same slope
            for batch in (1, 4, 16):
                for steps in (100, 400, 1600) if kind == "parted" else (160_000 // batch,):
                    power = {"batch_size": np.log2(batch), "steps": np.log2(steps / 100)}
                    ratio = (8 + 4 * noisy) * np.exp(noise * generator.normal())
                    for name, factor in factors.items():
                        ratio *= factor ** power[name]
                    row = {"kind": kind, "experiment": family, "study": "s", "label_noise": noisy}
                    rows.append(row | {"batch_size": batch, "steps": steps, "lr_estimate": ratio})
    return pd.DataFrame(rows)


def test_the_slope_is_the_mean_of_the_families() -> None:
    factors = {"a": 0.5, "b": 1.0, "c": 2.0}
    slopes = {family: {"batch_size": factor} for family, factor in factors.items()}
    found = best_ratios.trends(cells("batch", slopes))
    (name,) = found
    one = found[name]
    assert name == "batch_size" and one.of_families == pytest.approx(factors)
    # By hand: slopes -1, 0, 1; standard error 1 / sqrt(3), t(0.975, 2) = 4.3027.
    reach = 2 ** (4.3027 / 3**0.5)
    assert (one.factor, one.low, one.high) == pytest.approx((1.0, 1 / reach, reach), rel=1e-3)


def test_batch_and_steps_are_told_apart() -> None:
    factors = {"batch_size": 0.8, "steps": 1.3}
    table = cells("parted", {"a": factors, "b": factors}, noise=0.01)
    table.loc[3, "lr_estimate"] = np.nan  # an edge
    found = best_ratios.trends(table, "parted")
    assert {name: one.factor for name, one in found.items()} == pytest.approx(factors, rel=0.02)


def test_a_factor_keeps_its_side_of_one() -> None:
    assert str(best_ratios.Trend(0.82, 0.76, 0.884, {})) == "0.82 [0.76, 0.88]"
    assert str(best_ratios.Trend(0.9, 0.81, 0.9996, {})) == "0.9000 [0.8100, 0.9996]"
    assert str(best_ratios.Trend(1.0, 1.0, 1.0, {})) == "1.00000000 [1.00000000, 1.00000000]"


def test_one_family_or_two_sizes_have_no_slope() -> None:
    table = cells("batch", {"a": {"batch_size": 0.5}, "b": {"batch_size": 0.5}})
    assert best_ratios.trends(table[table.experiment == "a"]) == {}
    assert best_ratios.trends(table[table.batch_size < 16]) == {}
    assert best_ratios.trends(table.assign(kind="tuned")) == {}


def test_parts_of_a_study_and_the_betas_that_were_picked(tmp_path: Path) -> None:
    """AdamW is better with its second pair of betas, whose best lr is another."""

    def runs(batch: int, lion_lr: float) -> list[dict[str, Any]]:
        first = known_truth.grid("adamw", 3e-3, 0.1, slope=2.0, top=80.0)
        second = known_truth.grid("adamw", 1e-2, 0.1, slope=2.0, top=95.0)
        ours = known_truth.grid("lion", lion_lr, 1.0, slope=2.0)
        facts = {"experiment": "lit_proxy", "batch_size": batch}
        return [
            *({**row, **facts, "beta2": 0.95} for row in first),
            *({**row, **facts} for row in [*second, *ours]),
        ]

    folder = tmp_path / "studies/lit_proxy/batch_size"
    folder.mkdir(parents=True)
    table = pd.DataFrame([*runs(64, 1e-3), *runs(512, 3e-3)])
    table["run_id"] = [f"lit_proxy-{number}" for number in range(len(table))]
    table.to_csv(folder / "runs.csv", index=False)
    found = best_ratios.table(tmp_path)
    assert list(found.batch_size) == [64, 512] and set(found.kind) == {"batch"}
    assert list(found.lr_picked) == pytest.approx([10.0, 10 / 3])
    assert list(found.lr_estimate) == pytest.approx([10.0, 10 / 3], rel=0.3)
    assert list(found.decay_estimate) == pytest.approx([10.0, 10.0], rel=0.6)
    assert (found.lr_low < found.lr_estimate).all() and (found.lr_estimate < found.lr_high).all()
    assert list(found.lr_adamw / found.lr_lion) == pytest.approx(list(found.lr_estimate))
    assert list(found.lr_adamw) == pytest.approx([1e-2, 1e-2], rel=0.3)
    assert list(found.settings) == [15, 15] and list(found.seeds) == [6, 6]
    said = text_best_ratios.batches(tmp_path)
    assert "With each doubling" not in said  # of one family
    assert "not run yet" in text_best_ratios.steps(tmp_path)
    table[table.batch_size == 64].to_csv(folder / "runs.csv", index=False)
    assert list(best_ratios.table(tmp_path).batch_size) == [64], "what is kept is of other rows"


def test_the_interval_of_one_seed_holds_what_the_other_seeds_say() -> None:
    """Of every committed study that tuned with several seeds; RESULTS.md says so."""
    held = []
    for experiment, name in best_ratios.TUNED:
        runs = study(name, experiment=experiment)
        assert runs is not None
        runs = runs[runs.optimizer.isin(["adamw", "lion"])]
        if runs.seed.nunique() == 1 or "label_noise" in runs:
            continue
        part = best_ratios._one_pair_of_betas(runs)
        for seed in sorted(set(part.seed)):
            mine, others = part[part.seed == seed], part[part.seed != seed]
            one, rest = (fitted_ratios(runs)["lr"] for runs in (mine, others))
            if not one.reason + rest.reason:
                held.append(one.low <= rest.estimate <= one.high)
    assert (sum(held), len(held)) == (20, 20)


def test_without_studies_nothing_is_told(tmp_path: Path) -> None:
    assert best_ratios.table(tmp_path).empty
    for block in text_best_ratios.BLOCKS.values():
        assert "not run yet" in block(tmp_path)
