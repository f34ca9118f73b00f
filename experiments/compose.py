"""Composes pages and overrides into a checked configuration. Imports Hydra, when it is called."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments import settings, trust
from experiments.checks import check
from experiments.config import ConfigError, RunConfig, from_dict
from experiments.explain import BESIDE_A_RUN, explain, recorded
from experiments.nearest import nearest
from experiments.overrides import expand_home, quoted
from experiments.pages import CONF, search_path, shipped


def compose(overrides: Sequence[str], config_dir: str | None = None) -> RunConfig:
    """Composes and checks a configuration without running it.

    Args:
        overrides: As on the command line, e.g. `["experiment=vit_proxy", "optimizer.lr=1e-3"]`.
        config_dir: A folder with more pages, searched beside ours.

    Raises:
        ConfigError: one line with the remedy.
    """
    return compose_cells(overrides, [{}], config_dir)[0]


def compose_cells(
    overrides: Sequence[str],
    cells: Sequence[Mapping[str, Any]],
    config_dir: str | None = None,
) -> list[RunConfig]:
    """Composes the pages once, and each cell's own values (by dotted key) on top of them.

    Raises:
        ConfigError: one line with the remedy.
    """
    return compose_pages(overrides, config_dir).with_each(cells)


@dataclass(frozen=True)
class Composed:
    """What pages and overrides make together; from `compose_pages`."""

    config: Any
    choices: Mapping[str, Any]
    folders: Sequence[Path]
    overrides: Sequence[str]
    config_dir: str | None

    def with_each(self, cells: Sequence[Mapping[str, Any]]) -> list[RunConfig]:
        """A checked configuration for each cell: its own values (by dotted key) on top.

        Raises:
            ConfigError: one line with the remedy.
        """
        from omegaconf import OmegaConf

        built = []
        for values in cells:
            with contextlib.ExitStack() as stack:
                try:
                    for key, value in values.items():
                        stack.callback(_remember(self.config, key))
                        OmegaConf.update(self.config, key, value)
                except Exception as error:
                    raise ConfigError(explain(error, self.overrides, self.config_dir)) from error
                built.append(finish(self.config, self.choices, self.overrides, self.folders))
        return built


def compose_pages(overrides: Sequence[str], config_dir: str | None = None) -> Composed:
    """Composes pages, by far the most of the work, for one configuration or for many.

    Raises:
        ConfigError: one line with the remedy.
    """
    import hydra
    from omegaconf import OmegaConf

    register_schema()
    overrides, extra = quoted(overrides), search_path(config_dir)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = hydra.compose("config", [*overrides, *extra], return_hydra_config=True)
            choices = dict(composed.hydra.runtime.choices)
            folders = page_folders(composed.hydra)
            OmegaConf.set_struct(composed, False)
            del composed.hydra
            OmegaConf.set_struct(composed, True)
        except Exception as error:
            raise ConfigError(explain(error, overrides, config_dir)) from error
    return Composed(composed, choices, folders, overrides, config_dir)


def _remember(config: Any, key: str) -> Callable[[], None]:
    """What gives a dotted key of a configuration its present value again, to be called last.

    To change some values and then change them back is far quicker than to copy a configuration.
    """
    from omegaconf import DictConfig
    from omegaconf._utils import split_key

    for name in split_key(key):
        content, node = config._content, config._get_node(name)
        if not isinstance(node, DictConfig) or not isinstance(node._content, dict):
            break
        config = node
    if node is None:
        return lambda: content.pop(name, None)
    kept = copy.deepcopy(node)
    return lambda: content.update({name: kept})


def page_folders(hydra_config: Any) -> list[Path]:
    """The folders in which Hydra has looked for pages."""
    sources = hydra_config.runtime.config_sources
    return [Path(source.path) for source in sources if source.schema == "file"]


@cache
def register_schema() -> None:
    """Makes the dataclasses known to Hydra, so that pages and overrides are checked by them."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="schema", node=RunConfig)
    for name, schema in settings.TASKS.items():
        store.store(group="task", name=name, node=schema)


@cache
def take_lazy_help() -> None:
    """Lets Hydra 1.3 describe a flag by an object that makes its text when it is shown.

    From Python 3.14 on argparse looks into every help at once, and no command began.
    """
    import argparse

    usual: Any = getattr(argparse.ArgumentParser, "_check_help", None)

    def check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            usual(parser, action)

    if usual:
        argparse.ArgumentParser._check_help = check_text  # pyright: ignore


