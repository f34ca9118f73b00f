"""Do the public Lions agree? All that are installed, and ours on every path, step by step.

    python scripts/conformance.py                    # the matrix, and the reasons
    python scripts/conformance.py --only 'ours|timm' # rows by a regular expression
    python scripts/conformance.py --json
    python scripts/conformance.py --publish          # also write results/conformance/

`pip install -e ".[peers]"` installs the others; what is missing is named, and left out. Each step
of each trajectory is compared with the float64 reference in tests/reference.py, and a disagreement
is explained by what fits the recorded numbers: other operations, or another rule, if one is found.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# First, as it says in a line what this Python lacks.
import experiments  # noqa: E402, F401

# isort: split
from scripts.conformance_lab import interchange, report, scenarios, sessions, verdict  # noqa: E402
from scripts.conformance_lab.contestants import Contestant, contestants  # noqa: E402
from scripts.conformance_lab.report import Row  # noqa: E402

OURS_TO_HAND_OVER = "ours (loop)", "ours (fused, bf16 momentum)", "ours (fused, int8 momentum)"


def main() -> int:
    """Print the matrix; 1 if ours disagrees anywhere."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a regular expression on the rows")
    parser.add_argument("--scenarios", default="", help="a regular expression on the columns")
    parser.add_argument("--no-interchange", action="store_true", help="leave out the state dicts")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--publish", action="store_true", help="write results/conformance/, too")
    parser.add_argument("--out", type=Path, default=ROOT / "results/conformance")
    args = parser.parse_args()
    if args.publish and (args.only or args.scenarios or args.no_interchange):
        parser.error("--publish is for the whole matrix: leave out the other options")
    chosen, absent = _present(args.only)
    if not chosen and not absent:
        parser.error(f"--only {args.only!r} fits no row")
    rows = _matrix(chosen, args.scenarios)
    if not args.no_interchange:
        rows += _handed_over(chosen)
    if args.json:
        print(json.dumps(report.as_dict(rows, chosen, absent), indent=1))
    else:
        report.print_tables(rows, chosen, absent)
    if args.publish:
        report.publish(rows, chosen, absent, args.out)
    ours = [row for row in rows if row.lion.startswith("ours") and not row.other]
    return int(any(row.verdict.kind not in verdict.AGREEMENTS for row in ours))


def _present(only: str) -> tuple[list[Contestant], dict[str, str]]:
    chosen, absent = [], {}
    for contestant in (c for c in contestants() if re.search(only, c.name)):
        with sessions.quiet():
            why = contestant.why_absent()
        if why:
            absent[contestant.name] = why
        else:
            chosen.append(contestant)
    return chosen, absent


def _matrix(chosen: list[Contestant], pattern: str) -> list[Row]:
    wanted = [s for name, s in scenarios.make_all().items() if re.search(pattern, name)]
    rows = []
    for contestant in chosen:
        print(f"{contestant.name} ...", file=sys.stderr, flush=True)
        for scenario in wanted:
            judged = verdict.judge(sessions.record(contestant.session, scenario))
            rows.append(Row(contestant.name, scenario.name, judged))
    return rows


def _handed_over(chosen: list[Contestant]) -> list[Row]:
    scenario = scenarios.make_all()["resume"]
    able = [c for c in chosen if c.builder and "compiled" not in c.name]
    rows = []
    for ours in (c for c in able if c.name in OURS_TO_HAND_OVER):
        for other in (c for c in able if c is not ours):
            for first, second in ((other, ours), (ours, other)):
                judged = interchange.hand_over(first, second, scenario)
                rows.append(Row(first.name, "handed over to", judged, second.name))
    return rows


if __name__ == "__main__":
    sys.exit(main())
