"""How long one run of a user's program may take: as told, or by those that have ended before."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from experiments.compare.cost import duration
from experiments.compare.ledger import Ledger
from experiments.config import UserError

MANY = 10.0
"""Times the slowest run that has ended: a run that takes longer hangs."""
LEAST_SECONDS = 600.0
"""No limit that nobody has asked for is shorter: quick runs may once wait for a disk."""
LATE = (3.0, 60.0)
"""Times the slowest, and seconds: from there on people see how long a run has taken."""
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PART = r"\s*(\d+\.?\d*|\.\d+)\s*(min|[smhd]|)"


@dataclass(frozen=True)
class TimeLimit:
    """Of one run."""

    told: float | None = None  # seconds, infinite: none; None: it follows from the runs before
    text: str = ""  # as it was told

    @classmethod
    def parse(cls, given: Any) -> TimeLimit:
        """Of `7200`, `2h`, `1h 30m`; of `none`, and of None, which is nothing said.

        Raises:
            UserError: for anything else.
        """
        if given is None:
            return cls()
        text = str(given).strip().lower()
        seconds = math.inf if text == "none" else math.nan
        if re.fullmatch(f"(?:{_PART})+", text):
            seconds = sum(float(n) * _UNITS[unit] for n, unit in re.findall(_PART, text))
        if not seconds > 0:
            raise UserError(
                f"--timeout {given}: give seconds, or a time like 90min, 2h or 1h30m, or none"
            )
        return cls(seconds, text)

    def seconds(self, slowest: float) -> float:
        """After how many a run is ended; infinite while there is nothing to go by.

        Args:
            slowest: Seconds of the slowest run that has ended; NaN: none has.
        """
        if self.told is not None:
            return self.told
        return math.inf if math.isnan(slowest) else max(MANY * slowest, LEAST_SECONDS)

    def is_raised(self, before: float, slowest: float) -> bool:
        """Whether a run that was ended after `before` seconds may take longer now; of limits that
        nobody has told, which grow by and by, only where it is twice as long."""
        return self.seconds(slowest) > before * (1 if self.told is not None else 2)

    def facts(self, slowest: float) -> dict[str, Any] | None:
        """The same for `experiments.sweep.overtime`; None: no limit."""
        seconds = self.seconds(slowest)
        if math.isinf(seconds):
            return None
        return {"seconds": seconds, "reason": self.reason(slowest)}

    def reason(self, slowest: float) -> str:
        """Why a run was ended."""
        if self.told is not None:
            return f"it took longer than --timeout {self.text}"
        by = f"{MANY:g} times the slowest before"
        if MANY * slowest < LEAST_SECONDS:
            by = f"those before took {duration(slowest)} at most"
        limit = duration(self.seconds(slowest))
        return f"it took longer than {limit} ({by}; --timeout sets another limit)"

    def remark(self, took: float, slowest: float) -> str:
        """How long a run has taken so far; nothing where that is usual."""
        times, least = LATE
        if took < least or took < times * slowest:
            return ""
        said = f"for {duration(took)} now"
        if not math.isnan(slowest):
            said += f" (the slowest before: {duration(slowest)})"
        limit = self.seconds(slowest)
        if math.isfinite(limit):
            return f"{said}, ended at {duration(limit)}"
        if self.told is None:
            said += ", no limit before a run has ended (--timeout sets one)"
        return said


def tried_again(ledger: Ledger, limit: TimeLimit) -> Iterator[str]:
    """Has runs that were ended for their time run again where there is more of it now; says so."""
    slowest = ledger.slowest()
    asks = [ask for ask, before in ledger.ended_early() if limit.is_raised(before, slowest)]
    ledger.forget(asks)
    if asks:
        runs = "run that was" if len(asks) == 1 else "runs that were"
        yield (
            f"{len(asks)} {runs} ended for the time taken may take longer now: tried again, and "
            "what the tuning asked for after that may be another setting."
        )
