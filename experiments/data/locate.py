"""Checks a `data` section before anything heavy is imported; says in one line what is missing.

Standard library only. Each source of data has a module beside it that checks its settings in the
same way; `_CHECKS` finds it by the section's `_target_`. A source from outside is checked by its
own constructor.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import ConfigError, UserError
from experiments.ranges import MOST, shown

_BUNDLED = "experiments.data.bundled_paths"
_CHECKS = {
    "experiments.data.image_files.ImageFiles": "experiments.data.image_paths:check",
    "experiments.data.captioned_images.CaptionedImages": "experiments.data.caption_paths:check",
    "experiments.data.captioned_shards.CaptionedShards": (
        "experiments.data.caption_paths:check_shards"
    ),
    "experiments.data.image_text_pairs.ImageTextPairs": "experiments.data.pair_paths:check_pairs",
    "experiments.data.karpathy.KarpathyCaptions": "experiments.data.pair_paths:check_karpathy",
    "experiments.data.zero_shot_sets.ZeroShotImages": (
        "experiments.data.zero_shot_paths:check_zero_shot"
    ),
    "experiments.data.bundled.digits": "experiments.data.bundled_paths:check_digits",
    "experiments.data.bundled.mnist1d": "experiments.data.bundled_paths:check_mnist1d",
    "experiments.data.bundled_signals.random_classes": f"{_BUNDLED}:check_random_classes",
    "experiments.data.bundled_signals.long_signals": f"{_BUNDLED}:check_long_signals",
    "experiments.data.bundled_signals.many_signals": f"{_BUNDLED}:check_many_signals",
    "experiments.data.bundled.fashion_mnist": "experiments.data.bundled_paths:check_fashion_mnist",
    "experiments.data.bundled_glyphs.glyphs": "experiments.data.bundled_paths:check_glyphs",
    "experiments.data.bundled_glyphs.glyph_scripts": "experiments.data.bundled_paths:check_glyphs",
    "experiments.data.bundled_glyphs.glyph_identities": (
        "experiments.data.bundled_paths:check_glyphs"
    ),
    "experiments.data.bundled_text.kjv": "experiments.data.text_paths:check_kjv",
    "experiments.data.bundled_verses.verses": "experiments.data.text_paths:check_verses",
    "experiments.data.bundled_names.character_kinds": "experiments.data.text_paths:check_names",
    "experiments.data.bundled_names.character_names": "experiments.data.text_paths:check_names",
    "experiments.data.text_files.TextFiles": "experiments.data.text_paths:check_files",
    "experiments.data.glue_files.GlueFiles": "experiments.data.glue_paths:check_glue",
}
"""Source of data -> module:function, called with the section and the page of a proxy."""


class DataMissing(UserError):
    """Data that is not where the configuration says; the message tells where to get it."""


@dataclass(frozen=True)
class Rule:
    """Which values a setting takes."""

    kind: type
    minimum: int | None = None  # of numbers
    optional: bool = False  # whether null is a value
    may_be_empty: bool = False  # of text
    choices: tuple[str, ...] = ()  # of text; none: any

    def allows(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool):
            return False
        if self.minimum is not None:
            return self.minimum <= value <= MOST
        if self.choices:
            return value in self.choices
        return not isinstance(value, str) or bool(value) or self.may_be_empty

    def __str__(self) -> str:
        names = {int: "a whole number", str: "text", bool: "true or false", Mapping: "a table"}
        if self.choices:
            return " or ".join(self.choices)
        at_least = f" of at least {self.minimum}" if self.minimum is not None else ""
        return f"{names[self.kind]}{at_least}{', or null' if self.optional else ''}"


def check_section(section: Mapping[str, Any], proxy: str = "vit_proxy") -> None:
    """Checks a `data` section of the configuration, as far as that is quick.

    Args:
        section: `_target_` and the settings of a source of data.
        proxy: Experiment page that runs without this data.

    Raises:
        DataMissing: a path, or a package, that is not there.
        ConfigError: a value that cannot be.
    """
    if (name := _CHECKS.get(section.get("_target_", ""))) is None:
        return
    module, _, function = name.partition(":")
    check: Callable[..., None] = getattr(importlib.import_module(module), function)
    check({key: value for key, value in section.items() if key != "_target_"}, proxy)


def check_values(section: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Checks each value against its rule; keys without a rule are the constructor's business.

    Raises:
        ConfigError: names the first key, its value and what it must be.
    """
    for key, value in section.items():
        if key in rules and not rules[key].allows(value):
            said = f"'{value}'" if isinstance(value, str) else shown(value)
            raise ConfigError(f"data.{key}={said}: must be {rules[key]}")


def expanded(path: str | None) -> str | None:
    """A path with `~` as the user's home."""
    return path and os.path.expanduser(path)


def exists(path: str) -> bool:
    """Whether there is anything at a path; one that cannot be a path is none."""
    try:
        return Path(str(expanded(path))).exists()
    except (OSError, ValueError):
        return False
