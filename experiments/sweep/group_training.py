"""The loop of several runs at once: what `runner` does at a step, for every row of a stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from experiments import schedule
from experiments.data.order import seed_all
from experiments.measuring import divides, evaluation_interval
from experiments.parts import Parts, set_training
from experiments.progress import Stopwatch
from experiments.stopping import SAVE, STOP, Stopper
from experiments.sweep.member import Member
from experiments.sweep.stack import CannotStack, Stack
from experiments.tasks.task import Batch

AHEAD = 16
"""Steps whose batches are made at a time for each seed: orders are cached for few seeds."""
STATUS_SECONDS = 1.0
COMPILE_SECONDS = 20.0
"""What compiling costs, about (8 to 40 s; 2 to 6 s where it was compiled before)."""
COMPILED_SAVES = 0.25
"""Share of a traced step's time that compiling saves, about (measured: 0.16 to 0.4)."""
TRACE_SECONDS = 1.0
MEASURED_STEPS = 20
"""Traced steps that are timed before it is decided whether compiling pays."""
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-2
"""Relative; to a model alone, at the first batch. Rounding stays a thousand times below."""


class GroupRun:
    """Trains members that stand at the same step; use `train`."""

    def __init__(
        self,
        members: Sequence[Member],
        unused: frozenset[str],
        compile: bool | None,
        report: Callable[[], None],
    ) -> None:
        self.members = list(members)  # of the rows of the stack; some may have ended
        self.stack = Stack([member.parts for member in members], unused)
        self._start = members[0].start_step
        self._total = members[0].parts.total_steps
        self._batches = stacked_batches(self.stack.members, self._start, self._total)
        self._report = report
        self._pending: list[Tensor] = []  # losses (K,) of steps that no member has settled
        self._clock = Stopwatch()
        self._pace = Pace(compile)
        self._shown_at = time.monotonic()

    @property
    def live(self) -> list[tuple[int, Member]]:
        """Rows that are still trained."""
        return [(row, m) for row, m in enumerate(self.members) if m.ended is None]

    def train(self, stopper: Stopper) -> None:
        """Steps until all members have ended, or until told to stop."""
        first = self.members[0].parts
        config, total = first.config, self._total
        evaluate_every = evaluation_interval(config.eval, first.plan)
        set_training(first.model)
        self._clock.start()
        for step in range(self._start, total):
            batch, is_shared = next(self._batches)
            lr_factor = schedule.factor(config.schedule, step, total)
            self._pending.append(self.stack.step(batch, is_shared, lr_factor))
            self._pace.after_step(self.stack, total - step - 1)
            done = step + 1

            is_last = done == total
            wish = stopper.wish()
            is_measured = is_last or divides(evaluate_every, done)
            save = is_last or wish >= SAVE or divides(config.checkpoint.every_steps, done)
            self._show(done, lr_factor)
            if not (is_measured or save or self._is_full):
                continue
            self._settle(done, lr_factor, is_last)
            self._write(done, lr_factor, is_measured, save, must=is_last or wish == STOP)
            if save:
                stopper.saved()
            if wish == STOP and not is_last:
                self._end(Member.interrupt, done)
            self._clock.start()
            self._report()
            if not self.live:
                return
            self._drop_ended(done)
        self._end(Member.finish, total)

    def _end(self, how: Callable[[Member, int], None], done: int) -> None:
        for _, member in self.live:
            with member.guarded():
                how(member, done)
        self._report()

    @property
    def _is_full(self) -> bool:
        return len(self._pending) >= min(m.parts.losses.room for _, m in self.live)

    def _settle(self, done: int, lr_factor: float, is_last: bool) -> None:
        """Hands every member its losses and its share of the time."""
        losses = torch.stack(self._pending, 1)
        self._pending.clear()
        share = self._clock.lap("train") / len(self.live)
        for row, member in self.live:
            with member.guarded():
                member.parts.watch.seconds["train"] += share
                member.parts.losses.extend(losses[row])
                member.settle(done, lr_factor, is_last)

    def _write(
        self, done: int, lr_factor: float, is_measured: bool, save: bool, must: bool
    ) -> None:
        """Evaluates and saves each member, on its own account."""
        if not (is_measured or save):
            return
        for row, member in self.live:
            with member.guarded():
                watch = member.parts.watch
                watch.start()
                self.stack.copy_back(row, lr_factor)
                if is_measured:
                    rows = member.evaluate(done)
                    watch.lap("evaluate")
                    member.note(done, rows)
                if save and member.ended is None:
                    member.save(done, must)
                    watch.lap("save")

    def _drop_ended(self, done: int) -> None:
        """Makes the stack smaller where that pays."""
        steps_left = self._total - done
        live = [row for row, _ in self.live]
        if len(live) < len(self.members) and self._pace.pays_to_shrink(
            len(live) / len(self.members), steps_left, self.stack.is_compiled
        ):
            self.stack.keep(live)
            self.members = [self.members[row] for row in live]
            self._batches = stacked_batches(self.stack.members, done, self._total)
            self._pace.restart()

    def _show(self, done: int, lr_factor: float) -> None:
        """Now and then, brings the status files up to date."""
        if time.monotonic() - self._shown_at < STATUS_SECONDS:
            return
        self._shown_at = time.monotonic()
        rate = self._clock.laps_per_second(done)
        losses = self._pending[-1].tolist()
        for row, member in self.live:
            lr = lr_factor * member.parts.peak_lrs[0]
            batch_size = member.config.train.batch_size
            member.recorder.progress(done, losses[row], lr, rate * batch_size)
        self._report()


