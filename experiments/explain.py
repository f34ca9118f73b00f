"""One line for an error: of Hydra or OmegaConf with the nearest right name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from experiments import limits, pages, settings
from experiments.config import ConfigError, RunConfig, UserError
from experiments.nearest import nearest
from experiments.ranges import TREE, shown


def exit_code(act: Callable[[], int]) -> int:
    """Of a command: what the user can mend is one line and 2; Ctrl-C is 130."""
    try:
        return act()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def explain(error: BaseException, overrides: Sequence[str], config_dir: str | None = None) -> str:
    """One line for an error of Hydra or OmegaConf, with the nearest right name.

    Args:
        error: What was raised while composing.
        overrides: What was composed, to find the keys that there are.
        config_dir: The user's folder of pages, if there is one.
    """
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__
    text = "\n".join(texts)
    if missing := re.search(r"Could not find '([^']*)'", text):
        options = re.findall(r"^\t([\w./]+)$", text, flags=re.M)
        group, _, page = missing[1].partition("/")  # no group is within another
        hint = nearest(page, options, "--help")
        if group == "data" and "/" in page:
            hint = f"; a folder of your own is data.root={page}"
        return f"{group}={page}: no such page{hint}"
    if unknown := re.search(r"Could not override '([^']*)'", text):
        key = unknown[1]
        within = re.search(rf"full_key: ({re.escape(key)}\.\S+)", text)
        if within:  # KEY={...}, which is merged into the page's section
            return (
                f"{within[1]}: no such key on this page; ++{key}={{...}} adds it (the page's other "
                f"keys stay: ~{key}.KEY leaves one out)"
            )
        run = next((o for o in overrides if re.match(r"run=.", o)), "")
        if run and key.partition(".")[0] not in BESIDE_A_RUN:
            return recorded(run, key)
        known = _known_keys(overrides, config_dir)
        group = key.partition(".")[0]
        if group in known and not any(name.startswith(f"{group}.") for name in known):
            return f"{key}: no such key before a page is chosen: {group}=PAGE; see --help"
        return f"{key}: no such key{_of_another(key, overrides) or nearest(key, known)}"
    if unknown := re.search(r"Key '.*' (?:is )?not in .*\n\s*full_key: (\S+)", text):
        return f"{unknown[1]}: no such key{nearest(unknown[1], _known_keys(overrides, config_dir))}"
    if of_range := _out_of_range(text, overrides):
        return of_range
    if wrong := re.search(r"(Value '.*' of type .* could not be .*)\n\s*full_key: (\S+)", text):
        return f"{wrong[2]}: {wrong[1][0].lower()}{wrong[1][1:]}"
    if dangling := re.search(r"(Interpolation key .* not found|Environment .* not found).*", text):
        key = re.search(r"full_key: (\S+)", text)
        return f"{key[1] if key else 'a value'}: {dangling[1].strip()}; quote $ as \\${{...}}"
    if null := re.search(r"Config group override must be a string", text):
        groups = [o for o in overrides if _is_no_page(o, config_dir)]
        return f"{' '.join(groups) or null[0]}: choose a page of this group"
    if "LexerNoViableAlt" in text or "Error parsing override" in text:
        return f"{_unreadable(overrides)!r} cannot be read: say key=value; see --help"
    if several := re.search(r"Ambiguous value for argument '(.*?)'\n", text):
        key, _, value = several[1].partition("=")
        said = f"{several[1]}: several values need -m (a sweep); one list is {key}=[{value}]"
        is_path = re.fullmatch(r"(\+\+)?data\.\w+|results_dir|start_from(\.source)?", key)
        return f"{said}; a path's comma is quoted: '{key}=\"{value}\"'" if is_path else said
    line = " ".join(text.split("\nSee https")[0].split())
    return line if len(line) <= 400 else f"{line[:397]}..."


BESIDE_A_RUN = ("job", "run", "evaluation", "landscape", "plan", "launch", "results_dir", "hydra")
"""Sections and keys that may be given with `run=ID`."""


def recorded(run: str, key: str) -> str:
    """What is said of a setting beside `run=ID`."""
    from experiments.identity import OPERATIONAL_TASK_KEYS

    if key.startswith(tuple(f"task.{name}" for name in OPERATIONAL_TASK_KEYS)):
        return (
            f"{run} takes a recorded run as it is, and {key} would say how to measure it: say the "
            "command that trained it, and job=evaluate and this key with it; the run stays the same"
        )
    return (
        f"{run} takes a recorded run as it is: {key} cannot be changed (a run with its weights and "
        f"settings of its own: start_from{run[3:]})"
    )


def _of_another(key: str, overrides: Sequence[str]) -> str:
    """What to say of an optimizer's key that the chosen page lacks, and others of ours have."""
    group, _, name = key.partition(".")
    given = {word: value for word, _, value in (o.partition("=") for o in overrides)}
    chosen = given.get(group)
    if group != "optimizer" or not name or chosen is None:
        return ""
    line = re.compile(rf"^{re.escape(name)}:", flags=re.M)
    files = sorted((pages.CONF / group).glob("*.yaml"))
    others = [file.stem for file in files if line.search(file.read_text(encoding="utf-8"))]
    if not others:
        return ""
    one = f"{{{others[0]}: {{set: {{{key}: VALUE}}}}, {chosen}: {{}}}}"
    return (
        f" of optimizer={chosen}, but of {', '.join(others)}; in a sweep say it of one alone: "
        f"'sweep.by_optimizer={one}'"
    )


