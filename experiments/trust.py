"""Whose code a recorded configuration may run.

A page that you chose runs whatever it names. A configuration that was *recorded* (a run's
`config.yaml`, a sweep's manifest) may come from somebody else, so of it only classes and functions
are called that

- build models, optimizers, data and tasks in this suite, torch, torchvision, timm, transformers or
  diffusers (nothing that unpickles objects, or runs what it fetches; weights by the name of a
  library's own model are data), or
- you trust: named by `--trust NAME,NAME` or `LION_TRUST`, a dotted path or a package; or used by a
  command of yours before. The latter are noted in `~/.config/lion-experiments/trusted`
  (`$XDG_CONFIG_HOME`), one dotted path a line.

What counts is the module in which an object was defined, not the path under which it was found.
Standard library only at import; a target that is not on one of our pages is imported to be judged.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from experiments import settings
from experiments.build import locate
from experiments.config import ConfigError, RunConfig
from experiments.pages import CONF

VARIABLE = "LION_TRUST"
"""Environment variable with further paths and packages, comma-separated; workers inherit it."""
PACKAGES = "experiments, lion, torch, torchvision, timm, transformers, diffusers, schedulefree"
"""Packages that may be imported for a recorded configuration."""

_SECTIONS = ("task", "data", "model", "optimizer")
_OURS = (
    *("experiments.tasks.", "experiments.data.", "experiments.models.", "experiments.evaluations."),
    *("experiments.search.export.", "lion."),
)
_FUNCTIONS = ("experiments.models.", "experiments.data.bundled", "experiments.evaluations.")
_CLASSES = (*_OURS, "torch.nn.", "torch.optim.", "torchvision.models.", "timm.models.")
_CLASSES += ("timm.layers.", "timm.optim.", "transformers.models.", "diffusers.models.")
_CLASSES += ("schedulefree.",)
_RUNS_CODE = ("trust_remote_code", "custom_pipeline", "checkpoint_path", "pretrained_cfg")
_RUNS_CODE += ("pretrained_cfg_overlay",)
"""Arguments that make the libraries above read pickles, or run code that they fetch."""


def check(config: RunConfig, source: str) -> None:
    """Refuses a recorded configuration that would run code of a stranger.

    Args:
        config: As it was read; nothing of it has been built.
        source: Where it was read, for the message.

    Raises:
        ConfigError: names the target, and how to trust it.
    """
    for name in _SECTIONS:
        section = getattr(config, name)
        others = [(k, p) for k, p in _targets(section, name) if p not in on_our_pages()]
        keys = list(_dangerous(section, name))
        given = _given() if others or keys else frozenset()
        for key, path in others:
            if problem := _problem(path, given):
                raise ConfigError(
                    f"{source} would call {key}={path}, which {problem}: if you trust it, say "
                    f"--trust {path} or {VARIABLE}={path}"
                )
        for key in keys:
            if key not in given:
                raise ConfigError(
                    f"{source} sets {key}, which can run code of others: if you trust it, say "
                    f"--trust {key} or {VARIABLE}={key}"
                )


def problem(path: str) -> str:
    """Why a dotted path of somebody else's record is not called; empty where it is trusted."""
    given = _given()
    within = any(path == name or path.startswith(f"{name}.") for name in given)
    return "" if within else "is code that was never used here"


def add(names: str | Sequence[str]) -> None:
    """Trusts paths or packages in this process and those that it starts."""
    more = names.split(",") if isinstance(names, str) else names
    before = os.environ.get(VARIABLE, "").split(",")
    known = dict.fromkeys(name.strip() for name in [*before, *more] if name.strip())
    os.environ[VARIABLE] = ",".join(known)


