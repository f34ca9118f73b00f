"""The claims of the paper, one by one, beside what is known of them here.

    python scripts/claims.py             # print, and write results/claims.csv
    python scripts/claims.py C050 C052   # print only these, with all that is known; write nothing
    python scripts/claims.py --check     # write nothing; exit code 1 if results/claims.csv is old

Reads results/ (paper, proxies, studies, bench) and conf/; runs nothing. What a column means stands
in experiments/analysis/claims/ledger.py.
"""

from __future__ import annotations

import argparse
import io
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402
from experiments.programs import of_place  # noqa: E402
from experiments.store import write_text  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

STYLES = {
    "supported": "green",
    "contradicted": "red",
    "differs": "red",
    "inconclusive": "yellow",
    "not run": "dim",
}
COLUMNS = (("claim", None), ("in words", 4), ("verdict", None), ("known", 5))
WIDE = 120
"""Letters of a terminal from which a verdict has a line to itself."""
PREFIXES = {"proxy": "proxy", "measured": "here", "paper_scale": "paper scale"}


def main() -> int:
    """Builds the ledger, prints it, writes it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("ids", nargs="*", type=_id, help="claims to show in full, e.g. C050")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    parser.add_argument("--root", type=Path, default=ROOT, help="with results/ and conf/ below")
    parser.add_argument("--out", type=Path, help="default: results/claims.csv below the root")
    args = parser.parse_args()
    if args.check and args.ids:
        parser.error("--check looks at all claims: leave out their names")
    from experiments.analysis.claims.ledger import ledger

    out = args.out or args.root / "results" / "claims.csv"
    try:
        if not args.ids and not out.parent.is_dir():  # before a minute's work
            raise UserError(f"{out.parent}: no such folder; make it first")
        table = ledger(args.root, args.ids)
        if args.ids:
            show_in_full(table)
            return 0
        text = table.to_csv(index=False, float_format="%.6g")
        if args.check:
            return check(out, text)
        show(table)
        write_text(out, text)
        print(f"{len(table)} claims -> {out}")
    except (UserError, OSError) as error:
        print(f"error: {of_place(error)}", file=sys.stderr)
        return 2
    return 0


def _id(text: str) -> str:
    """C050 of 50, c50, and what is written out."""
    number = text.lstrip("cC")
    return f"C{int(number):03}" if number.isdecimal() else text


def check(path: Path, text: str) -> int:
    """Compares a table of claims with what would be written now, and prints what differs."""
    import pandas as pd

    now = pd.read_csv(io.StringIO(text), dtype=str).fillna("").set_index("claim_id")
    if path.is_file() and path.read_text() == text:
        print(f"{len(now)} claims are up to date")
        return 0
    try:
        old = pd.read_csv(path, dtype=str).fillna("").set_index("claim_id")
    except (OSError, ValueError, KeyError):  # none, or no such table
        old = now.iloc[:0]
    for name in now.index.union(old.index):
        columns = _changed(old, now, name)
        if columns:
            print(f"{name}: {', '.join(columns)} not as the tables give it now")
    print(f"{path} is outdated; run: python scripts/claims.py")
    return 1


def _changed(old: pd.DataFrame, now: pd.DataFrame, name: str) -> list[str]:
    """Columns of a claim that differ; `its row` where one of the tables lacks it."""
    if name not in old.index or name not in now.index:
        return ["its row"]
    return [c for c in now.columns if c not in old.columns or old.at[name, c] != now.at[name, c]]


def show(table: pd.DataFrame) -> None:
    """A table per kind of answer, then the counts."""
    from rich.console import Console

    console = Console()
    for title, rows in groups(table):
        if len(rows):
            console.print(_table(title, rows, is_wide=console.width >= WIDE))
    checked = table.paper_consistency.value_counts()
    console.print(
        f"Recomputed from the paper's own tables: {checked.get('consistent', 0)} consistent, "
        f"{checked.get('differs', 0)} differ. A proxy's answer holds for the proxy only."
    )


def groups(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each claim once, under the strongest that is known of it."""
    answered = table[[f"{prefix}_verdict" for prefix in PREFIXES]].isin(
        ["supported", "contradicted", "inconclusive"]
    )
    has_answer = answered.any(axis=1)
    waits = ~has_answer & (table.proxy_verdict.eq("not run") | table.measured_verdict.eq("not run"))
    costly = ~has_answer & ~waits & table.paper_scale_verdict.eq("not run")
    rest = ~has_answer & ~waits & ~costly
    return [
        ("Answered by runs or measurements here", table[has_answer]),
        ("A check is here; its study is not", table[waits]),
        ("Only at the paper's scale: not run", table[costly]),
        ("No run can tell, or none is needed", table[rest]),
    ]


