"""Turns a `_target_` section of the configuration into an object, with errors one can act on."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from experiments.config import ConfigError, RunConfig, UserError
from experiments.left_alone import understood
from experiments.packages import remedy
from experiments.programs import TRACEBACK_VARIABLE as TRACEBACK_VARIABLE

_SAYS_ENOUGH = (ValueError, AssertionError, RuntimeError)
"""How libraries refuse values; what else is raised may be a fault in somebody's code."""

T = TypeVar("T")


@contextlib.contextmanager
def explained(what: str, active: bool = True) -> Iterator[None]:
    """Within, whatever goes wrong becomes one line: what was done, and what the library said.

    For the first time that something is built, run or read: then it is most likely a setting. An
    error of another kind than libraries refuse values with names the line of code, too.

    Args:
        what: What is done within, e.g. "model: cannot build timm.models.VisionTransformer".
        active: Whether to do anything.

    Raises:
        ConfigError: in place of any error that is none for the user already, nor means that
            another process has ended.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        is_of_another = understood(error) is not error
        if not active or is_of_another or os.environ.get(TRACEBACK_VARIABLE):
            raise
        raise ConfigError(f"{what}: {_in_words(error)}") from error


def first_explained(items: Iterable[T], what: str) -> Iterator[T]:
    """The items; what goes wrong before the first one becomes one line."""
    iterator = iter(items)
    with explained(what):
        first = next(iterator, None)
    if first is not None:
        yield first
        yield from iterator


def what_is_trained(config: RunConfig) -> str:
    """The two sections that must fit together, for messages."""
    data = config.data.get("name") or config.data["_target_"]
    return f"model {config.model['_target_']} on data {data}"


def where_they_meet(config: RunConfig) -> str:
    """The same with the optimizer, and the size of the images where the data section sets it."""
    side = config.data.get("input_size")
    size = f", images of 3 x {side} x {side} (data.input_size)" if side else ""
    return f"{what_is_trained(config)}{size}, optimizer {config.optimizer['_target_']}"


def _in_words(error: Exception) -> str:
    """One line of at most some hundred letters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback (most recent") for line in lines):
        lines = lines[-1:]  # of a loading process
    said = " ".join(lines)
    said = said if len(said) <= 300 else f"{said[:297]}..."
    if "out of memory" in said or "can't allocate memory" in said or isinstance(error, MemoryError):
        return f"out of memory ({said}); set a smaller train.micro_batch_size or eval.batch_size"
    if get := remedy(error):
        return f"{said}: {get}"
    if isinstance(error, _SAYS_ENOUGH) and said:
        return said
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{type(error).__name__}: {said} ({place}; {TRACEBACK_VARIABLE}=1 shows the traceback)"


def build(section: dict[str, Any], name: str, *args: Any, **extra: Any) -> Any:
    """Calls `section["_target_"]` with the other keys of the section.

    Args:
        section: `_target_`: dotted path of a class or function; the rest: keyword arguments.
        name: The section's name, for messages.
        args: Positional arguments to put first.
        extra: More keyword arguments.

    Raises:
        ConfigError: unknown target or argument, or whatever goes wrong in the target.
    """
    path = section["_target_"]
    target, keywords = check_target(section, name)
    with explained(f"{name}: cannot build {path}"):
        try:
            return target(*args, **keywords, **extra)
        except TypeError as error:
            unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if unexpected and unexpected[1] in keywords:
                problem = f"{name}.{unexpected[1]}: {path} has no such argument"
                raise ConfigError(problem) from error
            if "missing" in str(error) and "required" in str(error):
                raise ConfigError(f"{name}: cannot build {path}: {error}") from error
            raise


def check_target(section: dict[str, Any], name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The target of a section, and its keywords.

    Raises:
        ConfigError: there is no such target, or it does not take one of them.
    """
    target = locate(section.get("_target_"), name)
    keywords = {k: v for k, v in section.items() if k not in ("_target_", "_partial_")}
    _check_names(target, keywords, name)
    return target, keywords


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
        with _without_tracker(module):
            return importlib.import_module(module)
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == module
        if optional and is_missing:
            return None
        hint = remedy(error) or "is its package installed?"
        raise ConfigError(f"{name}._target_={path}: {error}; {hint}") from error


@contextlib.contextmanager
def _without_tracker(module: str) -> Iterator[None]:
    """timm imports wandb where it is installed (0.5 s), for a logger that nothing here uses."""
    is_ours = module.split(".")[0] in ("experiments", "timm") and "wandb" not in sys.modules
    if is_ours:
        sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if is_ours:
            del sys.modules["wandb"]


def _check_names(target: Callable[..., Any], keywords: dict[str, Any], name: str) -> None:
    """Refuses keywords that the target does not take, before anything is built."""
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    unknown = [key for key in keywords if key not in parameters]
    if len(unknown) > 1:  # those of the page's own model, under another one
        left_out = " ".join(f"~{name}.{key}" for key in unknown)
        taker = getattr(target, "__name__", "the target")
        raise ConfigError(
            f"{name}.{unknown[0]}: no such argument: {taker} takes "
            f"{', '.join(parameters) or 'none'}; leave out what is another's: {left_out}"
        )
    for key in unknown:
        near = difflib.get_close_matches(key, parameters, n=1)
        hint = f"; did you mean {name}.{near[0]}?" if near else f"; ~{name}.{key} leaves it out"
        raise ConfigError(f"{name}.{key}: no such argument{hint}")