def note(configs: Iterable[Mapping[str, Any]]) -> None:
    """Remembers what pages of the user's own choice name, so that their records are trusted.

    Not what lies in the packages of `PACKAGES` or in the standard library: that would open more
    than was used.

    Args:
        configs: Plain configurations, or their sections.
    """
    paths = {p for c in configs for s in _SECTIONS for _, p in _targets(c.get(s), s)}
    foreign = sorted(path for path in paths if _is_foreign(path))
    given = _given() if foreign else frozenset()
    new = [path for path in foreign if path not in given]
    if not new:
        return
    add(new)
    file = _file()
    with contextlib.suppress(OSError, RuntimeError):  # then it holds for this command alone
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as opened:
            opened.write("".join(f"{path}\n" for path in new))


@lru_cache(maxsize=1)
def on_our_pages() -> frozenset[str]:
    """Targets of this suite's own pages: known, so nothing is imported to start a worker."""
    texts = [p.read_text("utf-8") for p in CONF.rglob("*.yaml") if p.parent.name != "launcher"]
    named = [path for text in texts for path in re.findall(r"^\s*_target_: (\S+)", text, re.M)]
    return frozenset([*settings.RANGES, *named])


def _is_foreign(path: str) -> bool:
    package = path.partition(".")[0]
    return package not in PACKAGES.split(", ") and package not in sys.stdlib_module_names


def _file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "lion-experiments" / "trusted"


def _given() -> frozenset[str]:
    """All paths and packages that the user trusts."""
    try:
        kept = _file().read_text().split()
    except (OSError, RuntimeError, UnicodeDecodeError):
        kept = []
    return frozenset([*kept, *filter(None, os.environ.get(VARIABLE, "").split(","))])


def _is_within(name: str, given: frozenset[str]) -> bool:
    """Whether a name, or a package that it lies in, is given."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in given for n in range(1, len(parts) + 1))


def _targets(section: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every `_target_` at any depth, with its dotted key."""
    if isinstance(section, dict):
        for key, value in section.items():
            if key == "_target_":
                yield f"{name}.{key}", str(value)
            else:
                yield from _targets(value, f"{name}.{key}")
    elif isinstance(section, list | tuple):
        for number, value in enumerate(section):
            yield from _targets(value, f"{name}.{number}")


def _dangerous(section: Any, name: str) -> Iterator[str]:
    """Dotted keys of arguments that run code, where they are set."""
    if isinstance(section, dict):
        for key, value in section.items():
            is_elsewhere = key == "model_name" and ":" in str(value)  # timm's hf-hub:, local-dir:
            if is_elsewhere or (key in _RUNS_CODE and value not in (None, False, "", {})):
                yield f"{name}.{key}"
            yield from _dangerous(value, f"{name}.{key}")


@lru_cache(maxsize=256)
def _problem(path: str, given: frozenset[str]) -> str:
    """Why a target is not called; empty: it is."""
    if path in given:
        return ""
    is_within = _is_within(path, given)
    if path.partition(".")[0] not in PACKAGES.split(", ") and not is_within:
        return f"lies outside of {PACKAGES}"
    found = locate(path, "recorded")
    home = getattr(found, "__module__", None) or "a compiled library"
    if is_within and _is_within(home, given):
        return ""
    is_private = any(part.startswith("_") for part in path.split("."))
    if is_private or not _is_builder(found, f"{home}."):
        return f"is defined in {home} and is no model, optimizer, data or task"
    return ""


def _is_builder(found: Any, home: str) -> bool:
    """Whether it is one of the classes and functions that a section is made of."""
    if inspect.isclass(found):
        return home.startswith(_OURS) or (home.startswith(_CLASSES) and _is_part(found))
    if not inspect.isfunction(found) or "." in found.__qualname__:
        return False  # methods, builtins, anything else
    if home.startswith("experiments."):  # functions of other files of ours write, or compile
        return home.startswith(_FUNCTIONS)
    name = found.__name__
    if home.startswith("timm.models."):
        import timm

        return name == "create_model" or timm.is_model(name)
    if home.startswith("torchvision.models."):
        import torchvision

        return name == "get_model" or name in torchvision.models.list_models()
    return False


def _is_part(found: type[Any]) -> bool:
    import torch

    return issubclass(found, torch.nn.Module | torch.optim.Optimizer)
