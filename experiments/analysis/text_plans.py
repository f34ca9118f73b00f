"""The table of results/bench/README.md on sharded training, from what `job=plan` has computed."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, table

_SHOWN = ("adamw", "lion", "lion_int8")
_HEADS = ("page", "optimizer", "GPUs", "micro-batch", "`ddp`, GB", "`hsdp`, GB", "`fsdp`, GB",
          "checkpoint, GB", "days")  # fmt: skip


def sharded(results: Path) -> str:
    """Memory of a device, size of a checkpoint and time of large pages on many devices."""
    path = results / "plan_sharded.csv"
    if not path.exists():
        return NO_STUDY
    plans = pd.read_csv(path)
    rows = [
        (
            f"`{plan.experiment}` ({plan.params_total / 1e9:.1f} B)",
            name_of(plan.optimizer.partition("_")[0]) + _momentum(plan.optimizer),
            f"{plan.devices:,}",
            str(plan.micro_batch_size),
            *(f"{getattr(plan, f'{way}_bytes') / 1e9:.1f}" for way in ("ddp", "hsdp", "fsdp")),
            f"{plan.checkpoint_bytes / 1e9:.1f}",
            f"{plan.days:.3g}",
        )
        for plan in plans.itertuples()
        if plan.optimizer in _SHOWN
    ]
    return table(_HEADS, rows)


def _momentum(name: str) -> str:
    kind = name.partition("_")[2]
    return f", {kind} momentum" if kind else ""
