"""The parts of a run, saved to a checkpoint and restored from one."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any, cast

from torch.optim.swa_utils import AveragedModel

from experiments import checkpoint, schedule_free, sharded_state, warm_start
from experiments.config import UserError
from experiments.files import set_aside
from experiments.identity import run_id
from experiments.parts import Parts, fingerprint
from experiments.recorder import GO_ON, Recorder


def save_parts(parts: Parts, recorder: Recorder, step: int, must: bool) -> None:
    """Saves; a full disk stops the run only where it `must` be saved to lose nothing.

    The ledger is made durable first: a checkpoint must not survive the rows that it counts.
    """
    finish_saving(parts, recorder)
    states = _states(parts)
    if not (parts.world.is_main or parts.saver):
        return
    if parts.world.is_main and (warning := parts.memory.warning(states["optimizer"])):
        recorder.log(warning)
    content = {
        "run_id": recorder.run_id,
        "step": step,
        "num_rows": recorder.ledger.num_rows,
        **states,
        "losses": parts.losses.state(),
        "seconds": dict(parts.watch.seconds),
    }
    folder = recorder.folder.checkpoints
    try:
        _close_ledger(parts, recorder)
        if parts.saver:
            parts.saver.save(folder, step, content, now=must)
        else:
            checkpoint.save(folder, step, content, parts.config.checkpoint.keep)
    except OSError as error:
        if must:
            raise UserError(f"{error}; {GO_ON}") from error
        recorder.log(f"not saved, will try again: {error}")


def finish_saving(parts: Parts, recorder: Recorder) -> None:
    """Waits for what is still being saved while training goes on."""
    if parts.saver is None:
        return
    try:
        parts.saver.wait()
    except checkpoint.CheckpointError as error:
        recorder.log(f"not saved, will try again: {error}")


def _close_ledger(parts: Parts, recorder: Recorder) -> None:
    """Makes the ledger durable; all processes that save learn if it cannot be."""
    problem: OSError | None = None
    try:
        if parts.world.is_main:
            recorder.ledger.close()
    except OSError as error:
        problem = error
    if parts.saver and (said := parts.world.share(str(problem or ""))):
        raise OSError(said) from problem
    if problem is not None:
        raise problem


def _states(parts: Parts) -> dict[str, Any]:
    """Weights, optimizer and averages, whole or in shards; nothing where nothing is saved."""
    if parts.is_sharded and parts.saver:
        return sharded_state.states_in_shards(parts.model, parts.optimizer, parts.average)
    if parts.is_sharded:  # all processes bring them together
        return sharded_state.states(parts.model, parts.optimizer, parts.average, parts.world)
    if not parts.world.is_main:
        return {}
    average = cast(AveragedModel | None, parts.average)
    return {
        **_shown(parts),
        "model": parts.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "average": average.state_dict() if average is not None else None,
    }


def _shown(parts: Parts) -> dict[str, Any]:
    """The weights to be used, for whoever starts from them, where they are not those trained."""
    if not schedule_free.is_schedule_free(parts.optimizer):
        return {}
    with schedule_free.shown(parts.optimizer):
        state = parts.model.state_dict()
        return {"shown": {name: tensor.clone() for name, tensor in state.items()}}


def restore_parts(
    parts: Parts, recorder: Recorder, step: int | None = None, to_train: bool = False
) -> int:
    """Loads the newest good checkpoint, or that of a step, into the parts.

    Where there is none, the weights that `start_from` names.

    Args:
        parts: As built.
        recorder: Of the run.
        step: Of the checkpoint that is wanted; None: the newest.
        to_train: Whether an older checkpoint is taken where the ledger lacks measurements that
            the newest one counts: training makes them again.

    Returns:
        The step of the checkpoint, or 0 where there is none.

    Raises:
        UserError: in every process, where no checkpoint of the step is kept, or where one is that
            of another run or does not fit and there is no other, or where the weights to begin
            with are no longer those that this run is known by.
    """
    world = parts.world
    path, problem = None, ""
    if world.is_main:
        try:
            path = _restore(parts, recorder, step, to_train)
        except UserError as error:
            problem = str(error)
    found, problem = world.share((str(path) if path else None, problem))
    if problem:
        raise UserError(problem)
    recorder.compare_data(fingerprint(parts))
    if found is None:
        parts.begun = warm_start.load(parts.config, parts.task, parts.model)
        if parts.begun and run_id(parts.config) != recorder.run_id:
            raise UserError(
                "start_from: its weights were replaced while this run began with them: call the "
                "same command again"
            )
        for facts in parts.begun:
            recorder.log(f"{recorder.run_id}: {warm_start.in_words(facts)}")
        return 0
    if not world.is_main:
        _load(parts, _read(parts, Path(found)))
    return checkpoint.step_of(Path(found))


def _restore(parts: Parts, recorder: Recorder, step: int | None, to_train: bool) -> Path | None:
    """Loads the newest checkpoint that is good, this run's and whole; returns its file."""
    refused: dict[Path, str] = {}
    lacking: list[tuple[Path, int]] = []  # whose measurements are not all in the ledger
    for path in checkpoint.good_ones(recorder.folder.checkpoints, step):
        try:
            content = _read(parts, path)
            _check_own(path, content, recorder.run_id, parts.total_steps)
            _load(parts, content)
        except Exception as error:  # whatever a file that is none of ours makes torch raise
            reason = " ".join(str(error).split())[:200]
            refused[path] = f"checkpoint {path} cannot be taken: {reason}"
            warnings.warn(refused[path], stacklevel=2)
            continue
        num_lost = recorder.num_lost(content.get("num_rows"), checkpoint.step_of(path))
        if num_lost and to_train:
            lacking.append((path, num_lost))
            continue
        if lacking:
            newer, missing = lacking[0]
            recorder.log(
                f"the ledger lacks {missing} measurements up to step {checkpoint.step_of(newer)}: "
                f"going on from step {checkpoint.step_of(path)}, to make them again"
            )
        break
    else:
        if not lacking:
            if refused:
                first = next(iter(refused.values()))
                raise UserError(f"{first}; move it away, and call the same command again")
            return None
        path, num_lost = lacking[0]
        _load(parts, _read(parts, path))
        recorder.is_lacking = True
        at = checkpoint.step_of(path)
        recorder.log(f"{num_lost} measurements up to step {at} are lost: the ledger lacks them")
    for other in refused if to_train else ():
        with contextlib.suppress(OSError):
            set_aside(other)  # the next save would remove it
    return path


def _check_own(path: Path, content: dict[str, Any], run_id: str, total_steps: int) -> None:
    """That a checkpoint is of this run and of the step that its name says."""
    if content["run_id"] != run_id:
        raise UserError(f"it is of run {content['run_id']}, not of this one")
    step = content["step"]
    if step != checkpoint.step_of(path) or not 0 < step <= total_steps:
        raise UserError(f"it is of step {step}, and this run has {total_steps}")


def _read(parts: Parts, path: Path) -> dict[str, Any]:
    """What a checkpoint holds; of shards, those of this process are in their place already."""
    if not parts.is_sharded:
        return checkpoint.load(path)
    place = sharded_state.places(parts.model, parts.optimizer, parts.average)
    return checkpoint.load(path, mapped=True, place=place)


def _load(parts: Parts, content: dict[str, Any]) -> None:
    if parts.is_sharded:
        sharded_state.load(parts.model, parts.optimizer, parts.average, content)
    else:
        parts.model.load_state_dict(content["model"])
        parts.optimizer.load_state_dict(content["optimizer"])
        if parts.average is not None:
            cast(AveragedModel, parts.average).load_state_dict(content["average"])
    parts.losses.load(content["losses"])
    parts.watch.load(content["seconds"])
