"""The first baseline: programs drawn anew each time, without any selection.

The other, tuning the constants of AdamW, is `Evolution` with `mutation.CONSTANTS_ONLY`.
The paper says of its random search only that 2 million programs did not reach AdamW; how they are
drawn is this suite's choice: a length uniform between two bounds, then statement by statement
from the same functions, variables and constants as an insertion, and anew until the program is
valid and the gradient can reach its update. (Seven of ten valid ones ignore it.)
Source: arXiv:2302.06675, section 2.1.
"""

from __future__ import annotations

from random import Random

from experiments.search import liveness
from experiments.search.edits import INSERT, WHOLE, Edit
from experiments.search.language import Program
from experiments.search.mutation import Mutator
from experiments.search.strategy import (
    CHILD,
    INITIAL,
    Candidate,
    Individual,
    Searcher,
    generator_of,
)
from experiments.search.types import INPUT_KINDS, is_valid, result_kind


class RandomSearch(Searcher):
    """Candidate 0 is the initial program, as in evolution, so that both curves begin alike."""

    def __init__(
        self,
        seed: int,
        initial: Program,
        lengths: tuple[int, int] = (3, 12),
        recheck_every: int = 0,
        num_incumbents: int = 8,
    ) -> None:
        """Begins.

        Args:
            seed: Of everything drawn.
            initial: Candidate 0.
            lengths: Fewest and most statements.
            recheck_every: See `Searcher`.
            num_incumbents: See `Searcher`.
        """
        super().__init__(recheck_every, num_incumbents)
        self._seed, self._initial, self._lengths = seed, initial, lengths
        self._mutator = Mutator(weights=((INSERT, 1.0),), is_guided=True)

    def _propose(self, number: int) -> Candidate:
        if number == 0:
            return Candidate(0, INITIAL, self._initial)
        program, num_tries = self.draw(generator_of(self._seed, number))
        edit = Edit(WHOLE, 0, program.statements)
        return Candidate(number, CHILD, program, edit=edit, num_tries=num_tries)

    def _accept(self, candidate: Candidate, judged: Individual) -> None:
        """Nothing that is drawn depends on what was found."""

    def draw(self, random: Random) -> tuple[Program, int]:
        """A valid program whose update reads the gradient, and how many were drawn for it."""
        num_tries = 0
        while True:
            num_tries += 1
            program = self._draw(random.randint(*self._lengths), random)
            if is_valid(program) and "g" in liveness.analyse(program).read:
                return program, num_tries

    def _draw(self, length: int, random: Random) -> Program:
        kinds, drawn = INPUT_KINDS.copy(), []
        while len(drawn) < length:
            new = self._mutator.statement(list(kinds), kinds, random)
            kinds[new.target] = result_kind(new, kinds)
            drawn.append(new)
        return Program((*drawn[:-1], drawn[-1]._replace(target="update")))
