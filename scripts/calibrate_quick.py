"""How often a quick look of `compare` is wrong where Lion's best setting is not where it begins.

    python scripts/calibrate_quick.py                       # minutes
    python scripts/calibrate_quick.py --pairs 20 --out /tmp/quick.csv

A quick look (10 trials each) tries three weight decays, for Lion about 5.5 times AdamW's. Here the
best one is 1 to 30 times AdamW's, and the best learning rate 3 to 30 times smaller. The made-up
users are those of `calibrate_compare.py`, the same ones in every row, with a baseline up to half a
decade off; looks are planned for 3 sd. Lion is as good as AdamW at its best, or better or worse by
that much.

Written, for each pair of ratios and each true difference (Lion minus AdamW, in sd of a run): how
often Lion is called better, worse or no different, in per cent of the looks that were not refused;
and the same (`strict_`) if nobody were called worse, or the same, whose weight decay lies at an end
of the three and still rises there: `compare` says that beside its verdict, and does not refuse it.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# First, as it says in a line what this Python lacks.
import experiments  # noqa: E402, F401

# isort: split
import numpy as np  # noqa: E402

from scripts.calibrate_compare import PLAN, one_pair  # noqa: E402
from scripts.calibrate_worlds import World  # noqa: E402

OUT = ROOT / "results/compare_calibration/quick.csv"
LR_RATIOS = (3.0, 10.0, 30.0)
"""AdamW's best over Lion's."""
DECAY_RATIOS = (1.0, 3.0, 5.5, 10.0, 30.0)
"""Lion's best over AdamW's."""
EFFECT = 3.0
DIFFERENCES = (0.0, EFFECT, -EFFECT)
QUICK = replace(PLAN, budget=10, effect=EFFECT, effect_in_sd=True)
LOSERS = {"better": ("adamw",), "worse": ("lion",), "equivalent": ("adamw", "lion")}
"""Whom a verdict on Lion is held against."""
NUM_FINALS = 2
"""With fresh seeds, of every tuned pair and true difference."""


def looked(number: int, ratios: tuple[float, float]) -> dict[str, Any]:
    """One user's quick looks; `ratios`: as in the constants above."""
    world = World(reach=0.5, ratios=(1 / ratios[0], ratios[1]))
    return one_pair(number, QUICK, world, DIFFERENCES, NUM_FINALS)


def summary(rows: Sequence[dict[str, Any]], ratios: tuple[float, float]) -> list[dict[str, Any]]:
    """A row of the table for each true difference; standard errors count users, not finals."""
    whole = [row for row in rows if not row["refused"]]
    table = []
    for difference in DIFFERENCES:
        row: dict[str, Any] = {"lr_ratio": ratios[0], "weight_decay_ratio": ratios[1]}
        mine = [[v for v in r["verdicts"] if v["difference"] == difference] for r in whole]
        row |= {"difference": difference, "pairs": len(rows), "judged": len(whole)}
        for name, losers in LOSERS.items():
            at_end = [any(r[f"decay_at_end_{one}"] for one in losers) for r in whole]
            said = np.array([np.mean([v["verdict"] == name for v in own]) for own in mine])
            for kind, shares in {"": said, "strict_": said * ~np.array(at_end)}.items():
                row[f"{kind}{name}_percent"] = 100 * float(shares.mean())
                row[f"{kind}{name}_error"] = 100 * float(shares.std() / math.sqrt(len(shares)))
        table.append(row)
    return table


def main() -> int:
    """Writes the table."""
    import pandas as pd

    from experiments.surroundings import measured_on

    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--pairs", type=int, default=500, help="made-up users of a row (500)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    table = []
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for ratios in [(lr, decay) for lr in LR_RATIOS for decay in DECAY_RATIOS]:
            rows = pool.map(partial(looked, ratios=ratios), range(args.pairs), chunksize=8)
            table += summary(rows, ratios)
            equal = table[-len(DIFFERENCES)]
            print(
                *(f"{k} {v:.3g}" for k, v in equal.items() if not k.endswith("_error")), flush=True
            )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row | measured_on() for row in table]).round(3).to_csv(args.out, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
