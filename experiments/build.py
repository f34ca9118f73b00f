"""Turns a `_target_` section of the configuration into an object, with errors one can act on."""

from __future__ import annotations

import difflib
import importlib
import inspect
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
    path = section["_target_"]
    target = locate(path, name)
    keywords = {k: v for k, v in section.items() if k not in ("_target_", "_partial_")}
    _check_names(target, keywords, name)
    try:
        return target(*args, **keywords, **extra)
    except UserError:
        raise
    except TypeError as error:
        unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unexpected and unexpected[1] in keywords:
            raise ConfigError(f"{name}.{unexpected[1]}: {path} has no such argument") from error
        if "missing" in str(error) and "required" in str(error):
            raise ConfigError(f"{name}: cannot build {path}: {error}") from error
        raise
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"{name}: cannot build {path}: {error}") from error


def locate(path: Any, name: str) -> Callable[..., Any]:
    """The class or function at a dotted path.

    Raises:
        ConfigError: if there is none; names the missing package or the nearest attribute.
    """
    if not isinstance(path, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", path):
        raise ConfigError(f"{name}._target_={path}: must be a dotted path such as torch.nn.Linear")
    found = _walk(path, name)
    if not callable(found):
        raise ConfigError(f"{name}._target_={path}: is no class or function")
    return found


def _walk(path: str, name: str) -> Any:
    """Imports as many parts of a path as are modules, and looks up the rest."""
    first, *rest = path.split(".")
    reached = first
    found: Any = _import(first, path, name)
    for part in rest:
        owner, reached = reached, f"{reached}.{part}"
        if not hasattr(found, part) and inspect.ismodule(found):
            _import(reached, path, name, optional=True)
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {owner}.{near[0]}?" if near else ""
            raise ConfigError(f"{name}._target_={path}: there is no {reached}{hint}")
        found = getattr(found, part)
    return found


def _import(module: str, path: str, name: str, optional: bool = False) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == module
        if optional and is_missing:
            return None
        raise ConfigError(f"{name}._target_={path}: {error}; is its package installed?") from error


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
