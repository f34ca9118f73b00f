"""What is known of a child before any training: dead, met before, or new.

By structure first (a microsecond's hash), then by the updates on probes. A hit of the small probe
counts only if the large probes confirm it. What was found once is remembered by structure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.search import death, hashing, liveness, probes
from experiments.search.language import Program
from experiments.search.settings import WARNINGS


@dataclass(frozen=True)
class Screening:
    """What a program is, without training it."""

    structure: str  # structural hash
    key: str | None  # functional hash; None: dead
    cause: str | None = None  # of death
    is_new: bool = True  # no program of this structure was met before
    flags: tuple[str, ...] = ()  # warnings; of new programs only


@dataclass
class _Known:
    """A program that stands for all with its functional hash."""

    key: str
    program: Program
    confirming: str | None = None

    def confirmed(self) -> str:
        """Hash on the large probes, computed when it is first needed."""
        if self.confirming is None:
            self.confirming = hashing.confirming_hash(self.program)
        return self.confirming


@dataclass
class Screen:
    """Screens programs, and remembers.

    Attributes:
        forbidden: Warnings of `warnings_of` that are a cause of death.
        num_confirmations: Hits of the small probe so far.
        num_told_apart: Those that the large ones did not confirm.
    """

    forbidden: frozenset[str] = frozenset()
    _verdicts: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    _known: dict[str, list[_Known]] = field(default_factory=dict)
    num_confirmations: int = 0
    num_told_apart: int = 0

    def __call__(self, program: Program) -> Screening:
        """Dead, known or new."""
        live = liveness.analyse(program)
        structure = hashing.structural_hash(program, live)
        if structure in self._verdicts:
            key, cause = self._verdicts[structure]
            return Screening(structure, key, cause, is_new=False)
        pruned = Program(tuple(program.statements[place] for place in live.kept))
        stream = probes.stream(pruned, probes.small())
        cause, key, flags = death.cause_of_death(pruned, stream, live), None, ()
        if cause is None:
            key, cause, flags = self._meet(hashing.stream_hash(stream), pruned)
        self._verdicts[structure] = key, cause
        return Screening(structure, key, cause, flags=flags)

    def restore(self, structure: str, key: str | None, cause: str | None, program: Program) -> None:
        """Takes what a log says of a program, in the order of the log."""
        if structure in self._verdicts:
            return
        self._verdicts[structure] = key, cause
        if key is not None:
            met = self._known.setdefault(key.partition("-")[0], [])
            if all(one.key != key for one in met):
                met.append(_Known(key, liveness.prune(program)))

    def _meet(self, small: str, program: Program) -> tuple[str | None, str | None, tuple[str, ...]]:
        """Functional hash, cause of death and warnings of a program of a new structure.

        The hash is told apart from others that the small probe takes for the same.
        """
        met = self._known.get(small, [])
        if met:
            self.num_confirmations += 1
            confirming = hashing.confirming_hash(program)
            for one in met:
                if one.confirmed() == confirming and hashing.alike_in_training(
                    one.program, program
                ):
                    return one.key, None, ()
            self.num_told_apart += 1
        if death.ignores_gradient(program):
            return None, "no gradient", ()
        flags = warnings_of(program)
        if refused := self.forbidden.intersection(flags):
            return None, min(refused), ()
        key = f"{small}-{len(met)}" if met else small
        self._known.setdefault(small, []).append(_Known(key, program))
        return key, None, flags


def warnings_of(program: Program) -> tuple[str, ...]:
    """What makes a program suspect: that it sets a step size of its own, above all.

    `overwrites lr`: an assignment to lr that matters; `own step size`: twice the learning rate does
    not give twice the update, so that it wins on one horizon and follows no schedule.
    """
    pruned = liveness.prune(program)
    overwrites = any(statement.target == "lr" for statement in pruned.statements)
    found = overwrites, not death.scales_with_lr(pruned)
    return tuple(said for said, holds in zip(WARNINGS, found, strict=True) if holds)
