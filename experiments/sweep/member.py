"""One of several runs that are trained together: its folder, its parts, how it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from experiments.config import RunConfig
from experiments.distributed import World
from experiments.measuring import (
    diverged_row,
    divergence,
    due,
    evaluate,
    in_words,
    loss_rows,
    make_up,
    not_judged,
    time_rows,
)
from experiments.parts import Parts, build_parts, facts
from experiments.recorder import Recorder
from experiments.saved_parts import restore_parts, save_parts
from experiments.sweep.pool import Finished
from experiments.tasks.task import Task


class Member:
    """A run among others. What goes wrong in it ends it alone: use `guarded`."""

    def __init__(self, index: int, config: RunConfig) -> None:
        self.index = index
        self.config = config
        self.ended: Finished | None = None
        self.start_step = 0
        self._stack = contextlib.ExitStack()
        self._parts: Parts | None = None
        self._recorder: Recorder | None = None

    def open(self, world: World) -> bool:
        """Takes the run's folder; returns whether there is anything left to train.

        Raises:
            UserError: if another process holds the folder.
        """
        self._recorder = self._stack.enter_context(
            Recorder.opened(self.config, world, speaks=False)
        )
        if self.recorder.is_over:
            status = self.recorder.read_status()
            self.end(Finished(self.index, status["state"], status.get("message", "")))
        return self.ended is None

    def build(self, task: Task, world: World) -> None:
        """Builds the parts and restores the newest checkpoint.

        Raises:
            UserError: for what a run of its own would refuse, too.
        """
        self._parts = build_parts(self.config, task, world)
        self.start_step = restore_parts(self._parts, self.recorder, to_train=True)

    @property
    def parts(self) -> Parts:
        assert self._parts is not None
        return self._parts

    @property
    def recorder(self) -> Recorder:
        assert self._recorder is not None
        return self._recorder

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Within, an error ends this run as failed, and the others go on."""
        try:
            yield
        except Exception as error:
            # The recorder notes the failure, and hands the same error back.
            self._stack.__exit__(type(error), error, error.__traceback__)
            self.ended = Finished(self.index, "failed", f"{type(error).__name__}: {error}")

    def end(self, finished: Finished) -> None:
        """Closes the folder for good."""
        self._stack.close()
        self.ended = finished

    def abandon(self, error: BaseException) -> None:
        """Ends it because of what went wrong for all."""
        if self.ended is None:
            self._stack.__exit__(type(error), error, error.__traceback__)
            message = f"{type(error).__name__}: {error}"
            self.ended = Finished(self.index, "failed", message, is_own=False)

    def release(self) -> None:
        """Gives the folder back untouched."""
        self._stack.close()

    def start(self, together: int) -> None:
        """Opens a session in the ledger, of so many runs that are trained as one."""
        total = self.parts.total_steps
        self.recorder.start(self.start_step, total, together, **facts(self.parts))
        self.parts.watch.start()
        if bad := make_up(self.parts, self.recorder, self.start_step):
            self._close("diverged", self.start_step, bad)

    def settle(self, done: int, lr_factor: float, is_last: bool) -> None:
        """Reports the losses; ends the run where one is not finite. As `runner` does."""
        losses = self.parts.losses
        bad_step = losses.settle(self.parts.world, done)
        if bad_step is not None:
            self.recorder.add([diverged_row(self.parts, bad_step)])
            self._close("diverged", bad_step, f"the loss of step {bad_step} is not finite")
        elif losses.is_full or is_last:
            self.recorder.add(loss_rows(self.parts, done, lr_factor))
            losses.clear()

    def evaluate(self, done: int) -> list[dict[str, Any]]:
        """Measures the model; its weights must be up to date."""
        is_last = done == self.parts.total_steps
        return evaluate(self.parts, done, due(self.parts.task, is_last))

    def note(self, done: int, rows: list[dict[str, Any]]) -> None:
        """Writes an evaluation down; ends the run where its last one is not finite."""
        self.recorder.add(rows)
        total = self.parts.total_steps
        self.recorder.log(f"step {done}/{total}: {', '.join(in_words(rows))}")
        if done == total and (bad := divergence(self.parts, rows)):
            self._close("diverged", done, bad)
        elif done == total and (warning := not_judged(self.parts, rows)):
            self.recorder.log(warning)

    def save(self, done: int, must: bool) -> None:
        """Saves a checkpoint that `runner` reads, too."""
        save_parts(self.parts, self.recorder, done, must)

    def finish(self, done: int) -> None:
        """Notes that all is done."""
        self.recorder.add(self.recorder.lacks(done, time_rows(self.parts, done)))
        self._close("finished", done, "")

    def interrupt(self, done: int) -> None:
        """Notes that it was told to stop; it must have been saved."""
        self._close("interrupted", done, "saved; call the same command again to go on")

    def _close(self, state: str, step: int, message: str) -> None:
        self.recorder.end(state, step, message)
        self.end(Finished(self.index, state, message))
