"""Refuses settings that would do nothing: they would only give the same run another name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from experiments.config import ConfigError

NEEDS = {"randaug_magnitude": "randaug_layers"}
"""Settings that do nothing while another one is 0."""


REPLACED = {"crop_scale_min": ("train_crop", "centre")}
"""Settings that do nothing while another one has a value."""


def refuse_ignored(
    settings: Any, honours: Collection[str] | None, source_name: str, own: Collection[str] = ()
) -> None:
    """Refuses settings that differ from their defaults and that nothing honours.

    Args:
        settings: Instance of a dataclass of settings that all have defaults.
        honours: Settings that the source of data heeds (its attribute `honours`); None: the source
            does not say, and nothing is refused.
        source_name: Names the source in the message.
        own: Settings that the task itself heeds, whatever the source.

    Raises:
        ConfigError: names all such settings and their defaults.
    """
    if honours is None:
        return
    values, defaults = asdict(settings), asdict(type(settings)())
    given = [
        key
        for key, value in values.items()
        if not key.startswith("_") and not _equal(value, defaults[key])
    ]
    if ignored := [key for key in given if key not in honours and key not in own]:
        raise ConfigError(
            f"{_overrides(ignored, values)} does nothing with the data {source_name}, which heeds "
            f"{', '.join(sorted(honours))}: set {_overrides(ignored, defaults)}"
        )
    for key in given:
        if key in REPLACED and values[(other := REPLACED[key])[0]] == other[1]:
            raise ConfigError(
                f"task.{key}={values[key]} does nothing with task.{other[0]}={other[1]}: set "
                f"task.{key}={defaults[key]}"
            )
        if key in NEEDS and not values[NEEDS[key]]:
            raise ConfigError(
                f"task.{key}={values[key]} does nothing while task.{NEEDS[key]}=0: set both or "
                "neither"
            )


def refuse_last_groups(source: Any) -> None:
    """Refuses splits that are to be measured at the end, for tasks that do not.

    Raises:
        ConfigError: where the source has any.
    """
    if getattr(source, "last_groups", ()):
        raise ConfigError(
            f"data.test_split does nothing with this task, which measures no test split of "
            f"{source.name}: set data.test_split=null"
        )


def _overrides(keys: Collection[str], values: dict[str, Any]) -> str:
    return " ".join(f"task.{key}={values[key]}" for key in keys)


def _equal(one: Any, other: Any) -> bool:
    """Lists and tuples of the same numbers are equal, as in a run's identity."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    return one == other
