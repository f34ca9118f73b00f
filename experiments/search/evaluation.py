"""What a program is worth: how much lower its held-out loss is than the reference's, same data.

A round fixes the data: the stream of training batches, the initial weights, the window of the
held-out text or images. Rounds rotate while a search goes on; the reference (AdamW without bias
correction, where the search starts) is trained in each. That takes out what makes a round hard for
all, not how much there is to gain in it: between rounds of `lm` one program's fitness differs by
0.05 nats (a standard deviation; results/studies/program_search/picks.csv), more than good programs
do in one. Every program, the reference too, gets several learning rates, and the best one counts:
structure must not die of its step size.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from experiments.config import UserError
from experiments.search.language import Program, parse
from experiments.search.proxies.families import family, proxy
from experiments.search.proxies.proxy import FRESH, SEARCH
from experiments.search.training import CHECK_EVERY, Plan, Training, train

FRESH_STREAMS = 1 << 40
"""Streams from here on give final numbers only; no search trains on them."""
KILL_FROM = 0.3
"""Share of the steps before which only losses that are not finite end a training."""


@dataclass(frozen=True)
class Tier:
    """How programs are judged. Equal tiers give equal fitnesses, so caches may be shared."""

    family: str = "lm"
    num_steps: int = 100
    lrs: tuple[float, ...] = ()  # none: the family's
    num_seeds: int = 1
    part: str = SEARCH  # search | fresh
    kill_margin: float = 0.5  # nats of training loss behind the reference that end a training
    reference: str = ""  # text of the reference program

    @property
    def rates(self) -> tuple[float, ...]:
        """Peak learning rates."""
        return self.lrs or family(self.family).lrs

    @property
    def id(self) -> str:
        """10 hexadecimal digits of everything that a fitness depends on but the round."""
        text = json.dumps({**asdict(self), "lrs": self.rates}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def plan(self, round_number: int) -> Plan:
        """The training of one round."""
        first = round_number * self.num_seeds
        if self.part == FRESH:
            first += FRESH_STREAMS
        streams = tuple(range(first, first + self.num_seeds))
        return Plan(self.num_steps, self.rates, streams, round_number, self.part)


@dataclass(frozen=True)
class Outcome:
    """What one evaluation has shown."""

    fitness: float  # nats below the reference, higher is better; -inf: no learning rate survived
    losses: tuple[float, ...]  # held-out, per learning rate, mean over seeds; inf: killed
    killed_at: tuple[int | None, ...]  # step at which the first seed of each rate was killed
    num_steps: int  # training steps of all lanes together

    @property
    def best_rate(self) -> int | None:
        """Which learning rate was best, counted from 0; None if none survived."""
        best = min(self.losses)
        return self.losses.index(best) if math.isfinite(best) else None

    def to_json(self) -> dict[str, Any]:
        """For logs and queues: infinite is null."""
        return {
            "fitness": _finite(self.fitness),
            "losses": [_finite(loss) for loss in self.losses],
            "killed": list(self.killed_at),
            "steps": self.num_steps,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Outcome:
        """Reads back what `to_json` gave."""
        losses = tuple(math.inf if loss is None else loss for loss in row["losses"])
        fitness = -math.inf if row["fitness"] is None else row["fitness"]
        return cls(fitness, losses, tuple(row["killed"]), row["steps"])


@dataclass(frozen=True)
class Job:
    """One program to judge."""

    program: Program
    tier: Tier
    round_number: int


def judge(jobs: Sequence[Job]) -> list[Outcome]:
    """Judges programs, those of the same tier and round side by side.

    Raises:
        InterpreterError: for a fault of ours; it never becomes a fitness.
        UserError: the reference does not train.
    """
    outcomes: dict[int, Outcome] = {}
    groups: dict[tuple[Tier, int], list[int]] = {}
    for number, job in enumerate(jobs):
        groups.setdefault((job.tier, job.round_number), []).append(number)
    for (tier, round_number), members in groups.items():
        reference = _reference(tier, round_number)
        standard = standard_of(tier, round_number)
        limits = _limits(tier, reference)
        programs = [jobs[number].program for number in members]
        trained = train(programs, proxy(tier.family), tier.plan(round_number), limits.__getitem__)
        for number, training in zip(members, trained, strict=True):
            outcomes[number] = _outcome(training, tier, standard)
    return [outcomes[number] for number in range(len(jobs))]


class NoStandard(UserError):
    """The reference has trained, and has no finite loss."""


def standard_of(tier: Tier, round_number: int) -> float:
    """The held-out loss of the reference at its best learning rate, which is fitness 0.

    Raises:
        NoStandard: it is not finite at any.
    """
    standard = min(_losses(_reference(tier, round_number), tier))
    if not math.isfinite(standard):
        rates = ", ".join(f"{rate:g}" for rate in tier.rates)
        raise NoStandard(
            f"the reference has no finite loss on {tier.family} at any learning rate of {rates}: "
            "name another reference, or rates that fit it"
        )
    return standard


@lru_cache(maxsize=256)
def _reference(tier: Tier, round_number: int) -> Training:
    """The reference program, trained alone and to the end."""
    program = parse(tier.reference)
    return train([program], proxy(tier.family), tier.plan(round_number))[0]


def _limits(tier: Tier, reference: Training) -> dict[int, float]:
    """By step, from 30 % of the steps on: what the reference would survive, and the margin.

    Its best rate may lie behind another early on, so the worse of both counts. A rate at which it
    diverges (NaN) is no other.
    """
    chosen = reference.losses.index(min(reference.losses))
    limits = {}
    for number, means in enumerate(reference.windows, 1):
        is_early = number * CHECK_EVERY < KILL_FROM * tier.num_steps
        least = min(mean for mean in means if not math.isnan(mean))
        ahead = max(least, means[chosen]) + tier.kill_margin
        limits[number * CHECK_EVERY] = math.inf if is_early else ahead
    return limits


def _losses(training: Training, tier: Tier) -> tuple[float, ...]:
    """Per learning rate, the mean over its seeds."""
    count = tier.num_seeds
    groups = [training.losses[i : i + count] for i in range(0, len(training.losses), count)]
    return tuple(math.fsum(group) / count for group in groups)


def _outcome(training: Training, tier: Tier, standard: float) -> Outcome:
    losses, count = _losses(training, tier), tier.num_seeds
    killed = [training.killed_at[i : i + count] for i in range(0, len(training.losses), count)]
    first = tuple(min((k for k in group if k is not None), default=None) for group in killed)
    num_steps = sum(tier.num_steps if k is None else k for k in training.killed_at)
    fitness = standard - min(losses) if math.isfinite(min(losses)) else -math.inf
    return Outcome(fitness, losses, first, num_steps)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
