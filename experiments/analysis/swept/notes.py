"""What a reader of one's own sweep must know beside its numbers."""

# pyright: reportAttributeAccessIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from experiments.analysis.statistics.difference import MIN_SEEDS
from experiments.analysis.swept.picks import LABELS, Picked
from experiments.arms import Swept

CALIBRATED = (3, 49)
"""Settings for which the luck of tuning was simulated (`statistics.tuning_luck`)."""


def notes(swept: Swept, found: list[Picked], compared: pd.DataFrame) -> Iterator[str]:
    """A sentence each; none where there is nothing."""
    yield from swept.remarks
    yield from _unfinished(swept)
    yield from _budgets(swept)
    for one in found:
        name = f"{one.name}, {one.arm.condition}" if one.arm.condition else one.name
        yield from (f"{name}: {line}." for line in _of_pick(one))
    yield from _fresh(swept, found)
    yield from _splits(found)
    yield from _luck(compared)


def _unfinished(swept: Swept) -> Iterator[str]:
    missing = sum(arm.num_missing for arm in swept.arms)
    if missing:
        total = sum(len(arm.planned) for arm in swept.arms)
        failed = f" ({swept.num_failed} given up after failures)" if swept.num_failed else ""
        yield (
            f"**Unfinished**: {missing} of {total} cells have no result{failed}, and the picks may "
            f"be others with them (`{swept.resume}`)."
        )


def _budgets(swept: Swept) -> Iterator[str]:
    for condition in dict.fromkeys(arm.condition for arm in swept.arms):
        counts = {a.optimizer: a.num_settings for a in swept.arms if a.condition == condition}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{name} {count}" for name, count in counts.items())
            at = f" at {condition}" if condition else ""
            yield f"**Unequal budgets**{at} ({said} settings): no fair comparison."


def _of_pick(one: Picked) -> Iterator[str]:
    if one.found is None:
        yield "no setting has finished with every seed, so there is no pick"
        return
    if one.found.edges:
        edges = " and ".join(LABELS.get(key, key) for key in one.found.edges)
        yield (
            f"**not tuned**: its pick is the smallest or largest {edges} "
            "that was tried; widen the grid"
        )
    if one.arm.num_settings == 1:
        yield "one setting was tried, so nothing is tuned"
    yield from one.found.remarks
    if one.found.num_diverged:
        yield f"{one.found.num_diverged} runs diverged while tuning"
    if len(one.found.seeds) == 1:
        yield "one seed has picked: which setting is best hangs on the luck of that seed"
    if one.has_other_fresh:
        yield "fresh runs of a former pick, or of seeds that tuned, are left out"


def _fresh(swept: Swept, found: list[Picked]) -> Iterator[str]:
    if swept.of_picks:
        yield swept.of_picks
    if left := sum(one.num_fresh_missing for one in found):
        yield f"Fresh runs of the picks without a result yet: {left} (`{swept.resume_picks}`)."
    without = [one for one in found if one.found is not None and not one.is_fresh]
    if without and len(without) == len([one for one in found if one.found is not None]):
        yield (
            "**No fresh seeds**: the numbers are of the runs that picked the settings, so they "
            f"look better than they are. `{swept.confirm} --seeds 100-109` trains the picks again."
        )
    elif without:
        names = ", ".join(dict.fromkeys(one.name for one in without))
        yield f"**No fresh seeds** for {names}: call `{swept.confirm}` again."
    few = {len(one.fresh) for one in found if one.is_fresh and len(one.fresh) < MIN_SEEDS}
    if few:
        yield f"Fewer than {MIN_SEEDS} fresh seeds show no difference, however large."


def _splits(found: list[Picked]) -> Iterator[str]:
    same = {one.headline.report for one in found
            if one.headline.tune == one.headline.report and one.arm.num_settings > 1}  # fmt: skip
    for split in sorted(same):
        yield (
            f"**{split} has picked and reports**: there is no split that picked nothing, so its "
            "numbers are too good."
        )


def _luck(compared: pd.DataFrame) -> Iterator[str]:
    if not len(compared) or not compared.wide_low.notna().any():
        return
    low, high = CALIBRATED
    tried = compared.num_settings[compared.wide_low.notna()]
    if (tried < low).any() or (tried > high).any():
        yield (
            f"What the luck of tuning adds was found by simulating {low} to {high} settings; for "
            f"{int(tried.min())} to {int(tried.max())} it is a guess."
        )