class Pace:
    """Decides from the time of a traced step what pays: compiling, or a smaller stack.

    Args:
        compile: True or False to decide; None: compile where that saves more than it costs.
    """

    def __init__(self, compile: bool | None) -> None:
        self._compile = compile
        self.restart()

    def restart(self) -> None:
        """The stack has changed."""
        self._count = 0
        self._since = 0.0
        self.step_seconds = 0.0

    def after_step(self, stack: Stack, steps_left: int) -> None:
        """Notes a step, and compiles if it is time and pays."""
        self._count += 1
        if self._count == 1:
            self._since = time.perf_counter()  # the first step was traced
        if stack.is_compiled or self._compile is False:
            return
        if self._count == 1 and self._compile:
            stack.compile()
        elif self._count == MEASURED_STEPS + 1:
            self.step_seconds = (time.perf_counter() - self._since) / MEASURED_STEPS
            if steps_left * self.step_seconds * COMPILED_SAVES > COMPILE_SECONDS:
                stack.compile()

    def pays_to_shrink(self, share: float, steps_left: int, is_compiled: bool) -> bool:
        """Whether dropping rows, so that a share is left, saves more than tracing anew costs."""
        cost = COMPILE_SECONDS if is_compiled else TRACE_SECONDS
        return (1 - share) * steps_left * self.step_seconds > cost


def stacked_batches(members: Sequence[Parts], start: int, end: int) -> Iterator[tuple[Batch, bool]]:
    """For each step the batches of all members; those with the same seed have the same.

    Yields:
        Tensors (B, ...) and True where all share a seed, else (K, B, ...) and False.
    """
    plans = {member.plan.seed: member.plan for member in members}
    place = torch.tensor([list(plans).index(member.plan.seed) for member in members])
    task, device = members[0].task, members[0].world.device
    streams = [task.batches(plan, start, end) for plan in plans.values()]
    for _ in range(start, end, AHEAD):
        chunks = [list(islice(stream, AHEAD)) for stream in streams]
        for micro_batches in zip(*chunks, strict=True):
            batches = [batch for (batch,) in micro_batches]
            if len(batches) == 1:
                yield tuple(tensor.to(device) for tensor in batches[0]), True
            else:
                columns = zip(*batches, strict=True)
                yield tuple(torch.stack(c).to(device)[place] for c in columns), False


def find_unused(members: Sequence[Member]) -> frozenset[str]:
    """Checks on the first batch that members train together as they would alone.

    Returns:
        Names of the parameters that the loss does not depend on.

    Raises:
        CannotStack: where the loss is random, where training changes buffers, where `vmap` cannot
            follow the model, or where its loss or gradients are not those of a model alone.
    """
    parts = members[0].parts
    ((batch,),) = islice(parts.task.batches(parts.plan, 0, 1), 1)
    batch = tuple(tensor.to(parts.world.device) for tensor in batch)
    model = parts.model
    set_training(model)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    losses = []
    for number in range(2):
        model.zero_grad(set_to_none=True)
        seed_all(parts.plan.noise_seed(0, number))
        loss = parts.task.loss(model, batch, parts.world).counted()
        loss.backward()
        losses.append(loss.detach())
    grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad(set_to_none=True)
    if not torch.allclose(losses[0], losses[1], equal_nan=True):
        raise CannotStack("its loss draws random numbers")
    if any(not torch.equal(buffers[name], b) for name, b in model.named_buffers()):
        raise CannotStack("training changes its buffers")
    unused = frozenset(name for name, grad in grads.items() if grad is None)
    num_seeds = len({member.parts.plan.seed for member in members})
    _compare(members[:2], unused, batch, losses[0], grads, is_shared=num_seeds == 1)
    return unused


def _compare(
    members: Sequence[Member],
    unused: frozenset[str],
    batch: Batch,
    loss: Tensor,
    grads: dict[str, Tensor | None],
    *,
    is_shared: bool,
) -> None:
    """That the first row of a stack has this loss and these gradients.

    Runs of several seeds have a batch each; `vmap` may follow one of all, and not these.
    """
    if not is_shared:
        batch = tuple(torch.stack([tensor] * len(members)) for tensor in batch)
    try:
        stacked, losses = Stack([m.parts for m in members], unused).gradients(batch, is_shared)
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError) as error:
        raise CannotStack(f"vmap cannot follow it: {error}") from error
    if not torch.allclose(losses[0], loss, rtol=LOSS_TOLERANCE, equal_nan=True):
        raise CannotStack(f"its loss is {float(losses[0])}, and alone {float(loss)}")
    for name, grad in grads.items():
        if grad is not None and torch.isfinite(grad).all():
            error = (stacked[name][0] - grad).norm()
            if error > GRADIENT_TOLERANCE * grad.norm() + 1e-7:
                raise CannotStack(f"the gradient of {name} is not that of the model alone")
