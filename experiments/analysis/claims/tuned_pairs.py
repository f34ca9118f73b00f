"""Two tuned optimizers of a study by seed, as the checks of claims compare them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from experiments.analysis.claims.evidence import (
    INCONCLUSIVE,
    MARGIN,
    SUPPORTED,
    Finding,
    is_alike,
    is_larger,
)
from experiments.analysis.statistics.comparison import (
    choose,
    compare,
    has_loss,
    held_out_pairs,
    resolution_of,
)
from experiments.analysis.statistics.difference import Difference, of_pairs
from experiments.analysis.statistics.tuning_luck import error_of, of_optimizers
from experiments.headline import Direction, of_table
from experiments.rounded import ends, with_signs
from experiments.store import UserError


@dataclass(frozen=True)
class Tuned:
    """Test results of two tuned optimizers by seed.

    Either each seed reports what the others picked, or all are fresh: then tuning was done once,
    and its luck is not in the pairs.
    """

    pairs: pd.DataFrame  # ours, theirs; index: seed
    note: str
    untuned: tuple[str, ...]  # optimizers whose best cell is on the edge of its grid
    better: Direction = "higher"
    resolution: float = 0.0
    unit: str = "points"
    is_fresh: bool = False

    @property
    def difference(self) -> Difference:
        return of_pairs(
            self.pairs, resolution=self.resolution, better=self.better, untuned=self.untuned
        )

    def less(self, other: Tuned) -> Tuned:
        """Our gain here minus our gain in another comparison, by seed."""
        both = (self.pairs - other.pairs).dropna()
        note = "; ".join(dict.fromkeys([self.note, other.note]))
        untuned = tuple(dict.fromkeys([*self.untuned, *other.untuned]))
        step = max(self.resolution, other.resolution)
        return replace(self, pairs=both, note=note, untuned=untuned, resolution=step)

    def larger(self, measure: str) -> Finding:
        """`is_larger`, but inconclusive where a best cell is on an edge.

        Of fresh seeds also where the interval of the optimizers holds 0: claims are of optimizers,
        not of the settings that one tuning has found.
        """
        low, high = self._of_optimizers
        found = is_larger(self.difference, measure, self.unit, self._said, luck=self._luck)
        return self._if_held(found, low > 0 or high < 0)

    def alike(self, measure: str, margin: float = MARGIN) -> Finding:
        """`is_alike`, but inconclusive where a best cell is on an edge.

        Of fresh seeds also where the interval of the optimizers says less: for "alike" it, too, has
        to lie within the margin, for the opposite beside 0.
        """
        low, high = self._of_optimizers
        found = is_alike(self.difference, measure, self.unit, self._said, margin, luck=self._luck)
        is_within_margin = -margin < low and high < margin
        is_apart = low > 0 or high < 0
        return self._if_held(found, is_within_margin if found.verdict == SUPPORTED else is_apart)

    def _if_held(self, found: Finding, is_held: bool) -> Finding:
        """The finding; of fresh seeds inconclusive if the interval of the optimizers holds less."""
        if not self.is_fresh or found.verdict == INCONCLUSIVE or is_held:
            return found
        return replace(
            found, verdict=INCONCLUSIVE, note=f"{found.note}; shown at the settings found only"
        )

    @property
    def _luck(self) -> float:
        """Of fresh seeds, the error that more of them do not make smaller."""
        values = self.pairs.ours.to_numpy(), self.pairs.theirs.to_numpy()
        return error_of(*values) if self.is_fresh and len(self.pairs) > 1 else 0.0

    @property
    def _of_optimizers(self) -> tuple[float, float]:
        return of_optimizers(
            self.difference, self.pairs.ours.to_numpy(), self.pairs.theirs.to_numpy()
        )

    @property
    def _said(self) -> str:
        r = self.difference.correlation
        paired = f"correlation of the pairs {r:+.2f}" if r == r else ""
        digits = 2 if self.unit == "points" else 3
        wide = (
            f"at the settings found; of the optimizers "
            f"{ends(*self._of_optimizers, digits, signed=True)}"
        )
        return "; ".join(filter(None, [wide if self.is_fresh else "", self.note, paired]))


def tuned_difference(table: pd.DataFrame, ours: str, theirs: str) -> Tuned:
    """Test values of two optimizers by seed; validation of the other seeds picked the settings.

    Raises:
        UserError: where one of them has no setting that finished with every shared seed.
    """
    try:
        chosen = [choose(table, name) for name in (ours, theirs)]
        pairs = held_out_pairs(table, ours, theirs)
        loss = compare(table, ours, theirs, "test_loss") if has_loss(table) else None
    except ValueError as error:
        raise UserError(str(error)) from None
    headline = of_table(table)
    notes = [", ".join(f"{c.optimizer} lr {c.lr:g} wd {c.weight_decay:g}" for c in chosen)]
    notes += [f"{c.optimizer}: {remark}" for c in chosen for remark in c.remarks]
    edges = tuple(c.optimizer for c in chosen if c.on_edge)
    if edges:
        notes.append(
            f"not tuned: the best cell of {' and '.join(edges)} is on the edge of its grid"
        )
    if any(c.num_settings > 1 for c in chosen):
        notes.append("each seed reports what the others picked")
    if loss is not None:
        notes.append(f"test loss {with_signs(loss.mean, loss.low, loss.high, 3)} nats")
    step = resolution_of(table, headline)
    return Tuned(pairs, "; ".join(notes), edges, headline.better, step, headline.points)
