"""A run, told from top to bottom: build, resume, step, evaluate, save, record.

Everything random is a function of the seed and the position (see `experiments.data.order`), so
a run that was killed and called again ends bit-equal to one that was not.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments import launch, precision, schedule, schedule_free, sharded_state, sharding
from experiments.accumulating import accumulate
from experiments.build import (
    explained,
    first_explained,
    what_is_trained,
    where_they_meet,
)
from experiments.config import JOBS, RunConfig, UserError, from_dict
from experiments.distributed import joined
from experiments.files import end_output, say
from experiments.left_alone import EXIT_CODE, LeftAlone
from experiments.measuring import (
    diverged_row,
    divergence,
    divides,
    due,
    evaluate,
    evaluation_interval,
    in_words,
    loss_rows,
    make_up,
    not_judged,
    telemetry_rows,
    time_rows,
)
from experiments.parts import Parts, build_parts, facts, set_training
from experiments.recorder import Recorder
from experiments.saved_parts import finish_saving, restore_parts, save_parts
from experiments.stopping import SAVE, STOP, Stopper
from experiments.tasks.task import Batch, build_task


@dataclass
class Outcome:
    """How a run ended."""

    run_id: str
    folder: Path
    state: str  # finished | diverged | interrupted
    step: int
    total_steps: int
    message: str = ""
    exit_code: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)  # rows of the last evaluation


def run(config: RunConfig) -> Outcome:
    """Does the job of a configuration, from where it stopped.

    Raises:
        UserError: what the user can mend.
    """
    with joined(config.launch) as world, Recorder.opened(config, world) as recorder:
        if recorder.is_over:
            return _outcome(recorder)
        task = build_task(config)
        parts = build_parts(config, task, world)
        schedule.factor(config.schedule, 0, parts.total_steps)  # refuses what cannot be
        start = restore_parts(parts, recorder, to_train=True)
        recorder.start(start, parts.total_steps, **facts(parts))
        warnings = (
            precision.warning(config),
            schedule_free.warning(parts.optimizer, config.schedule),
        )
        for warning in filter(None, warnings):
            recorder.log(warning)
        with Stopper.listening(config.checkpoint, world) as stopper:
            step, state, message = _train(parts, recorder, stopper, start)
            finish_saving(parts, recorder)
            recorder.end(state, step, message)
        exit_code = stopper.exit_code if state == "interrupted" else 0
        return replace(
            _outcome(recorder), state=state, step=step, message=message, exit_code=exit_code
        )


def _train(parts: Parts, recorder: Recorder, stopper: Stopper, start: int) -> tuple[int, str, str]:
    """The loop. Returns steps done, the state of the run, and a word on it."""
    config, world, losses, watch = parts.config, parts.world, parts.losses, parts.watch
    plan, total = parts.plan, parts.total_steps
    evaluate_every = evaluation_interval(config.eval, plan)
    set_training(parts.model)
    schedule_free.train(parts.optimizer)
    done = start
    watch.start()
    if bad := make_up(parts, recorder, start):
        return done, "diverged", bad
    watch.start()
    batches = first_explained(parts.task.batches(plan, start, total), "data: the first batch fails")
    is_new = True
    for step, batch in enumerate(batches, start):
        lr_factor = schedule.factor(config.schedule, step, total)
        with explained(f"{where_they_meet(config)}: the first step fails", active=step == start):
            losses.add(_step(parts, step, batch, lr_factor))
        done = step + 1

        if parts.telemetry is not None and parts.telemetry.is_due(done):
            recorder.add(telemetry_rows(parts, done))
        is_last = done == total
        wish = stopper.wish()
        is_measured = is_last or divides(evaluate_every, done)
        save = is_last or wish >= SAVE or divides(config.checkpoint.every_steps, done)
        if recorder.wants_progress:
            rate = config.train.batch_size * watch.laps_per_second(done)
            recorder.progress(done, losses.latest(), lr_factor * parts.peak_lrs[0], rate)
        if not (is_measured or save or losses.is_full):
            continue

        bad_step = losses.settle(world, done)
        watch.lap("train")
        if bad_step is not None:
            recorder.add([diverged_row(parts, bad_step)])
            return bad_step, "diverged", f"the loss of step {bad_step} is not finite"
        if losses.is_full or is_last:
            recorder.add(loss_rows(parts, done, lr_factor))
            losses.clear()
        if is_measured:
            is_first, is_new = is_new, False
            what = f"{what_is_trained(config)}: the first evaluation fails"
            with explained(what, active=is_first):
                rows = _measure(parts, recorder, done)
            if is_last and (bad := divergence(parts, rows)):
                return done, "diverged", bad
            if (is_first or is_last) and (warning := not_judged(parts, rows, is_last)):
                recorder.log(warning)
        if save:
            save_parts(parts, recorder, done, must=is_last or wish == STOP)
            stopper.saved()
            watch.lap("save")
        if wish == STOP and not is_last:
            return done, "interrupted", "saved; call the same command again to go on"
    recorder.add(recorder.lacks(done, time_rows(parts, done)))  # a session may only end once more
    return done, "finished", ""


def _measure(parts: Parts, recorder: Recorder, done: int) -> list[dict[str, Any]]:
    """Evaluates after a step, records it, and returns the rows."""
    try:
        rows = evaluate(parts, done, due(parts.task, done == parts.total_steps))
    except Exception:  # what was trained is not lost: the next call measures again
        if not parts.is_saved_by_all:  # saving needs all processes, and they may go on
            save_parts(parts, recorder, done, must=False)
        raise
    parts.watch.lap("evaluate")
    recorder.add(rows)
    recorder.log(f"step {done}/{parts.total_steps}: " + ", ".join(in_words(rows)))
    return rows


def _step(parts: Parts, step: int, batch: list[Batch], factor: float) -> Tensor:
    """One optimizer step over this process's micro-batches; returns their mean loss, detached.

    Its mean over the processes is the loss of the global batch.
    """
    for group, peak in zip(parts.optimizer.param_groups, parts.peak_lrs, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(peak * factor)
        else:
            group["lr"] = peak * factor
    total = accumulate(parts, step, batch)
    norm, telemetry = None, parts.telemetry
    if parts.config.train.grad_clip_norm is not None:
        most = parts.config.train.grad_clip_norm
        norm = sharding.clip_gradients(parts.model, most, parts.world)
    if telemetry is not None:
        telemetry.before(step + 1, norm)
    sharded_state.step(parts.optimizer) if parts.is_sharded else parts.optimizer.step()
    parts.memory.stepped()
    if telemetry is not None:
        telemetry.after(step + 1)
    parts.optimizer.zero_grad(set_to_none=True)
    if parts.average is not None:
        parts.average.update_parameters(parts.model)
    return total


def _outcome(recorder: Recorder) -> Outcome:
    """Read from the folder, in the main process; the others know less."""
    status = recorder.read_status()
    return Outcome(
        run_id=recorder.run_id,
        folder=recorder.folder.path,
        state=status.get("state", "unknown"),
        step=status.get("step", 0),
        total_steps=recorder.total_steps or status.get("total_steps", 0),
        message=status.get("message", ""),
        results=recorder.last_evaluation(),
    )


def main(config: RunConfig) -> int:
    """Runs, and prints one line on how it ended.

    Returns:
        The exit code.
    """
    outcome = run(config)
    if os.environ.get("RANK", "0") == "0":
        place = f"step {outcome.step} of {outcome.total_steps}"
        said = [outcome.state, place, outcome.message, *in_words(outcome.results)]
        say(f"{outcome.run_id}: {', '.join(filter(None, said))} -> {outcome.folder}\n", sys.stdout)
    end_output()
    return outcome.exit_code


def _main_of_started_process(path: str) -> int:
    """Entry of a process that `experiments.launch` started."""
    launch.watch_parent()
    try:
        config = from_dict(json.loads(Path(path).read_text()))
        return importlib.import_module(JOBS[config.job]).main(config)
    except LeftAlone as error:
        say(f"process {os.environ['RANK']}: {error}\n", sys.stderr)
        return EXIT_CODE
    except UserError as error:
        Path(os.environ[launch.ERROR_VARIABLE]).write_text(str(error), "utf-8")
        return 2
    except Exception as error:
        launch.note_fault(error)
        raise


if __name__ == "__main__":
    sys.exit(_main_of_started_process(sys.argv[1]))
