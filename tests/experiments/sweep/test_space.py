"""A page of conf/sweep means the settings that a reader expects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from experiments.config import ConfigError, RunConfig
from experiments.sweep.space import OptimizerSpace, SweepPage, settings, space_of, without


@pytest.fixture
def recipe(tmp_path: Path) -> RunConfig:
    """lr 3e-3, weight decay 0.1, batch 16."""
    return tiny.config(tmp_path)


def of(recipe: RunConfig, scaling: str = "none", **space: Any) -> list[dict[str, Any]]:
    return list(settings(OptimizerSpace(**space), recipe, scaling))


def test_relative_values_refer_to_the_recipe(recipe: RunConfig) -> None:
    found = of(recipe, grid={"optimizer.lr": ["/3", "x1", "x 2.5"], "optimizer.weight_decay": [7]})
    assert [one["optimizer.lr"] for one in found] == [1e-3, 3e-3, 7.5e-3]
    assert {one["optimizer.weight_decay"] for one in found} == {7}


def test_a_grid_is_every_combination_and_points_go_together(recipe: RunConfig) -> None:
    found = of(recipe, grid={"optimizer.lr": [1, 2], "train.batch_size": [16, 32]})
    assert len(found) == 4
    points = [{"optimizer.lr": "/10", "optimizer.weight_decay": "x10"}, {"optimizer.lr": "x1"}]
    found = of(recipe, conditions={"seed": [0, 1]}, points=points)
    assert found == [
        {"seed": 0, "optimizer.lr": 3e-4, "optimizer.weight_decay": 1.0},
        {"seed": 1, "optimizer.lr": 3e-4, "optimizer.weight_decay": 1.0},
        {"seed": 0, "optimizer.lr": 3e-3},
        {"seed": 1, "optimizer.lr": 3e-3},
    ]


@pytest.mark.parametrize(("rule", "at_64"), [("none", 3e-3), ("sqrt", 6e-3), ("linear", 12e-3)])
def test_the_recipes_lr_follows_the_batch_size(recipe: RunConfig, rule: str, at_64: float) -> None:
    sizes = {"train.batch_size": [16, 64]}
    small, large = of(recipe, rule, conditions=sizes, grid={"optimizer.lr": ["x1"]})
    assert (small["optimizer.lr"], large["optimizer.lr"]) == (3e-3, pytest.approx(at_64))
    assert of(recipe, rule, conditions=sizes)[1].get("optimizer.lr", 3e-3) == pytest.approx(at_64)
    absolute = of(recipe, rule, conditions=sizes, grid={"optimizer.lr": [0.5]})
    assert {one["optimizer.lr"] for one in absolute} == {0.5}


def test_whole_numbers_stay_whole(recipe: RunConfig) -> None:
    (one,) = of(recipe, grid={"train.batch_size": ["x4"]})
    assert one == {"train.batch_size": 64} and isinstance(one["train.batch_size"], int)


def test_nothing_but_the_lr_follows_the_batch_size_and_counts_are_rounded(
    recipe: RunConfig,
) -> None:
    axes = {"train.batch_size": ["x4"], "optimizer.weight_decay": ["x1"]}
    (one,) = of(recipe, "sqrt", grid=axes)
    assert one["optimizer.weight_decay"] == 0.1 and one["optimizer.lr"] == pytest.approx(6e-3)
    assert of(recipe, grid={"train.batch_size": ["x1.6"]}) == [{"train.batch_size": 26}]


def test_a_weight_decay_that_is_written_as_a_whole_number_is_no_count(tmp_path: Path) -> None:
    recipe = tiny.config(tmp_path, optimizer__weight_decay=1)
    found = of(recipe, grid={"optimizer.weight_decay": ["/10", "/3", "x1", "x10"]})
    assert [one["optimizer.weight_decay"] for one in found] == [0.1, 0.3333, 1, 10]


@pytest.mark.parametrize("key", ["optimizer.nesterov", "optimizer.betas", "optimizer._partial_"])
def test_a_multiple_of_nothing_is_refused(recipe: RunConfig, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=x2 is relative, but lion has .* there"):
        of(recipe, grid={key: ["x2"]})


def test_a_multiple_of_zero_is_refused_as_its_trials_would_be_one(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, optimizer__weight_decay=0.0)
    with pytest.raises(ConfigError, match="lion has 0.0 there in tiny: give it in a recipe"):
        of(config, grid={"optimizer.weight_decay": ["x2"]})


@pytest.mark.parametrize("value", ["/0", "/ 0.0", "x1e999"])
def test_a_factor_that_is_not_finite_is_refused(recipe: RunConfig, value: str) -> None:
    with pytest.raises(ConfigError, match=f"optimizer.lr={value} is not finite"):
        of(recipe, grid={"optimizer.lr": [value]})


@pytest.mark.parametrize("value", ["x.", "/-", "x1.2.3", "xe5", "x-1"])
def test_what_only_looks_relative_is_left_to_the_ranges(recipe: RunConfig, value: str) -> None:
    assert of(recipe, grid={"optimizer.lr": [value]}) == [{"optimizer.lr": value}]


def test_an_axis_must_be_a_list_and_a_rule_must_be_known(recipe: RunConfig) -> None:
    with pytest.raises(ConfigError, match="must be a list"):
        of(recipe, grid={"optimizer.lr": 3})
    with pytest.raises(ConfigError, match="lr_scaling=cubic: choose one of none, sqrt, linear"):
        of(recipe, "cubic")


def test_an_optimizers_own_axes_come_before_the_pages() -> None:
    page = SweepPage(
        grid={"a": [1], "b": [1]},
        by_optimizer={"one": {"grid": {"a": [2]}, "relative_to": "two"}, "two": None},
    )
    assert space_of(page, "one").grid == {"a": [2], "b": [1]}
    assert (space_of(page, "one").relative_to, space_of(page, "two").grid["a"]) == ("two", [1])
    assert space_of(page, "three").grid == {"a": [1], "b": [1]}  # no axis of another is missing
    for own in ({"grid": {"c": [1]}}, {"conditions": {"c": [1]}}, {"points": [{"c": 1}]}):
        others = replace(page, by_optimizer={"one": own, "two": None})
        with pytest.raises(ConfigError, match="no axes for optimizer=three: choose from one, two"):
            space_of(others, "three")
        assert space_of(others, "two").grid == {"a": [1], "b": [1]}
    with pytest.raises(ConfigError, match="by_optimizer.one: .*gird"):
        space_of(SweepPage(by_optimizer={"one": {"gird": {}}}), "one")


def test_an_optimizers_own_points_take_the_place_of_the_pages() -> None:
    page = SweepPage(points=[{"a": 1}], by_optimizer={"one": {"points": [{"a": 2}]}, "two": {}})
    assert space_of(page, "one").points == [{"a": 2}]
    assert space_of(page, "two").points == [{"a": 1}]


def test_what_is_set_for_an_optimizer_adds_to_what_the_page_sets() -> None:
    page = SweepPage(set={"a": 1, "b": 1}, by_optimizer={"one": {"set": {"a": 2}}, "two": {}})
    assert space_of(page, "one").set == {"a": 2, "b": 1}
    assert space_of(page, "two").set == {"a": 1, "b": 1}
    assert without(space_of(page, "one"), ["a"]).set == {"b": 1}


def test_what_the_command_line_fixes_is_no_axis_any_more() -> None:
    space = OptimizerSpace(conditions={"a": [1]}, grid={"b": [1]}, points=[{"a": 1, "c": 2}])
    left = without(space, ["a", "b"])
    assert (left.conditions, left.grid, left.points) == ({}, {}, [{"c": 2}])