def _table(title: str, rows: pd.DataFrame, is_wide: bool) -> Any:
    from rich.table import Table

    shown = Table(title=title, title_justify="left", title_style="bold", expand=True)
    for name, ratio in COLUMNS:  # the longest words: paper's tables: consistent
        width = (24 if is_wide else 12) if name == "verdict" else None
        shown.add_column(name, ratio=ratio, width=width, overflow="fold")
    for row in rows.to_dict("records"):
        verdicts, details = _answers(row)
        shown.add_row(row["claim_id"], f"{row['task']}: {row['claim']}", verdicts, details)
    return shown


def _answers(row: dict[str, Any]) -> tuple[str, str]:
    """Verdicts with their scales, and the numbers or the next step."""
    verdicts, details = [], []
    if isinstance(row["paper_consistency"], str):
        verdicts.append(f"its tables: {_styled(row['paper_consistency'])}")
    for prefix, name in PREFIXES.items():
        verdict = row[f"{prefix}_verdict"]
        if not isinstance(verdict, str):
            continue
        verdicts.append(f"{name}: {_styled(verdict)}")
        if not math.isnan(row[f"{prefix}_estimate"]):
            details.append(numbers(row, prefix))
        elif isinstance(row[f"{prefix}_note"], str):
            details.append(row[f"{prefix}_note"])
    if row["paper_consistency"] == "differs":
        details.append(f"paper's tables: {row['paper_recomputed']}")
    if isinstance(row["cost"], str):
        details.append(f"cost at paper scale: {row['cost']}")
    return "\n".join(verdicts), "\n".join(details)


def numbers(row: dict[str, Any], prefix: str) -> str:
    """Estimate, interval, n, and the seeds that would decide, in one line."""
    estimate, low, high = (row[f"{prefix}_{key}"] for key in ("estimate", "low", "high"))
    text = f"{row[f'{prefix}_measure']}: {estimate:.3g} {row[f'{prefix}_unit']}"
    if low != low:
        ends = "no interval"
    elif prefix == "measured":
        ends = f"smallest to largest {low:.3g} to {high:.3g}"
    else:
        ends = f"95 % [{low:.3g}, {high:.3g}]"
    text += f" ({ends}), n={row[f'{prefix}_n']:.0f}"
    text += _wider(row[f"{prefix}_note"])
    seeds = row[f"{prefix}_seeds_to_decide"]
    if seeds > 0:
        text += f"; {seeds:,.0f} seeds for a stated effect" if seeds < 1e6 else "; no n decides"
    return text


def _wider(note: object) -> str:
    """What else decides, where the interval alone does not: the luck of tuning, an exact test."""
    found = re.findall(r"of the optimizers \[.*?\]|an exact test says p [\d.e-]+", str(note))
    return "".join(f"; {text}" for text in dict.fromkeys(found))


def show_in_full(table: pd.DataFrame) -> None:
    """Every filled cell of some claims."""
    for row in table.to_dict("records"):
        for key, value in row.items():
            if value == value and value != "":
                print(f"{key:<28} {f'{value:.6g}' if isinstance(value, float) else value}")
        print()
    print("How the studies behind it were made, command by command: results/studies/README.md")


def _styled(word: str) -> str:
    style = STYLES.get(word)
    return f"[{style}]{word}[/{style}]" if style else word


if __name__ == "__main__":
    sys.exit(main())
