"""Whether each run of a program starts anew, or goes on from what the run before has left.

Then every run is better than the one before, whatever its settings are, and whoever comes last
wins. Seen by files that are read and written again (`left_files`), and by the numbers of the pilot,
which runs one seed first and last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from experiments.compare.asking import Unheeding
from experiments.compare.ledger import Ledger
from experiments.compare.metric import Metric, MetricError
from experiments.compare.plan import Pilot

NEAR = 0.5
"""Of what the first run has gained: so near to the end of a run the next begins, if it goes on."""
OFTEN = 1.0
"""In sd: with files that are carried over, one seed run twice must not differ by more."""
_REMEDY = (
    "give it an empty folder for each run, e.g. --out_dir {run_dir}, or "
    "'cd {run_dir} && python $OLDPWD/train.py ...'"
)


def first_value(metric: Metric, output: str) -> float:
    """The first number that a run has printed; NaN where there is none."""
    lines = output.splitlines(keepends=True)
    low, high = 0, len(lines)  # none in the lines up to low
    while high - low > 1:
        middle = (low + high) // 2
        if math.isnan(_read(metric, lines[:middle])):
            low = middle
        else:
            high = middle
    return _read(metric, lines[:high])


def _read(metric: Metric, lines: Sequence[str]) -> float:
    try:
        return metric.read("".join(lines), {})
    except MetricError:
        return math.nan


def check_fresh(
    pilot: Pilot, sign: int, runs: Sequence[tuple[float, float]], ledger: Ledger
) -> Iterator[str]:
    """Looks at the pilot, before anything is tuned.

    Args:
        pilot: What it has shown.
        sign: 1 where higher is better, else -1.
        runs: First and last number of each of its runs, in their order; the first seed is the last,
            too. Empty where that is not known, as of runs at a time.
        ledger: Knows the files that runs have left to others.

    Yields:
        What to beware of.

    Raises:
        Unheeding: where it is as good as sure.
    """
    files = carried(ledger)
    if files and not pilot.rounding:
        return  # whatever it reads moves no number
    if files:
        said = _said_of_files(files)
        if pilot.rounding > OFTEN:
            again = f"the same seed gave another number then ({pilot.rounding:.2g} sd)"
            raise Unheeding(f"{said}, and {again}: each run goes on from another: {_REMEDY}")
        yield f"Beware: {said}: if it goes on from there, {_REMEDY}."
        return
    if pilot.rounding and _start_where_others_end(sign, runs):
        values = ", ".join(f"from {first:g} to {last:g}" for first, last in runs)
        raise Unheeding(
            f"each run of the pilot begins where the run before has ended ({values}), so it goes "
            f"on from there: {_REMEDY}"
        )
    ends = [sign * last for _, last in runs]
    only_rises = len(ends) == 4 and all(a < b for a, b in itertools.pairwise(ends))
    if only_rises and pilot.rounding:
        yield (
            "Beware: each run of the pilot is better than the one before, the same seed "
            f"included: if the program goes on from what a run has left, {_REMEDY}."
        )


def note_carried(ledger: Ledger, files: Sequence[str]) -> None:
    """Notes files that runs have left to others, once."""
    if files and (new := sorted({*files} - {*carried(ledger), *carried(ledger, False)})):
        ledger.note("carried", files=new)


def carried(ledger: Ledger, is_of_pilot: bool = True) -> list[str]:
    """Files that runs have left to others: seen in the pilot, or after it."""
    found, is_pilot = dict[bool, list[str]]({True: [], False: []}), True
    for event in ledger.events():
        kind, phase = event["event"], event.get("phase")
        if kind == "carried":
            found[is_pilot] += event["files"]
        elif kind == "forgotten" and phase in ("pilot", "check"):  # it may have been mended
            found, is_pilot = {True: [], False: []}, True
        elif kind == "ended" and phase != "pilot":
            is_pilot = False
    return found[is_of_pilot]


def remarks(ledger: Ledger) -> list[str]:
    """What is said of files that were seen after the pilot."""
    files = carried(ledger, is_of_pilot=False)
    return (
        [f"Beware: {_said_of_files(files)}: if they go on from there, {_REMEDY}."] if files else []
    )


def hint(files: Sequence[str]) -> str:
    """What may be why runs fail that have gone well: they go on where there is nothing to do."""
    return f"; {_said_of_files(files)}: if they go on from there, {_REMEDY}" if files else ""


def _said_of_files(files: Sequence[str]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"runs read {', '.join(files[:3])}{more}, which other runs have written"


def _start_where_others_end(sign: int, runs: Sequence[tuple[float, float]]) -> bool:
    """All but the first, and better than that one has begun, which has come far from there."""
    if len(runs) < 4 or not all(math.isfinite(value) for run in runs for value in run):
        return False
    (start, end), *others = runs
    gained = sign * (end - start)
    gaps = [abs(after[0] - before[1]) for before, after in itertools.pairwise(runs)]
    is_ahead = all(sign * (first - start) > 0 for first, _ in others)
    return gained > 0 and is_ahead and max(gaps) < NEAR * gained