def finish(
    composed: Any, choices: Mapping[str, Any], overrides: Sequence[str], folders: Sequence[Path]
) -> RunConfig:
    """Turns what Hydra composed into a checked `RunConfig`; page names become its names."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:  # ${...} that leads nowhere
        raise ConfigError(explain(error, overrides)) from error
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    _refuse_empty(overrides)
    for group in ("experiment", "optimizer"):
        if not isinstance(choices.get(group), str):
            raise ConfigError(f"{group}=null: choose a page of conf/{group}")
    plain.update(experiment=choices["experiment"], optimizer_name=choices["optimizer"])
    try:
        config = from_dict({str(key): value for key, value in plain.items()})
    except ConfigError as error:  # +KEY=value
        unknown = re.search(r"argument '(\w+)'", str(error))
        raise ConfigError(
            f"{unknown[1]}: no such key; see --cfg job" if unknown else f"{error}"
        ) from error
    _check_recipe(choices, folders)
    _name_contents(config.optimizer)
    if config.run:
        config = _recorded(config, overrides)
    check(config)
    expand_home(config)
    return config


def _refuse_empty(overrides: Sequence[str]) -> None:
    """`start_from=$ID` with an ID that is not set must not train from scratch.

    Raises:
        ConfigError: names the key.
    """
    for key, _, value in (override.lstrip("+").partition("=") for override in overrides):
        if key in ("run", "start_from", "start_from.source") and value.strip() in ("", "''", '""'):
            raise ConfigError(
                f"{key}= is empty (a variable that is not set?): give the id of a run, or "
                f"leave {key} out"
            )


def _name_contents(optimizer: dict[str, Any]) -> None:
    """An optimizer read from a file is known by what stands in the file, not by the file's name.

    Raises:
        ConfigError: a digest was given, and is not the file's.
    """
    path = shipped(str(optimizer.get("path") or ""))
    if "digest" not in optimizer or not Path(path).is_file():
        return
    found = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
    if optimizer["digest"] not in (None, found):
        raise ConfigError(f"optimizer.digest={optimizer['digest']}: {path} has {found}; leave it")
    optimizer["digest"] = found


def _recorded(asked: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The configuration of `run=<run id>`, with what was asked of the job.

    Raises:
        UserError: for an unknown run, another job, or a key that would be ignored.
    """
    from experiments.identity import OPERATIONAL_DATA_KEYS, run_id
    from experiments.store import read_config

    taken = [*BESIDE_A_RUN, "checkpoint.step", "eval.batch_size"]
    taken += [f"data.{key}" for key in OPERATIONAL_DATA_KEYS]
    keys = [override.split("=")[0].lstrip("+~") for override in overrides]
    ignored = [key for key in keys if not {key, key.split(".")[0].split("/")[0]} & set(taken)]
    if ignored:
        raise ConfigError(recorded(f"run={asked.run}", ignored[0]))
    if asked.job == "train":
        raise ConfigError(f"run={asked.run}: it needs job=evaluate, job=landscape, ...")
    folder = Path(os.path.expanduser(asked.results_dir)) / asked.run
    config = from_dict(read_config(folder))
    trust.check(config, f"the recorded run {folder}")
    for key in ("job", "evaluation", "landscape", "plan", "results_dir"):
        setattr(config, key, getattr(asked, key))
    config.checkpoint.step = asked.checkpoint.step
    if "eval.batch_size" in keys:
        config.eval.batch_size = asked.eval.batch_size
    for key in (key.partition(".")[2] for key in keys if key.startswith("launch.")):
        setattr(config.launch, key, getattr(asked.launch, key))
    for key in (key.partition(".")[2] for key in keys if key.startswith("data.")):
        if key not in config.data:
            raise ConfigError(f"data.{key}: the data of the run {asked.run} have no such key")
        config.data[key] = asked.data[key]
    if run_id(config) != asked.run:
        raise ConfigError(f"run={asked.run} was recorded by another version: give its command line")
    return config


def _check_recipe(choices: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """The recipe of an experiment may be missing; one that the user names must be there, and fit.

    Numbers of one optimizer must not reach another.
    """
    experiment, optimizer = choices["experiment"], choices["optimizer"]
    recipe = choices.get("recipe") or f"{experiment}/{optimizer}"
    if recipe == f"{experiment}/{optimizer}":
        return
    folder, _, page = recipe.rpartition("/")
    if not f"{recipe}_".startswith(f"{experiment}/{optimizer}_"):
        raise ConfigError(
            f"recipe={recipe} is not for experiment={experiment} with optimizer={optimizer}: "
            f"its name must be {experiment}/{optimizer}, or begin with {experiment}/{optimizer}_"
        )
    found = [path.stem for pages in folders for path in (pages / "recipe" / folder).glob("*.yaml")]
    if page not in found:
        raise ConfigError(f"recipe={recipe}: no such page{nearest(page, found, '--help')}")
