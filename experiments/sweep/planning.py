"""The cells of a sweep: from the pages and values of a command line to checked configurations."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from experiments import limits
from experiments.compose import Composed, compose_pages
from experiments.config import ConfigError
from experiments.nearest import nearest
from experiments.pages import from_dotlist, load_page
from experiments.ranges import SEED, check_all
from experiments.sweep import elsewhere, space
from experiments.sweep.manifest import Cell
from experiments.sweep.request import Request, parse_value
from experiments.sweep.space import BATCH_SIZE, SweepPage, short

_OF_BATCHES = (BATCH_SIZE, "train.micro_batch_size")


def sweep_page(request: Request, folders: Sequence[Path]) -> SweepPage:
    """The checked page of a request; an empty one where none is chosen."""
    from omegaconf import OmegaConf

    chosen: Any = from_dotlist("sweep", request.page_changes)
    if request.page:
        chosen = load_page("sweep", request.page, request.page_changes, folders)
    plain: Any = OmegaConf.to_container(chosen)
    for key in plain:
        if key not in limits.SWEEP:
            raise ConfigError(f"sweep.{key}: no such key{nearest(str(key), list(limits.SWEEP))}")
    check_all(plain, limits.SWEEP, "sweep")  # before OmegaConf, which names no remedy
    merged = OmegaConf.merge(OmegaConf.structured(SweepPage), chosen)
    page = OmegaConf.to_object(merged)
    assert isinstance(page, SweepPage)
    return page


def plan(
    request: Request, page: SweepPage, config_dir: str | None = None, has_gpus: bool = False
) -> tuple[list[Cell], set[str]]:
    """The cells of a request, seeds outermost: a sweep that is stopped early is still fair.

    `has_gpus`: the workers are given GPUs, which this machine may lack.

    Returns:
        The cells without repetition, and the columns that are conditions.

    Raises:
        ConfigError: for a setting that cannot work, before anything is trained.
    """
    _pages.cache_clear()  # they may have changed since
    seeds = request.swept.get("seed", page.seeds)
    if "seed" in request.fixed:
        seeds = [parse_value(request.fixed["seed"])]
    for seed in seeds:
        SEED.check("seed", seed)
    cells: list[Cell] = []
    conditions: set[str] = set()
    choices = {**request.choices}
    if page.optimizers:
        choices.setdefault("optimizer", page.optimizers)
    for combination in itertools.product(*choices.values()):
        chosen = dict(zip(choices, combination, strict=True))
        base = [*(f"{group}={name}" for group, name in chosen.items()), *request.fixed.values()]
        trials, axes = settings_of(request, page, chosen, base, config_dir)
        extra = {k: v for k, v in chosen.items() if k not in ("experiment", "optimizer")}
        conditions |= axes | (extra.keys() - {"recipe"})  # other data are no setting to tune
        wanted = [{**trial, "seed": seed} for seed in seeds for trial in trials]
        configs = _pages(tuple(base), config_dir).with_each(wanted)
        if has_gpus:
            elsewhere.check_precision(configs)
        cells += [
            Cell.of(config, {**extra, **each}) for config, each in zip(configs, wanted, strict=True)
        ]
    order = {seed: number for number, seed in enumerate(seeds)}
    return sorted(_each_once(cells), key=lambda cell: order[cell.seed]), conditions


def _each_once(cells: Sequence[Cell]) -> list[Cell]:
    """The cells without repetition.

    Raises:
        ConfigError: where two settings are one run, whose numbers would stand under one of them.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        first = found.setdefault(cell.run_id, cell).settings
        for key, value in cell.settings.items():
            if key in first and first[key] != value:
                raise ConfigError(
                    f"{key}={first[key]} and {key}={value} are the same run: the key does not "
                    "change which run it is (as where files lie, how work is done), or these "
                    "values mean the same; name one value, or tell other data apart by data.name"
                )
    return list(found.values())


def settings_of(
    request: Request,
    page: SweepPage,
    chosen: Mapping[str, str],
    base: Sequence[str],
    config_dir: str | None,
) -> tuple[list[dict[str, Any]], set[str]]:
    """The settings of one choice of pages, without seeds, and which columns are conditions."""
    swept = {key: values for key, values in request.swept.items() if key != "seed"}
    is_scaled = page.lr_scaling != "none" and BATCH_SIZE in request.fixed
    # What lr is scaled from is the batch size of the recipe.
    left_out = [request.fixed[key] for key in _OF_BATCHES if is_scaled and key in request.fixed]
    recipe = tuple(text for text in base if text not in left_out)
    (reference,) = _pages(recipe, config_dir).with_each([{}])
    whole = space.space_of(page, reference.optimizer_name)
    own = space.without(whole, [*request.fixed, *swept])
    if own.relative_to:
        pages = {**chosen, "optimizer": own.relative_to}
        others = [f"{group}={name}" for group, name in pages.items() if group != "recipe"]
        kept = [
            text
            for key, text in request.fixed.items()
            if not key.startswith("optimizer.") and text not in left_out
        ]
        (reference,) = _pages((*others, *kept), config_dir).with_each([{}])
    for key, values in swept.items():
        (own.grid if _is_tuned(key, whole) else own.conditions)[key] = values
    if is_scaled:
        own.conditions[BATCH_SIZE] = [parse_value(request.fixed[BATCH_SIZE])]
    elif page.lr_scaling != "none" and BATCH_SIZE in own.set:
        own.conditions[BATCH_SIZE] = [own.set.pop(BATCH_SIZE)]
    _check_columns([*own.conditions, *own.grid, *itertools.chain(*own.points)])
    trials = [{**own.set, **one} for one in space.settings(own, reference, page.lr_scaling)]
    return trials, {short(key) for key in own.conditions}


def _is_tuned(key: str, whole: space.OptimizerSpace) -> bool:
    """Whether the values of a key are tried, not compared: as the page has it, if it has it."""
    if key in whole.conditions:
        return False
    return (
        key.startswith("optimizer.")
        or key in whole.grid
        or key in [*itertools.chain(*whole.points)]
    )


def _check_columns(keys: Sequence[str]) -> None:
    """Refuses keys that tables could not tell apart.

    Raises:
        ConfigError: names the two.
    """
    found: dict[str, str] = {}
    for key in keys:
        if (other := found.setdefault(short(key), key)) != key:
            raise ConfigError(
                f"sweep: {other} and {key} would be one column of its tables, {short(key)}: sweep "
                "one at a time"
            )


@lru_cache(maxsize=64)
def _pages(overrides: tuple[str, ...], config_dir: str | None) -> Composed:
    """What relative values refer to, and what cells are put on; several may share it."""
    return compose_pages(overrides, config_dir)
