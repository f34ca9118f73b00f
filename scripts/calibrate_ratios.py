"""How often the interval of `best_settings.fitted_ratios` holds the true ratio of best settings.

    python scripts/calibrate_ratios.py                 # some seven minutes
    python scripts/calibrate_ratios.py --pairs 50 --out /tmp/ratios.csv

The made-up models are those of `calibrate_compare`, and the grids as in `calibrate_grids`: of the
kinds of the committed studies, with the optimum anywhere inside. Written for each world and design,
and for lr and weight decay: how often no ratio is told (an edge, a flat weight decay); where one
is, how often its interval lies below the truth, holds it (95 % are promised) or lies above, and how
wide it is, as a factor.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))
# First, as it says in a line what this Python lacks.
import experiments  # noqa: E402, F401

# isort: split
import calibrate_worlds as made_up  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from calibrate_grids import WORLDS as SMOOTH  # noqa: E402
from calibrate_grids import Design, trained, write  # noqa: E402

from experiments.analysis.statistics.best_settings import (  # noqa: E402
    AXES,
    BestRatio,
    fitted_ratios,
)

OUT = ROOT / "results/compare_calibration/ratios.csv"
WORLDS = {
    **SMOOTH,
    "losses explode": made_up.World(explodes=True),
    "two tops": made_up.World(two_tops=True),
}
DESIGNS = (
    (Design(5, 7, 6), (2.0, 10 / 3)),
    (Design(6, 3, 3), (2.0, 10 / 3)),
    (Design(5, 5, 1), (2.0, 4.0)),
    (Design(6, 5, 1), (2.5, 5.0)),
    (Design(6, 6, 1), (2.5, 5.0)),
    (Design(4, 4, 1), (2.5, 5.0)),
    (Design(5, 1, 6), (2.5, 1.0)),
)
"""Of the studies of `analysis.best_ratios`, and the factors between neighbours."""


class Found(NamedTuple):
    """One ratio of one pair."""

    place: int  # -1: the interval lies below the truth; 0: it holds it; 1: it lies above
    width: float  # decades


def study(
    surfaces: dict[str, made_up.Surface],
    design: Design,
    factors: tuple[float, float],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Two grids as a table of runs."""
    parts = []
    for name, surface in surfaces.items():
        cells, values = trained(surface, design, rng, factors)
        lr, decay = (np.repeat(10**axis, design.num_seeds) for axis in cells.T)
        state = np.where(np.isfinite(values.ravel()), "finished", "diverged")
        columns = {"optimizer": name, "lr": lr, "weight_decay": decay, "state": state}
        columns |= {"seed": np.tile(np.arange(design.num_seeds), len(cells))}
        parts.append(pd.DataFrame(columns | {"val": values.ravel()}))
    return pd.concat(parts, ignore_index=True)


def found(ratio: BestRatio, truth: float) -> Found | None:
    """None where no ratio is told."""
    if ratio.reason:
        return None
    low, high = math.log10(ratio.low), math.log10(ratio.high)
    return Found(int(low > truth) - int(high < truth), high - low)


def measure(
    world: str, design: Design, factors: tuple[float, float], num_pairs: int
) -> dict[str, Any]:
    """One row of the table."""
    told: dict[str, list[Found | None]] = {axis: [] for axis in AXES}
    for number in range(num_pairs):
        rng = np.random.default_rng([number, *design])
        surfaces = made_up.draw_user(rng, WORLDS[world]).surfaces
        over, under = surfaces
        ratios = fitted_ratios(study(surfaces, design, factors, rng), over, under)
        apart = surfaces[over].best - surfaces[under].best
        for axis, truth in zip(AXES, apart, strict=True):
            told[axis].append(found(ratios[axis], float(truth)))
    row: dict[str, Any] = {"world": world, **design._asdict(), "pairs": num_pairs}
    row |= {"lr_factor": factors[0], "weight_decay_factor": factors[1]}
    for axis, all_of in told.items():
        known = [one for one in all_of if one is not None]
        row[f"{axis}_untold_percent"] = 100 * (1 - len(known) / num_pairs)
        places = np.array([one.place for one in known])
        for name, place in (("below", -1), ("holds", 0), ("above", 1)):
            share = 100 * float(np.mean(places == place)) if known else math.nan
            row[f"{axis}_{name}_percent"] = share
        width = float(np.median([one.width for one in known])) if known else math.nan
        row[f"{axis}_width"] = 10**width
    return row


def main() -> int:
    """Writes the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--pairs", type=int, default=400, help="of a world and design (400)")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if args.pairs < 1:
        parser.error("--pairs: at least 1")
    rows = (
        measure(world, design, factors, args.pairs)
        for world in WORLDS
        for design, factors in DESIGNS
    )
    write(rows, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
