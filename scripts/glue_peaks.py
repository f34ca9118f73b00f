"""GLUE as the paper reports it: each score's peak over a run, their mean, and the paper's numbers.

    python scripts/glue_peaks.py [--runs results/runs] [--experiment t5_base_glue]

Reads runs of the pages t5_*_glue. A peak is the best of all evaluations of a run, score by score.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SCORES = (
    *("cola_default", "sst2_default", "mrpc_f1", "mrpc_acc", "stsb_pearson", "stsb_spearman"),
    *("qqp_f1", "qqp_acc", "mnli_m_default", "mnli_mm_default", "qnli_default", "rte_default"),
)
"""In the ledger and in results/paper/glue.csv."""
MODELS = {"t5_base_glue": "T5-Base", "t5_large_glue": "T5-Large", "t5_11b_glue": "T5-11B"}


def paper(model: str) -> dict[str, dict[str, float]]:
    """Optimizer to score to value."""
    found: dict[str, dict[str, float]] = {}
    with (ROOT / "results/paper/glue.csv").open() as file:
        for row in csv.DictReader(file):
            if row["model"] == model:
                found.setdefault(row["optimizer"], {})[row["metric"]] = float(row["value"])
    return found


def main(arguments: list[str] | None = None) -> int:
    """Prints a table for each run, and the paper's beside it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results/runs"))
    parser.add_argument("--experiment", choices=list(MODELS), default="t5_base_glue")
    given = parser.parse_args(arguments)

    from experiments.analysis.statistics.peaks import mean_of_peaks, peaks
    from experiments.table import read_runs

    rows = read_runs(given.runs, splits=("val",))
    rows = rows[rows.experiment == given.experiment]
    table = peaks(rows)
    for optimizer, values in paper(MODELS[given.experiment]).items():
        scores = "  ".join(f"{name} {values[name]:.2f}" for name in SCORES)
        print(f"paper, {optimizer}: mean {values['average']:.2f}  {scores}")
    for run, mean in sorted(mean_of_peaks(table, SCORES).items()):
        mine = table[table.run_id == run].set_index("metric")
        scores = "  ".join(
            f"{name} {mine.peak[name]:.2f} (step {mine.step[name]})" for name in SCORES
        )
        print(f"{run}, peaks: mean {mean:.2f}  {scores}")
    if table.empty:
        print(f"no run of {given.experiment} in {given.runs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
