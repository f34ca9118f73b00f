"""A sweep whose chosen cells another sweep starts from: pre-train, then fine-tune.

    then: # in a page of conf/sweep
      experiment: finetune_proxy
      optimizer: sgd
      start_from: {weights: raw}
      grid: {optimizer.lr: [/3, x1, x3]}

Stage two is a sweep of its own, `NAME-then`. For each optimizer of stage one it starts from the
runs of the setting that validation chose there, seed by seed: the run of seed 3 begins with what
the run of seed 3 has learnt. The optimizer of stage one is a condition of stage two
(`init_optimizer`), so each has its own best cell there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.compose import compose_cells
from experiments.config import ConfigError, RunConfig, UserError
from experiments.files import say
from experiments.nearest import nearest
from experiments.sweep import writing
from experiments.sweep.confirm import cells_of, set_aside_other_picks
from experiments.sweep.manifest import INIT_OPTIMIZER, Cell, Sweep
from experiments.sweep.planning import settings_of
from experiments.sweep.request import Request
from experiments.sweep.results import Best, best_cells
from experiments.sweep.space import SweepPage, short
from experiments.sweep.unpicked import in_words, without_pick


@dataclass
class Stage:
    """What a page of `conf/sweep` says under `then`."""

    experiment: str = ""  # page
    optimizer: str = ""  # page
    start_from: dict[str, Any] = field(default_factory=dict)  # as the section; without its source
    set: dict[str, Any] = field(default_factory=dict)  # as in a page of conf/sweep
    conditions: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    fixed: list[str] = field(default_factory=list)  # overrides of the command: where and how to run
    config_dir: str | None = None  # with more pages


def read(section: Any) -> Stage:
    """The checked section.

    Raises:
        ConfigError: for a key that there is not, or one that is missing.
    """
    known = list(Stage.__dataclass_fields__)
    for key in section:
        if key not in known:
            raise ConfigError(f"sweep.then.{key}: no such key{nearest(str(key), known)}")
    stage = Stage(**section)
    for key in ("experiment", "optimizer"):
        if not getattr(stage, key):
            raise ConfigError(f"sweep.then.{key} is missing: name a page of conf/{key}")
    if "source" in stage.start_from:
        raise ConfigError("sweep.then.start_from.source: stage one chooses it; leave it out")
    return stage


def example(stage: Stage) -> RunConfig:
    """The first setting of stage two as it will be, but for what it starts from.

    Raises:
        ConfigError: for pages or settings that cannot be.
    """
    base, trials, start = _settings(stage)
    (config,) = compose_cells(base, [{**trials[0], **start}], config_dir=stage.config_dir)
    return config


def what_is_left(sweep: Sweep) -> str:
    """Why stage two cannot be planned yet; "" where it can."""
    states = sweep.states().values()
    left = sum(state not in ("finished", "diverged") for state in states)
    if not left:
        return ""
    said = f"stage two of {sweep.name} waits for {left} of {len(states)} cells of stage one"
    if failed := sum(state == "failed" for state in states):  # nothing tries them again by itself
        return f"{said}, of which {failed} failed for good: {sweep.cure} tries these again"
    return f"{said}: when they are over, call the same command again"


def second(sweep: Sweep) -> Sweep:
    """Writes the manifest of stage two, or adds what is new to it.

    Raises:
        UserError: where the sweep has no stage two, is not over, or has chosen nothing.
    """
    if not sweep.manifest.get("then"):
        raise UserError(f"the sweep {sweep.name} has no stage two: its page has no `then`")
    if waiting := what_is_left(sweep):
        raise UserError(waiting)
    stage = read(sweep.manifest["then"])
    chosen = best_cells(sweep)
    if not chosen:
        raise UserError(f"sweep {sweep.name}: no setting of stage one has finished with every seed")
    _check_choice(chosen)
    say(in_words(without_pick(sweep, chosen)), sys.stderr)
    runs = {best.optimizer: _runs(best, sweep) for best in chosen}
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in runs.values())))
    if not seeds:
        names = ", ".join(runs)
        raise UserError(
            f"sweep {sweep.name}: there is no seed with which the picks of all have finished "
            f"({names}): train them with the same seeds"
        )
    cells = _cells(stage, runs, seeds, sweep.manifest["runs_dir"])
    edges = [best.optimizer for best in chosen if best.edges]
    about = f"{stage.experiment} from what {sweep.name} has chosen"
    path = sweep.path.with_name(f"{sweep.name}-then")
    set_aside_other_picks(path, cells)
    return writing.write(
        path,
        cells,
        fixed=sweep.manifest["fixed"],
        conditions={INIT_OPTIMIZER, *map(short, stage.conditions)},
        max_tries=sweep.manifest["max_tries"],
        lease_seconds=sweep.manifest["lease_seconds"],
        about=f"{about}; on an edge of what was tried: {', '.join(edges)}" if edges else about,
    )


def _check_choice(chosen: Sequence[Best]) -> None:
    """One setting for each optimizer: conditions of stage one would give several."""
    names = [best.optimizer for best in chosen]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"stage one has chosen {names.count(twice)} settings of {twice}, one under each "
            "condition: tune all of its axes (sweep.grid), or fix them"
        )


def _runs(best: Best, sweep: Sweep) -> dict[int, str]:
    """Seed to the run id of the chosen setting, of the runs that have finished."""
    cells = cells_of(best, sweep)
    return {c.seed: c.run_id for c in cells if sweep.final_state(c) == "finished"}


def _cells(
    stage: Stage, runs: dict[str, dict[int, str]], seeds: Sequence[int], runs_dir: str
) -> list[Cell]:
    """The cells of stage two, seeds outermost."""
    base, trials, start = _settings(stage)
    plan = [
        (name, {**trial, "seed": seed}, {**start, "start_from.source": by_seed[seed]})
        for seed in seeds
        for name, by_seed in runs.items()
        for trial in trials
    ]
    where = {"results_dir": runs_dir}
    each = [{**trial, **begun, **where} for _, trial, begun in plan]
    configs = compose_cells(base, each, config_dir=stage.config_dir)
    return [
        Cell.of(config, {INIT_OPTIMIZER: name, **trial})
        for config, (name, trial, _) in zip(configs, plan, strict=True)
    ]


def _settings(stage: Stage) -> tuple[list[str], list[dict[str, Any]], dict[str, Any]]:
    """Overrides that all share, what each setting changes, and what is said of the start."""
    page = SweepPage(set=stage.set, conditions=dict(stage.conditions), grid=dict(stage.grid))
    chosen = {"experiment": stage.experiment, "optimizer": stage.optimizer}
    kept = [text for text in stage.fixed if not text.startswith("results_dir=")]
    base = [*(f"{group}={name}" for group, name in chosen.items()), *kept]
    trials, _ = settings_of(Request(), page, chosen, base, stage.config_dir)
    return base, trials, {f"start_from.{key}": value for key, value in stage.start_from.items()}
