"""Values that a user has given for the options of a comparison, from a shell or a YAML file."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
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


def merged(args: argparse.Namespace) -> dict[str, Any]:
    """What the file says, and the command line on top of it."""
    given = {k: v for k, v in vars(args).items() if v is not None and v is not False}
    path = given.pop("file", None)
    if path is None:
        return given
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: give keys and values, e.g. command: python train.py ...")
    names = {True: "yes", False: "no"}  # YAML takes these words for truths, as keys, too
    content = {
        names.get(k, str(k)).replace("-", "_"): v for k, v in content.items() if v is not None
    }
    known = [k for k in vars(args) if k not in ("file", "default_others")]
    if unknown := [key for key in content if key not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"{path}: no option is called {unknown[0]}; {meant}there are: {', '.join(known)}"
        )
    for key, value in content.items():
        _check_kind(f"{path}: {key}", value, vars(args)[key])
    return {**content, **given}


def _check_kind(where: str, value: Any, default: Any) -> None:
    """What a file may say for an option: text, a number, yes or no; a list of names.

    Raises:
        UserError: for another kind, e.g. a text in place of yes or no, which would count as yes.
    """
    is_flag = isinstance(default, bool)
    if is_flag != isinstance(value, bool):
        wanted = "true or false, without quotes" if is_flag else "text or a number"
        raise UserError(f"{where}: {value!r} must be {wanted}")
    is_baseline = where.endswith(": baseline") and isinstance(value, Mapping)
    is_list = where.endswith(": optimizers") and isinstance(value, list)
    if not (is_baseline or is_list or isinstance(value, str | int | float)):
        raise UserError(f"{where}: {value!r} is neither text nor a number")
