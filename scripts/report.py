"""Writes the report: static pages that work offline, from the file system.

    python scripts/report.py                           # or: make report
    python scripts/report.py --runs results/runs       # with the sweeps of a runs folder, too
    python scripts/report.py --out /tmp/report

Open results/report/index.html in a browser. The folder can be copied anywhere as a whole.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results/report", help="folder to write")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="tables to read")
    parser.add_argument("--runs", type=Path, help="a folder of run folders to show, too")
    parser.add_argument("--sweeps", type=Path, help="sweep folders (default: RESULTS/sweeps)")
    args = parser.parse_args()
    from experiments.analysis.report import build

    sweeps = args.sweeps or args.results / "sweeps"
    sources = build.Sources(ROOT, args.results, args.runs, sweeps)
    try:
        first = build.write(args.out, sources)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Report: {first}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
