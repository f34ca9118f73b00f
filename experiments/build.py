"""Turns a `_target_` section of the configuration into an object, with errors one can act on."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
import re
from collections.abc import Callable
from typing import Any

from experiments.config import ConfigError, UserError


def build(section: dict[str, Any], name: str, *args: Any, **extra: Any) -> Any:
    """Calls `section["_target_"]` with the other keys of the section.

    Args:
        section: `_target_`: dotted path of a class or function; the rest: keyword arguments.
        name: The section's name, for messages.
        args: Positional arguments to put first.
        extra: More keyword arguments.

    Raises:
        ConfigError: unknown target or argument, or a value the target refuses.
    """
    target = locate(section["_target_"], name)
    keywords = {k: v for k, v in section.items() if k not in ("_target_", "_partial_")}
    _check_names(target, keywords, name)
    try:
        return target(*args, **keywords, **extra)
    except UserError:
        raise
    except TypeError as error:
        unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not unexpected or unexpected[1] not in keywords:
            raise
        raise ConfigError(
            f"{name}.{unexpected[1]}: {section['_target_']} has no such argument"
        ) from error
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"{name}: cannot build {section['_target_']}: {error}") from error


def locate(path: str, name: str) -> Callable[..., Any]:
    """The class or function at a dotted path.

    Raises:
        ConfigError: if there is none; names the missing package or the nearest attribute.
    """
    try:
        return pkgutil.resolve_name(path)
    except ImportError as error:
        raise ConfigError(f"{name}._target_={path}: {error}; is its package installed?") from error
    except AttributeError as error:
        owner, _, attribute = path.rpartition(".")
        names = dir(pkgutil.resolve_name(owner)) if owner else []
        near = difflib.get_close_matches(attribute, names, n=1)
        hint = f"; did you mean {owner}.{near[0]}?" if near else ""
        raise ConfigError(f"{name}._target_={path}: no such name{hint}") from error


def _check_names(target: Callable[..., Any], keywords: dict[str, Any], name: str) -> None:
    """Refuses keywords that the target does not take, before anything is built."""
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in keywords:
        if key not in parameters:
            near = difflib.get_close_matches(key, parameters, n=1)
            hint = f"; did you mean {name}.{near[0]}?" if near else ""
            raise ConfigError(f"{name}.{key}: no such argument{hint}")
