"""Which values a key may have: the words that the tables of ranges are written in.

`experiments.limits` holds the table of the schema; a family of tasks has its own beside its
settings. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from experiments.config import ConfigError

MOST = 10**12
"""No count of ours is larger."""


@dataclass(frozen=True)
class Range:
    """The values that a key may have, and how that is said."""

    must_be: str  # completes "must be ..."
    holds: Callable[[Any], bool]

    def check(self, key: str, value: Any) -> None:
        """Refuses a value.

        Raises:
            ConfigError: names the key, the value and what it must be.
        """
        if not self.holds(value):
            raise ConfigError(f"{key}={shown(value)}: must be {self.must_be}")


def shown(value: Any) -> str:
    """A value for a message, never long."""
    if value is None:
        return "null"
    if isinstance(value, int) and value.bit_length() > 200:
        return f"(a whole number of about {value.bit_length() * 0.301:.0f} digits)"
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # it holds a number of more digits than Python writes
        return f"({type(value).__name__})"
    text = " ".join(text.split()) if isinstance(value, str) else text
    return text if len(text) <= 80 else f"{text[:77]}..."


def number(
    least: float = -inf,
    most: float = inf,
    *,
    above: float = -inf,
    below: float = inf,
) -> Range:
    """A finite number: least <= x <= most, above < x < below."""
    bounds = {"%s or more": least, "more than %s": above, "at most %s": most, "below %s": below}
    said = " and ".join(text % f"{bound:g}" for text, bound in bounds.items() if isfinite(bound))

    def holds(value: Any) -> bool:
        return _is_number(value) and least <= value <= most and above < value < below

    return Range(f"a finite number, {said}" if said else "a finite number", holds)


def count(least: int, most: int = MOST) -> Range:
    """A whole number: least <= n <= most."""
    said = f"of {least:,} or more" if most == MOST else f"from {least:,} to {most:,}"

    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Range(f"a whole number {said}", holds)


def choice(*names: str) -> Range:
    """One of some words."""
    return Range(f"one of {', '.join(names)}", lambda value: value in names)


FLAG = Range("true or false", lambda value: isinstance(value, bool))
TEXT = Range("text", lambda value: isinstance(value, str))
NAME = Range(
    "a name of at most 200 bytes, without /, not beginning with a dot",
    lambda value: (
        isinstance(value, str)
        and re.fullmatch(r"(?!\.)[^/\\\0\n]*", value) is not None
        and len(value.encode(errors="replace")) <= 200
    ),
)
"""Of a folder that we make; empty where the default is to be taken."""
PATH = Range(
    "a path that a file system takes",
    lambda value: (
        isinstance(value, str)
        and value.strip() != ""
        and "\0" not in value
        and len(value.encode(errors="replace")) < 4000
        and all(len(part.encode(errors="replace")) <= 255 for part in value.split("/"))
    ),
)
TREE = Range("a mapping", lambda value: isinstance(value, dict))
SEED = Range(
    "a whole number of at most 18 digits",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18,
)


def optional(of: Range) -> Range:
    """What a range holds, or null."""
    return Range(f"{of.must_be}, or null", lambda value: value is None or of.holds(value))


def either(one: Range, other: Range) -> Range:
    """What either of two ranges holds."""
    return Range(
        f"{one.must_be}, or {other.must_be}",
        lambda value: one.holds(value) or other.holds(value),
    )


def listed(of: Range, least: int = 0, most: int = 10**6) -> Range:
    """A list whose entries each lie in a range."""
    size = f"{least} or more" if most == 10**6 else f"{least}"
    size = f"{least} to {most}" if least < most < 10**6 else size
    number_of = "" if (least, most) == (0, 10**6) else f" of {size}"

    def holds(value: Any) -> bool:
        is_list = isinstance(value, list | tuple) and least <= len(value) <= most
        return is_list and all(of.holds(entry) for entry in value)

    return Range(f"a list{number_of}, each {of.must_be}", holds)


def mapped(of: Range) -> Range:
    """A mapping of names to values that each lie in a range."""
    return Range(
        f"a mapping of names, each to {of.must_be}",
        lambda value: (
            isinstance(value, dict)
            and all(isinstance(k, str) and of.holds(v) for k, v in value.items())
        ),
    )


def check_all(section: Mapping[str, Any], ranges: Mapping[str, Range], prefix: str) -> None:
    """Refuses the first value of a section that lies outside its range.

    Raises:
        ConfigError: see `Range.check`.
    """
    for key, value in section.items():
        if key in ranges:
            ranges[key].check(f"{prefix}.{key}", value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False
