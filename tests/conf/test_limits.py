"""Every key of the schema has a range, and every range is one that can be said in a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from experiments import limits, limits_of_parts, settings
from experiments.config import ConfigError, RunConfig
from experiments.data import locate
from experiments.pages import CONF
from experiments.ranges import TREE, Range, check_all
from experiments.sweep.space import SweepPage

SECTIONS = {"task", "data", "model", "optimizer", "start_from", "search"}
BUILT_ONLY = {"channels", "global_pool", "weight_init"}
"""Arguments of models that show when they are built."""
RANGES = {
    **limits.RUN,
    **{
        f"optimizer.{k}": r
        for k, r in {**limits_of_parts.OPTIMIZER, **limits_of_parts.KNOWN_OPTIMIZER}.items()
    },
    **{f"model.{k}": r for k, r in limits_of_parts.KNOWN_MODEL.items()},
    **{f"start_from.{k}": r for k, r in limits.START_FROM.items()},
    **{f"sweep.{k}": r for k, r in limits.SWEEP.items()},
    **{f"launcher.{k}": r for k, r in limits.LAUNCHER.items()},
    **{f"{name}.{k}": r for name in settings.RANGES for k, r in settings.RANGES[name].items()},
}
NONSENSE: tuple[Any, ...] = (float("nan"), object(), [[]], {"a": float("inf")}, 10**5000, b"x")


def leaves(schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their defaults."""
    for field in dataclasses.fields(schema):
        value = getattr(schema, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def test_every_key_of_the_schema_has_a_range() -> None:
    """A key added to experiments/config.py needs a line in experiments/limits.py."""
    assert {key for key, _ in leaves(RunConfig())} - SECTIONS == set(limits.RUN)


@pytest.mark.parametrize("task", settings.TASKS)
def test_every_setting_of_a_task_has_a_range(task: str) -> None:
    """A field added to experiments/settings/TASK.py needs a line in its RANGES."""
    schema = settings.TASKS[task]
    fields = {field.name for field in dataclasses.fields(schema)} - {"_target_"}
    assert fields == set(settings.RANGES[schema()._target_])


def test_the_defaults_lie_in_their_ranges() -> None:
    for key, value in leaves(RunConfig()):
        if key not in SECTIONS:
            limits.RUN[key].check(key, value)
    for schema in settings.TASKS.values():
        ranges = settings.RANGES[schema()._target_]
        check_all(dataclasses.asdict(schema()), ranges, "task")  # what lies deeper checks itself


def test_every_key_of_start_from_has_a_range_that_its_default_fits() -> None:
    default = RunConfig().start_from
    assert set(default) == set(limits.START_FROM)
    for key, value in default.items():
        limits.START_FROM[key].check(key, value)


def test_every_key_of_a_sweep_page_has_a_range_that_its_default_fits() -> None:
    assert {key for key, _ in leaves(SweepPage())} == set(limits.SWEEP)
    for key, value in leaves(SweepPage()):
        limits.SWEEP[key].check(key, value)


@pytest.mark.parametrize(
    ("group", "known"),
    [
        ("launcher", limits.LAUNCHER),
        ("optimizer", {**limits_of_parts.OPTIMIZER, **limits_of_parts.KNOWN_OPTIMIZER}),
    ],
)
def test_every_key_of_our_pages_has_a_range(group: str, known: dict[str, Range]) -> None:
    for path in (CONF / group).glob("*.yaml"):
        keys = set(yaml.safe_load(path.read_text())) - {"_target_", "path", "digest"}
        assert keys <= set(known), path.name


def test_every_key_of_our_models_has_a_range() -> None:
    for path in (CONF / "experiment").glob("*.yaml"):
        model = yaml.safe_load(path.read_text()).get("model", {})
        if limits_of_parts.of_model(model):
            assert set(model) - {"_target_"} <= {*limits_of_parts.KNOWN_MODEL, *BUILT_ONLY}, (
                path.name
            )


@pytest.mark.parametrize("page", sorted(p.stem for p in (CONF / "data").glob("*.yaml")))
def test_every_key_of_our_data_is_checked_by_its_source(page: str) -> None:
    section = yaml.safe_load((CONF / "data" / f"{page}.yaml").read_text())
    for key in set(section) - {"_target_"}:
        for value in NONSENSE:
            if isinstance(value, dict) and isinstance(section[key], dict):
                continue
            with pytest.raises(ConfigError, match=rf"^data\.{key}=.*must be"):
                locate.check_section({**section, key: value})


@pytest.mark.parametrize("key", RANGES)
def test_every_range_refuses_nonsense_in_one_short_line(key: str) -> None:
    for value in NONSENSE:
        if RANGES[key] is TREE and isinstance(value, dict):
            continue  # its entries are somebody else's settings
        with pytest.raises(ConfigError, match=r": must be \S") as caught:
            RANGES[key].check(key, value)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 350


def test_models_and_optimizers_that_are_not_ours_may_mean_other_things() -> None:
    assert not limits_of_parts.of_model({"_target_": "my_lab.Net"})
    assert set(limits_of_parts.of_optimizer({"_target_": "my_lab.Step"})) == set(
        limits_of_parts.OPTIMIZER
    )
