"""Trains the models of several programs side by side: programs x learning rates x seeds as lanes.

One lane's numbers depend on its program, learning rate and seed alone (see `proxies.proxy`): the
model's matrices are multiplied lane by lane in one call, and each program's statements run on the
lanes of that program. An error in a statement is raised, never taken for a bad program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.search.execution import Step, torch_step
from experiments.search.language import Program
from experiments.search.proxies.proxy import Batch, Proxy, one_thread

CHECK_EVERY = 10
"""Steps between two looks at the losses."""


class InterpreterError(RuntimeError):
    """A statement could not be computed: a fault of ours, since invalid programs never train."""


@dataclass(frozen=True)
class Plan:
    """How every lane is trained."""

    num_steps: int
    lrs: tuple[float, ...]  # peak learning rates
    streams: tuple[int, ...]  # one per seed: training data and initial weights
    window: int  # of the held-out data
    part: str  # search | fresh
    warmup_steps: int = 5

    @property
    def num_lanes(self) -> int:
        """Lanes of one program: learning rates x seeds, the seeds of one rate side by side."""
        return len(self.lrs) * len(self.streams)

    def schedule(self, step: int) -> float:
        """Share of the peak learning rate at a step from 0: linear warm-up, then half a cosine."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Training:
    """What became of one program. Lists have an entry per lane."""

    losses: list[float]  # on held-out data; inf: killed or not finite
    killed_at: list[int | None]  # step
    windows: list[list[float]] = field(default_factory=list)  # mean training loss, each 10 steps


@dataclass
class _Member:
    """A program in training."""

    program: Program
    step: Step
    lanes: Tensor  # numbers of its lanes that live, within all lanes
    m: Any
    v: Any
    first: int = 0  # its first row
    last: int = 0


def train(
    programs: Sequence[Program],
    proxy: Proxy,
    plan: Plan,
    limits: Callable[[int], float] = lambda step: math.inf,
) -> list[Training]:
    """Trains every program at every learning rate with every seed.

    Args:
        programs: Valid ones.
        proxy: What they are trained on.
        plan: How.
        limits: The largest mean training loss of the last 10 steps with which a lane goes on; it
            gets the number of steps done.

    Raises:
        InterpreterError: for a fault of ours.
    """
    with torch.no_grad(), one_thread(), np.errstate(all="ignore"):
        return _Race(programs, proxy, plan).run(limits)


class _Race:
    """The lanes of one call, from the start to the end."""

    def __init__(self, programs: Sequence[Program], proxy: Proxy, plan: Plan) -> None:
        self.proxy, self.plan = proxy, plan
        count, seeds = plan.num_lanes, len(plan.streams)
        total = count * len(programs)
        starts = torch.stack([proxy.layout.initial(stream) for stream in plan.streams])
        self.lanes = torch.arange(total)  # those that live
        self.seed_of = torch.arange(total) % seeds
        self.weights = starts[self.seed_of]
        peaks = torch.tensor(plan.lrs).repeat_interleave(seeds)
        self.lrs = peaks.repeat(len(programs))[:, None]
        zeros = torch.zeros(count, proxy.layout.size)
        self.members = [
            _Member(
                program,
                torch_step(program, proxy.layout.sizes),
                torch.arange(number * count, (number + 1) * count),
                zeros,
                zeros,
            )
            for number, program in enumerate(programs)
        ]
        self.batches = [proxy.training(stream, plan.num_steps) for stream in plan.streams]
        self.history = torch.full((plan.num_steps, total), math.inf)
        self.killed_at: list[int | None] = [None] * total
        self.windows: list[Tensor] = []
        self._place()

    def run(self, limits: Callable[[int], float]) -> list[Training]:
        """All steps, then the held-out losses."""
        for step in range(self.plan.num_steps):
            batch = _stacked([batches[step] for batches in self.batches]).of(self.seed_of)
            losses, gradients = self.proxy.loss_and_gradient(self.weights, batch)
            self.history[step, self.lanes] = losses
            self._update(gradients, self.plan.schedule(step))
            done = step + 1
            if done % CHECK_EVERY == 0:
                self._check(done, limits(done))
                if not len(self.lanes):
                    break
        return self._judged()

    def _update(self, gradients: Tensor, share: float) -> None:
        lrs = self.lrs * share
        for member in self.members:
            rows = slice(member.first, member.last)
            weights = self.weights[rows]
            try:
                update, member.m, member.v = member.step(
                    weights, gradients[rows], member.m, member.v, lrs[rows]
                )
                weights.sub_(update)
            except Exception as error:
                raise InterpreterError(f"{error} in\n{member.program.text()}") from error

    def _check(self, done: int, limit: float) -> None:
        """Takes out the lanes whose losses are not finite or too large."""
        means = sum(self.history[done - CHECK_EVERY : done].unbind(0)) / CHECK_EVERY
        assert isinstance(means, Tensor)  # (torch.mean adds up in another order at another place)
        self.windows.append(means)
        alive = torch.isfinite(means[self.lanes]) & (means[self.lanes] <= limit)
        if bool(alive.all()):
            return
        for lane in self.lanes[~alive].tolist():
            self.killed_at[lane] = done
        kept = []
        for member in self.members:
            mine = alive[member.first : member.last]
            if not bool(mine.all()):
                member.m, member.v = member.m[mine], member.v[mine]
                member.lanes = member.lanes[mine]
            if len(member.lanes):
                kept.append(member)
        self.members = kept
        self.lanes, self.seed_of = self.lanes[alive], self.seed_of[alive]
        self.weights, self.lrs = self.weights[alive], self.lrs[alive]
        self._place()

    def _place(self) -> None:
        """Where each member's rows are among those that live."""
        row = 0
        for member in self.members:
            member.first, member.last = row, row + len(member.lanes)
            row = member.last

    def _judged(self) -> list[Training]:
        total, count = len(self.killed_at), self.plan.num_lanes
        losses = torch.full((total,), math.inf)
        if len(self.lanes):
            held_out = self.proxy.validation(self.plan.window, self.plan.part)
            lanes = held_out.of(torch.zeros(len(self.lanes), dtype=torch.int64))
            found = self.proxy.loss(self.weights, lanes)
            losses[self.lanes] = found.nan_to_num(math.inf, posinf=math.inf)
        return [
            Training(
                losses[first : first + count].tolist(),
                self.killed_at[first : first + count],
                [means[first : first + count].tolist() for means in self.windows],
            )
            for first in range(0, total, count)
        ]


def _stacked(batches: Sequence[Batch]) -> Batch:
    """The batches of all seeds under one leading axis."""
    if len(batches) == 1:
        return batches[0]
    inputs = torch.cat([one.inputs for one in batches])
    return Batch(inputs, torch.cat([one.targets for one in batches]))
