"""The one rule by which every tool picks, on tables that are not as they should be."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from experiments.analysis.statistics.comparison import choose
from experiments.headline import IMAGE, Headline
from experiments.selection import pick, shared_seeds, with_setting

LOSS = Headline("log_perplexity", "lower", "nats", digits=3)
LRS = (1.0, 2.0, 3.0, 4.0, 5.0)
SEEDS = (0, 1, 2)


def row(lr: float, seed: int, val: float, state: str = "finished") -> dict[str, Any]:
    value = math.nan if state == "diverged" else val
    facts = {"optimizer": "lion", "lr": lr, "weight_decay": 0.1, "seed": seed, "state": state}
    return facts | {"val": value, "test": value, "seconds": 1.0}


def grid(lrs: tuple[float, ...] = LRS, seeds: tuple[int, ...] = SEEDS) -> list[dict[str, Any]]:
    """Best at lr 3; every seed alike but for a shift."""
    return [row(lr, seed, 90 - abs(lr - 3) + 0.1 * seed) for lr in lrs for seed in seeds]


def of(rows: list[dict[str, Any]], headline: Headline = IMAGE) -> Any:
    return pick(pd.DataFrame(rows), ["lr", "weight_decay"], headline)


UNBALANCED = {
    "a late extra seed of another cell, and a lucky one": grid() + [row(2.0, 3, 99.0)],
    "a late extra seed of the best, and an unlucky one": grid() + [row(3.0, 3, 10.0)],
    "an extra seed of the best diverged": grid() + [row(3.0, 3, 0.0, "diverged")],
    "an extra seed of another diverged": grid() + [row(5.0, 3, 0.0, "diverged")],
    "a seed of another cell was lost": [r for r in grid() if (r["lr"], r["seed"]) != (5.0, 1)],
    "the grid was extended with one lucky seed": grid() + [row(6.0, 0, 99.0), row(7.0, 0, 98.0)],
    "many late seeds of the worst": grid() + [row(5.0, s, 99.0) for s in range(3, 30)],
    "a single run that is best of all": grid() + [row(9.0, 1, 99.9)],
}


@pytest.mark.parametrize("name", UNBALANCED)
def test_an_unbalanced_table_gives_the_same_pick(name: str) -> None:
    whole, found = of(grid()), of(UNBALANCED[name])
    assert found.setting == whole.setting == {"lr": 3.0, "weight_decay": 0.1}
    assert found.seeds == SEEDS and found.mean == pytest.approx(whole.mean)
    assert found.edges == (), "the edge is that of cells that could have won"
    chosen = choose(pd.DataFrame(UNBALANCED[name]), "lion")
    assert (chosen.lr, chosen.n, chosen.on_edge) == (3.0, 3, False)
    lacking = [cell["lr"] for cell in found.incomplete]
    assert lacking == {"a seed": [5.0], "the gr": [6.0, 7.0], "a sing": [9.0]}.get(name[:6], [])
    assert bool(lacking) == any("lack a run" in remark for remark in chosen.remarks)


def test_the_seed_of_a_single_cell_comes_first_by_number_and_counts_least() -> None:
    """Seed 0 was tried at one cell before the others began at 5."""
    rows = grid(seeds=(5, 6)) + [row(1.0, 0, 99.0)]
    assert shared_seeds(pd.DataFrame(rows), ["lr"]) == [5, 6]
    assert of(rows).setting["lr"] == 3.0 and of(rows).incomplete == ()


def test_one_seed_has_no_error_and_so_nobody_is_close() -> None:
    assert of(grid(seeds=(0,))).num_close == 0
    whole = of(grid())  # means 90.1, 89.1, ...; the error is 0.1 / sqrt(3)
    assert whole.num_close == 0
    near = [r | {"val": r["val"] + 0.95} if r["lr"] == 2.0 else r for r in grid()]
    assert of(near).num_close == 1 and of(near).setting["lr"] == 3.0


def test_without_keys_all_runs_are_of_one_setting() -> None:
    found = pick(pd.DataFrame(grid(lrs=(3.0,))), [], IMAGE)
    assert (found.setting, found.num_settings, found.seeds) == ({}, 1, SEEDS)


def test_the_winner_must_have_every_shared_seed() -> None:
    rows = [r for r in grid() if (r["lr"], r["seed"]) != (3.0, 1)]
    found = of(rows)
    assert found.setting["lr"] == 2.0 and [cell["lr"] for cell in found.incomplete] == [3.0]
    said = "1 of 5 settings lack a run of the seeds 0, 1, 2 and could not win, e.g. lr 3"
    assert any(remark.startswith(said) for remark in found.remarks)


def test_a_diverged_cell_is_an_edge_that_was_tried() -> None:
    rows = [r for r in grid() if r["lr"] <= 3] + [row(4.0, s, 0, "diverged") for s in SEEDS]
    assert of(rows).setting["lr"] == 3.0 and of(rows).edges == ()
    assert of([r for r in rows if r["lr"] < 4]).edges == ("lr",)
    high = [r | ({"val": 99.0} if r["state"] == "diverged" else {}) for r in rows]
    assert of(high).setting["lr"] == 3.0, "whatever it measured before"
    first = [row(0.5, s, 0, "diverged") for s in SEEDS]
    assert of(first + grid()).setting["lr"] == 3.0


@pytest.mark.parametrize(
    ("decays", "edges"),
    [((0.0, 0.1, 0.2), ()), ((0.01, 0.1, 0.2), ("weight_decay",)), ((-0.1, 0.0, 0.1), ())],
)
def test_nothing_is_smaller_than_no_weight_decay(decays: Any, edges: Any) -> None:
    """Of three, the smallest that is not negative is best."""
    best = next(decay for decay in decays if decay >= 0)
    rows = [r | {"weight_decay": d, "val": r["val"] - (d != best)} for r in grid() for d in decays]
    assert of(rows).setting["weight_decay"] == best and of(rows).edges == edges
    rows = [r | {"weight_decay": d, "val": r["val"] + d} for r in grid() for d in (0.0, 0.1)]
    assert of(rows).edges == ("weight_decay",), "the largest is an edge"


def test_settings_that_share_no_seed_are_not_compared() -> None:
    with pytest.raises(ValueError, match="too few settings share a seed"):
        of([row(lr, seed, 80.0) for seed, lr in enumerate(LRS)])
    assert of([row(1.0, seed, 80.0) for seed in SEEDS]).seeds == SEEDS, "but one needs no other"


def test_ties_are_said_and_the_smaller_wins() -> None:
    rows = [row(lr, s, 80.0 + s + (lr > 3) * 1e-4) for lr in (2.0, 3.0, 4.0) for s in SEEDS]
    found = of(rows)
    assert found.setting["lr"] == 2.0 and [tie["lr"] for tie in found.ties] == [3.0, 4.0]
    assert found.remarks[0].startswith("tied with lr 3, weight_decay 0.1; lr 4")
    assert found.num_close == 2


def test_the_mean_decides_and_what_is_near_is_counted_by_its_standard_error() -> None:
    lucky = [row(1.0, s, val) for s, val in zip(SEEDS, (91.0, 91.0, 0.0), strict=True)]
    assert of(lucky + [row(2.0, s, 80.0) for s in SEEDS]).setting["lr"] == 2.0
    spread = [row(2.0, s, 89.0 + s) for s in SEEDS]  # sd 1, standard error 0.58
    for less, num_close in ((0.5, 1), (0.7, 0)):
        near = [row(3.0, s, 89.0 + s - less) for s in SEEDS]
        assert of(spread + near).num_close == num_close


def test_a_switch_has_no_edge() -> None:
    rows = [r | {"nesterov": on, "val": r["val"] + on} for r in grid() for on in (True, False)]
    assert pick(pd.DataFrame(rows), ["lr", "nesterov"], IMAGE).edges == ()


def test_a_setting_without_a_key_is_one_and_stands_last() -> None:
    rows = [r | {"weight_decay": decay} for decay in (math.nan, 0.1) for r in grid()]
    found = of(rows)
    assert found.setting == {"lr": 3.0, "weight_decay": 0.1} and found.num_settings == 10
    (tie,) = found.ties
    assert tie["lr"] == 3.0 and math.isnan(tie["weight_decay"]) and not found.incomplete
    assert list(found.runs.seed) == [0, 1, 2] and found.runs.weight_decay.eq(0.1).all()
    assert with_setting(pd.DataFrame(rows), tie).weight_decay.isna().sum() == len(SEEDS)


def test_a_falling_metric_is_best_where_it_is_smallest() -> None:
    rows = [row(lr, s, abs(lr - 2) + 0.3 + 1e-5 * lr) for lr in LRS for s in SEEDS]
    assert of(rows, LOSS).setting["lr"] == 2.0 and of(rows, LOSS).ties == ()
    table = pd.DataFrame(rows).assign(**LOSS.columns())
    assert choose(table, "lion").lr == 2.0
    close = [row(lr, s, 0.3 + 1e-4 * lr) for lr in LRS for s in SEEDS]
    assert of(close, LOSS).ties == (), "so close is a tie of percentages alone"
    small = [row(lr, s, 1e-5 * (1 + 0.01 * lr)) for lr in LRS for s in SEEDS]
    assert of(small, LOSS).ties == (), "of small values only what is closer still is one"
    perfect = of([row(lr, s, abs(lr - 2)) for lr in LRS for s in SEEDS], LOSS)
    assert (perfect.setting["lr"], perfect.mean, perfect.ties) == (2.0, 0.0, ())


def test_the_shared_seeds_are_the_largest_block() -> None:
    assert shared_seeds(pd.DataFrame(grid() + [row(2.0, 9, 1.0)]), ["lr"]) == [0, 1, 2]
    two_grids = grid(LRS, (0,)) + grid((1.0, 2.0), (1, 2, 3))
    assert shared_seeds(pd.DataFrame(two_grids), ["lr"]) == [0, 1, 2, 3]  # 8 runs, not 5
    equal = grid(LRS[:4], (0,)) + grid((1.0, 2.0), (1,))
    assert shared_seeds(pd.DataFrame(equal), ["lr"]) == [0, 1]  # 4 runs either way
    one = grid(LRS[:3], (0,)) + grid((1.0,), (1, 2, 3, 4))
    assert shared_seeds(pd.DataFrame(one), ["lr"]) == [0], "a cell alone compares nothing"


def test_many_late_seeds_of_two_cells_do_not_take_over_a_grid() -> None:
    lrs = tuple(float(lr) for lr in range(1, 8))
    late = [row(lr, seed, 99.0) for lr in (6.0, 7.0) for seed in range(3, 40)]
    found = of(grid(lrs) + late)
    assert found.setting["lr"] == 3.0 and found.seeds == SEEDS
