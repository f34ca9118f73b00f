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

STUDY_COMMANDS = {
    "heatmap": "python run.py -m experiment=vit_proxy optimizer=adamw,lion sweep=lr_wd",
    "betas": "python run.py -m experiment=vit_proxy optimizer=lion sweep=betas",
    "optimizers": "python run.py -m experiment=vit_proxy sweep=optimizers",
    "batch_size": "python run.py -m experiment=vit_proxy optimizer=adamw,lion sweep=batch_size",
}
"""Sweeps that make the committed studies; `python scripts/sweep.py collect` then tabulates them."""


def run_again(run: Mapping[str, Any]) -> str:
    """The command for one run, from the columns of a study.

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
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
    return str(value)
