"""Keeps pictures of samples with a committed study, so that the report shows them.

    python scripts/samples.py --runs results/runs --into results/studies/diffusion_proxy/fresh

Of each optimizer the run that `experiments.analysis.samples` chooses; nobody looks for the best.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="run folders")
    parser.add_argument("--into", type=Path, required=True, help="folder of the study")
    args = parser.parse_args(arguments)
    import pandas as pd

    from experiments.analysis import samples
    from experiments.table import read_runs

    try:
        table = args.into / "runs.csv"
        if not table.is_file():
            raise UserError(f"{table} is not there: --into takes the folder of a collected study")
        ledger = read_runs(args.runs, runs=list(pd.read_csv(table).run_id))
        found = samples.chosen(ledger, args.runs)
        if not found:
            raise UserError(f"no finished run of {table} has a picture in {args.runs}")
        print(f"{len(found)} picture(s): {samples.publish(found, args.into)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
