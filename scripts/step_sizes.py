"""How far a step of AdamW and of Lion goes beside its learning rate, near their best settings.

    python scripts/step_sizes.py                           # trains what is missing, then writes
    python scripts/step_sizes.py --runs-dir results/runs   # where the runs are

Trains runs near the tops of the studies that were tuned at several lengths once more, one after
another, and looks at some fifty steps of each; writes
results/studies/EXPERIMENT/step_sizes/sizes.csv. Stop it at any time and call again.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.store import write_text  # noqa: E402

LOOKS = 50


def main(arguments: list[str] | None = None) -> int:
    """Trains and measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs-dir", type=Path, default=Path("results/runs"))
    parser.add_argument("--out", type=Path, default=Path("results/studies"))
    given = parser.parse_args(arguments)

    from experiments.analysis import step_sizes
    from experiments.outcomes import circumstances
    from experiments.table import read_runs

    wanted = step_sizes.wanted()
    if wanted.empty:
        print("error: no study to pick from in results/studies", file=sys.stderr)
        return 2
    for number, row in enumerate(wanted.itertuples(), 1):
        print(f"{number} of {len(wanted)}: {row.run_id}", file=sys.stderr, flush=True)
        words = [*shlex.split(str(row.command))[1:], f"results_dir={given.runs_dir.resolve()}"]
        words.append(f"tracking.telemetry_every_steps={max(2, int(row.steps) // LOOKS)}")
        ended = subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode
        if ended:
            return ended
    rows = read_runs(given.runs_dir, runs=list(wanted.run_id))
    sizes = step_sizes.measured(rows, dict(zip(wanted.run_id, wanted.steps, strict=True)))
    sizes = sizes.merge(circumstances(rows[rows.split == "telemetry"]), on="run_id", how="left")
    for experiment, mine in sizes.groupby("experiment"):
        path = given.out / str(experiment) / step_sizes.NAME / "sizes.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, mine.to_csv(index=False, float_format="%.6g"))
        print(f"{mine.run_id.nunique()} runs -> {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
