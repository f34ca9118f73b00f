"""How often equal optimizers come out as different when each is tuned by the best cell of a grid.

    python scripts/calibrate_grids.py                   # a minute
    python scripts/calibrate_grids.py --pairs 300 --out /tmp/grids.csv
    python scripts/calibrate_grids.py --factors 2.5 5 --pairs 500 \
        --out results/compare_calibration/grids_2.5_5.csv    # another spacing

The made-up models are those of `calibrate_compare`. Each of two optimizers that are equally good at
their best settings is run on a grid with factors of 2 in lr and of 10 in weight decay (the
committed studies have 1.13 to 3, and 3 to 10), somewhere on which its optimum lies; where lr alone
is tuned, weight decay is at its best. The cell with the best mean validation value over the tuning
seeds is its pick. A pair with a pick on an edge is left out: such an optimizer counts as not tuned.
Both picks are then run with fresh seeds.

Written: for each design the regret of a pick and the luck of tuning (the standard deviation of the
difference of the two regrets), in standard deviations of one run; and for 5, 9 and 17 fresh seeds,
how often the 95 % interval of the difference leaves 0 out: at the settings found, and with the luck
of tuning in it (`tuning_luck.of_optimizers`), which should be no more than 5 %.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
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

from experiments.analysis.statistics.tuning_luck import BEST_CELL  # noqa: E402

OUT = ROOT / "results/compare_calibration/grids.csv"
FACTORS = 2.0, 10.0
"""Between neighbours, in lr and weight decay."""
FRESH = (5, 9, 17)
NUM_FINALS = 20


class Design(NamedTuple):
    """How an optimizer is tuned."""

    num_lrs: int
    num_weight_decays: int
    num_seeds: int


DESIGNS = [
    Design(*sizes, seeds)
    for sizes in ((4, 4), (5, 4), (5, 5), (5, 6), (6, 8), (7, 7))
    for seeds in ((1, 3, 5) if sizes in ((4, 4), (5, 5)) else (1,))
] + [Design(3, 1, 5), Design(6, 1, 1), Design(6, 1, 3)]
"""Of the kinds of the committed studies, smallest to largest; the last ones tune lr alone."""
WORLDS = {"made up": made_up.World(), "committed heatmaps": made_up.World(measured=True)}


def noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Of mean 0 and standard deviation 1, skewed as the noise of accuracies is."""
    shape_of = made_up.SKEW_SHAPE
    return (shape_of - rng.gamma(shape_of, size=shape)) / math.sqrt(shape_of)


def trained(
    surface: made_up.Surface,
    design: Design,
    rng: np.random.Generator,
    factors: tuple[float, float] = FACTORS,
) -> tuple[np.ndarray, np.ndarray]:
    """The cells of a grid about an optimum, as log10 of lr and weight decay, and their values.

    Returns:
        (cells, 2), and validation of (cells, tuning seeds): -inf where a run is lost.
    """
    axes = []
    for count, factor, best in zip(design[:2], factors, surface.best, strict=True):
        step = math.log10(factor)
        # The optimum lies at or between cells inside; of three, at most half a step off the middle.
        reach = max(0.5, (count - 3) / 2) if count > 1 else 0.0
        centre = best + step * rng.uniform(-reach, reach)
        axes.append(centre + step * (np.arange(count) - (count - 1) / 2))
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    deficit = surface.deficit(cells)
    over = (cells[:, 0] - surface.best[0] - surface.cliff) / 0.3
    chance = np.maximum(surface.crash, np.clip(over, 0, 1))[:, None]
    values = noise(rng, len(cells), design.num_seeds) * (1 + 0.3 * np.minimum(deficit, 10))[:, None]
    values -= deficit[:, None]
    if surface.step:
        values = np.round(values / surface.step) * surface.step
    values[rng.random(values.shape) < chance] = -np.inf  # a cell with a lost run does not win
    return cells, values


def pick(
    surface: made_up.Surface,
    design: Design,
    rng: np.random.Generator,
    factors: tuple[float, float] = FACTORS,
) -> float | None:
    """The true regret of the best cell; None where it lies on an edge, or nothing trains."""
    counts = design[:2]
    cells, values = trained(surface, design, rng, factors)
    means = values.mean(1)
    best = int(means.argmax())  # of equals the smallest lr, as in a study
    place = np.unravel_index(best, counts)
    ends = [(0, count - 1) if count > 1 else () for count in counts]  # a value given has no edge
    is_edge = any(at in end for at, end in zip(place, ends, strict=True))
    if is_edge or not np.isfinite(means[best]):
        return None
    return float(surface.deficit(cells)[best])


def finals(regrets: list[float], num: int, rng: np.random.Generator) -> tuple[float, float]:
    """In what share of finals an interval leaves 0 out: at the settings, and of the optimizers."""
    from scipy import stats

    arms = [
        noise(rng, NUM_FINALS, num) * (1 + 0.3 * min(regret, 10.0)) - regret for regret in regrets
    ]
    differences = arms[0] - arms[1]
    mean, error = differences.mean(1), differences.std(1, ddof=1) / math.sqrt(num)
    one_run = np.sqrt((arms[0].var(1, ddof=1) + arms[1].var(1, ddof=1)) / 2)
    reach = stats.t.ppf(0.975, num - 1)
    wide = np.hypot(error, BEST_CELL * one_run)
    return tuple(float(np.mean(np.abs(mean) > reach * one)) for one in (error, wide))  # type: ignore


def measure(
    world: str, design: Design, num_pairs: int, factors: tuple[float, float] = FACTORS
) -> dict[str, Any]:
    """One row of the table."""
    kept, shares, edges = [], [], 0
    for number in range(num_pairs):
        rng = np.random.default_rng([number, *design])
        user = made_up.draw_user(rng, WORLDS[world])
        regrets = [pick(surface, design, rng, factors) for surface in user.surfaces.values()]
        if None in regrets:
            edges += 1
            continue
        kept.append(regrets)
        shares.append([finals(regrets, num, rng) for num in FRESH])  # type: ignore[arg-type]
    all_of = np.array(kept, float)
    row: dict[str, Any] = {"world": world, **design._asdict(), "pairs": num_pairs}
    row["edge_percent"] = 100 * edges / num_pairs
    row |= {"regret": all_of.mean(), "luck": (all_of[:, 0] - all_of[:, 1]).std()}
    found = 100 * np.array(shares)  # (pairs, fresh, 2)
    for place, num in enumerate(FRESH):
        for kind, name in enumerate(("at_settings", "of_optimizers")):
            values = found[:, place, kind]
            row[f"{name}_{num}_percent"] = values.mean()
            row[f"{name}_{num}_error"] = values.std() / math.sqrt(len(values))
    return row


def write(rows: Iterable[dict[str, Any]], out: Path) -> None:
    """Prints each row when it is there, and writes all with what they were measured on."""
    import pandas as pd

    from experiments.surroundings import measured_on

    kept = []
    for row in rows:
        kept.append(row)
        print(*(f"{k} {v:.3g}" if isinstance(v, float) else v for k, v in row.items()), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row | measured_on() for row in kept]).round(3).to_csv(out, index=False)


def main() -> int:
    """Writes the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--pairs", type=int, default=2000, help="of a design (2000)")
    parser.add_argument("--factors", type=float, nargs=2, default=FACTORS, metavar=("LR", "DECAY"),
                        help="between neighbours (2 10)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if min(args.factors) <= 1:
        parser.error("--factors: both above 1")
    factors = tuple(args.factors)
    write(
        (measure(world, design, args.pairs, factors) for world in WORLDS for design in DESIGNS),
        args.out,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