FLAGS = (
    *("help", "hydra-help", "version", "cfg", "resolve", "package", "run", "multirun", "info"),
    *("shell-completion", "config-path", "config-name", "config-dir", "experimental-rerun"),
)
"""Hydra's flags, which may be shortened."""


def check_flags(arguments: Sequence[str], config_dir: str | None = None) -> None:
    """Refuses `--lr 1e-3`: the settings of a run are no flags.

    Raises:
        ConfigError: names the key that is meant.
    """
    for text in arguments:
        name = text.partition("=")[0][2:]
        if not re.match(r"--\w", text) or _is_flag(name):
            continue
        plain = [one for one in arguments if re.match(r"[+~]*\w[^=]*=", one)]
        meant = nearest(name.replace("-", "_"), _known_keys(plain, config_dir))
        raise ConfigError(f"--{name}: no such flag, settings are written key=value{meant}")


def _is_flag(name: str) -> bool:
    """Whether Hydra has it. Shortened, too; but --experiment is meant for the page."""
    return name != "experiment" and any(flag.startswith(name) for flag in FLAGS)


def _out_of_range(text: str, overrides: Sequence[str]) -> str:
    """What a key must be, where it got a value of another type; "" where that is not the error."""
    found = re.search(r"full_key: ([\w.]+)", text)
    ranges = dict(limits.RUN)
    of_class = re.search(r"object_type=(\w+)", text)
    for schema in settings.TASKS.values():
        if of_class and schema.__name__ == of_class[1]:
            of_task = settings.RANGES[schema()._target_]
            ranges |= {f"task.{name}": known for name, known in of_task.items()}
    sections = {field.name: TREE for field in fields(RunConfig) if field.name not in ranges}
    known = (sections | ranges).get(found[1]) if found else None
    if found is None or known is None or "' not in '" in text:
        return ""
    key = found[1]
    given = [o.partition("=")[2] for o in overrides if o.partition("=")[0].lstrip("+") == key]
    given += re.findall(r"Value '([^'\n]*)' of type", text)[:1]  # of an axis of a sweep
    said = f"{key}{f'={shown(given[0])}' if given else ''}: must be {known.must_be}"
    keys = _known_keys([], None) if known is TREE else []
    if inside := [k for k in keys if k.startswith(f"{key}.") and "._" not in k]:
        said += f", or name a key of it, as {' or '.join(inside[:3])}; see --cfg job"
    return said


def _is_no_page(override: str, config_dir: str | None) -> bool:
    """Whether it chooses a page that there is not, e.g. null."""
    folders = [pages.CONF, *([Path(config_dir)] if config_dir else [])]
    group, _, page = override.partition("=")
    found = [folder / group / f"{page}.yaml" for folder in folders]
    return group in pages.groups_of(folders) and not any(map(os.path.exists, found))


def _unreadable(overrides: Sequence[str]) -> str:
    """The first override that Hydra's parser does not take."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for text in overrides:
        try:
            if not text.startswith("-"):
                OverridesParser.create().parse_override(text)
        except HydraException:
            return text
    return " ".join(overrides)


def _known_keys(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """Every dotted key of the configuration that the chosen pages give."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    folders = [pages.CONF, *([Path(config_dir)] if config_dir else [])]
    groups = pages.groups_of(folders)
    chosen = [o for o in overrides if o.split("=")[0].lstrip("+~") in groups]
    chosen += pages.search_path(config_dir)
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(pages.CONF), version_base="1.3"):
            plain = OmegaConf.to_container(hydra.compose("config", chosen))
    except Exception:  # the pages themselves are at fault: then only their groups can be named
        return groups
    return list(dict.fromkeys([*_flatten(plain), *groups]))


def _flatten(tree: Any, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
