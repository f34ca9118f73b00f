"""`job=evaluate`: measures a run's checkpoint once more, or in another way, into that run's ledger.

    python run.py job=evaluate experiment=vit_proxy optimizer=lion     # as the run was called
    python run.py job=evaluate run=vit_proxy-lion-s0-0123456789        # or by its id
    python run.py job=evaluate run=ID evaluation=NAME checkpoint.step=100

Without a name all that a run ends with is measured. The seeds are those of the run, so the same
evaluation gives the same numbers as while training.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import checkpoint
from experiments.build import explained, what_is_trained
from experiments.config import RunConfig, UserError
from experiments.distributed import joined
from experiments.files import end_output, say
from experiments.measuring import due, evaluate, in_words
from experiments.parts import build_parts
from experiments.recorder import Recorder
from experiments.saved_parts import restore_parts
from experiments.tasks.task import build_task


@dataclass(frozen=True)
class Measured:
    """What came out."""

    run_id: str
    folder: Path
    step: int  # of the checkpoint
    rows: list[dict[str, Any]]  # as they were added to the ledger


def main(config: RunConfig) -> int:
    """Measures, and prints one line with what came out."""
    found = measure(config)
    if os.environ.get("RANK", "0") == "0":
        said = ", ".join([f"step {found.step}", *in_words(found.rows)])
        say(f"{found.run_id}: {said} -> {found.folder}\n", sys.stdout)
    end_output()
    return 0


def measure(config: RunConfig) -> Measured:
    """Measures a kept checkpoint.

    Raises:
        UserError: where there is no such checkpoint or evaluation.
    """
    with joined(config.launch) as world, Recorder.opened(config, world) as recorder:
        task = build_task(config)
        parts = build_parts(config, task, world)
        asked = due(task, is_last=True, name=config.evaluation)
        step = restore_parts(parts, recorder, config.checkpoint.step)
        if step == 0:
            raise UserError(_nothing_to_evaluate(recorder, config.checkpoint.step))
        recorder.resume_rows()
        with explained(f"{what_is_trained(config)}: the evaluation fails"):
            rows = evaluate(parts, step, asked)
        recorder.add(rows)
        recorder.flush()
        return Measured(recorder.run_id, recorder.folder.path, step, rows)


def _nothing_to_evaluate(recorder: Recorder, asked: int | None) -> str:
    """Why no checkpoint was taken: there is none, or none is as it was written."""
    kept = {
        checkpoint.step_of(p) for p in checkpoint.list_newest_first(recorder.folder.checkpoints)
    }
    said = f"{recorder.folder.path}: no checkpoint to evaluate"
    if not kept:
        return f"{said}; train first"
    damaged = f"that of step {asked} is" if asked else "all are"
    others = ", ".join(map(str, sorted(kept - {asked}))) if asked else ""
    return f"{said}: {damaged} damaged" + (f"; there are: {others}" if others else "")
