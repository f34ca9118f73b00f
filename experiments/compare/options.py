"""Values that a user has given for the options of a comparison, from a shell or a YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from experiments.config import UserError


def number(given: Mapping[str, Any], key: str) -> float | None:
    """A finite number; None where it is not said.

    Raises:
        UserError: for anything else.
    """
    value = given.get(key)
    if value is None:
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{key}: {value!r} is no number")
    return found


def whole(given: Mapping[str, Any], key: str) -> int | None:
    """A whole number; None where it is not said.

    Raises:
        UserError: for anything else.
    """
    found = number(given, key)
    if found is not None and not found.is_integer():
        raise UserError(f"{key}: {given[key]!r} is no whole number")
    return None if found is None else int(found)


def text(given: Mapping[str, Any], key: str) -> str | None:
    """What is said, as text; None where nothing is."""
    value = given.get(key)
    return None if value is None or value == "" else str(value)


def names(given: Any) -> list[str]:
    """Names apart by commas, or a list of them; those that are empty left out."""
    parts = given.split(",") if isinstance(given, str) else given
    parts = parts if isinstance(parts, list | tuple) else [parts]
    return [name for part in parts if (name := str(part).strip())]
