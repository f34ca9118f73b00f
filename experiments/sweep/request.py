"""What the command line of a sweep asks for: overrides sorted into pages, axes and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from experiments.config import ConfigError
from experiments.overrides import quoted

MOST_VALUES = 100_000
"""Of one key: more would be a slip, and no manifest could hold them."""


@dataclass
class Request:
    """What the command line asks for."""

    fixed: dict[str, str] = field(default_factory=dict)  # key: override with one value
    swept: dict[str, list[Any]] = field(default_factory=dict)  # key: values
    choices: dict[str, list[str]] = field(default_factory=dict)  # group: pages
    page: str = ""  # of conf/sweep
    page_changes: list[str] = field(default_factory=list)
    launcher: str = "local"
    launcher_changes: list[str] = field(default_factory=list)


def parse(overrides: Sequence[str], groups: Sequence[str]) -> Request:
    """Sorts the overrides of a command line.

    Args:
        overrides: `key=value` or `key=value,value`, as Hydra reads them.
        groups: Names of the groups of pages, e.g. experiment, optimizer.

    Raises:
        ConfigError: for an override that makes no cells.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    request = Request()
    for text in quoted(overrides):
        key, _, value = text.partition("=")
        if key == "sweep" and request.page:
            raise ConfigError(f"sweep={request.page} and sweep={value}: choose one page")
        if key == "sweep":
            request.page = value
        elif key == "launcher":
            request.launcher = value
        elif key.startswith("sweep."):
            request.page_changes.append(text.partition(".")[2])
        elif key.startswith("launcher."):
            request.launcher_changes.append(text.partition(".")[2])
        else:
            _sort(parser.parse_override(text), text, request, groups)
    return request


def _sort(override: Any, text: str, request: Request, groups: Sequence[str]) -> None:
    key = override.key_or_group
    if not override.is_sweep_override():
        if key in groups:
            request.choices[key] = [str(override.value())]
        else:
            request.fixed[key] = text
        return
    kind = type(override.value()).__name__
    if kind not in ("ChoiceSweep", "RangeSweep"):
        raise ConfigError(f"{text}: list the values, e.g. {key}=1,2,3")
    texts = list(islice(override.sweep_string_iterator(), MOST_VALUES + 1))
    if len(texts) > MOST_VALUES:
        raise ConfigError(f"{text}: more than {MOST_VALUES:,} values: name fewer")
    if not texts:
        raise ConfigError(f"{text}: there is no value in it, so nothing would be trained")
    if key in groups:
        request.choices[key] = texts
    else:
        request.swept[key] = [parse_value(f"{key}={one}") for one in texts]


def parse_value(override: str) -> Any:
    """The value of `key=value`, as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).value()
