"""The command line that runs a cell of a sweep again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from experiments.analysis.report.page import is_missing

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
    run = f"python run.py -m experiment=vit_proxy sweep={page} {more}seed=0,1,2,3,4"
    return f"{run} && python scripts/sweep.py collect vit_proxy-{page} --study {name} --curves"


def run_cell(cell: Mapping[str, Any]) -> str:
    """The command for one cell of a sweep's manifest; it repeats every setting of the sweep.

    Args:
        cell: With optimizer, seed, settings (dotted key: value) and config.
    """
    words = ["python", "run.py", f"experiment={cell['config']['experiment']}"]
    words.append(f"optimizer={cell['optimizer']}")
    words += [f"{key}={_value(value)}" for key, value in cell["settings"].items()]
    return shlex.join([*words, f"seed={cell['seed']}"])


def run_again(run: Mapping[str, Any]) -> str:
    """The command for one run, as far as the columns of a study tell.

    Args:
        run: A row with columns of `studies.COLUMNS`; what is missing is left to the pages.
    """
    words = ["python", "run.py"]
    for column, key in (("experiment", "experiment"), ("optimizer", "optimizer"), *KEYS.items()):
        if not is_missing(run.get(column)):
            words.append(f"{key}={_value(run[column])}")
    if not is_missing(run.get("beta1")) and not is_missing(run.get("beta2")):
        words.append(f"optimizer.betas=[{_value(run['beta1'])},{_value(run['beta2'])}]")
    if not is_missing(run.get("seed")):
        words.append(f"seed={_value(run['seed'])}")
    return shlex.join(words)


def _value(value: Any) -> str:
    """A value as Hydra reads it back: 64.0 is 64, and no digit is lost."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
    return str(value)
