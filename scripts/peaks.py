"""Last and best of every evaluation of a run: the paper's last and oracle checkpoint.

    python scripts/peaks.py RUN_ID ... [--runs results/runs] [--metric top1]

The best picks, set by set, on the numbers that it reports: it is no honest test result, and to be
compared with the best of others only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each split and kind of weights of each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs_wanted", nargs="+", metavar="RUN_ID")
    parser.add_argument("--runs", type=Path, default=Path("results/runs"))
    parser.add_argument("--metric", help="one alone, e.g. top1")
    given = parser.parse_args(arguments)
    try:
        lines = list(lines_of(given.runs, given.runs_wanted, given.metric))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def lines_of(runs_dir: Path, wanted: list[str], metric: str | None) -> list[str]:
    """A line for each run, split, metric and kind of weights.

    Raises:
        UserError: where a run was not measured so.
    """
    from experiments.analysis.statistics.peaks import peaks
    from experiments.table import read_runs

    if unknown := [run for run in wanted if not (runs_dir / run / "run.json").exists()]:
        raise UserError(f"{unknown[0]}: no such run in {runs_dir}; say --runs=FOLDER")
    rows = read_runs(runs_dir, runs=wanted)
    rows = rows[~rows.split.isin(("train", "run"))]
    lines = []
    for run in wanted:
        mine = rows[rows.run_id == run]
        for split in dict.fromkeys(mine.split):
            for weights in dict.fromkeys(mine[mine.split == split].weights):
                for row in peaks(mine, split, weights).itertuples():
                    if metric in (None, row.metric):
                        lines.append(
                            f"{run}  {split} {row.metric} ({weights}): last {row.last:.4g} "
                            f"{row.unit}, best {row.peak:.4g} at step {row.step}"
                        )
    if not lines:
        raise UserError(f"nothing was measured{f' as {metric}' if metric else ''} in these runs")
    return lines


if __name__ == "__main__":
    sys.exit(main())
