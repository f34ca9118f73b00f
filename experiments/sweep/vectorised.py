"""Runs that differ only in lr, weight decay, betas or seed, trained together in one process.

One step of K small models costs much less than K steps of one: the runs are stacked (see `stack`)
and keep their own folders, ledgers, status files and checkpoints, as `runner` writes them. So each
of the two goes on with what the other has begun. What holds, and what does not:

- Initial weights, data order, augmentation, schedule, clipping, evaluation steps and rows are those
  of a run alone. Losses and weights agree up to the rounding of float32, which grows over a run;
  an interrupted run is resumed exactly but for that.
- `seconds`: the time of a step (tracing and compiling included) is shared out equally among the
  runs that are being trained; evaluating and saving counts for the run it is done for. So the
  training seconds of all runs add up to the time that the process has trained.
- A run that diverges or fails ends alone.
- What cannot be stacked trains one after another: see `grouping.why_alone` for what is known
  beforehand; the rest shows at the first batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from experiments import runner, schedule
from experiments.config import RunConfig, UserError
from experiments.distributed import World, joined
from experiments.stopping import Stopper
from experiments.sweep.allocator import keep_freed_memory
from experiments.sweep.group_training import GroupRun, find_unused
from experiments.sweep.grouping import likeness, why_alone
from experiments.sweep.member import Member
from experiments.sweep.pool import Finished
from experiments.sweep.stack import CannotStack
from experiments.tasks.task import build_task

OnChange = Callable[[list[int], list[Finished]], None]


def groups(configs: Sequence[RunConfig]) -> list[list[int]]:
    """Which runs may be trained together.

    Returns:
        Positions in `configs`, each exactly once; runs that must train alone are groups of one.
        Within a group those of a seed stand together: they share their batches, also where a
        group is cut into parts for several workers.
    """
    alike: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        alike.setdefault(likeness(config), []).append(index)
    found = []
    for members in alike.values():
        if len(members) > 1 and why_alone(configs[members[0]]):
            found += [[index] for index in members]
        else:
            found.append(sorted(members, key=lambda index: configs[index].seed))
    return found


def run_group(
    configs: Sequence[RunConfig],
    on_change: OnChange | None = None,
    *,
    compile: bool | None = None,
) -> list[Finished]:
    """Trains runs that `groups` has put together, from where they stopped, in this process.

    Args:
        configs: The runs; those that are finished return at once.
        on_change: Called with the indices that run and with what has ended, about once a second.
        compile: Whether to compile the step. None: where the work left is worth it.

    Returns:
        One entry per run that was started, in the order of ending. After a signal, runs that were
        going on are `interrupted`, and those that had not begun are missing.

    Raises:
        UserError: where the runs do not belong together, or under torchrun.
    """
    if len(configs) == 1:
        return _one_after_another(configs, [], on_change)
    if len({likeness(config) for config in configs}) > 1:
        raise UserError("these runs differ in more than lr, weight decay, betas or seed")
    keep_freed_memory()
    with joined(configs[0].launch) as world:
        if world.size > 1:
            raise UserError("runs are trained together in one process: call it without torchrun")
        members = [Member(index, config) for index, config in enumerate(configs)]
        order = _Order(members, on_change)
        try:
            return _train(members, world, order, compile)
        except CannotStack as error:
            warnings.warn(f"trained one after another: {error}", stacklevel=2)
        except BaseException as error:
            for member in members:
                member.abandon(error)
            if not isinstance(error, Exception):
                raise
            order.report()
            return order.finished
        finally:
            for member in members:
                member.release()
    return _one_after_another(configs, order.finished, on_change)


def _train(
    members: list[Member], world: World, order: _Order, compile: bool | None
) -> list[Finished]:
    """The runs of one step after those of another, each lot together."""
    left: list[Member] = []
    for member in members:
        with member.guarded():
            if member.open(world):
                left.append(member)
    order.report()
    if not left:
        return order.finished
    config = left[0].config
    task = build_task(config)
    for member in left:
        with member.guarded():
            member.build(task, world)
    left = [member for member in left if member.ended is None]
    if not left:
        order.report()
        return order.finished
    schedule.factor(config.schedule, 0, left[0].parts.total_steps)  # refuses what cannot be
    unused = find_unused(left)
    with Stopper.listening(config.checkpoint, world) as stopper:
        for step in sorted({member.start_step for member in left}):
            lot = [member for member in left if member.start_step == step]
            for member in lot:
                with member.guarded():
                    member.start(len(lot))
            lot = [member for member in lot if member.ended is None]
            if lot:
                GroupRun(lot, unused, compile, order.report).train(stopper)
            if any(m.ended is not None and m.ended.state == "interrupted" for m in lot):
                break
    order.report()
    return order.finished


class _Order:
    """Tells what has ended, in the order of ending."""

    def __init__(self, members: list[Member], on_change: OnChange | None) -> None:
        self._members = members
        self._on_change = on_change
        self.finished: list[Finished] = []

    def report(self) -> None:
        """Notes what has ended since, and passes it on."""
        for member in self._members:
            if member.ended is not None and member.ended not in self.finished:
                self.finished.append(member.ended)
        if self._on_change is not None:
            running = [member.index for member in self._members if member.ended is None]
            self._on_change(running, self.finished)


def _one_after_another(
    configs: Sequence[RunConfig], finished: list[Finished], on_change: OnChange | None
) -> list[Finished]:
    """What has not ended yet, through the runner."""
    tell = on_change or (lambda running, finished: None)
    for index in sorted(set(range(len(configs))) - {entry.index for entry in finished}):
        tell([index], finished)
        try:
            outcome = runner.run(configs[index])
            entry = Finished(index, outcome.state, outcome.message)
        except Exception as error:  # one run's failure must not take others with it
            entry = Finished(index, "failed", f"{type(error).__name__}: {error}")
        finished.append(entry)
        if entry.state == "interrupted":
            break
    tell([], finished)
    return finished
