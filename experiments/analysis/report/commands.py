"""The command line that runs a cell of a sweep again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.again import as_override, command_of
from experiments.analysis.report.page import is_missing
from experiments.pages import script

SWEEP_PAGES = Path(__file__).resolve().parents[3] / "conf" / "sweep"

KEYS = {
    "lr": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "batch_size": "train.batch_size",
    "epochs": "train.epochs",
}
"""Columns of a study and the keys of the configuration that they are."""

STUDY_SWEEPS = {
    "heatmap": ("lr_wd_proxy", "optimizer=adamw,lion "),
    "batch_size": (
        "batch_size_proxy",
        "optimizer=adamw,lion train.batch_size=32,64,128,256,512 launcher=vectorised ",
    ),
    "betas": ("betas", "optimizer=lion "),
    "optimizers": ("optimizers_proxy", ""),
}
"""The committed studies: the page of conf/sweep that makes each, and what else is said."""


def make_study(name: str) -> str:
    """The commands that run a committed study and tabulate it."""
    page, more = STUDY_SWEEPS[name]
    run = f"{script('run')} -m experiment=vit_proxy sweep={page} {more}seed=0,1,2,3,4,5"
    return f"{run} && {script('sweep')} collect vit_proxy-{page} --study {name} --curves"


def run_cell(cell: Mapping[str, Any]) -> str:
    """The command for one cell of a sweep's manifest; it repeats every setting of the sweep.

    Args:
        cell: With optimizer, seed, settings (dotted key: value) and config.
    """
    return command_of(
        cell["config"]["experiment"], cell["optimizer"], cell["settings"], cell["seed"]
    )


def run_again(run: Mapping[str, Any]) -> str:
    """The command for one run, as far as the columns of a study tell.

    Args:
        run: A row with columns of `studies.COLUMNS`; what is missing is left to the pages.
    """
    words = script("run").split()
    fixed = set_by_page(run.get("sweep"), run.get("experiment"))
    for column, key in (("experiment", "experiment"), ("optimizer", "optimizer"), *KEYS.items()):
        if not is_missing(run.get(column)):
            words.append(f"{key}={as_override(run[column])}")
    if not is_missing(run.get("beta1")) and not is_missing(run.get("beta2")):
        words.append(f"optimizer.betas=[{as_override(run['beta1'])},{as_override(run['beta2'])}]")
    named = {word.partition("=")[0] for word in words}
    words += [f"{key}={as_override(value)}" for key, value in fixed.items() if key not in named]
    if not is_missing(run.get("seed")):
        words.append(f"seed={as_override(run['seed'])}")
    return shlex.join(words)


def set_by_page(sweep: object, experiment: object) -> dict[str, Any]:
    """What a page of conf/sweep sets for every run of a sweep, beside what a table's columns tell.

    Args:
        sweep: Its name, EXPERIMENT-PAGE unless somebody named it.
        experiment: Of the run.
    """
    page = str(sweep).removeprefix(f"{experiment}-")
    path = SWEEP_PAGES / f"{page}.yaml"
    if page == str(sweep) or not path.exists():
        return {}
    return dict(yaml.safe_load(path.read_text()).get("set") or {})
