"""How many runs a whole comparison takes, as far as that is known, and how long they last."""

from __future__ import annotations

import math

from experiments.compare import cost
from experiments.compare.asking import Notice
from experiments.compare.ledger import Ledger
from experiments.compare.plan import Plan
from experiments.compare.search import EXTENSION, MOST_SCOUTS

NUM_CHECKS = (5, 3)
"""Runs that check a program: of two contestants, and of each further one."""

LATEST = 10
"""Runs that tell how long the rest takes: a machine may have become another since the first."""


class Outlook:
    """Told of every notice; says how far a comparison has come."""

    def __init__(self, plan: Plan, num_workers: int, of_page: bool = False) -> None:
        """`of_page`: of this suite, where nothing is checked and no seed run twice."""
        self._plan, self._num_workers = plan, num_workers
        checks = NUM_CHECKS[0] + NUM_CHECKS[1] * (len(plan.contestants) - 2)
        self._num_checks = 0 if of_page else checks
        self._num_scouts = MOST_SCOUTS * sum(bool(one.scouts) for one in plan.contestants)
        self._num_pilot = cost.NUM_PILOT - of_page
        self._trials, self._seeds = plan.budget, 0  # no seeds are planned before the pilot

    def hear(self, notice: Notice) -> None:
        """Minds what a notice changes."""
        if notice.kind == "pilot":
            self._seeds = cost.planned_seeds(self._plan, notice.facts["pilot"])
        elif notice.kind == "extended":
            self._trials += EXTENSION
        elif notice.kind == "scouted":
            self._num_scouts += notice.facts["search"].num_scouts - MOST_SCOUTS
        elif notice.kind == "planned":
            self._seeds = notice.facts["result"].n

    def said(self, ledger: Ledger) -> str:
        """E.g. `31 of about 79 runs, about 4 min left`."""
        done = len(ledger.known)
        if not self._seeds:
            return f"{done} of {self._num_pilot} runs of the pilot"
        left = max(self._total() - done, 1)
        took = [e["seconds"] for e in ledger.known.values() if e["seconds"] is not None]
        took = took[-LATEST:]
        each = sum(took) / len(took) if took else math.nan
        time = cost.duration(left * each / self._num_workers)
        return f"{done} of about {done + left} runs, about {time} left"

    def _total(self) -> int:
        without_decay = 0 if self._plan.start.weight_decay else 1
        each = self._trials + self._seeds + without_decay
        first = self._num_pilot + self._num_checks + self._num_scouts
        return first + len(self._plan.contestants) * each
